//! Outgoing TCP connections: at most so many at once, made within a time, and tried again when no local port was free.
//!
//! The way of a connect(2): hooks/connects.rs makes a [`Plan`], waits for its turn ([`turns`]), makes the real call, if need be
//! with a timeout ([`timer`]) and once more when a port is free ([`ports`]), and [`Plan::ended`] gives the turn back if it failed.
//! With no limit and no timeout set, all this is one load before the real call, and one comparison after a failed one.
//!
//! Inside this folder, `turns` and `ports` use `endpoint`, and this file uses all.

pub mod endpoint;
pub mod ports;
pub mod timer;
pub mod turns;

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::{sockaddr, socklen_t};
use tideover_contract::settings::{self, Id};

use crate::engine::call::Lack;
use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::settings::SETTINGS;
use crate::state::{descriptors, process};
use endpoint::Endpoint;

/// Is TIDEOVER_MAX_CONNECTIONS, TIDEOVER_MAX_PER_ENDPOINT or TIDEOVER_CONNECT_TIMEOUT set?
static GOVERNED: AtomicBool = AtomicBool::new(false);

/// Is a limit on connections set, or a timeout? One load.
#[inline(always)]
pub fn is_governed() -> bool {
    GOVERNED.load(Relaxed)
}

/// At load: looks at the settings, and says so if a limit can never be reached.
#[unsafe(link_section = ".text.at_load")]
pub fn start() {
    let limits = [Id::MaxConnections, Id::MaxPerEndpoint];
    GOVERNED.store(limits.iter().chain(&[Id::ConnectTimeout]).any(|&id| SETTINGS.get(id) != 0), Relaxed);
    for id in limits.into_iter().filter(|&id| SETTINGS.get(id) != 0) {
        let most = sys::descriptor_limit(0).map_or(u64::MAX, |limit| limit.rlim_max);
        if SETTINGS.get(id) > most {
            log::warn!(
                "{}={} will not be reached: this process can have {most} descriptors",
                settings::ROWS[id as usize].env,
                SETTINGS.get(id)
            );
        }
    }
}

/// In the child of a fork: it counts its own copies of its parent's connections.
pub fn forked() {
    turns::forked();
}

/// What a connect(2) is about to do, as far as the settings concern it.
pub struct Plan {
    /// The socket.
    fd: c_int,
    /// Where it is connected to; None: not a TCP connection, or not one to be counted.
    to: Option<Endpoint>,
    /// Does the program dissolve the socket's association (AF_UNSPEC)?
    dissolves: bool,
    /// Is the socket in blocking mode?
    pub blocks: bool,
    /// Nanoseconds until it fails with ETIMEDOUT; 0: the kernel's own timeout.
    pub timeout: u64,
}

/// Looks at a connect(2) before it is made.
///
/// # Safety
/// `address` and `length` are what the program gave connect(2): what can be read of them stays so during the call.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn plan(fd: c_int, address: *const sockaddr, length: socklen_t) -> Plan {
    let nothing = || Plan { fd, to: None, dissolves: false, blocks: false, timeout: 0 };
    barrier(nothing(), || {
        if !process::may_act() || !sys::is_tcp(fd) || is_taken(fd) {
            return nothing();
        }
        // SAFETY: promised by the caller.
        match unsafe { endpoint::family(address, length) } {
            Some(libc::AF_UNSPEC) => Plan { dissolves: true, ..nothing() },
            Some(_) => {
                let blocks = sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0);
                let timeout = if blocks { timer::limit(fd) } else { 0 };
                // SAFETY: promised by the caller.
                Plan { to: unsafe { Endpoint::of(address, length) }, blocks, timeout, ..nothing() }
            }
            None => nothing(),
        }
    })
}

/// Is this socket a listener, or one that accept(2) gave? The mark of such a one may be left from one that was closed unseen.
fn is_taken(fd: c_int) -> bool {
    let state = sys::tcp_info(fd).map_or(turns::CLOSE, |info| info.tcpi_state);
    state == turns::LISTEN || state != turns::CLOSE && descriptors::marks(fd) & descriptors::CLIENT != 0
}

impl Plan {
    /// Takes a turn under the limits, or says which of them is reached.
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub extern "C" fn take_turn(&self) -> Option<Lack> {
        barrier(None, || turns::take(self.fd, self.to?))
    }

    /// The call has returned `answer`. Leaves errno as it is.
    #[cold]
    #[inline(never)]
    pub extern "C" fn ended(&self, answer: c_int) {
        let errno = sys::errno();
        // With these the socket has a connection, or is about to have one.
        let failed = answer < 0 && !matches!(errno, libc::EINPROGRESS | libc::EALREADY | libc::EISCONN | libc::EINTR);
        barrier((), || {
            if self.to.is_some() && !failed {
                turns::settle(self.fd);
            } else if self.to.is_some() || self.dissolves && answer == 0 {
                turns::end(self.fd);
                wait::wake_one();
            }
        });
        sys::set_errno(errno);
    }
}
