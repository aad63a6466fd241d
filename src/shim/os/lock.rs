//! A lock around a value, for cold paths that may run anywhere: in signal handlers, in threads that are about to be cancelled.
//!
//! Whoever holds it makes a few system calls that don't wait, with signals blocked: no handler can jump away from it, and no cancellation
//! can unwind it, so a holder always comes back, and the value is never shared. Waiting is bounded all the same: after half a second
//! of its own waiting, however long a stopped process stood still, a thread does without.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use tideover_contract::settings::SECOND;

use crate::arch;
use crate::os::sys;

/// Yields, and then sleeps of a millisecond, until a thread does without.
const YIELDS: u32 = 1000;
const SLEEPS: u32 = 500;

/// See the module.
pub struct Lock<T> {
    /// Thread pointer of the holder, or 0.
    holder: AtomicUsize,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `Held` only, and there is one at a time: `try_enter` makes one when it has changed `holder` from 0,
// and its drop changes it back.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// Free.
    pub const fn new(value: T) -> Lock<T> {
        Lock { holder: AtomicUsize::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits until it is free. None: this thread holds it already, further out on its stack, or its holder does not come back.
    pub fn enter(&self) -> Option<Held<'_, T>> {
        let me = arch::thread_pointer();
        for round in 0..YIELDS + SLEEPS {
            if let Some(held) = self.try_enter() {
                return Some(held);
            } else if self.holder.load(Relaxed) == me {
                return None;
            } else if round < YIELDS {
                sys::yield_now();
            } else {
                sys::sleep(SECOND / 1000);
            }
        }
        None
    }

    /// Does not wait.
    pub fn try_enter(&self) -> Option<Held<'_, T>> {
        let signals = sys::block_signals_but_faults().ok();
        if self.holder.compare_exchange(0, arch::thread_pointer(), Acquire, Relaxed).is_ok() {
            return Some(Held { lock: self, signals });
        }
        signals.into_iter().for_each(sys::restore_signals);
        None
    }

    /// Does a thread hold it?
    pub fn is_taken(&self) -> bool {
        self.holder.load(Relaxed) != 0
    }

    /// In the child of a fork: another thread that held it does not exist. One that is free is not written to, or each child would copy the
    /// page around it.
    pub fn forked(&self) {
        if self.is_taken() && self.holder.load(Relaxed) != arch::thread_pointer() {
            self.holder.store(0, Relaxed);
        }
    }
}

/// The right to use the value; it ends when this is dropped.
pub struct Held<'a, T> {
    lock: &'a Lock<T>,
    /// The thread's signal mask before.
    signals: Option<u64>,
}

impl<T> Deref for Held<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: there is one `Held` at a time, see `Lock`.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Held<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: there is one `Held` at a time, see `Lock`.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        self.lock.holder.store(0, Release);
        if let Some(signals) = self.signals {
            sys::restore_signals(signals);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_with_signals_blocked_and_waiting_is_bounded() {
        static LOCK: Lock<u64> = Lock::new(0);
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..10_000).for_each(|_| *LOCK.enter().expect("not held here") += 1)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let before = sys::block_signals().unwrap();
        sys::restore_signals(before);
        let held = LOCK.enter().unwrap();
        assert_eq!(*held, 40_000);
        let inside = sys::block_signals().unwrap();
        assert_ne!(inside & 1 << (libc::SIGTERM - 1), 0, "signals are blocked");
        assert!(LOCK.enter().is_none(), "this thread holds it");
        // The holder never comes back: others do without, and never share the value.
        core::mem::forget(held);
        assert!(std::thread::spawn(|| LOCK.enter().is_none()).join().unwrap());
        sys::restore_signals(before);
    }
}
