//! The real poll(2), for hooks that wait by it: a cancellation point, as their real functions are. Nothing is held here.

use core::ffi::{c_int, c_ulong};

use libc::pollfd;

use super::loops::poll;

/// The real poll(2).
///
/// # Safety
/// `fds` points to `count` entries that poll(2) may read and write; it may be NULL if `count` is 0.
pub unsafe fn real_poll(fds: *mut pollfd, count: c_ulong, timeout: c_int) -> c_int {
    type Poll = unsafe extern "C" fn(*mut pollfd, c_ulong, c_int) -> c_int;
    // SAFETY: the function of this name has this type; the caller promises the rest.
    unsafe { core::mem::transmute::<usize, Poll>(poll::real())(fds, count, timeout) }
}

/// poll(2) of one descriptor, for at most so many milliseconds; -1: for ever.
pub fn poll_one(ready: &mut pollfd, timeout: c_int) -> c_int {
    // SAFETY: one entry, of which this is the only reference.
    unsafe { real_poll(ready, 1, timeout) }
}
