//! EADDRNOTAVAIL from connect(2): are the ephemeral ports gone, or is there no address to connect from?

use core::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::endpoint;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::process;

/// A connect(2) failed with EADDRNOTAVAIL: for lack of a port, so that waiting can help? Not if the host chose the port itself, and
/// not if this machine has no address that leads there (`connect to ::1` in a container without IPv6 is frequent).
#[cold]
#[inline(never)]
pub extern "C" fn are_gone(fd: c_int, address: *const sockaddr, length: socklen_t) -> bool {
    barrier(false, || {
        if !process::may_act() || !sys::is_tcp(fd) || sys::local_port(fd) != Ok(0) {
            return false;
        }
        match endpoint::family(address, length) {
            // The routing of IPv4 has other errors for that.
            Some(libc::AF_INET) => true,
            Some(libc::AF_INET6) => sys::has_source_for(address, length),
            _ => false,
        }
    })
}

/// Is this socket in blocking mode?
pub extern "C" fn may_wait(fd: c_int) -> bool {
    sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0)
}
