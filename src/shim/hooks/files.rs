//! Files by name. GNU tar reaches open through __openat_2, fortified programs through __open_2.

use core::ffi::{c_char, c_int, c_void};

use libc::mode_t;

use super::hooks;
use super::kinds::{blocking, descriptor, lasting};
use super::retry::when_there_is_space;
use crate::engine::call::Call;
use crate::features::logs::calls::open_placeholder;

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

/// open(2) of a name: a log that can't be created for want of space gets a placeholder.
///
/// # Safety
/// `path` is the path that `real` opens.
#[inline(always)]
unsafe fn opening(
    call: impl Fn() -> Call + Copy,
    real: impl FnMut() -> c_int + Copy,
    at: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    let fd = descriptor(call, real);
    // SAFETY: promised by the caller.
    if fd >= 0 { fd } else { unsafe { without_space(call, real, (at, path, flags, mode)) } }
}

/// open(2) has failed. If that was for want of space, the file gets a placeholder, or the call waits for space.
///
/// # Safety
/// The path is the one that `real` opens, at the directory and with the flags that are given.
#[cold]
#[inline(never)]
unsafe fn without_space(
    call: impl Fn() -> Call,
    real: impl FnMut() -> c_int,
    (at, path, flags, mode): (c_int, *const c_char, c_int, mode_t),
) -> c_int {
    // SAFETY: the path, the directory and the flags are those of `real`, as the caller promises.
    let fd = unsafe { open_placeholder(at, path, flags, mode) };
    if fd >= 0 { fd } else { when_there_is_space(-1, call().name, real) }
}

/// open64(3) without the hook, for the C API's own retry.
pub fn real_open64() -> unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int {
    // SAFETY: the function of this name has this type; it ignores the third argument unless it creates a file.
    unsafe { core::mem::transmute(open64::real()) }
}
