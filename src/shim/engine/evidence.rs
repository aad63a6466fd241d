//! What says that waiting for a descriptor can help: that others close some.
//!
//! A call waits only while descriptors of this process are being closed, by other threads than the one that waits. How often they were
//! closed lately says how long a close may be waited for. A wait that sees none in that time is in vain, and ends at once; what such
//! waits may cost in all is a budget: 150 ms at first, then one part in a hundred of the time that passes, and as much
//! again as waits that ended well have taken. So a program for which waiting does not help is never held up for long.
//!
//! Does not hold for what other processes close (ENFILE), nor where the user or the program has asked for waits.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use tideover_contract::page::SHARDS;
use tideover_contract::settings::SECOND;

use crate::os::sys;
use crate::state::page;

/// What waits in vain may cost before any has helped.
const FIRST_BUDGET: i64 = SECOND as i64 * 3 / 20;
/// Waits that helped raise the budget up to this.
const LARGEST_BUDGET: i64 = 10 * SECOND as i64;
/// One part in so many of the time that passes.
const PART: u64 = 100;
/// Below this there is no budget left.
const LEAST: i64 = SECOND as i64 / 200;
/// A close is waited for so many times as long as they were apart lately, and at least for the shortest.
const INTERVALS: u64 = 8;
const SHORTEST: u64 = SECOND / 4;
/// Closes longer ago than this say nothing.
const RECENT: u64 = SECOND;

/// What was seen of closes. Times are nanoseconds of CLOCK_MONOTONIC.
struct Seen {
    /// Closes in each part of the count, when another thread than those that count there looked last.
    closes: [AtomicU64; SHARDS],
    /// When they were looked at last; 0: never.
    looked: AtomicU64,
    /// When more of them were seen last; 0: never.
    changed: AtomicU64,
    /// How far they were apart then, nanoseconds.
    interval: AtomicU64,
    /// What waits in vain may cost, nanoseconds.
    budget: AtomicI64,
    /// Up to when the budget was earned; 0: nothing yet.
    earned: AtomicU64,
}

static SEEN: Seen = Seen {
    closes: [const { AtomicU64::new(0) }; SHARDS],
    looked: AtomicU64::new(0),
    changed: AtomicU64::new(0),
    interval: AtomicU64::new(0),
    budget: AtomicI64::new(FIRST_BUDGET),
    earned: AtomicU64::new(0),
};

/// For how long may a thread wait that sees no close? None: there is no evidence that one will come.
pub fn patience(now: u64) -> Option<u64> {
    look(now);
    earn(now);
    let budget = SEEN.budget.load(Relaxed);
    if budget < LEAST {
        return None;
    }
    let changed = SEEN.changed.load(Relaxed);
    let wanted = if changed == 0 {
        // No history: the first wait finds out. Once it has, there must be closes.
        if budget < FIRST_BUDGET {
            return None;
        }
        FIRST_BUDGET as u64
    } else {
        let apart = SEEN.interval.load(Relaxed).saturating_mul(INTERVALS).max(SHORTEST);
        if now.saturating_sub(changed) > RECENT.max(apart) && budget < FIRST_BUDGET {
            return None;
        }
        apart
    };
    Some(wanted.min(budget as u64))
}

/// Looks at the closes by other threads.
fn look(now: u64) {
    let looked = SEEN.looked.swap(now, Relaxed);
    let more = |(index, closes): (usize, u64)| closes.wrapping_sub(SEEN.closes[index].swap(closes, Relaxed));
    // Two threads that look at once may put back an older count: less than before is no news.
    let more: u64 = page::closes_by_others().map(more).filter(|&more| more < u64::MAX / 2).sum();
    if looked != 0 && more != 0 {
        let since = SEEN.changed.swap(now, Relaxed).max(looked);
        SEEN.interval.store(now.saturating_sub(since.min(now)) / more, Relaxed);
    }
}

fn earn(now: u64) {
    let since = SEEN.earned.swap(now, Relaxed);
    let earned = if since == 0 { 0 } else { (now.saturating_sub(since) / PART) as i64 };
    let _ = SEEN.budget.fetch_update(Relaxed, Relaxed, |budget| {
        (budget < FIRST_BUDGET).then(|| budget.saturating_add(earned).min(FIRST_BUDGET))
    });
}

/// A wait has ended with a descriptor.
pub fn helped(waited: u64) {
    let now = sys::now();
    SEEN.changed.store(now, Relaxed);
    let _ = SEEN.budget.fetch_update(Relaxed, Relaxed, |budget| {
        Some(budget.max(0).saturating_add(waited as i64).clamp(FIRST_BUDGET.min(budget), LARGEST_BUDGET))
    });
}

/// No close was seen for so long while threads waited.
pub fn in_vain(time: u64) {
    SEEN.budget.fetch_sub(time.min(LARGEST_BUDGET as u64) as i64, Relaxed);
}

/// In the child of a fork: it has its own closes.
pub fn forked() {
    for word in [&SEEN.looked, &SEEN.changed, &SEEN.interval, &SEEN.earned].into_iter().chain(&SEEN.closes) {
        word.store(0, Relaxed);
    }
    SEEN.budget.store(FIRST_BUDGET, Relaxed);
}
