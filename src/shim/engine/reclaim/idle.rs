//! Last rung: clients that have been idle for longer than TIDEOVER_IDLE_TIMEOUT.
//!
//! The longest idle are shut down, so that the program finds that they have left, and closes them itself: a descriptor of the host's
//! is never closed. Those closes put parked listeners back and wake whoever waits for a descriptor, so this rung itself frees
//! none.

use tideover_contract::settings::{Id, Nanoseconds};

use super::{Gain, Pressure};
use crate::os::sys;
use crate::state::report::{More, Repeated, Seconds};
use crate::state::settings::SETTINGS;
use crate::state::{descriptors, page};

/// At most so many at a time: this rung then rests for 50 ms, so the program has time to close these before the next.
const BATCH: usize = 8;

static TOLD: Repeated = Repeated::new();

/// A client and how long it has been idle, in milliseconds.
#[derive(Clone, Copy)]
struct Idle {
    milliseconds: u32,
    fd: i32,
}

/// The rung.
pub fn run(_: &Pressure) -> Gain {
    if !is_wanted() {
        return Gain::Nothing;
    }
    // Where nobody has been idle for long enough, somebody may be soon.
    shut_down();
    Gain::Later
}

/// Has the user set a time?
pub fn is_wanted() -> bool {
    SETTINGS.get(Id::IdleTimeout) != 0
}

/// Shuts down the longest idle. Also called every 100 ms while a listener is parked: clients may become idle after its accept(2)
/// failed.
pub fn shut_down() {
    let limit = SETTINGS.get(Id::IdleTimeout);
    let longest = longest_idle(limit.div_ceil(1_000_000));
    let gone = longest.iter().flatten().filter(|idle| idle_for(idle.fd).is_some() && sys::shut_down(idle.fd).is_ok());
    let count = gone.count() as u64;
    if count == 0 {
        return;
    }
    page::add(&page::counters().idle_closed, count);
    if let Some(more) = TOLD.due() {
        let most = longest[0].map_or(0, |idle| u64::from(idle.milliseconds) * 1_000_000);
        log::warn!(
            "no descriptor is left: {count} clients that were idle for longer than TIDEOVER_IDLE_TIMEOUT={} are shut down, the first after {}{}",
            Nanoseconds(limit),
            Seconds(most),
            More(more)
        );
    }
}

/// The clients that have been idle for longest, and at least for so long.
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

/// Milliseconds since something came from a client or was sent to it; None if it is no TCP connection that is open. Sockets of
/// other families have no such times.
fn idle_for(fd: i32) -> Option<u32> {
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    let info = sys::tcp_info(fd).ok()?;
    let open = matches!(info.tcpi_state, ESTABLISHED | CLOSE_WAIT);
    open.then_some(info.tcpi_last_data_recv.min(info.tcpi_last_data_sent))
}
