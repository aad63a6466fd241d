//! A line about the connections of a server that is at its limit, or has limits set: at level info, at most every five minutes.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::SECOND;

use crate::os::sys;
use crate::state::page;

/// Between two lines, nanoseconds.
const INTERVAL: u64 = 300 * SECOND;

/// When the next line is due, nanoseconds of CLOCK_MONOTONIC; 0: nobody has asked yet.
static DUE: AtomicU64 = AtomicU64::new(0);
/// How many clients had been accepted at the last line.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);

/// Called where a client has to wait or limits are looked at, not for each client: logs the line if it is due.
pub fn tell_if_due() {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    let (now, due) = (sys::now(), DUE.load(Relaxed));
    if due != 0 && now < due || DUE.compare_exchange(due, now + INTERVAL, Relaxed, Relaxed).is_err() {
        return;
    }
    let counters = page::counters();
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    let accepted = count(&counters.accepted);
    let before = ACCEPTED.swap(accepted, Relaxed);
    log::info!(
        "connections: {} open, {accepted} accepted so far, {} since the last such line; listeners parked {} times, put back {} times; clients turned away: {} for lack of descriptors, {} over a limit; {} shut down when idle or old",
        count(&counters.clients),
        accepted.saturating_sub(before),
        count(&counters.parked),
        count(&counters.unparked),
        count(&counters.shed),
        count(&counters.refused),
        count(&counters.idle_closed),
    );
}
