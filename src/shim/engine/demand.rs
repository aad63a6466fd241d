//! Which threads have lacked a descriptor lately, for a call other than accept(2).
//!
//! A server that is at its limit should not take another client while a call that serves an accepted one lacks a descriptor: with the last
//! descriptors it would accept more and more clients whom it can't answer. So for each thread whose call found none it is noted how many
//! the call needed; accept(2) leaves as many free, until [`LASTS`] is over or that thread itself blocks in accept(2). It never leaves more
//! free than there are clients, so that half of the descriptors are for clients at least, and the first one is always accepted.

#![deny(unsafe_code)]

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

use tideover_contract::settings::SECOND;

use crate::engine::line;
use crate::os::sys;
use crate::os::table::{Table, Zeroed};
use crate::state::handlers::handlers;
use crate::state::page;

/// For so long after a call of a thread has lacked descriptors, as many are left free for it, nanoseconds. What such a thread does comes
/// again with the next client; a server that got more room meanwhile is held back no longer than this.
const LASTS: u64 = 10 * SECOND;
/// For so long descriptors are left free for the thread that calls accept(2) now, nanoseconds: the call that lacked them is over.
const LASTS_FOR_ITSELF: u64 = SECOND;
/// Threads that are noted. More descriptors than these need are hardly ever free at the limit.
const THREADS: usize = 64;

/// A thread whose call lacked descriptors. Threads that note themselves at once may lose one note, which the next failure makes up for.
struct Thread {
    /// Its number; 0: none.
    number: AtomicI32,
    /// How many descriptors its call needed.
    needs: AtomicU32,
    /// Until when they are left free, nanoseconds of CLOCK_MONOTONIC.
    until: AtomicU64,
}

#[allow(unsafe_code, reason = "a promise about its bytes")]
// SAFETY: it is nothing but atomic numbers.
unsafe impl Zeroed for Thread {}

/// Mapped with the first that is noted.
static NOTED: Table<[Thread; THREADS]> = Table::new();
/// Until when there is any demand, nanoseconds of CLOCK_MONOTONIC; 0: there has been none.
static UNTIL: AtomicU64 = AtomicU64::new(0);

/// The threads that are noted.
fn noted() -> &'static [Thread] {
    NOTED.get().map_or(&[], |noted| noted)
}

/// A call of this thread that is not accept(2) finds no descriptor, and nothing could be freed for it. `several`: it needs two.
pub fn lacked(several: bool) {
    let (me, now) = (sys::gettid(), sys::now());
    let noted = NOTED.map().map_or(&[][..], |noted| noted);
    let own = noted.iter().find(|thread| thread.number.load(Relaxed) == me);
    let place = own.or_else(|| noted.iter().min_by_key(|thread| thread.until.load(Relaxed)));
    if let Some(thread) = place {
        thread.number.store(me, Relaxed);
        thread.needs.store(1 + u32::from(several), Relaxed);
        thread.until.store(now + LASTS, Release);
    }
    UNTIL.store(now + LASTS, Release);
    (handlers().on_lack)();
}

/// May there be any demand? A load, and where there has been any, a look at the clock.
pub fn is_any() -> bool {
    let until = UNTIL.load(Acquire);
    until != 0 && {
        let goes_on = sys::now() < until || line::is_waiting();
        if !goes_on {
            let _ = UNTIL.compare_exchange(until, 0, Relaxed, Relaxed);
        }
        goes_on
    }
}

/// How many descriptors calls other than accept(2) lack or have lacked a moment ago, as the calling thread sees it, which accepts.
fn descriptors() -> u64 {
    let (me, now) = (sys::gettid(), sys::now());
    let lasts = |thread: &&Thread| {
        let over = if thread.number.load(Relaxed) == me { LASTS - LASTS_FOR_ITSELF } else { 0 };
        thread.until.load(Acquire) > now + over
    };
    let needs = |thread: &Thread| u64::from(thread.needs.load(Relaxed));
    noted().iter().filter(lasts).map(needs).sum::<u64>().max(line::waiting())
}

/// How many descriptors accept(2) is to leave free.
pub fn margin() -> u64 {
    descriptors().min(page::counters().clients.load(Relaxed))
}

/// The calling thread is about to wait in accept(2): it has done with the client that it lacked a descriptor for.
pub fn is_done() {
    let me = sys::gettid();
    noted().iter().filter(|thread| thread.number.load(Relaxed) == me).for_each(|thread| thread.until.store(0, Relaxed));
}

/// In the child of a fork: none of these threads is there.
pub fn forked() {
    if UNTIL.load(Relaxed) != 0 {
        noted().iter().for_each(|thread| thread.until.store(0, Relaxed));
        UNTIL.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_counts_once_until_it_accepts_again() {
        lacked(false);
        lacked(false);
        assert_eq!((descriptors(), is_any()), (1, true));
        std::thread::spawn(|| lacked(true)).join().unwrap();
        assert_eq!(descriptors(), 3);
        is_done();
        assert_eq!(descriptors(), 2);
        for _ in 0..2 * THREADS {
            std::thread::spawn(|| lacked(false)).join().unwrap();
        }
        assert_eq!(descriptors(), THREADS as u64, "the latest are kept");
        forked();
        assert_eq!((descriptors(), is_any()), (0, false));
    }
}
