//! Waits for several descriptors: they mark the thread as an event loop, which must never sleep for a descriptor. A glance
//! without waiting does not (Rust's start-up polls the three standard descriptors).

use core::ffi::{c_int, c_ulong, c_void};

use libc::{epoll_event, fd_set, pollfd, sigset_t, timespec, timeval};

use super::hooks;
use crate::acquire::Call;
use crate::thread;

hooks! {
    epoll_wait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int = looping(true);
    epoll_pwait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int, mask: *const sigset_t) -> c_int
        = looping(true);
    epoll_pwait2(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: *const timespec, mask: *const sigset_t) -> c_int
        = looping(true);
    poll(fds: *mut pollfd, count: c_ulong, timeout: c_int) -> c_int = looping(count > 1 && timeout != 0);
    __poll(fds: *mut pollfd, count: c_ulong, timeout: c_int) -> c_int = looping(count > 1 && timeout != 0);
    __poll_chk(fds: *mut pollfd, count: c_ulong, timeout: c_int, size: usize) -> c_int = looping(count > 1 && timeout != 0);
    ppoll(fds: *mut pollfd, count: c_ulong, timeout: *const timespec, mask: *const sigset_t) -> c_int = looping(count > 1 && !is_zero(timeout));
    __ppoll_chk(fds: *mut pollfd, count: c_ulong, timeout: *const timespec, mask: *const sigset_t, size: usize) -> c_int
        = looping(count > 1 && !is_zero(timeout));
    select(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
        = looping(several(end, [read, write, except]));
    __select(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *mut timeval) -> c_int
        = looping(several(end, [read, write, except]));
    pselect(end: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout: *const timespec,
        mask: *const c_void) -> c_int = looping(several(end, [read, write, except]));
}

#[inline(always)]
unsafe fn looping(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, several: bool) -> c_int {
    if several {
        thread::mark_event_loop();
    }
    real()
}

/// Are there more than one descriptor in these sets? Programs sleep with select(2) on none, and wait for one.
#[inline(always)]
unsafe fn several(end: c_int, sets: [*mut fd_set; 3]) -> bool {
    if end < 2 || thread::is_event_loop() {
        return false;
    }
    let words = (end as usize).div_ceil(u64::BITS as usize);
    let mut found = 0;
    for set in sets.iter().filter(|set| !set.is_null()) {
        for word in 0..words {
            // SAFETY: select(2) reads as many bits itself.
            found += unsafe { *set.cast::<u64>().add(word) }.count_ones();
        }
    }
    found > 1
}

/// Does ppoll(2) not wait? NULL is for ever.
#[inline(always)]
unsafe fn is_zero(timeout: *const timespec) -> bool {
    // SAFETY: NULL, or the host's own, which ppoll(2) reads too.
    unsafe { timeout.as_ref() }.is_some_and(|t| t.tv_sec == 0 && t.tv_nsec == 0)
}
