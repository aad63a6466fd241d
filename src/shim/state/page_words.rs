//! The page as words, as which its counts move from one page to another.

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use tideover_contract::page::{self as contract, Counters, Page};

/// The words of a page, as which it can be copied while other threads count in it.
pub fn words(page: &Page) -> &[AtomicU64; WORDS] {
    // SAFETY: a Page has this size and alignment (asserted below), and nothing in it but atomics, whose bytes may all be changed by other
    // threads.
    unsafe { &*core::ptr::from_ref(page).cast() }
}

const WORDS: usize = contract::SIZE / size_of::<AtomicU64>();
const _: () = assert!(size_of::<Page>() == contract::SIZE && align_of::<Page>() >= align_of::<AtomicU64>());

/// The words that threads add to: those of the counters, and those of the shards behind them.
pub fn count_words(page: &Page) -> &[AtomicU64] {
    &words(page)[FIRST..FIRST + COUNTS]
}

/// Index of the first of these words.
const FIRST: usize = core::mem::offset_of!(Page, counters) / size_of::<AtomicU64>();
/// Their number.
pub const COUNTS: usize = (core::mem::offset_of!(Page, shards) + size_of::<[contract::Shard; contract::SHARDS]>())
    / size_of::<AtomicU64>()
    - FIRST;

/// Is this one of the few counters that are not added to, but set?
pub fn is_set(all: &Counters, one: &AtomicU64) -> bool {
    [
        &all.soft_limit,
        &all.hard_limit,
        &all.high_water,
        &all.raised_from,
        &all.breaker_open,
        &all.degraded,
        &all.degraded_since,
    ]
    .iter()
    .any(|set| core::ptr::eq(*set, one))
}

/// What threads have counted in a page so far.
pub fn counts(page: &Page) -> [u64; COUNTS] {
    let mut counts = [0; COUNTS];
    counts.iter_mut().zip(count_words(page)).for_each(|(count, word)| *count = word.load(Relaxed));
    counts
}
