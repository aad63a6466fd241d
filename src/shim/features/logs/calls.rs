//! The real write, and what is around it: before, while files are diverted; after, when it fell short.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{c_int, iovec, ssize_t};

use super::decide::{fell_short, instead};
use super::{files, pause};
use crate::engine::call::Tried;
use crate::os::real::Real;
use crate::os::sys;
use crate::state::process::{self, Phase};

/// IOV_MAX: writev(2) takes no more buffers.
const MOST_BUFFERS: c_int = 1024;

/// What a write did.
#[repr(C)]
pub struct Written {
    /// For the host: as write(2) answers, errno set on -1.
    pub(super) answer: ssize_t,
    /// Of these, bytes that reached the file.
    pub(super) reached: usize,
}

pub(super) type RealWrite = unsafe extern "C" fn(c_int, *const c_void, usize) -> ssize_t;

/// The real write(2); at first, a function that finds it. So the most frequent hook of all needs no test for that.
pub static REAL_WRITE: AtomicPtr<()> = AtomicPtr::new(find_write as *mut ());

unsafe extern "C" fn find_write(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    static REAL: Real = Real::new();
    REAL_WRITE.store(REAL.address(c"write", false) as *mut (), Relaxed);
    // SAFETY: the host's own arguments.
    unsafe { real_write()(fd, data, count) }
}

/// See [`REAL_WRITE`].
#[inline(always)]
pub(super) fn real_write() -> RealWrite {
    // SAFETY: never anything but a function of this type.
    unsafe { core::mem::transmute(REAL_WRITE.load(Relaxed)) }
}

/// write(2), but no cancellation point.
pub(super) unsafe extern "C" fn write_raw(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    // SAFETY: what the program passed to the call that this one stands for.
    unsafe { sys::write_raw(fd, data, count) }.map_or_else(
        |errno| {
            sys::set_errno(errno);
            -1
        },
        |written| written as ssize_t,
    )
}

/// write(2) as the host wants it, by stdio or while files are diverted. The real call is made from here: it is a cancellation
/// point, and nothing is held.
///
/// # Safety
/// As write(2).
unsafe fn write_through(fd: c_int, data: *const c_void, count: usize, real: RealWrite) -> Written {
    let vector = [iovec { iov_base: data.cast_mut(), iov_len: count }];
    if files::any() {
        let done = instead(fd, vector.as_ptr(), 1);
        if done.answer >= 0 {
            return done;
        }
    }
    // SAFETY: as promised by the caller.
    let answer = unsafe { real(fd, data, count) };
    if answer == count as ssize_t { Written { answer, reached: count } } else { made_up_for(fd, data, count, answer) }
}

/// Writes all of it, as stdio does: what a short write leaves is written next. The first real write may have been made, and have
/// answered `first`. Answers how much was written; if that is not all, errno says why.
///
/// # Safety
/// As write(2).
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub(super) unsafe extern "C" fn write_all(
    fd: c_int,
    data: *const c_void,
    count: usize,
    mut first: Option<ssize_t>,
    real: RealWrite,
) -> Written {
    let mut all = Written { answer: 0, reached: 0 };
    while (all.answer as usize) < count {
        let left = count - all.answer as usize;
        // SAFETY: within what the caller promised.
        let written = unsafe {
            let from = data.byte_add(all.answer as usize);
            match first.take() {
                Some(answer) => made_up_for(fd, from, left, answer),
                None => write_through(fd, from, left, real),
            }
        };
        if written.answer < 0 {
            break;
        }
        all.answer += written.answer;
        all.reached += written.reached;
    }
    all
}

/// A real write answered less than it was given.
#[cold]
#[inline(never)]
extern "C" fn made_up_for(fd: c_int, data: *const c_void, count: usize, answer: ssize_t) -> Written {
    let vector = [iovec { iov_base: data.cast_mut(), iov_len: count }];
    let done = fell_short(fd, vector.as_ptr(), 1, answer);
    if done.answer < 0 { wait_for_space(fd, data, count, done) } else { done }
}

/// write(2) while files are diverted.
#[cold]
#[inline(never)]
pub extern "C" fn write_with_care(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    // SAFETY: the host's own arguments.
    unsafe { write_through(fd, data, count, real_write()) }.answer
}

/// write(2) that answered less than it was given.
#[cold]
#[inline(never)]
pub extern "C" fn write_fell_short(fd: c_int, data: *const c_void, count: usize, answer: ssize_t) -> ssize_t {
    made_up_for(fd, data, count, answer).answer
}

/// A write that is to wait for space, and what it answered last.
struct Waiting {
    fd: c_int,
    data: *const c_void,
    count: usize,
    answer: ssize_t,
}

unsafe extern "C" fn write_again(waiting: *mut c_void) -> Tried {
    // SAFETY: `wait_for_space` passes its own.
    unsafe {
        let waiting = &mut *waiting.cast::<Waiting>();
        waiting.answer = real_write()(waiting.fd, waiting.data, waiting.count);
        Tried { errno: if waiting.answer < 0 { sys::errno() } else { 0 }, descriptor: -1 }
    }
}

/// TIDEOVER_ON_FULL=wait, for a write to a file that is no log.
fn wait_for_space(fd: c_int, data: *const c_void, count: usize, first: Written) -> Written {
    let errno = sys::errno();
    if !pause::is_wanted(errno) || !is_file(fd) {
        return first;
    }
    let mut waiting = Waiting { fd, data, count, answer: first.answer };
    // SAFETY: `write_again` gets the type that it is for.
    let stands = unsafe { pause::carry("write", errno, write_again, (&raw mut waiting).cast()) };
    if stands { Written { answer: waiting.answer, reached: waiting.answer.max(0) as usize } } else { first }
}

/// Did the last call fail because this descriptor's disk is full?
#[cold]
pub fn is_full(fd: c_int) -> bool {
    let errno = sys::errno();
    let full = pause::is_wanted(errno) && is_file(fd);
    sys::set_errno(errno);
    full
}

/// A regular file on a disk: devices that are always full (/dev/full) are not waited for, nor are files of the kernel's that say ENOSPC for
/// reasons of their own (cgroups), and stand-ins, whose filesystems have no size.
fn is_file(fd: c_int) -> bool {
    sys::fstat(fd).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
        && sys::filesystem(fd).is_ok_and(|filesystem| filesystem.total != 0)
}

/// writev(2) while files are diverted; -1: make the real call.
#[cold]
#[inline(never)]
pub extern "C" fn vector_with_care(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    // Counts that the kernel would refuse are the kernel's to refuse.
    let size = count.max(0) as usize * size_of::<iovec>();
    if process::phase() == Phase::Sandboxed
        || !(1..=MOST_BUFFERS).contains(&count)
        || !sys::is_readable(buffers.cast(), size)
    {
        return -1;
    }
    instead(fd, buffers, count as usize).answer
}

/// writev(2), after the real call.
#[inline(always)]
pub fn vector_fell_short(fd: c_int, buffers: *const iovec, count: c_int, answer: ssize_t) -> ssize_t {
    // SAFETY: the kernel has read them, or failed.
    let given = |i| unsafe { (*buffers.add(i)).iov_len };
    if answer >= 0 && (0..count as usize).map(given).fold(0, usize::wrapping_add) == answer as usize {
        return answer;
    }
    if buffers.is_null() || !(1..=MOST_BUFFERS).contains(&count) {
        return answer;
    }
    fell_short(fd, buffers, count as usize, answer).answer
}
