//! Writes: of logs, which may go elsewhere when the disk is full; and the calls by which a program shows that a file is data.

use core::ffi::{c_int, c_uint, c_void};

use libc::{iovec, off64_t, size_t, ssize_t};

use super::{Answer, hooks};
use crate::acquire::Call;
use crate::descriptors;
use crate::logs;
use crate::logs::rule::History;

hooks! {
    write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t = writing(fd, data, count);
    __write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t = writing(fd, data, count);
    writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = gathering(fd, buffers, count);
    pwrite(fd: c_int, data: *const c_void, count: size_t, at: off64_t) -> ssize_t = showing(fd, History::PWRITE);
    pwrite64(fd: c_int, data: *const c_void, count: size_t, at: off64_t) -> ssize_t = showing(fd, History::PWRITE);
    __pwrite64(fd: c_int, data: *const c_void, count: size_t, at: off64_t) -> ssize_t = showing(fd, History::PWRITE);
    pwritev(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t) -> ssize_t = showing(fd, History::PWRITE);
    pwritev64(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t) -> ssize_t = showing(fd, History::PWRITE);
    pwritev2(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t, flags: c_int) -> ssize_t = showing(fd, History::PWRITE);
    pwritev64v2(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t, flags: c_int) -> ssize_t
        = showing(fd, History::PWRITE);
    fsync(fd: c_int) -> c_int = showing(fd, History::FSYNC);
    fdatasync(fd: c_int) -> c_int = showing(fd, History::FDATASYNC);
    sync_file_range(fd: c_int, at: off64_t, count: off64_t, flags: c_uint) -> c_int = showing(fd, History::SYNC_FILE_RANGE);
    fallocate(fd: c_int, mode: c_int, at: off64_t, count: off64_t) -> c_int = showing(fd, History::FALLOCATE);
    fallocate64(fd: c_int, mode: c_int, at: off64_t, count: off64_t) -> c_int = showing(fd, History::FALLOCATE);
    posix_fallocate(fd: c_int, at: off64_t, count: off64_t) -> c_int = showing(fd, History::FALLOCATE);
    posix_fallocate64(fd: c_int, at: off64_t, count: off64_t) -> c_int = showing(fd, History::FALLOCATE);
    ftruncate(fd: c_int, length: off64_t) -> c_int = showing(fd, if length > 0 { History::FTRUNCATE } else { History::default() });
    ftruncate64(fd: c_int, length: off64_t) -> c_int = showing(fd, if length > 0 { History::FTRUNCATE } else { History::default() });
    mmap(at: *mut c_void, length: size_t, access: c_int, flags: c_int, fd: c_int, offset: off64_t) -> *mut c_void
        = showing(fd, mapped(access, flags));
    mmap64(at: *mut c_void, length: size_t, access: c_int, flags: c_int, fd: c_int, offset: off64_t) -> *mut c_void
        = showing(fd, mapped(access, flags));
}

/// write(2).
#[inline(always)]
unsafe fn writing(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> ssize_t,
    fd: c_int,
    data: *const c_void,
    count: size_t,
) -> ssize_t {
    if !logs::files::any() {
        let answer = real();
        if answer == count as ssize_t {
            return answer;
        }
        return logs::write_fell_short(fd, data, count, answer);
    }
    logs::write_with_care(fd, data, count)
}

/// writev(2).
#[inline(always)]
unsafe fn gathering(
    _: impl Fn() -> Call,
    mut real: impl FnMut() -> ssize_t,
    fd: c_int,
    buffers: *const iovec,
    count: c_int,
) -> ssize_t {
    if logs::files::any() {
        let answer = logs::vector_with_care(fd, buffers, count);
        if answer >= 0 {
            return answer;
        }
    }
    let answer = real();
    logs::vector_fell_short(fd, buffers, count, answer)
}

/// A call that shows something of its descriptor's file.
#[inline(always)]
unsafe fn showing<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R, fd: c_int, done: History) -> R {
    if done.bits() != 0 {
        descriptors::add(fd, u16::from(done.bits()));
    }
    real()
}

/// A mapping through which the file is written.
#[inline(always)]
fn mapped(access: c_int, flags: c_int) -> History {
    let shared = matches!(flags & libc::MAP_TYPE, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
    if access & libc::PROT_WRITE != 0 && shared && flags & libc::MAP_ANONYMOUS == 0 {
        History::MAPPED
    } else {
        History::default()
    }
}
