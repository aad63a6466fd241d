//! Functions that wait for several descriptors. They mark the thread as an event loop, which must never sleep for a descriptor. A look
//! without waiting does not mark it (Rust's start-up polls the three standard descriptors).

use core::ffi::{c_int, c_ulong, c_void};

use libc::{epoll_event, fd_set, pollfd, sigset_t, timespec, timeval};

use super::hooks;
use super::selects::{Limit, selecting};
use crate::engine::call::Call;
use crate::features::accept::{parking, register, upkeep};
use crate::os::barrier::barrier;
use crate::os::cancel::test_cancel;
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::{descriptors, thread};

hooks! {
    epoll_wait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int = watching(events, most, epoll, move || Some(within(timeout)), core::ptr::null());
    epoll_pwait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int, mask: *const sigset_t) -> c_int
        = watching(events, most, epoll, move || Some(within(timeout)), mask);
    epoll_pwait2(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int
        = watching(events, most, epoll, move || nanoseconds(timeout), mask);
    epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut epoll_event) -> c_int = registering(epoll, operation, fd, event);
    poll(fds: *mut pollfd, count: c_ulong, timeout: c_int) -> c_int = polling(fds, count, timeout);
    __poll(fds: *mut pollfd, count: c_ulong, timeout: c_int) -> c_int = polling(fds, count, timeout);
    __poll_chk(fds: *mut pollfd, count: c_ulong, timeout: c_int, size: usize) -> c_int = polling(fds, count, timeout);
    ppoll(fds: *mut pollfd, count: c_ulong, timeout: *const timespec, mask: *const sigset_t) -> c_int
        = polling_precisely(fds, count, timeout, mask);
    __ppoll_chk(fds: *mut pollfd, count: c_ulong, timeout: *const timespec, mask: *const sigset_t, size: usize) -> c_int
        = polling_precisely(fds, count, timeout, mask);
    select(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
        = selecting(end, read, write, except, Limit::Select(timeout), core::ptr::null());
    __select(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
        = selecting(end, read, write, except, Limit::Select(timeout), core::ptr::null());
    pselect(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec,
        mask: *const c_void) -> c_int = selecting(end, read, write, except, Limit::Pselect(timeout), mask.cast());
}

/// poll(2).
///
/// # Safety
/// The pointer is what `real` passes to poll(2).
#[inline(always)]
unsafe fn polling(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    fds: *mut pollfd,
    count: c_ulong,
    timeout: c_int,
) -> c_int {
    if timeout != 0 && count > 0 {
        if parking::is_alert() {
            // SAFETY: promised by the caller.
            return unsafe { polling_in_parts(fds, count, within(timeout), core::ptr::null()) };
        }
        if count > 1 {
            thread::mark_event_loop();
        }
    }
    real()
}

/// ppoll(2). Its timeout is not looked at before the real call has read it, since it may be a bad pointer.
///
/// # Safety
/// As [`polling`]; `timeout` and `mask` likewise.
#[inline(always)]
unsafe fn polling_precisely(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    fds: *mut pollfd,
    count: c_ulong,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    if parking::is_alert()
        && count > 0
        && let Some(within) = nanoseconds(timeout)
        && within != Some(0)
    {
        // SAFETY: promised by the caller.
        return unsafe { polling_in_parts(fds, count, within, mask) };
    }
    let answer = real();
    // SAFETY: the real call has not failed, so it has read the time.
    if count > 1 && answer >= 0 && !unsafe { is_zero(timeout) } {
        thread::mark_event_loop();
    }
    answer
}

/// One of its descriptors may be an epoll set with a parked listener in it.
///
/// # Safety
/// As ppoll(2): `fds` points to `count` entries, and `mask` is NULL or points to a mask.
#[cold]
#[inline(never)]
unsafe fn polling_in_parts(fds: *mut pollfd, count: c_ulong, within: Option<u64>, mask: *const sigset_t) -> c_int {
    type Wait = unsafe extern "C" fn(*mut pollfd, c_ulong, *const timespec, *const sigset_t) -> c_int;
    if count > 1 {
        thread::mark_event_loop();
    }
    in_parts(within, mask, |time, mask| {
        let time = time.map(timespec_of);
        let time = time.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
        // SAFETY: the function of this name has this type; the time is NULL or our own, the mask is ours or the caller's, and the caller
        // promises the rest.
        unsafe { core::mem::transmute::<usize, Wait>(ppoll::real())(fds, count, time, mask) }
    })
}

/// epoll_wait(2) and its variants, which wait `within` nanoseconds, or for ever; None: their timeout can't be read.
///
/// # Safety
/// The pointers are what `real` passes to epoll_pwait(2) or its variants.
#[inline(always)]
unsafe fn watching(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    events: *mut epoll_event,
    most: c_int,
    epoll: c_int,
    within: impl Fn() -> Option<Option<u64>>,
    mask: *const sigset_t,
) -> c_int {
    thread::mark_event_loop();
    if parking::is_alert()
        && let Some(within) = within()
    {
        // SAFETY: promised by the caller.
        return unsafe { watching_in_parts(epoll, events, most, within, mask) };
    }
    real()
}

/// The set may have a parked listener in it.
///
/// # Safety
/// As epoll_pwait(2): `events` has room for `most` entries, and `mask` is NULL or points to a mask.
#[cold]
#[inline(never)]
unsafe fn watching_in_parts(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    within: Option<u64>,
    mask: *const sigset_t,
) -> c_int {
    type Wait = unsafe extern "C" fn(c_int, *mut epoll_event, c_int, c_int, *const sigset_t) -> c_int;
    in_parts(within, mask, |time, mask| {
        let time = time.map_or(-1, |ns| c_int::try_from(ns.div_ceil(1_000_000)).unwrap_or(c_int::MAX));
        // SAFETY: the function of this name has this type; the mask is ours or the caller's, and the caller promises the rest.
        unsafe { core::mem::transmute::<usize, Wait>(epoll_pwait::real())(epoll, events, most, time, mask) }
    })
}

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
        let answer = wait(time, inside);
        if answer != 0 || left <= look {
            break answer;
        }
    };
    sys::restore_signals(own);
    answer
}

