//! Processes and threads: who is this, and who is there?

use core::ffi::{c_int, c_uint};

use super::{Errno, call};
use crate::arch::syscall;

/// getpid(2), from the kernel: libc may cache it, and a vfork child shares libc's memory.
pub fn getpid() -> c_int {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) as c_int }
}

/// getppid(2).
pub fn getppid() -> c_int {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) as c_int }
}

/// gettid(2).
pub fn gettid() -> c_int {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) as c_int }
}

/// geteuid(2).
pub fn geteuid() -> c_uint {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_geteuid, [0; 6]) as c_uint }
}

/// prctl(2) PR_GET_NAME: the calling thread's name, padded with zeros.
pub fn thread_name() -> Result<[u8; 16], Errno> {
    let mut name = [0; 16];
    call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr())?;
    Ok(name)
}

/// Does this process have a thread of this number?
pub fn has_thread(tid: c_int) -> bool {
    call!(SYS_tgkill, getpid(), tid, 0) != Err(libc::ESRCH)
}

/// Is there a process of this number? kill(2) with no signal.
pub fn is_alive(pid: c_int) -> bool {
    call!(SYS_kill, pid, 0) != Err(libc::ESRCH)
}
