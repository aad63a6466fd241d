//! The real write(2), and what is around it: before the call, while files are diverted; after it, when it was short or failed. Here
//! the program's pointers become slices and strings; what is decided about them is in [`decide`](mod@super::decide), without unsafe code.

use core::ffi::{CStr, c_char, c_void};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{c_int, iovec, ssize_t};

use super::payload::{Buffers, Written};
use super::{decide, files, on_full, placeholder};
use crate::engine::call::Tried;
use crate::os::barrier::barrier;
use crate::os::real::Real;
use crate::os::sys;
use crate::state::process::{self, Phase};

/// IOV_MAX: writev(2) takes no more buffers.
const MOST_BUFFERS: c_int = 1024;

/// The type of write(2).
pub(super) type RealWrite = unsafe extern "C" fn(c_int, *const c_void, usize) -> ssize_t;

/// The real write(2); before the first call, a function that finds it. So the most frequent hook of all need not test whether it is
/// known.
pub static REAL_WRITE: AtomicPtr<()> = AtomicPtr::new(find_write as *mut ());

/// # Safety
/// As write(2): `data` is where `count` bytes are, or a pointer that the kernel is to refuse.
unsafe extern "C" fn find_write(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    static REAL: Real = Real::new();
    REAL_WRITE.store(REAL.address(c"write", false) as *mut (), Relaxed);
    // SAFETY: the caller's own promise.
    unsafe { real_write()(fd, data, count) }
}

/// See [`REAL_WRITE`].
#[inline(always)]
pub(super) fn real_write() -> RealWrite {
    // SAFETY: `REAL_WRITE` never holds anything but `find_write` or what was found under the name "write", and both have this type.
    unsafe { core::mem::transmute(REAL_WRITE.load(Relaxed)) }
}

/// write(2), but no cancellation point.
///
/// # Safety
/// As write(2). A bad pointer is answered with EFAULT by the kernel.
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

/// write(2) for the program, by stdio or while files are diverted. The real call is a cancellation point, so nothing is held while it
/// is made from here.
///
/// # Safety
/// As write(2); and nobody writes to the `count` bytes at `data` meanwhile.
unsafe fn write_through(fd: c_int, data: *const c_void, count: usize, real: RealWrite) -> Written {
    if files::any() {
        let vector = [iovec { iov_base: data.cast_mut(), iov_len: count }];
        // SAFETY: `Buffers::new` asks for what the caller has promised.
        let done = decide::before_write(fd, unsafe { Buffers::new(&vector) });
        if done.answer >= 0 {
            return done;
        }
    }
    // SAFETY: the caller's own promise.
    unsafe {
        let answer = real(fd, data, count);
        if answer == count as ssize_t { Written::all(count, count) } else { divert_or_wait(fd, data, count, answer) }
    }
}

