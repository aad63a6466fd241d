//! Clocks, and sleeping: futex(2).

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use libc::timespec;

use super::{Errno, call};
use crate::arch::syscall;
use crate::os::elf;

/// clock_gettime(2) in nanoseconds; 0 if the clock does not exist. Not by libc's function, which libfaketime and its like replace: by the one
/// that the kernel maps into each process (the vDSO), for a twentieth of the cost of a system call, or else by the system call.
pub fn clock(which: libc::clockid_t) -> u64 {
    type Read = unsafe extern "C" fn(libc::clockid_t, *mut timespec) -> c_int;
    const NAME: elf::Name = elf::Name::new(crate::arch::CLOCK_GETTIME);
    const NONE: usize = 1;
    /// Address of that function; 0: not looked for yet.
    static READ: AtomicUsize = AtomicUsize::new(0);
    let mut read = READ.load(Relaxed);
    if read == 0 {
        read = elf::of_kernel(&NAME).unwrap_or(NONE);
        READ.store(read, Relaxed);
    }
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel's function of this name has this type.
    let known = read != NONE && unsafe { core::mem::transmute::<usize, Read>(read)(which, &raw mut now) } == 0;
    match known || call!(SYS_clock_gettime, which, &raw mut now).is_ok() {
        true => now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64,
        false => 0,
    }
}

/// By how much [`now`] is ahead of the clock, nanoseconds.
static AHEAD: AtomicU64 = AtomicU64::new(0);

/// Nanoseconds of CLOCK_MONOTONIC. If that stands still (for a program under a debugger or an emulator that stops it), it goes on by the
/// timeouts that have passed: waits that are measured by it would never end.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC).wrapping_add(AHEAD.load(Relaxed))
}

/// Is a time over that was `gap` ahead, or less, when it was set? All in nanoseconds of [`now`]. Also if the clock was set back since (a
/// process that was restored on another machine): what is further ahead than it can be is over.
#[inline]
pub fn is_due(time: u64, gap: u64, now: u64) -> bool {
    time.wrapping_sub(now).wrapping_sub(1) >= gap
}

/// Makes a system call that sleeps for so many nanoseconds at most; `is_over` tells from its answer whether it has slept for all of them.
pub(super) fn timed<T>(nanoseconds: u64, sleep: impl FnOnce() -> T, is_over: impl FnOnce(&T) -> bool) -> T {
    let ahead = AHEAD.load(Relaxed);
    let before = clock(libc::CLOCK_MONOTONIC);
    let answer = sleep();
    if is_over(&answer) && clock(libc::CLOCK_MONOTONIC).wrapping_sub(before) < nanoseconds / 2 {
        // Threads that sleep at once see the same time pass.
        AHEAD.fetch_max(ahead.saturating_add(nanoseconds), Relaxed);
    }
    answer
}

/// sched_yield(2).
pub fn yield_now() {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
}

pub(super) fn timespec_of(nanoseconds: u64) -> timespec {
    timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 }
}

/// futex(2) FUTEX_WAIT: sleeps while the word holds `value`, at most so many nanoseconds.
pub fn futex_wait(word: &AtomicU32, value: u32, nanoseconds: u64) -> Result<(), Errno> {
    let timeout = timespec_of(nanoseconds);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let wait = || call!(SYS_futex, word.as_ptr(), operation, value, &raw const timeout, 0, 0).map(drop);
    timed(nanoseconds, wait, |slept| *slept == Err(libc::ETIMEDOUT))
}

/// futex(2) FUTEX_WAKE: wakes at most so many threads. Returns how many it has woken.
pub fn futex_wake(word: &AtomicU32, most: c_int) -> usize {
    call!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, most).unwrap_or(0)
}

/// Sleeps for so many nanoseconds, or until a signal comes.
pub fn sleep(nanoseconds: u64) {
    let _ = futex_wait(&AtomicU32::new(0), 0, nanoseconds);
}

/// ppoll(2) without descriptors: sleeps for so many nanoseconds with this mask of signals. EINTR means that a handler has run, perhaps for a
/// signal that was pending before.
pub fn sleep_with_mask(nanoseconds: u64, mask: u64) -> Result<(), Errno> {
    let timeout = timespec_of(nanoseconds);
    let wait = || call!(SYS_ppoll, 0, 0, &raw const timeout, &raw const mask, 8).map(drop);
    let slept = timed(nanoseconds, wait, |slept| slept.is_ok());
    if !matches!(slept, Ok(()) | Err(libc::EINTR)) {
        sleep(nanoseconds);
    }
    slept
}
