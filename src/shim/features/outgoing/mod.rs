//! Outgoing TCP connections: at most so many at once, made within a time, and tried again when no local port was free.
//!
//! The way of a connect(2): hooks/connects.rs makes a [`Plan`], waits for its turn ([`turns`]), makes the real call, if need be
//! within a time ([`timer`]) and once more when there is a port ([`ports`]), and [`ended`] gives the turn back if it failed.
//! With no limit and no timeout set, all this is one load before the real call, and one comparison after a failed one.

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

/// Is a limit on connections set, or a time?
static GOVERNED: AtomicBool = AtomicBool::new(false);

/// See [`GOVERNED`].
#[inline(always)]
pub fn is_governed() -> bool {
    GOVERNED.load(Relaxed)
}

/// At load.
pub fn start() {
    let limits = [Id::MaxConnections, Id::MaxPerEndpoint];
    GOVERNED.store(limits.iter().chain(&[Id::ConnectTimeout]).any(|&id| SETTINGS.get(id) != 0), Relaxed);
    for id in limits.into_iter().filter(|&id| SETTINGS.get(id) != 0) {
        let most = sys::descriptor_limit(0).map_or(u64::MAX, |limit| limit.rlim_max);
        if SETTINGS.get(id) > most {
            log::warn!(
                "{}={} will not be reached: this process can have {most} descriptors",
                settings::SETTINGS[id as usize].env,
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
    fd: c_int,
    /// Where it goes; None: not a TCP connection, or not one that is ours to count.
    to: Option<Endpoint>,
    /// The host takes the socket back from its peer (AF_UNSPEC).
    parts: bool,
    /// The socket is in blocking mode.
    pub patient: bool,
    /// Nanoseconds until it fails with ETIMEDOUT; 0: the kernel's own time.
    pub within: u64,
}

/// Looks at a connect(2) before it is made.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub extern "C" fn plan(fd: c_int, address: *const sockaddr, length: socklen_t) -> Plan {
    let nothing = || Plan { fd, to: None, parts: false, patient: false, within: 0 };
    barrier(nothing(), || {
        if !process::may_act() || !sys::is_tcp(fd) || is_taken(fd) {
            return nothing();
        }
        match endpoint::family(address, length) {
            Some(libc::AF_UNSPEC) => Plan { parts: true, ..nothing() },
            Some(_) => {
                let patient = sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0);
                let within = if patient { timer::limit(fd) } else { 0 };
                Plan { to: Endpoint::of(address, length), patient, within, ..nothing() }
            }
            None => nothing(),
        }
    })
}

/// Is this socket a listener or a client's? The mark of a client may be left from one that was closed unseen.
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

    /// The call has answered; errno as it left it.
    #[cold]
    #[inline(never)]
    pub extern "C" fn ended(&self, answer: c_int) {
        let errno = sys::errno();
        // With these the socket has a connection, or is about to have one.
        let failed = answer < 0 && !matches!(errno, libc::EINPROGRESS | libc::EALREADY | libc::EISCONN | libc::EINTR);
        barrier((), || {
            if self.to.is_some() && !failed {
                turns::settle(self.fd);
            } else if self.to.is_some() || self.parts && answer == 0 {
                turns::give_back(self.fd);
                wait::wake_one();
            }
        });
        sys::set_errno(errno);
    }
}