/// Writes all of it, as stdio does: what a short write leaves is written next. The first real write may have been made already, and
/// have answered `first`. The answer is how much was written; if that is not all, errno says why.
///
/// # Safety
/// As write(2); and nobody writes to the `count` bytes at `data` meanwhile.
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
        // SAFETY: `answer < count`, so this is the rest of the bytes about which the caller has made its promise.
        let written = unsafe {
            let from = data.byte_add(all.answer as usize);
            match first.take() {
                Some(answer) => divert_or_wait(fd, from, left, answer),
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

/// A real write answered `answer`, which is less than `count`: what it left is diverted, or waits for space.
///
/// # Safety
/// As write(2); and nobody writes to the `count` bytes at `data` meanwhile.
#[cold]
#[inline(never)]
unsafe extern "C" fn divert_or_wait(fd: c_int, data: *const c_void, count: usize, answer: ssize_t) -> Written {
    let vector = [iovec { iov_base: data.cast_mut(), iov_len: count }];
    // SAFETY: `Buffers::new` and `wait_for_space` ask for what the caller has promised.
    unsafe {
        let done = decide::after_short_write(fd, Buffers::new(&vector), answer);
        if done.answer < 0 { wait_for_space(fd, data, count, done) } else { done }
    }
}

/// write(2) while files are diverted.
///
/// # Safety
/// As write(2); and nobody writes to the `count` bytes at `data` meanwhile.
#[cold]
#[inline(never)]
pub unsafe extern "C" fn write_while_diverting(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    // SAFETY: the caller's own promise.
    unsafe { write_through(fd, data, count, real_write()) }.answer
}

/// write(2) after the real call has answered `answer`, which is not `count`.
///
/// # Safety
/// As write(2); and nobody writes to the `count` bytes at `data` meanwhile.
#[cold]
#[inline(never)]
pub unsafe extern "C" fn write_was_short(fd: c_int, data: *const c_void, count: usize, answer: ssize_t) -> ssize_t {
    // SAFETY: the caller's own promise.
    unsafe { divert_or_wait(fd, data, count, answer) }.answer
}

/// A write that is repeated until there is space.
struct RepeatedWrite {
    fd: c_int,
    data: *const c_void,
    count: usize,
    /// What the last real call answered.
    answer: ssize_t,
}

/// # Safety
/// `repeated` is the address of a [`RepeatedWrite`] that nobody else uses, and that holds the arguments of a write(2) whose caller waits.
unsafe extern "C" fn write_again(repeated: *mut c_void) -> Tried {
    // SAFETY: the caller's own promise.
    unsafe {
        let repeated = &mut *repeated.cast::<RepeatedWrite>();
        repeated.answer = real_write()(repeated.fd, repeated.data, repeated.count);
        Tried { errno: if repeated.answer < 0 { sys::errno() } else { 0 }, descriptor: -1 }
    }
}

/// TIDEOVER_ON_FULL=wait, for a write to a file that is no log and that failed with `first`.
///
/// # Safety
/// As write(2).
unsafe fn wait_for_space(fd: c_int, data: *const c_void, count: usize, first: Written) -> Written {
    let errno = sys::errno();
    if !on_full::may_wait(errno) || !is_on_disk(fd) {
        return first;
    }
    let mut repeated = RepeatedWrite { fd, data, count, answer: first.answer };
    // SAFETY: `write_again` gets the value that it asks for, which outlives the call; its arguments are those of our caller, who waits.
    let stands = unsafe { on_full::retry_until_space("write", errno, write_again, (&raw mut repeated).cast()) };
    if stands { Written { answer: repeated.answer, reached: repeated.answer.max(0) as usize } } else { first }
}

/// Did the last call fail because this descriptor's disk is full, and is that to be waited for?
#[cold]
pub fn is_full(fd: c_int) -> bool {
    let errno = sys::errno();
    let full = on_full::may_wait(errno) && is_on_disk(fd);
    sys::set_errno(errno);
    full
}

/// Are so many bytes of this file, less those that it has, more than its filesystem holds in all? Leaves errno as it is.
#[cold]
#[inline(never)]
pub extern "C" fn is_more_than_disk(fd: c_int, count: i64) -> bool {
    if !on_full::waits() {
        return false;
    }
    let (Ok(status), Ok(filesystem)) = (sys::fstat(fd), sys::filesystem(fd)) else { return false };
    let has = u64::try_from(status.st_blocks).unwrap_or(0).saturating_mul(512);
    u64::try_from(count).is_ok_and(|count| count.saturating_sub(has) > filesystem.total)
}

/// Is this a regular file on a filesystem that has a size? Not waited for are devices that are always full (/dev/full), the kernel's
/// own files that answer ENOSPC for other reasons (cgroups), and [placeholders](placeholder).
fn is_on_disk(fd: c_int) -> bool {
    sys::fstat(fd).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
        && sys::filesystem(fd).is_ok_and(|filesystem| filesystem.total != 0)
}

/// writev(2) while files are diverted; -1: the real call is still to be made.
///
/// # Safety
/// As writev(2), whatever `buffers` and `count` are; and nobody writes to the array or to what it describes meanwhile.
#[cold]
#[inline(never)]
pub unsafe extern "C" fn writev_while_diverting(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    // Counts that the kernel would refuse are the kernel's to refuse.
    let size = count.max(0) as usize * size_of::<iovec>();
    if process::phase() == Phase::Sandboxed
        || !(1..=MOST_BUFFERS).contains(&count)
        || !sys::is_readable(buffers.cast(), size)
    {
        return -1;
    }
    // SAFETY: the kernel can read the array, so it is there, and the caller has promised that it stays as it is. What it describes is
    // as the caller of writev(2) has promised, which is what `Buffers::new` asks for.
    let buffers = unsafe { Buffers::new(core::slice::from_raw_parts(buffers, count as usize)) };
    decide::before_write(fd, buffers).answer
}

/// writev(2) after the real call has answered `answer`.
///
/// # Safety
/// As writev(2), whatever `buffers` and `count` are; and nobody writes to the array or to what it describes meanwhile.
#[inline(always)]
pub unsafe fn after_writev(fd: c_int, buffers: *const iovec, count: c_int, answer: ssize_t) -> ssize_t {
    // SAFETY: asked only for elements below `count`, and only when the call has succeeded: then the kernel has read them all.
    let given = |i| unsafe { (*buffers.add(i)).iov_len };
    if answer >= 0 && (0..count as usize).map(given).fold(0, usize::wrapping_add) == answer as usize {
        return answer;
    }
    // SAFETY: the caller's own promise.
    unsafe { writev_was_short(fd, buffers, count, answer) }
}

/// writev(2) after a real call that wrote less than it was given.
///
/// # Safety
/// As [`after_writev`].
#[cold]
#[inline(never)]
unsafe extern "C" fn writev_was_short(fd: c_int, buffers: *const iovec, count: c_int, answer: ssize_t) -> ssize_t {
    let errno = sys::errno();
    if !decide::is_for_space(answer, errno) || buffers.is_null() || !(1..=MOST_BUFFERS).contains(&count) {
        return answer;
    }
    // EPERM may come from a seccomp filter, which looks at no array.
    if answer < 0 && errno == libc::EPERM && !sys::is_readable(buffers.cast(), count as usize * size_of::<iovec>()) {
        return answer;
    }
    // SAFETY: the array is there: the kernel reads it before it writes, and before it answers ENOSPC or EDQUOT; for EPERM it was asked.
    // The caller has promised that the array stays as it is, and that what it describes is as `Buffers::new` asks.
    let buffers = unsafe { Buffers::new(core::slice::from_raw_parts(buffers, count as usize)) };
    decide::after_short_write(fd, buffers, answer).answer
}

/// After open(2) failed: a [placeholder] for the file if there is no space for it and it would have been a log. Returns its descriptor,
/// or -1; errno stays as it is. `at` is the directory's descriptor, as for openat(2).
///
/// # Safety
/// `path` is what openat(2) was given, with `at` and `flags`.
#[cold]
#[inline(never)]
pub unsafe extern "C" fn open_placeholder(at: c_int, path: *const c_char, flags: c_int, mode: u32) -> c_int {
    let errno = sys::errno();
    if !placeholder::is_wanted(errno, flags) || path.is_null() {
        return -1;
    }
    // SAFETY: the kernel answers ENOSPC or EDQUOT only after it has read the path to its end.
    let path = unsafe { CStr::from_ptr(path) };
    let made = barrier(None, || placeholder::make(at, path, flags, mode, errno));
    sys::set_errno(errno);
    made.unwrap_or(-1)
}
