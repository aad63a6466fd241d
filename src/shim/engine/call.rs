//! A failed call, as the engine sees it: what it lacks, whether it may wait, and how it is made again.

#![forbid(unsafe_code)]

use core::ffi::{c_int, c_void};
use core::fmt;

use tideover_contract::settings::{self, Id};

use crate::engine::backoff::Backoff;
use crate::state::settings::SETTINGS;

/// A call that makes descriptors.
#[derive(Clone, Copy)]
pub struct Call {
    /// Name, as in the man page.
    pub name: &'static str,
    /// May it sleep? Not when the program asked for a non-blocking descriptor.
    pub patient: bool,
    /// Does it need more than one descriptor?
    pub greedy: bool,
    /// Its own backoff, instead of that of the settings.
    pub backoff: Option<Backoff>,
    /// For accept(2): what is done when nothing can be freed for its client.
    pub last_resort: Option<LastResort>,
}

/// What is done, when nothing can be freed, with the client that waits at a listening socket. The hook of accept(2) fills this in: the
/// engine itself knows nothing of listeners.
#[derive(Clone, Copy)]
pub struct LastResort {
    /// The listening socket.
    pub listener: c_int,
    /// The functions, see there.
    pub functions: &'static LastResortFunctions,
}

/// See [`LastResort`].
pub struct LastResortFunctions {
    /// Parks the listener or refuses its clients. Called with the listener and the errno, once for each failed call.
    pub decide: fn(c_int, c_int) -> Instead,
    /// The call has succeeded after all: there may be more descriptors.
    pub succeeded: fn(),
    /// The call fails, and nothing keeps its caller from making it again at once: holds the caller up for a moment.
    pub slow_down: fn(c_int),
    /// For the message: what is done with the clients that wait.
    pub says: fn() -> &'static str,
}

/// How an accept(2) for which there is no descriptor goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instead {
    /// From now on closes are noticed: it is worth one more try.
    pub again: bool,
    /// It answers EAGAIN: the client waits, and the program will hear of the listener again.
    pub quiet: bool,
    /// It blocks, and its clients are to be turned away.
    pub sheds: bool,
    /// Nothing keeps its caller from trying again at once.
    pub paced: bool,
}

/// What a call lacks. All but descriptors are lacked by connect(2) alone: nothing can be freed for it, but waiting can help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// EMFILE, ENFILE.
    Descriptor,
    /// EADDRNOTAVAIL: no ephemeral port is free.
    Port,
    /// Its turn under TIDEOVER_MAX_CONNECTIONS; EAGAIN.
    Connection,
    /// Its turn under TIDEOVER_MAX_PER_ENDPOINT; EAGAIN.
    EndpointConnection,
}

impl Lack {
    /// How many kinds there are.
    pub const COUNT: usize = 4;

    /// Is it a limit that the user has set?
    pub fn is_limit(self) -> bool {
        matches!(self, Lack::Connection | Lack::EndpointConnection)
    }

    /// What a person can do about it. About descriptors there is more to say: see [`crate::engine::reclaim::limit::Remedy`].
    pub fn remedy(self) -> &'static str {
        match self {
            Lack::Port => {
                "to help: `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or keep connections open instead of making new ones"
            }
            _ => "to help: a higher limit, or close connections that are no longer used",
        }
    }
}

/// Prints what could not be had: `no local port was free`.
impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reached = |id: Id| {
            let name = settings::SETTINGS[id as usize].env;
            format_args!("{name}={} was reached", SETTINGS.get(id)).fmt(f)
        };
        match self {
            Lack::Descriptor => f.write_str("no descriptor was free"),
            Lack::Port => f.write_str("no local port was free"),
            Lack::Connection => reached(Id::MaxConnections),
            Lack::EndpointConnection => reached(Id::MaxPerEndpoint),
        }
    }
}

/// What a call is in the language runtime of its process, as far as that makes a difference for those who could free something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// One of the program's.
    Usual,
    /// One of the program's, made with the interpreter's lock held: no other thread of the interpreter runs while it sleeps.
    Locking,
    /// The runtime's own, perhaps from within a collection, which then must not wait. It is prepared to find no descriptor.
    Internal,
    /// Made by a thread that closes what is unreachable. The reserve is for it.
    Finalizing,
}

/// How a try ended.
#[repr(C)]
pub struct Tried {
    /// errno, or 0 for success.
    pub wrong: c_int,
    /// The descriptor that it made, or -1 if it has none to show.
    pub descriptor: c_int,
}

/// Makes a real call once more. `extern "C"`, as all that the retry loop calls: nothing unwinds, so there are no landing pads, and a
/// cancellation passes through (DESIGN.md).
pub type Try = unsafe extern "C" fn(*mut c_void) -> Tried;

/// Does this errno mean that there was no descriptor?
pub fn is_exhaustion(errno: c_int) -> bool {
    errno == libc::EMFILE || errno == libc::ENFILE
}
