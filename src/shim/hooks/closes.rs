//! Functions that close descriptors.

use core::ffi::{c_int, c_uint};

use libc::{DIR, FILE};

use super::hooks;
use super::kinds::{closing, closing_many, closing_stream};
use crate::engine::call::Call;
use crate::os::sys;

hooks! {
    at load:
    close(fd: c_int) -> c_int = closing(fd);
    __close(fd: c_int) -> c_int = closing(fd);
    fclose(stream: *mut FILE) -> c_int = closing_stream(number(stream));
    _IO_fclose(stream: *mut FILE) -> c_int = closing_stream(number(stream));
    closedir(stream: *mut DIR) -> c_int = closing(directory_number(stream));
    pclose(stream: *mut FILE) -> c_int = closing(number(stream));
    mq_close(queue: c_int) -> c_int = closing(queue);
    close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = closing_range(first, last, flags);
    closefrom(first: c_int) -> () = closing_many(first.max(0) as c_uint, c_uint::MAX);
    fcloseall() -> c_int = closing_many(c_uint::MAX, c_uint::MAX);
    closelog() -> () = closing_many(c_uint::MAX, c_uint::MAX);
}

/// Descriptor of a stream, or -1 for one that has none (a memory stream) and for NULL (whose fclose(3) is the program's own crash).
/// Leaves errno as it was.
///
/// # Safety
/// `stream` is NULL or an open stream.
#[inline(always)]
pub(super) unsafe fn number(stream: *mut FILE) -> c_int {
    let errno = sys::errno();
    // SAFETY: the caller promises an open stream where it is not NULL.
    let fd = if stream.is_null() { -1 } else { unsafe { libc::fileno(stream) } };
    if fd < 0 {
        sys::set_errno(errno);
    }
    fd
}

/// Descriptor of a directory stream, or -1 for NULL.
///
/// # Safety
/// `stream` is NULL or an open directory stream.
#[inline(always)]
unsafe fn directory_number(stream: *mut DIR) -> c_int {
    // SAFETY: the caller promises an open stream where it is not NULL. dirfd(3) then only reads.
    if stream.is_null() { -1 } else { unsafe { libc::dirfd(stream) } }
}

/// close_range(2). With CLOSE_RANGE_CLOEXEC it closes nothing yet.
#[inline(always)]
fn closing_range(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    first: c_uint,
    last: c_uint,
    flags: c_int,
) -> c_int {
    if flags & libc::CLOSE_RANGE_CLOEXEC as c_int != 0 || first > last {
        return real();
    }
    closing_many(call, real, first, last)
}
