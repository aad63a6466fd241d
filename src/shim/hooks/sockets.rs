//! Sockets.

use core::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::{blocking, descriptor, hooks, pair};
use crate::sys;

hooks! {
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = descriptor() if blocking(kind);
    socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int = pair(fds) if blocking(kind);
    accept(listener: c_int, from: *mut sockaddr, length: *mut socklen_t) -> c_int = descriptor() if waits(listener);
    accept4(listener: c_int, from: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int
        = descriptor() if blocking(flags) && waits(listener);
}

/// Is this listener in blocking mode? Asked only after a failure.
fn waits(listener: c_int) -> bool {
    sys::status_flags(listener).is_ok_and(blocking)
}
