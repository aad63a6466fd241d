//! Reclaim step: shuts down the connections of clients that have been idle for longer than TIDEOVER_IDLE_TIMEOUT, by shutdown(2).
//!
//! The program then reads the end of such a connection, and closes it: the library never closes a descriptor of the program's. That
//! close wakes the threads that wait for a descriptor, so the step itself frees none.
//!
//! A client is idle since its connection was accepted, or since data last came from it or was last sent to it, whichever is later. It is
//! not idle as long as the program has not read what it has sent. If its data came last, its request is probably being worked on: then
//! it is shut down after [`AT_WORK`] times as long.

#![forbid(unsafe_code)]

use tideover_contract::settings::{Id, Nanoseconds};

use super::{FailedCall, Gain};
use crate::os::sys;
use crate::state::report::{More, Repeated, Seconds};
use crate::state::settings::SETTINGS;
use crate::state::{clients, descriptors, page};

/// At most so many connections at a time. The step is then not run for 50 ms, so that the program has time to close them.
pub const BATCH: usize = 8;
/// A client that has sent data last may wait so many times as long for an answer.
const AT_WORK: u64 = 10;

/// The messages so far.
static MESSAGES: Repeated = Repeated::new();

/// A client that may be shut down.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// For how long it has been idle, or open, nanoseconds.
    pub time: u64,
    /// Descriptor of its connection.
    pub fd: i32,
}

/// The reclaim step.
pub fn run(_: &FailedCall) -> Gain {
    if !is_wanted() {
        return Gain::Nothing;
    }
    // Later even if no client has been idle for long enough: one may soon be.
    shut_down();
    Gain::Later
}

/// Has the user set TIDEOVER_IDLE_TIMEOUT?
pub fn is_wanted() -> bool {
    SETTINGS.get(Id::IdleTimeout) != 0
}

/// Shuts down the connections that have been idle for longest, and for longer than the setting. Also called every 100 ms while a
/// listener is parked: clients may become idle after its accept(2) failed.
pub fn shut_down() {
    let limit = SETTINGS.get(Id::IdleTimeout);
    let longest = longest::<BATCH>(|fd| idle_for(fd, limit));
    // One that has sent something meanwhile is not idle.
    let is_idle = |idle: &&Candidate| idle_for(idle.fd, limit).is_some();
    let shut = longest.iter().flatten().filter(is_idle).filter(|idle| sys::shut_down(idle.fd).is_ok());
    let count = shut.count() as u64;
    if count == 0 {
        return;
    }
    page::add(&page::counters().idle_closed, count);
    if let Some(more) = MESSAGES.due() {
        log::warn!(
            "no descriptor is left: {count} clients that were idle for longer than TIDEOVER_IDLE_TIMEOUT={} are shut down, the first after {}{}",
            Nanoseconds(limit),
            Seconds(longest[0].map_or(0, |idle| idle.time)),
            More(more)
        );
    }
}

/// The clients for which `time` answers most, the longest first. None: it is not to be shut down.
pub fn longest<const MOST: usize>(time: impl Fn(i32) -> Option<u64>) -> [Option<Candidate>; MOST] {
    let mut longest = [None::<Candidate>; MOST];
    for fd in descriptors::marked(descriptors::CLIENT) {
        let Some(time) = time(fd) else { continue };
        let place = longest.iter().position(|other| other.is_none_or(|other| other.time < time));
        if let Some(place) = place {
            longest[place..].rotate_right(1);
            longest[place] = Some(Candidate { time, fd });
        }
    }
    longest
}

/// For how many nanoseconds it has been idle, if that is at least `limit`. None also if it is no open TCP connection: the kernel knows no
/// such times of other sockets.
fn idle_for(fd: i32, limit: u64) -> Option<u64> {
    // States of tcp(7), which libc does not have as numbers of this type.
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    let traffic = sys::tcp_traffic(fd).ok()?;
    if !matches!(traffic.state, ESTABLISHED | CLOSE_WAIT) || sys::unread(fd) > 0 {
        return None;
    }
    let silent = u64::from(traffic.last_received.min(traffic.last_sent)) * 1_000_000;
    let idle = silent.min(sys::now().saturating_sub(clients::accepted_at(fd)));
    // A request that has come with the connection itself is as old as what was sent last, which is nothing.
    let is_at_work = traffic.last_received < traffic.last_sent || traffic.received > 0 && traffic.sent == 0;
    (idle >= if is_at_work { limit.saturating_mul(AT_WORK) } else { limit }).then_some(idle)
}