/// May the library make system calls here? Not in the child of a vfork(2), and not in a program with a seccomp filter.
extern "C" fn may_look() -> bool {
    barrier(false, process::may_act)
}

/// Puts parked listeners back if that is due. Returns for how many nanoseconds the wait may last until the next look.
extern "C" fn look_after_listeners() -> u64 {
    // Another thread may have installed a seccomp filter for all of them since.
    barrier(u64::MAX, || if process::phase() == Phase::Sandboxed { None } else { upkeep::look() }.unwrap_or(u64::MAX))
}

/// epoll_ctl(2), of which the calls for listeners are noted.
///
/// # Safety
/// The arguments are what `real` passes to epoll_ctl(2).
#[inline(always)]
unsafe fn registering(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: *mut epoll_event,
) -> c_int {
    if descriptors::marks(fd) & descriptors::LISTENER == 0 {
        return real();
    }
    // SAFETY: the first is the address of epoll_ctl(2); the caller promises the rest.
    unsafe { register::control(epoll_ctl::real(), epoll, operation, fd, event) }
}

/// Nanoseconds as the program's kind of time.
pub fn timespec_of(nanoseconds: u64) -> timespec {
    timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 }
}

/// A timeout in milliseconds as nanoseconds; None: for ever.
fn within(milliseconds: c_int) -> Option<u64> {
    u64::try_from(milliseconds).ok().map(|time| time * 1_000_000)
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

/// Does ppoll(2) return without waiting? With NULL it waits for ever.
///
/// # Safety
/// `timeout` is NULL or points to a timespec.
#[inline(always)]
unsafe fn is_zero(timeout: *const timespec) -> bool {
    // SAFETY: promised by the caller.
    unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec == 0 && t.tv_nsec == 0)
}
