//! Everything that frees descriptors.

use core::ffi::{c_int, c_uint};

use libc::{DIR, FILE};

use super::{closing, closing_many, closing_stream, hooks};
use crate::engine::call::Call;
use crate::os::sys;

hooks! {
    at load:
    close(fd: c_int) -> c_int = closing(fd);
    __close(fd: c_int) -> c_int = closing(fd);
    fclose(stream: *mut FILE) -> c_int = closing_stream(number(stream));
    _IO_fclose(stream: *mut FILE) -> c_int = closing_stream(number(stream));
    closedir(stream: *mut DIR) -> c_int = closing(-1);
    pclose(stream: *mut FILE) -> c_int = closing(number(stream));
    mq_close(queue: c_int) -> c_int = closing(queue);
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = closing_range(first, last, flags);
    closefrom(first: c_int) -> () = closing_many(first.max(0) as c_uint, c_uint::MAX);
    fcloseall() -> c_int = closing_many(c_uint::MAX, c_uint::MAX);
    closelog() -> () = closing_many(c_uint::MAX, c_uint::MAX);
}

/// Descriptor of a stream, or -1 (memory streams have none, and fclose(NULL) is the host's own crash).
#[inline(always)]
unsafe fn number(stream: *mut FILE) -> c_int {
    let errno = sys::errno();
    // SAFETY: the host's stream, which it is about to close.
    let fd = if stream.is_null() { -1 } else { unsafe { libc::fileno(stream) } };
    if fd < 0 {
        sys::set_errno(errno);
    }
    fd
}

/// close_range(2): with CLOSE_RANGE_CLOEXEC nothing is closed yet.
#[inline(always)]
unsafe fn closing_range(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    first: c_uint,
    last: c_uint,
    flags: c_int,
) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int != 0 || first > last {
        return real();
    }
    // SAFETY: as the caller promised.
    unsafe { closing_many(call, real, first, last) }
}
