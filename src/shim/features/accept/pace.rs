//! Holding up a caller that would try its failed accept(2) again at once.
#![forbid(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::SECOND;

use crate::engine::wait;
use crate::os::sys;

/// For how long, nanoseconds: the other clients of the caller's loop hardly notice.
const PAUSE: u64 = SECOND / 500;

/// Who was held up last.
struct Last {
    /// The listening socket whose caller it was; -1: none yet.
    listener: AtomicI32,
    /// When that was over, nanoseconds of CLOCK_MONOTONIC.
    ended_at: AtomicU64,
}

static LAST: Last = Last { listener: AtomicI32::new(-1), ended_at: AtomicU64::new(0) };

/// Holds the caller up for a moment, or until a descriptor is closed. A loop over many listeners is held up once per round. False: a
/// signal handler has run that wants blocked calls interrupted.
pub fn slow_down(listener: c_int) -> bool {
    let now = sys::now();
    if LAST.listener.load(Relaxed) != listener && now.saturating_sub(LAST.ended_at.load(Relaxed)) <= PAUSE {
        return true;
    }
    let seen = wait::expect_closes();
    let slept = wait::sleep_until_close(seen, PAUSE);
    LAST.listener.store(listener, Relaxed);
    LAST.ended_at.store(sys::now(), Relaxed);
    slept
}
