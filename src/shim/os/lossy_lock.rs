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
    /// 0: free. Else the holder's thread number (lower half), the time at which it was taken (24 bits, in units of 2^30 ns), and a count
    /// (8 bits), so that an eviction hits only the taking that it was meant for.
    word: AtomicU64,
    /// Counts takings.
    takings: AtomicU32,
    /// Thread pointer of the holder: by this the child of a fork knows itself, whose thread number is new.
    pointer: AtomicUsize,
}

const UNIT: u32 = 30;
const TIME: u64 = 0xff_ffff;

fn thread_of(word: u64) -> i32 {
    word as u32 as i32
}

/// Nanoseconds since the taking, in units of 2^30.
fn held_for(word: u64, now: u64) -> u64 {
    ((now >> UNIT).wrapping_sub(word >> 32) & TIME) << UNIT
}

impl LossyLock {
    /// Free.
    pub const fn new(lost: Lost) -> LossyLock {
        LossyLock { lost, word: AtomicU64::new(0), takings: AtomicU32::new(0), pointer: AtomicUsize::new(0) }
    }

    /// Takes it, if it is free or its holder is lost. `now` is in nanoseconds of CLOCK_MONOTONIC.
    pub fn take(&self, now: u64) -> Taken {
        let held = self.word.load(Acquire);
        let me = sys::gettid();
        if held != 0 && (thread_of(held) == me || !self.is_lost(held, now)) {
            return Taken::No;
        }
        let count = u64::from(self.takings.fetch_add(1, Relaxed)) << 56;
        let taking = count | (now >> UNIT & TIME) << 32 | u64::from(me as u32);
        if self.word.compare_exchange(held, taking, AcqRel, Relaxed).is_err() {
            return Taken::No;
        }
        self.pointer.store(thread_pointer(), Relaxed);
        if held == 0 { Taken::Yes } else { Taken::From(thread_of(held)) }
    }

    fn is_lost(&self, held: u64, now: u64) -> bool {
        let late = match self.lost {
            Lost::After(time) => held_for(held, now) > time,
            Lost::ThreadGone => false,
        };
        late || !sys::has_thread(thread_of(held))
    }

    /// Does the calling thread hold it?
    pub fn is_mine(&self) -> bool {
        let held = self.word.load(Acquire);
        held != 0 && thread_of(held) == sys::gettid()
    }

    /// Does anybody hold it?
    pub fn is_taken(&self) -> bool {
        self.word.load(Acquire) != 0
    }

    /// For how long it has been held, nanoseconds, to a second or so.
    pub fn held_for(&self, now: u64) -> u64 {
        held_for(self.word.load(Relaxed), now)
    }

    /// Frees it. False: the calling thread does not hold it, perhaps because it was taken for lost.
    pub fn release(&self) -> bool {
        let held = self.word.load(Acquire);
        held != 0 && thread_of(held) == sys::gettid() && self.word.compare_exchange(held, 0, AcqRel, Relaxed).is_ok()
    }

    /// Frees it, if the thread of this number holds it: that thread is known to be lost.
    pub fn evict(&self, thread: i32) {
        let held = self.word.load(Acquire);
        if held != 0 && thread_of(held) == thread {
            let _ = self.word.compare_exchange(held, 0, AcqRel, Relaxed);
        }
    }

    /// In the child of a fork: a holder does not exist here, unless it is the thread that forked, which has another number now.
    pub fn forked(&self) {
        let held = self.word.load(Relaxed);
        let is_own = held != 0 && self.pointer.load(Relaxed) == thread_pointer();
        let now = if is_own { held & !u64::from(u32::MAX) | u64::from(sys::gettid() as u32) } else { 0 };
        self.word.store(now, Relaxed);
    }
}
