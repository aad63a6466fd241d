//! Files by name. GNU tar reaches open through __openat_2, fortified programs through __open_2.

use core::ffi::{c_char, c_int, c_void};

use libc::mode_t;

use super::{blocking, descriptor, hooks, lasting};
use crate::engine::call::Call;
use crate::features::logs::standin;

/// Not in the libc crate for this target.
type FileHandle = c_void;

hooks! {
    at load:
    open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = opening(libc::AT_FDCWD, path, flags, mode) if lasting(path) && blocking(flags);
    open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = opening(libc::AT_FDCWD, path, flags, mode) if lasting(path) && blocking(flags);
    __open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = opening(libc::AT_FDCWD, path, flags, mode) if lasting(path) && blocking(flags);
    __open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int = opening(libc::AT_FDCWD, path, flags, mode) if lasting(path) && blocking(flags);
    __open_2(path: *const c_char, flags: c_int) -> c_int = descriptor() if lasting(path) && blocking(flags);
    __open64_2(path: *const c_char, flags: c_int) -> c_int = descriptor() if lasting(path) && blocking(flags);
    openat(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int = opening(at, path, flags, mode) if lasting(path) && blocking(flags);
    openat64(at: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int = opening(at, path, flags, mode) if lasting(path) && blocking(flags);
    __openat_2(at: c_int, path: *const c_char, flags: c_int) -> c_int = descriptor() if lasting(path) && blocking(flags);
    __openat64_2(at: c_int, path: *const c_char, flags: c_int) -> c_int = descriptor() if lasting(path) && blocking(flags);
    openat2(at: c_int, path: *const c_char, how: *const c_void, size: usize) -> c_int = descriptor();
    creat(path: *const c_char, mode: mode_t) -> c_int = opening(libc::AT_FDCWD, path, libc::O_CREAT, mode);
    creat64(path: *const c_char, mode: mode_t) -> c_int = opening(libc::AT_FDCWD, path, libc::O_CREAT, mode);
    open_by_handle_at(mount: c_int, handle: *mut FileHandle, flags: c_int) -> c_int = descriptor() if blocking(flags);
    open_tree(at: c_int, path: *const c_char, flags: libc::c_uint) -> c_int = descriptor();
    shm_open(name: *const c_char, flags: c_int, mode: mode_t) -> c_int = descriptor();
    mq_open(name: *const c_char, flags: c_int, mode: mode_t, attributes: *mut c_void) -> c_int
        = descriptor() if blocking(flags);
    __mq_open_2(name: *const c_char, flags: c_int) -> c_int = descriptor() if blocking(flags);
}

/// open(2) of a name: a log that can't be created for want of space gets a stand-in.
#[inline(always)]
unsafe fn opening(
    call: impl Fn() -> Call + Copy,
    real: impl FnMut() -> c_int + Copy,
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: as the caller promised.
    unsafe {
        let fd = descriptor(call, real);
        if fd >= 0 { fd } else { without_space(call, real, (at, path, flags, mode)) }
    }
}

/// open(2) failed: if for want of space, the file gets a stand-in, or the call waits.
#[cold]
#[inline(never)]
unsafe fn without_space(
    call: impl Fn() -> Call,
    real: impl FnMut() -> c_int,
    (at, path, flags, mode): (c_int, *const c_char, c_int, mode_t),
) -> c_int {
    let fd = standin::open(at, path, flags, mode);
    // SAFETY: as the caller promised; the errno is open's.
    if fd >= 0 { fd } else { unsafe { super::when_there_is_space(-1, call().name, real) } }
}
