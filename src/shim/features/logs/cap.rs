//! How many bytes may be diverted: TIDEOVER_FALLBACK_LIMIT per minute and TIDEOVER_FALLBACK_TOTAL in all. Without a cap, a program that
//! appends until it gets ENOSPC would never get it: one filled another disk with 74 GB.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND};

use crate::state::page;
use crate::state::settings::SETTINGS;

/// What was diverted in the current minute.
struct Minute {
    /// Number of the minute, counted from 1 by CLOCK_MONOTONIC; 0: nothing was diverted yet.
    number: AtomicU64,
    /// Bytes.
    bytes: AtomicU64,
    /// The minute in which a line has found the cap reached; 0: none has.
    used_up: AtomicU64,
}

static MINUTE: Minute = Minute { number: AtomicU64::new(0), bytes: AtomicU64::new(0), used_up: AtomicU64::new(0) };

/// What part of TIDEOVER_FALLBACK_LIMIT is left at most when nothing more is admitted in this minute: one sixteenth.
const REST: u64 = 16;

fn minute(now: u64) -> u64 {
    now / (60 * SECOND) + 1
}

/// Is nothing more admitted in this minute? Then a line costs no more than its failed write. `now` is CLOCK_MONOTONIC in nanoseconds.
pub fn is_used_up(now: u64) -> bool {
    let used_up = MINUTE.used_up.load(Relaxed);
    used_up != 0 && used_up == minute(now)
}

/// Charges so many bytes against the caps. If they would exceed one, nothing is charged, and that cap is the error. `now` is
/// CLOCK_MONOTONIC in nanoseconds.
pub fn charge(bytes: u64, now: u64) -> Result<(), Id> {
    let total = SETTINGS.get(Id::FallbackTotal);
    if total != 0 && page::counters().diverted_bytes.load(Relaxed).saturating_add(bytes) > total {
        return Err(Id::FallbackTotal);
    }
    let number = minute(now);
    if MINUTE.number.load(Relaxed) != number && MINUTE.number.swap(number, Relaxed) != number {
        MINUTE.bytes.store(0, Relaxed);
    }
    let limit = SETTINGS.get(Id::FallbackLimit);
    let charged = |used: u64| Some(used.saturating_add(bytes)).filter(|&sum| sum <= limit);
    MINUTE.bytes.fetch_update(Relaxed, Relaxed, charged).map(drop).map_err(|_| {
        // A single large text may not fit while many lines would.
        if limit == 0 || bytes <= limit / REST {
            MINUTE.used_up.store(number, Relaxed);
        }
        Id::FallbackLimit
    })
}

/// Takes back the charge for bytes that were not diverted.
pub fn uncharge(bytes: u64) {
    let _ = MINUTE.bytes.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
}
