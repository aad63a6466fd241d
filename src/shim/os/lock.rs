//! A lock for cold paths that may run anywhere: in signal handlers, in threads that are about to be cancelled.
//!
//! Whoever holds it makes a few system calls that don't wait. Others yield until it is free. A handler that interrupted the holder
//! is turned away; a holder that never comes back (it has left by longjmp) is given up after a second.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use tideover_contract::settings::SECOND;

use crate::arch;
use crate::os::sys;

/// See the module.
pub struct Gate<T> {
    /// Thread pointer of who is inside, or 0.
    holder: AtomicUsize,
    since: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through `Inside` only, of which there is one at a time.
unsafe impl<T: Send> Sync for Gate<T> {}

impl<T> Gate<T> {
    /// Nobody is inside.
    pub const fn new(value: T) -> Gate<T> {
        Gate { holder: AtomicUsize::new(0), since: AtomicU64::new(0), value: UnsafeCell::new(value) }
    }

    /// Waits for its turn. None: this thread is inside already, further out on its stack.
    pub fn enter(&self) -> Option<Inside<'_, T>> {
        let me = arch::thread_pointer();
        loop {
            if let Some(inside) = self.try_enter() {
                return Some(inside);
            }
            let holder = self.holder.load(Relaxed);
            let since = self.since.load(Relaxed);
            if holder == me {
                return None;
            } else if since != 0 && sys::now().saturating_sub(since) > SECOND {
                let _ = self.holder.compare_exchange(holder, 0, Relaxed, Relaxed);
            } else {
                sys::yield_now();
            }
        }
    }

    /// The same for whoever has better things to do than to wait.
    pub fn try_enter(&self) -> Option<Inside<'_, T>> {
        let me = arch::thread_pointer();
        self.holder.compare_exchange(0, me, Acquire, Relaxed).ok()?;
        self.since.store(sys::now(), Relaxed);
        Some(Inside { gate: self, me })
    }

    /// Is somebody inside?
    pub fn is_taken(&self) -> bool {
        self.holder.load(Relaxed) != 0
    }

    /// In the child of a fork: another thread that was inside does not exist.
    pub fn forked(&self) {
        if self.is_taken() && self.holder.load(Relaxed) != arch::thread_pointer() {
            self.holder.store(0, Relaxed);
        }
    }
}

/// One's turn; it ends when this is dropped.
pub struct Inside<'a, T> {
    gate: &'a Gate<T>,
    me: usize,
}

impl<T> Deref for Inside<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread is the only one inside.
        unsafe { &*self.gate.value.get() }
    }
}

impl<T> DerefMut for Inside<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.gate.value.get() }
    }
}

impl<T> Drop for Inside<'_, T> {
    fn drop(&mut self) {
        self.gate.since.store(0, Relaxed);
        let _ = self.gate.holder.compare_exchange(self.me, 0, Release, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_a_lost_one_is_given_up() {
        static GATE: Gate<u64> = Gate::new(0);
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..10_000).for_each(|_| *GATE.enter().expect("not inside") += 1)))
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let inside = GATE.enter().unwrap();
        assert_eq!(*inside, 40_000);
        assert!(GATE.enter().is_none(), "a handler above the holder");
        core::mem::forget(inside);
        let other = std::thread::spawn(|| *GATE.enter().expect("the lost one is given up"));
        assert_eq!(other.join().unwrap(), 40_000);
    }
}
