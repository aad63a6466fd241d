//! How threads that wait for a descriptor and threads that close one find each other: no close is missed, and a close costs one load
//! while no thread waits.
//!
//! A count of waiting threads would go wrong: the real call is a cancellation point, and may be left by longjmp(3), so that a thread
//! may never take itself off the count. Instead each thread that is about to wait stores a number of its own, its ticket; a thread that
//! closes a descriptor and wakes nobody clears the ticket that it found.
//!
//! This file has only atomics and the caller's two futex(2) operations in it, so that a loom test (tests/) can compile it and try each
//! order of memory accesses that the memory model allows.

#![forbid(unsafe_code)]

use crate::os::atomic::{AtomicU32, AtomicU64, Ordering};

/// The state that waiting and closing threads share.
pub struct Tickets {
    /// Counts closes that happened while a thread waited. Waiting threads sleep on it, by futex(2).
    pub closes: AtomicU32,
    /// Ticket of the thread that was the last to announce that it waits; 0: no thread waits.
    pub last: AtomicU64,
    /// The next ticket that is given out; begins with 1.
    pub next: AtomicU64,
}

impl Tickets {
    /// Announces that the calling thread waits. The caller then makes its call, and if that fails sleeps while `closes` has the value that
    /// is returned. No close is missed: one before the call has freed its descriptor for it, and one after it finds the ticket and
    /// changes `closes`.
    pub fn announce(&self) -> u32 {
        let seen = self.closes.load(Ordering::SeqCst);
        // A swap costs what a SeqCst store costs. In loom's memory model, a store might come before the zero that a closing thread puts in
        // the place of the ticket before, and be lost; a swap can't.
        self.last.swap(self.next.fetch_add(1, Ordering::Relaxed), Ordering::SeqCst);
        seen
    }

    /// The ticket of the thread that announced itself last, or 0. This load is all that a close costs while no thread waits.
    #[inline(always)]
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// A descriptor was closed while `ticket` was the last one: counts the close, and wakes one thread. `wake` is futex(2) FUTEX_WAKE of
    /// one thread, and returns how many it woke. `others` answers whether the next close must be counted even if no thread sleeps.
    pub fn closed(&self, ticket: u64, wake: impl FnOnce(&AtomicU32) -> usize, others: impl FnOnce() -> bool) {
        self.closes.fetch_add(1, Ordering::SeqCst);
        let woken = wake(&self.closes);
        if !others() && woken == 0 {
            // No thread sleeps. One that has announced itself since then keeps its ticket; one that did so before will find `closes` changed
            // when it is about to sleep.
            let _ = self.last.compare_exchange(ticket, 0, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// In the child of a fork: no thread waits.
    pub fn forget(&self) {
        self.last.store(0, Ordering::Relaxed);
    }
}
