//! Functions that wait for several descriptors. They mark the thread as an event loop, which must never sleep for a descriptor. A look
//! without waiting does not mark it (Rust's start-up polls the three standard descriptors).

use core::ffi::{c_int, c_ulong};

use libc::{epoll_event, pollfd, sigset_t, timespec};

use super::hooks;
use super::parts::{in_parts, nanoseconds, timespec_of};
use crate::engine::call::Call;
use crate::features::accept::{parking, register};
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
/// `fds`, `count`, `timeout` and `mask` are what the program has passed to ppoll(2).
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

/// A timeout in milliseconds as nanoseconds; None: for ever.
fn within(milliseconds: c_int) -> Option<u64> {
    u64::try_from(milliseconds).ok().map(|time| time * 1_000_000)
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
