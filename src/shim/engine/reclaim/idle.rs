//! Last reclaim step: shuts down the connections of clients that have been idle for longer than TIDEOVER_IDLE_TIMEOUT, by shutdown(2).
//!
//! The program then reads the end of such a connection, and closes it: the library never closes a descriptor of the program's. That
//! close wakes the threads that wait for a descriptor, so the step itself frees none.

#![forbid(unsafe_code)]

use tideover_contract::settings::{Id, Nanoseconds};

use super::{FailedCall, Gain};
use crate::os::sys;
use crate::state::report::{More, Repeated, Seconds};
use crate::state::settings::SETTINGS;
use crate::state::{descriptors, page};

/// At most so many connections at a time. The step is then not run for 50 ms, so that the program has time to close them.
const BATCH: usize = 8;

/// The messages so far.
static MESSAGES: Repeated = Repeated::new();

/// An idle client.
#[derive(Clone, Copy)]
struct Idle {
    /// How long it has been idle.
    milliseconds: u32,
    /// Descriptor of its connection.
    fd: i32,
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
    let longest = longest_idle(limit.div_ceil(1_000_000));
    let shut = longest.iter().flatten().filter(|idle| idle_for(idle.fd).is_some() && sys::shut_down(idle.fd).is_ok());
    let count = shut.count() as u64;
    if count == 0 {
        return;
    }
    page::add(&page::counters().idle_closed, count);
    if let Some(more) = MESSAGES.due() {
        let most = longest[0].map_or(0, |idle| u64::from(idle.milliseconds) * 1_000_000);
        log::warn!(
            "no descriptor is left: {count} clients that were idle for longer than TIDEOVER_IDLE_TIMEOUT={} are shut down, the first after {}{}",
            Nanoseconds(limit),
            Seconds(most),
            More(more)
        );
    }
}

/// The clients that have been idle for longest, and for at least so many milliseconds, the longest first.
fn longest_idle(milliseconds: u64) -> [Option<Idle>; BATCH] {
    let mut longest = [None::<Idle>; BATCH];
    for fd in descriptors::marked(descriptors::CLIENT) {
        let Some(idle) = idle_for(fd).filter(|&idle| u64::from(idle) >= milliseconds) else { continue };
        let place = longest.iter().position(|other| other.is_none_or(|other| other.milliseconds < idle));
        if let Some(place) = place {
            longest[place..].rotate_right(1);
            longest[place] = Some(Idle { milliseconds: idle, fd });
        }
    }
    longest
}

/// Milliseconds since data last came from a client or was last sent to it. None: it is no open TCP connection; the kernel knows no such
/// times of other sockets.
fn idle_for(fd: i32) -> Option<u32> {
    // States of tcp(7), which libc does not have as numbers of this type.
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    let info = sys::tcp_info(fd).ok()?;
    let open = matches!(info.tcpi_state, ESTABLISHED | CLOSE_WAIT);
    open.then_some(info.tcpi_last_data_recv.min(info.tcpi_last_data_sent))
}
