//! Limits of a process: prlimit(2).

use core::ffi::c_int;

use libc::rlimit;

use super::{Errno, call};

/// This process's RLIMIT_NOFILE.
pub fn descriptor_limit(pid: c_int) -> Result<rlimit, Errno> {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    call!(SYS_prlimit64, pid, libc::RLIMIT_NOFILE, 0, &raw mut limit)?;
    Ok(limit)
}

/// Sets RLIMIT_NOFILE of a process; 0 is this one.
pub fn set_descriptor_limit(pid: c_int, limit: rlimit) -> Result<(), Errno> {
    call!(SYS_prlimit64, pid, libc::RLIMIT_NOFILE, &raw const limit, 0).map(drop)
}

/// Calls `open` with a soft limit of one more descriptor than now, with signals blocked. EMFILE: the hard limit does not allow it. Not while
/// other threads may take that descriptor, or set the limit.
pub fn with_one_more<T>(open: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
    let limit = descriptor_limit(0)?;
    if limit.rlim_cur >= limit.rlim_max {
        return Err(libc::EMFILE);
    }
    let own = super::block_signals()?;
    let opened = set_descriptor_limit(0, rlimit { rlim_cur: limit.rlim_cur + 1, ..limit }).and_then(|()| open());
    let _ = set_descriptor_limit(0, limit);
    super::restore_signals(own);
    opened
}

/// RLIMIT_FSIZE, bytes: a write past it is SIGXFSZ.
pub fn file_size_limit() -> u64 {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    match call!(SYS_prlimit64, 0, libc::RLIMIT_FSIZE, 0, &raw mut limit) {
        Ok(_) => limit.rlim_cur,
        Err(_) => 0,
    }
}
