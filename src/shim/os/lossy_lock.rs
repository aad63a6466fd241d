//! A lock that survives the loss of its holder, for cold paths that run the program's own code: such a thread may end while it holds the
//! lock, or leave by longjmp(3). It says whose turn it is, and guards no memory: an evicted holder that lives on finds out that the
//! lock is no longer its own.
//!
//! It is never waited for here, and released by no destructor: destructors do not run when a thread is cancelled or jumps.

#![forbid(unsafe_code)]

use crate::arch::thread_pointer;
use crate::os::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use crate::os::sys;

/// When a holder is taken for lost.
#[derive(Clone, Copy)]
pub enum Lost {
    /// When it has held the lock for so many nanoseconds, or its thread has ended.
    After(u64),
    /// When its thread has ended.
    ThreadGone,
}

/// How an attempt to take the lock ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// Another thread holds it, or this one does already.
    No,
    /// It was free.
    Yes,
    /// It was taken from a holder that is lost, whose thread has this number.
    From(i32),
}

/// See the module.
pub struct LossyLock {
    lost: Lost,
    /// 0: free. Else the holder's thread number (lower half) and which taking this is (upper half), so that an eviction hits only the
    /// taking that it was meant for.
    word: AtomicU64,
    /// Counts takings.
    takings: AtomicU32,
    /// Thread pointer of the holder, or 0.
    pointer: AtomicUsize,
    /// Since when it is held, nanoseconds of CLOCK_MONOTONIC; 0: that is not known yet.
    since: AtomicU64,
}

fn thread_of(word: u64) -> i32 {
    word as u32 as i32
}

impl LossyLock {
    /// Free.
    pub const fn new(lost: Lost) -> LossyLock {
        LossyLock {
            lost,
            word: AtomicU64::new(0),
            takings: AtomicU32::new(0),
            pointer: AtomicUsize::new(0),
            since: AtomicU64::new(0),
        }
    }

    /// Takes it, if it is free or its holder is lost. `now` is in nanoseconds of CLOCK_MONOTONIC.
    pub fn take(&self, now: u64) -> Taken {
        let held = self.word.load(Acquire);
        if held != 0 && (self.is_mine() || !self.is_lost(held, now)) {
            return Taken::No;
        }
        let taking = u64::from(self.takings.fetch_add(1, Relaxed)) << 32 | u64::from(sys::gettid() as u32);
        if self.word.compare_exchange(held, taking, AcqRel, Relaxed).is_err() {
            return Taken::No;
        }
        self.since.store(now.max(1), Relaxed);
        self.pointer.store(thread_pointer(), Release);
        if held == 0 { Taken::Yes } else { Taken::From(thread_of(held)) }
    }

    fn is_lost(&self, held: u64, now: u64) -> bool {
        let since = self.since.load(Relaxed);
        // What was read is of this taking only while the word says so: `release` forgets the time first.
        let late = match self.lost {
            Lost::After(time) => since != 0 && now.saturating_sub(since) > time,
            Lost::ThreadGone => false,
        };
        (late || !sys::has_thread(thread_of(held))) && self.word.load(Acquire) == held
    }

    /// Does the calling thread hold it?
    pub fn is_mine(&self) -> bool {
        self.pointer.load(Acquire) == thread_pointer()
    }

    /// Does anybody hold it?
    pub fn is_taken(&self) -> bool {
        self.word.load(Acquire) != 0
    }

    /// For how long it has been held, nanoseconds.
    pub fn held_for(&self, now: u64) -> u64 {
        now.saturating_sub(self.since.load(Relaxed))
    }

    /// Frees it. False: the calling thread does not hold it, perhaps because it was taken for lost.
    pub fn release(&self) -> bool {
        let held = self.word.load(Acquire);
        if !self.is_mine() || self.pointer.compare_exchange(thread_pointer(), 0, AcqRel, Relaxed).is_err() {
            return false;
        }
        self.since.store(0, Relaxed);
        self.word.compare_exchange(held, 0, Release, Relaxed).is_ok()
    }

    /// Frees it, if the thread of this number holds it: that thread is known to be lost.
    pub fn evict(&self, thread: i32) {
        let held = self.word.load(Acquire);
        if held != 0 && thread_of(held) == thread {
            self.pointer.store(0, Relaxed);
            self.since.store(0, Relaxed);
            let _ = self.word.compare_exchange(held, 0, Release, Relaxed);
        }
    }

    /// In the child of a fork: a holder does not exist here, unless it is the thread that forked, which has another number now.
    pub fn forked(&self) {
        let taking = if self.is_mine() {
            self.word.load(Relaxed) & !u64::from(u32::MAX) | u64::from(sys::gettid() as u32)
        } else {
            self.pointer.store(0, Relaxed);
            0
        };
        self.word.store(taking, Relaxed);
    }
}
