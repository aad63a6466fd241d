//! The agreement between threads that wait for a descriptor and threads that close one: no close is missed, and a close costs one
//! load while nobody waits.
//!
//! There is no count of waiting threads: the real call is a cancellation point, and may be left by longjmp(3), so that a count would go
//! wrong. There is a ticket of the thread that announced last that it will wait; a closer that woke nobody clears it.
//!
//! Nothing here but atomics and the caller's two futex operations, so that a loom test (tests/) runs this file in each order that the
//! memory model allows.

#![forbid(unsafe_code)]

use crate::os::atomic::{AtomicU32, AtomicU64, Ordering};

/// See the module.
pub struct Tickets {
    /// Counts closes that happened while somebody waited. Waiting threads sleep on it, by futex(2).
    pub closes: AtomicU32,
    /// Ticket of the thread that announced last that it will wait; 0: nobody waits.
    pub last: AtomicU64,
    /// The next ticket; begins with 1.
    pub next: AtomicU64,
}

impl Tickets {
    /// From here on no close is missed: it changes `closes`, or finds the ticket. The caller tries its call after this, and then sleeps
    /// while `closes` has the value that is returned.
    pub fn announce(&self) -> u32 {
        let seen = self.closes.load(Ordering::SeqCst);
        // A swap costs what a SeqCst store costs, and loom can prove it correct: it lets a store pass by the zero that a closer puts in
        // the place of the ticket before.
        self.last.swap(self.next.fetch_add(1, Ordering::Relaxed), Ordering::SeqCst);
        seen
    }

    /// The ticket of whoever announced last, or 0. One load: what a close costs while nobody waits.
    #[inline(always)]
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// A descriptor was closed while `ticket` was the last one: counts the close, and wakes one thread. `wake` is futex(2) FUTEX_WAKE of
    /// one thread, and returns how many it woke. `others`: somebody else wants to hear of the next close, though no thread sleeps.
    pub fn closed(&self, ticket: u64, wake: impl FnOnce(&AtomicU32) -> usize, others: impl FnOnce() -> bool) {
        self.closes.fetch_add(1, Ordering::SeqCst);
        let woken = wake(&self.closes);
        if !others() && woken == 0 {
            // Nobody sleeps. Whoever has announced itself since keeps its ticket; whoever did before has yet to see `closes`.
            let _ = self.last.compare_exchange(ticket, 0, Ordering::SeqCst, Ordering::Relaxed);
        }
    }

    /// Nobody waits: in the child of a fork.
    pub fn forget(&self) {
        self.last.store(0, Ordering::Relaxed);
    }
}
