//! Writes: of logs, which may go elsewhere when the disk is full; and the calls by which a program shows that a file is data.

use core::ffi::{c_int, c_uint, c_void};

use libc::{iovec, off64_t, size_t, ssize_t};

use super::answer::{Answer, Code};
use super::hooks;
use super::kinds::through;
use super::retry::when_there_is_space;
use crate::arch::write_entry;
use crate::engine::call::Call;
use crate::features::logs;
use crate::features::logs::placeholder;
use crate::os::sys::set_errno;
use crate::state::descriptors;
use tideover_contract::rule::History;

hooks! {
    writev(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t = gathering(fd, buffers, count);
    pwrite(fd: c_int, data: *const c_void, count: size_t, at: off64_t) -> ssize_t = placing(fd, History::PWRITE);
    pwrite64(fd: c_int, data: *const c_void, count: size_t, at: off64_t) -> ssize_t = placing(fd, History::PWRITE);
    __pwrite64(fd: c_int, data: *const c_void, count: size_t, at: off64_t) -> ssize_t = placing(fd, History::PWRITE);
    pwritev(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t) -> ssize_t = placing(fd, History::PWRITE);
    pwritev64(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t) -> ssize_t = placing(fd, History::PWRITE);
    pwritev2(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t, flags: c_int) -> ssize_t = placing(fd, History::PWRITE);
    pwritev64v2(fd: c_int, buffers: *const iovec, count: c_int, at: off64_t, flags: c_int) -> ssize_t
        = placing(fd, History::PWRITE);
    fsync(fd: c_int) -> c_int = syncing(fd, History::FSYNC);
    fdatasync(fd: c_int) -> c_int = syncing(fd, History::FDATASYNC);
    sync_file_range(fd: c_int, at: off64_t, count: off64_t, flags: c_uint) -> c_int = showing(fd, History::SYNC_FILE_RANGE);
    fallocate(fd: c_int, mode: c_int, at: off64_t, count: off64_t) -> c_int = reserving(fd, History::FALLOCATE, count);
    fallocate64(fd: c_int, mode: c_int, at: off64_t, count: off64_t) -> c_int = reserving(fd, History::FALLOCATE, count);
    posix_fallocate(fd: c_int, at: off64_t, count: off64_t) -> c_int = allocating(fd, count);
    posix_fallocate64(fd: c_int, at: off64_t, count: off64_t) -> c_int = allocating(fd, count);
    ftruncate(fd: c_int, length: off64_t) -> c_int = placing(fd, if length > 0 { History::FTRUNCATE } else { History::default() });
    ftruncate64(fd: c_int, length: off64_t) -> c_int = placing(fd, if length > 0 { History::FTRUNCATE } else { History::default() });
    mmap(at: *mut c_void, length: size_t, access: c_int, flags: c_int, fd: c_int, offset: off64_t) -> *mut c_void
        = showing(fd, mapped(access, flags));
    mmap64(at: *mut c_void, length: size_t, access: c_int, flags: c_int, fd: c_int, offset: off64_t) -> *mut c_void
        = showing(fd, mapped(access, flags));
    // It names no descriptor: its file was noted when it was mapped.
    msync(at: *mut c_void, length: size_t, flags: c_int) -> c_int = through();
}

// write(2) is the most frequent hook of all. Are any files diverted? If not: the real call, and a look at its answer.
write_entry! {
    write: diverted = logs::files::COUNT, real = logs::calls::REAL_WRITE, short = logs::calls::write_was_short,
        care = logs::calls::write_while_diverting
}
write_entry! {
    __write: diverted = logs::files::COUNT, real = logs::calls::REAL_WRITE, short = logs::calls::write_was_short,
        care = logs::calls::write_while_diverting
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
    // SAFETY: the program passes what writev(2) wants, or what the kernel refuses, and changes none of it during the call.
    let answer = unsafe {
        if logs::files::any() {
            let answer = logs::calls::writev_while_diverting(fd, buffers, count);
            if answer >= 0 {
                return answer;
            }
        }
        logs::calls::after_writev(fd, buffers, count, real())
    };
    if answer < 0 && logs::calls::is_full(fd) { when_there_is_space(answer, "writev", real) } else { answer }
}

/// A call that shows something of its descriptor's file.
#[inline(always)]
unsafe fn showing<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R, fd: c_int, done: History) -> R {
    if done.bits() != 0 {
        descriptors::add(fd, u32::from(done.bits()));
    }
    real()
}

/// A call that puts its descriptor's file on the disk; an error while lines of the file are elsewhere.
#[inline(always)]
unsafe fn syncing(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int, done: History) -> c_int {
    logs::syncs::note(fd, u32::from(done.bits()));
    let answer = real();
    if answer == 0 && logs::files::any() && logs::syncs::is_untrue(fd) {
        set_errno(libc::ENOSPC);
        return -1;
    }
    answer
}

/// A call by which a program shows that its file is data, as in [`showing`], and which needs space on the disk: it may wait for that.
#[inline(always)]
unsafe fn placing<R: Answer>(call: impl Fn() -> Call, real: impl FnMut() -> R, fd: c_int, done: History) -> R {
    // SAFETY: as the caller promised.
    unsafe { reserving(call, real, fd, done, 0) }
}

/// The same for a call that needs space for `count` bytes. For more than the disk could hold if it were empty it does not wait.
#[inline(always)]
unsafe fn reserving<R: Answer>(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> R,
    fd: c_int,
    done: History,
    count: off64_t,
) -> R {
    // SAFETY: as the caller promised.
    let answer = unsafe { showing(&call, &mut real, fd, done) };
    let Some(wrong) = answer.failure() else { return answer };
    if placeholder::true_error(fd, wrong) != wrong {
        set_errno(libc::ENOSPC);
    }
    if count > 0 && logs::calls::is_more_than_disk(fd, count) {
        return answer;
    }
    when_there_is_space(answer, call().name, real)
}

/// posix_fallocate(3) answers with an errno.
#[inline(always)]
unsafe fn allocating(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int, count: off64_t) -> c_int {
    // SAFETY: as the caller promised.
    let code = unsafe { reserving(call, || Code(real()), fd, History::FALLOCATE, count).0 };
    if code == 0 { 0 } else { placeholder::true_error(fd, code) }
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
