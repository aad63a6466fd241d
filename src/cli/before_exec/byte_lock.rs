//! Locks of fcntl(2) on a part of a file, which rustix does not have.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Locks so many bytes of a file for this process, or all from the offset on (0); does not wait. False: another process has a lock there.
pub fn lock_bytes(file: &impl AsFd, offset: i64, length: i64) -> io::Result<bool> {
    // SAFETY: all zero bytes are a valid flock.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = libc::F_WRLCK as _;
    range.l_whence = libc::SEEK_SET as _;
    (range.l_start, range.l_len) = (offset, length);
    // SAFETY: the kernel reads the flock, which outlives the call.
    if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_SETLK, &raw const range) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        error => Err(error),
    }
}
