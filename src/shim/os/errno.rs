//! The program's errno.

/// An errno.
pub type Errno = core::ffi::c_int;

/// The host's errno.
pub fn errno() -> Errno {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() }
}

/// Sets the host's errno.
pub fn set_errno(errno: Errno) {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = errno };
}
