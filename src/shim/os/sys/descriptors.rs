//! Descriptors: close(2), dup(2), fcntl(2).

use core::ffi::c_int;

use super::{Errno, call};

/// close(2).
pub fn close(fd: c_int) {
    let _ = call!(SYS_close, fd);
}

/// fcntl(2) F_DUPFD_CLOEXEC.
pub fn duplicate(fd: c_int, lowest: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, lowest).map(|fd| fd as c_int)
}

/// dup3(2).
pub fn duplicate_onto(fd: c_int, to: c_int, close_on_exec: bool) -> Result<(), Errno> {
    call!(SYS_dup3, fd, to, if close_on_exec { libc::O_CLOEXEC } else { 0 }).map(drop)
}

/// fcntl(2) F_GETFD.
pub fn descriptor_flags(fd: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_GETFD, 0).map(|flags| flags as c_int)
}

/// fcntl(2) F_GETFL.
pub fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_GETFL, 0).map(|flags| flags as c_int)
}

/// fcntl(2) F_SETFL.
pub fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), Errno> {
    call!(SYS_fcntl, fd, libc::F_SETFL, flags).map(drop)
}

/// fcntl(2) F_GETSIG: a number that is kept with the open file description, and means nothing for a regular file. No other question about
/// the file behind a descriptor costs less.
pub fn signal_number(fd: c_int) -> Result<c_int, Errno> {
    const F_GETSIG: c_int = 11;
    call!(SYS_fcntl, fd, F_GETSIG, 0).map(|signal| signal as c_int)
}

/// fcntl(2) F_SETSIG.
pub fn set_signal_number(fd: c_int, signal: c_int) -> Result<(), Errno> {
    const F_SETSIG: c_int = 10;
    call!(SYS_fcntl, fd, F_SETSIG, signal).map(|_| ())
}

/// fcntl(2) F_GETLEASE.
pub fn lease(fd: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_GETLEASE, 0).map(|kind| kind as c_int)
}

/// flock(2), exclusive; does not wait.
pub fn lock(fd: c_int) -> Result<(), Errno> {
    call!(SYS_flock, fd, libc::LOCK_EX | libc::LOCK_NB).map(drop)
}

/// flock(2): gives up the lock, also for copies of the descriptor that a fork(2) has made meanwhile.
pub fn unlock(fd: c_int) {
    let _ = call!(SYS_flock, fd, libc::LOCK_UN);
}

/// Has any process, also this one, a lock of fcntl(2) on a part of the file? Told by F_OFD_GETLK. One of flock(2) does not show.
pub fn has_record_lock(fd: c_int) -> bool {
    // SAFETY: all zero bytes are a valid flock: a lock of the whole file, by no process.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as i16;
    call!(SYS_fcntl, fd, libc::F_OFD_GETLK, &raw mut lock).is_ok() && lock.l_type != libc::F_UNLCK as i16
}

/// fcntl(2) F_SETLK: locks so many bytes of a file for this process, or all from the offset on (0); does not wait. EAGAIN or EACCES: another
/// process has a lock there.
pub fn lock_bytes(fd: c_int, offset: i64, length: i64) -> Result<(), Errno> {
    // SAFETY: all zero bytes are a valid flock.
    let mut range: libc::flock = unsafe { core::mem::zeroed() };
    range.l_type = libc::F_WRLCK as _;
    range.l_whence = libc::SEEK_SET as _;
    (range.l_start, range.l_len) = (offset, length);
    call!(SYS_fcntl, fd, libc::F_SETLK, &raw const range).map(drop)
}

/// Is the file of this descriptor, which is open for reading only, open for writing anywhere, or mapped so? Told by fcntl(2) F_SETLEASE,
/// which the kernel refuses then. Needs no process id, so it is right across pid namespaces. The error is an errno of a filesystem
/// without leases, or of a file of another user.
pub fn is_written(fd: c_int) -> Result<bool, Errno> {
    match call!(SYS_fcntl, fd, libc::F_SETLEASE, libc::F_RDLCK) {
        Ok(_) => {
            let _ = call!(SYS_fcntl, fd, libc::F_SETLEASE, libc::F_UNLCK);
            Ok(false)
        }
        Err(libc::EAGAIN) => Ok(true),
        Err(errno) => Err(errno),
    }
}
