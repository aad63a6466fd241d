//! How many threads sleep elsewhere while others wait for a descriptor in the queue (`line`), and so can't close one.
//!
//! A thread that leaves its sleep by longjmp(3), or is cancelled in it, stays counted. Then a wait in vain ends sooner, after a quarter of a
//! second at the least.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A place where threads sleep.
pub struct Sleepers(AtomicU32);

/// Blocking calls of accept(2) for which there is no descriptor: no thread of these closes anything before it has one.
pub static IN_ACCEPT: Sleepers = Sleepers(AtomicU32::new(0));
/// Event loops whose listener is parked: what they wait for may make them close something, or never come.
pub static IN_LOOPS: Sleepers = Sleepers(AtomicU32::new(0));

impl Sleepers {
    /// Counts the calling thread while it sleeps.
    #[inline(always)]
    pub fn during<T>(&self, sleep: impl FnOnce() -> T) -> T {
        self.0.fetch_add(1, Relaxed);
        let woken = sleep();
        let _ = self.0.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1));
        woken
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        u64::from(self.0.load(Relaxed))
    }

    fn forked(&self) {
        if self.count() != 0 {
            self.0.store(0, Relaxed);
        }
    }
}

/// In the child of a fork: no other thread sleeps.
pub fn forked() {
    IN_ACCEPT.forked();
    IN_LOOPS.forked();
}
