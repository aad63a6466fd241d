//! Waits in parts, while a listener is parked, and the times that programs give.

use core::ffi::c_int;

use libc::{sigset_t, timespec};

use crate::engine::sleepers::IN_LOOPS;
use crate::features::accept::upkeep;
use crate::os::barrier::barrier;
use crate::os::cancel::test_cancel;
use crate::os::sys;
use crate::state::control;
use crate::state::process::{self, Phase};

/// Waits by several calls of `wait`, which is told for how many nanoseconds and with which signal mask: while a listener is parked, no
/// thread sleeps long without looking after it. Signals are delivered only inside the real call, as they would be if that waited all the
/// time: it ends with EINTR, and none is missed.
#[inline(always)]
pub fn in_parts(
    within: Option<u64>,
    mask: *const sigset_t,
    wait: impl Fn(Option<u64>, *const sigset_t) -> c_int,
) -> c_int {
    if within == Some(INVALID) {
        sys::set_errno(libc::EINVAL);
        return -1;
    }
    let end = within.map(|time| sys::now().saturating_add(time));
    // Before signals are blocked, so that the cleanup handlers of a cancelled thread run with its own signal mask.
    test_cancel();
    let own = if may_look() { sys::block_signals().ok() } else { None };
    let Some(own) = own else { return wait(within, mask) };
    // SAFETY: a sigset_t is bits, of which the kernel looks at the first 64.
    let mut inside: sigset_t = unsafe { core::mem::zeroed() };
    // SAFETY: a sigset_t is 128 bytes long.
    unsafe { (&raw mut inside).cast::<u64>().write_unaligned(own) };
    let inside = if mask.is_null() { &raw const inside } else { mask };
    let answer = loop {
        let look = look_after_listeners();
        let left = end.map_or(u64::MAX, |end| end.saturating_sub(sys::now()));
        let time = Some(left.min(look)).filter(|&time| time != u64::MAX);
        let answer = IN_LOOPS.during(|| wait(time, inside));
        if answer != 0 || left <= look {
            break answer;
        }
    };
    sys::restore_signals(own);
    answer
}

/// May the library make system calls here? Not in the child of a vfork(2), and not in a program with a seccomp filter.
extern "C" fn may_look() -> bool {
    barrier(false, process::may_note)
}

/// Puts parked listeners back if that is due. Returns for how many nanoseconds the wait may last until the next look.
extern "C" fn look_after_listeners() -> u64 {
    // Another thread may have installed a seccomp filter for all of them since.
    barrier(u64::MAX, || {
        if process::phase() == Phase::Sandboxed {
            return u64::MAX;
        }
        if control::look() { u64::MAX } else { upkeep::look().unwrap_or(u64::MAX) }
    })
}

/// Nanoseconds as the program's kind of time.
pub fn timespec_of(nanoseconds: u64) -> timespec {
    timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 }
}

/// In the place of a number of nanoseconds: the program's timespec is not a time, and the call fails with EINVAL.
pub const INVALID: u64 = u64::MAX;

/// A timeout as nanoseconds; Some(None): for ever; None: it can't be read. For cold paths: makes a system call.
pub fn nanoseconds(timeout: *const timespec) -> Option<Option<u64>> {
    if timeout.is_null() {
        return Some(None);
    }
    if !sys::is_readable(timeout.cast(), size_of::<timespec>()) {
        return None;
    }
    // SAFETY: it can be read, as the kernel has just said, and the program leaves it alone during its call.
    let time = unsafe { timeout.read_unaligned() };
    Some(Some(nanoseconds_of(time.tv_sec, time.tv_nsec)))
}

/// A time as nanoseconds.
pub fn nanoseconds_of(seconds: i64, nanoseconds: i64) -> u64 {
    if seconds < 0 || !(0..1_000_000_000).contains(&nanoseconds) {
        return INVALID;
    }
    (seconds as u64).saturating_mul(1_000_000_000).saturating_add(nanoseconds as u64).min(INVALID - 1)
}
