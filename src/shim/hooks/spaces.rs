//! Calls that need space on a disk besides writes and opens: with TIDEOVER_ON_FULL=wait they wait for it.

use core::ffi::{c_char, c_int, c_uint, c_void};

use libc::{mode_t, off64_t, size_t, ssize_t};

use super::hooks;
use super::kinds::spacious;
use super::retry::when_there_is_space;
use crate::engine::call::Call;
use crate::features::logs;

type Name = *const c_char;
type Offset = *mut off64_t;

hooks! {
    mkdir(path: Name, mode: mode_t) -> c_int = spacious();
    mkdirat(at: c_int, path: Name, mode: mode_t) -> c_int = spacious();
    rename(from: Name, to: Name) -> c_int = spacious();
    renameat(at: c_int, from: Name, at_to: c_int, to: Name) -> c_int = spacious();
    renameat2(at: c_int, from: Name, at_to: c_int, to: Name, flags: c_uint) -> c_int = spacious();
    link(from: Name, to: Name) -> c_int = spacious();
    linkat(at: c_int, from: Name, at_to: c_int, to: Name, flags: c_int) -> c_int = spacious();
    symlink(target: Name, path: Name) -> c_int = spacious();
    symlinkat(target: Name, at: c_int, path: Name) -> c_int = spacious();
    mknod(path: Name, mode: mode_t, device: u64) -> c_int = spacious();
    mknodat(at: c_int, path: Name, mode: mode_t, device: u64) -> c_int = spacious();
    mkfifo(path: Name, mode: mode_t) -> c_int = spacious();
    mkfifoat(at: c_int, path: Name, mode: mode_t) -> c_int = spacious();
    copy_file_range(from: c_int, at: Offset, to: c_int, at_to: Offset, count: size_t, flags: c_uint) -> ssize_t
        = into_file(to);
    sendfile(to: c_int, from: c_int, at: *mut c_void, count: size_t) -> ssize_t = into_file(to);
    sendfile64(to: c_int, from: c_int, at: *mut c_void, count: size_t) -> ssize_t = into_file(to);
}

/// Copies into a descriptor: only of files is space waited for.
#[inline(always)]
fn into_file(call: impl Fn() -> Call, mut real: impl FnMut() -> ssize_t, to: c_int) -> ssize_t {
    let answer = real();
    if answer >= 0 {
        return answer;
    }
    if logs::calls::is_full(to) { when_there_is_space(answer, call().name, real) } else { answer }
}
