//! poll(2) and epoll(7).

use core::ffi::{c_int, c_short};

use super::time::{timed, timespec_of};
use super::{Errno, call};

/// An entry for poll(2): a descriptor, and the events that are asked for.
pub fn pollfd(fd: c_int, events: c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// poll(2) without waiting. Returns how many of them are ready.
pub fn poll_now(fds: &mut [libc::pollfd]) -> Result<usize, Errno> {
    poll_for(fds, 0)
}

/// poll(2) for at most so many milliseconds; -1: without end. Returns how many of them are ready.
pub fn poll_for(fds: &mut [libc::pollfd], milliseconds: c_int) -> Result<usize, Errno> {
    let nanoseconds = milliseconds.max(0) as u64 * 1_000_000;
    let timeout = (milliseconds >= 0).then(|| timespec_of(nanoseconds));
    let timeout = timeout.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
    // No mask of signals.
    let wait = || call!(SYS_ppoll, fds.as_mut_ptr(), fds.len(), timeout, 0, 0);
    timed(nanoseconds, wait, |ready| nanoseconds != 0 && *ready == Ok(0))
}

/// epoll_ctl(2).
pub fn epoll_control(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: Option<&libc::epoll_event>,
) -> Result<(), Errno> {
    let event = event.map_or(core::ptr::null(), core::ptr::from_ref);
    call!(SYS_epoll_ctl, epoll, operation, fd, event).map(drop)
}
