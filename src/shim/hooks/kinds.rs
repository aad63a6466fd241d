//! The kinds of answer that hook tables name: what a hook does besides calling the real function.
//!
//! Each kind is given `call`, which describes the call if it fails, and `real`, which makes the real call with the program's own
//! arguments. A kind is an `unsafe fn` where it reads memory that `real` or an argument points to; its `# Safety` says what that
//! must be. The tables fulfil it, because the program has passed the same arguments to the real function.

use core::ffi::{CStr, c_char, c_int};

use libc::{DIR, FILE};

use super::answer::{Answer, NoDescriptor};
use super::retry::{second_chance, when_there_is_space};
use crate::engine::call::Call;
use crate::engine::wait;
use crate::os::sys::{errno, set_errno};
use crate::state::{descriptors, page};

/// A call by its name in the man page. `may_block`: the program did not ask for a non-blocking descriptor.
#[inline(always)]
pub const fn named(name: &'static str, may_block: bool) -> Call {
    Call { name, may_block, needs_several: false, collects: true, backoff: None, last_resort: None }
}

/// Returns a descriptor, or -1.
#[inline(always)]
pub fn descriptor(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int) -> c_int {
    let mut fd = real();
    if fd < 0 {
        fd = second_chance(fd, call, real);
        if fd < 0 {
            return fd;
        }
    }
    page::opened(fd);
    fd
}

/// Returns 0 after it has put two descriptors into the array `fds`, or -1.
///
/// # Safety
/// Once `real` has returned 0, two numbers can be read at `fds`.
#[inline(always)]
pub unsafe fn pair(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fds: *const c_int) -> c_int {
    let mut answer = real();
    if answer < 0 {
        answer = second_chance(answer, || Call { needs_several: true, ..call() }, real);
        if answer < 0 {
            return answer;
        }
    }
    // SAFETY: `real` has succeeded, so the caller promises two numbers.
    unsafe {
        page::opened(*fds);
        page::opened(*fds.add(1));
    }
    answer
}

/// Returns a stream, or NULL.
///
/// # Safety
/// `real` returns NULL or a stream that fileno(3) may be called with.
#[inline(always)]
pub unsafe fn stream(call: impl Fn() -> Call, mut real: impl FnMut() -> *mut FILE) -> *mut FILE {
    let mut stream = real();
    if stream.is_null() {
        stream = second_chance(stream, call, real);
    }
    if !stream.is_null() {
        // SAFETY: it comes from `real` and is not NULL.
        page::opened(unsafe { libc::fileno(stream) });
    }
    stream
}

/// Returns a directory stream, or NULL.
///
/// # Safety
/// `real` returns NULL or a stream that dirfd(3) may be called with.
#[inline(always)]
pub unsafe fn directory(call: impl Fn() -> Call, mut real: impl FnMut() -> *mut DIR) -> *mut DIR {
    let mut stream = real();
    if stream.is_null() {
        stream = second_chance(stream, call, real);
    }
    if !stream.is_null() {
        // SAFETY: it comes from `real` and is not NULL.
        page::opened(unsafe { libc::dirfd(stream) });
    }
    stream
}

/// Fails for lack of descriptors, but has none left when it succeeds, or none that could be named.
#[inline(always)]
pub fn whole<R: Answer>(call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    let answer = real();
    if answer.failure().is_some() {
        second_chance(NoDescriptor(answer), call, || NoDescriptor(real())).0
    } else {
        answer
    }
}

/// Never fails for lack of descriptors, or nothing could be done about it.
#[inline(always)]
pub fn through<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    real()
}

/// Fails when its disk is full, and may wait for space then.
#[inline(always)]
pub fn spacious<R: Answer>(call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    let answer = real();
    if answer.failure().is_some() { when_there_is_space(answer, call().name, real) } else { answer }
}

/// Closes the descriptor `fd`, and wakes a call that waits for one.
#[inline(always)]
pub fn closing(_: impl Fn() -> Call, real: impl FnMut() -> c_int, fd: c_int) -> c_int {
    close_unless(descriptors::forget(fd), real)
}

/// Closes a stream of the descriptor `fd`; -1: it has none, so that its close is none that others wait for. That writes what its buffer
/// still holds.
#[inline(always)]
pub fn closing_stream(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int) -> c_int {
    if fd < 0 {
        return real();
    }
    let (ours, history) = descriptors::forget_after_flush(fd);
    let answer = close_unless(ours, real);
    descriptors::flushed(fd, history);
    answer
}

/// Closes a descriptor. Not if it is `ours`, a copy of which the program knows nothing: for the program no such descriptor is open.
#[inline(always)]
fn close_unless(ours: bool, mut real: impl FnMut() -> c_int) -> c_int {
    if ours {
        set_errno(libc::EBADF);
        return -1;
    }
    let answer = real();
    // After EINTR, EIO and ENOSPC from close(2) the descriptor is gone all the same.
    if answer == 0 || errno() != libc::EBADF {
        page::closed();
        wait::wake_one();
    }
    answer
}

/// Closes the descriptors `first..=last`, as far as there are any, and wakes all calls that wait for one.
#[inline(always)]
pub fn closing_many<R: Answer>(_: impl Fn() -> Call, mut real: impl FnMut() -> R, first: u32, last: u32) -> R {
    descriptors::forget_range(first, last);
    let answer = real();
    wait::wake_all();
    answer
}

/// Did the program ask for a blocking descriptor? The `*_NONBLOCK` flags of all calls are O_NONBLOCK.
#[inline(always)]
pub fn blocking(flags: c_int) -> bool {
    flags & libc::O_NONBLOCK == 0
}

/// Is this a file, rather than a question to the kernel? No call sleeps for a descriptor to read from /proc or /sys: whoever looks
/// there wants to know how things are now. A JVM reads its cgroup while all its threads are stopped, so that nobody could close
/// anything (found with Jetty: each reading took 15 s).
///
/// # Safety
/// An open of `path` has just failed for lack of descriptors: the kernel, and fopen(3), read a path to its end before they look for
/// a descriptor, so it is a C string.
pub unsafe fn lasting(path: *const c_char) -> bool {
    // SAFETY: the caller promises a C string.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes();
    !path.starts_with(b"/proc/") && !path.starts_with(b"/sys/")
}
