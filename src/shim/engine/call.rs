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
    /// Name, as in its man page.
    pub name: &'static str,
    /// May it block? Not when the program asked for a non-blocking descriptor.
    pub may_block: bool,
    /// Does it need more than one descriptor?
    pub needs_several: bool,
    /// A backoff of its own, instead of that of the settings.
    pub backoff: Option<Backoff>,
    /// May garbage be collected for it?
    pub collects: bool,
    /// For accept(2): what is done when nothing can be freed for the client that waits.
    pub last_resort: Option<LastResort>,
}

/// What is done, when nothing can be freed, with the client that waits in the queue of a listening socket. The hook of accept(2) fills
/// this in: the engine itself knows nothing of listeners.
#[derive(Clone, Copy)]
pub struct LastResort {
    /// The listening socket.
    pub listener: c_int,
    /// The functions that do it.
    pub functions: &'static LastResortFunctions,
}

/// The functions of a [`LastResort`].
pub struct LastResortFunctions {
    /// Decides what is done, and does it: parks the listener (no event loop hears of it for a while) or turns its clients away. Called
    /// with the listener and the errno, once for each failed call.
    pub decide: fn(c_int, c_int) -> Instead,
    /// The call has succeeded after all: there may be more descriptors for parked listeners.
    pub succeeded: fn(),
    /// The call fails, and its caller may make it again at once and for ever: holds the caller up for a moment. Called with the listener.
    pub slow_down: fn(c_int),
    /// What is done with the clients that wait, in words, for the message.
    pub describe: fn() -> &'static str,
}

/// How an accept(2) for which there is no descriptor goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Instead {
    /// The call is made once more: closes are noticed from now on, so one that came before is not missed.
    pub again: bool,
    /// The call answers EAGAIN: the client waits, and the program's event loop will report the listener again.
    pub quiet: bool,
    /// The call blocks, and its hook waits for a descriptor, or turns its clients away, instead of failing.
    pub by_hook: bool,
    /// Nothing keeps its caller from making the call again at once, so [`LastResortFunctions::slow_down`] is called.
    pub paced: bool,
}

/// What a call lacks. Only connect(2) lacks anything but a descriptor: then nothing can be freed for it, but waiting can help.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// A descriptor: EMFILE, ENFILE.
    Descriptor,
    /// An ephemeral port: EADDRNOTAVAIL.
    Port,
    /// A connection below TIDEOVER_MAX_CONNECTIONS: EAGAIN.
    Connection,
    /// A connection below TIDEOVER_MAX_PER_ENDPOINT: EAGAIN.
    EndpointConnection,
}

impl Lack {
    /// The number of variants.
    pub const COUNT: usize = 4;

    /// Is it a limit that the user has set, and not one of the system?
    pub fn is_limit(self) -> bool {
        matches!(self, Lack::Connection | Lack::EndpointConnection)
    }

    /// What an operator can do about it, for the message. The remedy for descriptors depends on the limits: see
    /// [`crate::engine::reclaim::limit::Remedy`].
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
            let name = settings::ROWS[id as usize].env;
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

/// What a call is in the language runtime of its process, as far as it matters for freeing and for waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A call of the program, or there is no runtime.
    Usual,
    /// A call of the program, made with the interpreter's lock held: no other thread of the interpreter runs while it sleeps.
    Locking,
    /// A call of the runtime itself, perhaps from within a collection, which must not wait. The runtime can do without a descriptor.
    Internal,
    /// A call of the thread that runs finalizers, which close what is unreachable. The reserve is for it.
    Finalizing,
}

/// How one try of a real call ended.
#[repr(C)]
pub struct Tried {
    /// errno, or 0 for success.
    pub errno: c_int,
    /// The descriptor that it made, or -1 if it has none to show.
    pub descriptor: c_int,
}

/// Makes a real call once more, with the context that its hook passed to [`retry_for`](crate::engine::attempt::retry_for).
/// `extern "C"`, as all that the retry loop calls: it can't panic, so the loop has no landing pads, and the cancellation of a thread can
/// unwind it (DESIGN.md, "Cancellation").
///
/// # Safety
/// The context is the one that the function was passed to `retry_for` with.
pub type Try = unsafe extern "C" fn(*mut c_void) -> Tried;

/// Does this errno mean that no descriptor was free?
pub fn is_exhaustion(errno: c_int) -> bool {
    errno == libc::EMFILE || errno == libc::ENFILE
}
