//! EADDRNOTAVAIL from connect(2): are all ephemeral ports in use, or is there no address to connect from?

use core::ffi::c_int;

use libc::{sockaddr, socklen_t};

use super::endpoint;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::process;

/// A connect(2) has failed with EADDRNOTAVAIL. Was that for lack of a port, so that waiting can help? Not if the program has bound the
/// socket to a port itself, and not if this machine has no address that leads there (frequent with ::1 in a container without IPv6).
///
/// # Safety
/// `address` and `length` are what the program gave connect(2): what can be read of them stays so during the call.
#[cold]
#[inline(never)]
pub unsafe extern "C" fn are_exhausted(fd: c_int, address: *const sockaddr, length: socklen_t) -> bool {
    barrier(false, || {
        if !process::may_act() || !sys::is_tcp(fd) || sys::local_port(fd) != Ok(0) {
            return false;
        }
        // SAFETY: promised by the caller.
        match unsafe { endpoint::family(address, length) } {
            // With IPv4, connect(2) fails with another error where no address leads there.
            Some(libc::AF_INET) => true,
            // SAFETY: the program's own arguments to the connect(2) that has failed.
            Some(libc::AF_INET6) => unsafe { sys::has_source_for(address, length) },
            _ => false,
        }
    })
}

/// May a connect of this socket sleep for a port? Only in blocking mode.
pub extern "C" fn may_wait(fd: c_int) -> bool {
    sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0)
}
