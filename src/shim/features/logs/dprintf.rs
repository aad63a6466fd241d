//! dprintf(3). Since glibc 2.37 it uses no FILE, so there is no slot to fill ([`stdio`](super::stdio)): it formats into a buffer on the
//! stack, which libc's own write(2) takes each time it is full. After one of these writes has failed, nobody can tell which of them are
//! in the file. So the library formats the text itself, by vsnprintf(3) into a buffer of the same size, and writes it as stdio does.
//!
//! For a text that is longer than the buffer, libc makes several writes. To a file, where that makes no difference, the library makes
//! one. Anything else is left to libc: the reader of a datagram socket sees each write.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::{MaybeUninit, transmute};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Relaxed, Release};

use libc::{size_t, ssize_t};

use super::calls::{write_all, write_raw};
use super::{files, program};
use crate::arch::VaList;
use crate::os::barrier::barrier;
use crate::os::elf::{self, Exports, Name};
use crate::os::real::Real;
use crate::os::sys;
use crate::state::descriptors::{self, OTHER};
use crate::state::process::{self, Phase};

/// PRINTF_BUFFER_SIZE_DPRINTF of glibc: a text of at most so many bytes is one write.
const BUFFER: usize = 2048;
/// Bytes of the longest text that the library formats itself.
const LONGEST: usize = 1 << 20;

type Format = unsafe extern "C" fn(*mut c_char, size_t, *const c_char, *mut VaList) -> c_int;
type FormatChecked = unsafe extern "C" fn(*mut c_char, size_t, c_int, size_t, *const c_char, *mut VaList) -> c_int;
type Print = unsafe extern "C" fn(c_int, *const c_char, *mut VaList) -> c_int;
type PrintChecked = unsafe extern "C" fn(c_int, c_int, *const c_char, *mut VaList) -> c_int;
type Write = unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t;

/// Functions of libc as libc calls them itself, not those of another preloaded library: one whose write(2) says what it does by
/// dprintf(3) would never end.
macro_rules! own {
    ($($function:ident: $type:ty = $name:literal;)*) => {
        /// Addresses of libc's own functions; 0: not found yet.
        struct Own { $($function: AtomicUsize,)* }

        static OWN: Own = Own { $($function: AtomicUsize::new(0),)* };

        impl Own {
            /// Finds them all. False if libc lacks one.
            fn find(&self, libc: &Exports) -> bool {
                let mut all = true;
                $(match libc.find(&const { Name::new($name) }) {
                    Some(address) => self.$function.store(address, Relaxed),
                    None => all = false,
                })*
                all
            }

            $(#[inline(always)]
            fn $function(&self) -> $type {
                // SAFETY: only `vdprintf` and `vdprintf_chk` come here, after `choose` has chosen them, and so after `find` has found all
                // of these; libc's functions of these names have these types.
                unsafe { transmute::<usize, $type>(self.$function.load(Relaxed)) }
            })*
        }
    };
}

own! {
    write: Write = c"write";
    format: Format = c"vsnprintf";
    format_checked: FormatChecked = c"__vsnprintf_chk";
    print: Print = c"vdprintf";
    print_checked: PrintChecked = c"__vdprintf_chk";
    test_cancel: unsafe extern "C" fn() = c"pthread_testcancel";
}

/// The address that a call of `name` (dprintf(3) or a variant of it) goes to: `ours` where the library must format the text, else the
/// real function. Kept in `known` for the next call.
pub fn choose(known: &AtomicUsize, real: &Real, name: &'static CStr, ours: usize) -> usize {
    let native = real.address(name, false);
    let chosen = barrier(native, || {
        let is_wanted = matches!(process::phase(), Phase::Active | Phase::Exiting) && program::may_act_on_writes();
        if is_wanted && has_no_file(name, native) { ours } else { native }
    });
    if process::phase() != Phase::Starting {
        known.store(chosen, Release);
    }
    chosen
}

/// Is the real function that of a glibc which uses no FILE for it? (musl's uses one, which has no slot.) If so, all functions that are
/// needed instead are found.
fn has_no_file(name: &CStr, native: usize) -> bool {
    let Some(libc) = elf::libc() else { return false };
    let Some(version) = libc.find(&Name::new(c"gnu_get_libc_version")) else { return false };
    // SAFETY: glibc's function of this name takes nothing and returns a static C string.
    let version = unsafe { CStr::from_ptr(transmute::<usize, extern "C" fn() -> *const c_char>(version)()) };
    is_2_37(version.to_bytes()) && libc.find(&Name::new(name)) == Some(native) && OWN.find(&libc)
}

/// Is this version 2.37 or later? "2.36" is not; "2.41" and "3.0" are.
fn is_2_37(version: &[u8]) -> bool {
    let mut numbers = version.split(|&byte| byte == b'.').map(|number| {
        number
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0, |n: u32, &digit| n * 10 + u32::from(digit - b'0'))
    });
    (numbers.next(), numbers.next()) >= (Some(2), Some(37))
}

/// vdprintf(3).
///
/// # Safety
/// The arguments are as vdprintf(3) wants them, and nobody writes to what `format` and `arguments` point to meanwhile; and [`choose`]
/// has answered with this function, or with one that calls it.
pub unsafe extern "C" fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut VaList) -> c_int {
    // SAFETY: the caller's own promise, for libc's vsnprintf and vdprintf, which are what `print` asks for.
    unsafe {
        print(
            fd,
            arguments,
            |to, size, arguments| OWN.format()(to, size, format, arguments),
            |arguments| OWN.print()(fd, format, arguments),
        )
    }
}

/// `__vdprintf_chk`, which _FORTIFY_SOURCE makes of vdprintf(3).
///
/// # Safety
/// As [`vdprintf`].
pub unsafe extern "C" fn vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut VaList) -> c_int {
    // SAFETY: as in `vdprintf`, for the checked functions.
    unsafe {
        print(
            fd,
            arguments,
            |to, size, arguments| OWN.format_checked()(to, size, flag, size, format, arguments),
            |arguments| OWN.print_checked()(fd, flag, format, arguments),
        )
    }
}

/// Formats the text by `format` and writes it, or leaves both to libc's `native`. Nothing is held across a write that may be cancelled.
///
/// # Safety
/// `arguments` is what the caller of a vdprintf(3) passed, `format` writes at most as many bytes as it is told and answers as
/// vsnprintf(3), and `native` is that vdprintf(3).
#[inline(always)]
unsafe fn print(
    fd: c_int,
    arguments: *mut VaList,
    format: impl Fn(*mut c_char, usize, *mut VaList) -> c_int,
    native: impl Fn(*mut VaList) -> c_int,
) -> c_int {
    // For %m, if the text is formatted again.
    let errno = sys::errno();
    let mut text = MaybeUninit::<[c_char; BUFFER + 1]>::uninit();
    // SAFETY: the caller's own promise. Each call that formats uses up the arguments, so it gets a copy of them. What is written has
    // been formatted before: `length` bytes, which the buffer or the mapping holds, and which nobody else knows.
    unsafe {
        let mut copy = *arguments;
        let text = text.as_mut_ptr().cast::<c_char>();
        let length = format(text, BUFFER + 1, &raw mut copy);
        if length as usize <= BUFFER {
            return write_text(fd, text.cast(), length, errno);
        }
        // Negative if it can't be formatted: then libc's function fails, after it has written what comes before the error.
        if length > 0 && length as usize <= LONGEST && is_one_write_enough(fd) {
            OWN.test_cancel()();
            let size = length as usize + 1;
            if let Ok(text) = sys::map_private(size) {
                let mut copy = *arguments;
                sys::set_errno(errno);
                let again = format(text.cast(), size, &raw mut copy);
                // No cancellation point until the mapping is gone.
                let all = again == length
                    && write_all(fd, text, length as usize, None, write_uncancelled).answer == length as ssize_t;
                sys::unmap(text, size);
                if all {
                    sys::set_errno(errno);
                }
                if again == length {
                    return if all { length } else { -1 };
                }
            }
        }
        sys::set_errno(errno);
        native(arguments)
    }
}

/// Writes a text that the buffer holds. Answers as dprintf(3); on success, errno is what it was.
///
/// # Safety
/// `text` is where `length` bytes are, not a negative number; nobody writes to them meanwhile. [`choose`] has answered with one of ours.
#[inline(always)]
unsafe fn write_text(fd: c_int, text: *const c_void, length: c_int, errno: c_int) -> c_int {
    let count = length as usize;
    // SAFETY: the caller's own promise, which is what write(2) and `write_all` ask for.
    unsafe {
        let first = if files::any() || count == 0 { None } else { Some(write(fd, text, count)) };
        if first != Some(length as ssize_t) {
            if write_all(fd, text, count, first, write).answer != length as ssize_t {
                return -1;
            }
            sys::set_errno(errno);
        }
        length
    }
}

/// write(2) as dprintf(3) calls it.
///
/// # Safety
/// As write(2); and [`choose`] has answered with one of ours.
unsafe extern "C" fn write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's own promise.
    uninterrupted(|| unsafe { OWN.write()(fd, data, count) })
}

/// [`write()`], but no cancellation point.
///
/// # Safety
/// As write(2).
unsafe extern "C" fn write_uncancelled(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: the caller's own promise.
    uninterrupted(|| unsafe { write_raw(fd, data, count) })
}

/// Repeats a write that a signal has interrupted, as dprintf(3) does.
#[inline(always)]
fn uninterrupted(write: impl Fn() -> ssize_t) -> ssize_t {
    loop {
        let answer = write();
        if answer >= 0 || sys::errno() != libc::EINTR {
            return answer;
        }
    }
}

/// Is this descriptor open on a regular file, and may the library ask?
#[cold]
#[inline(never)]
extern "C" fn is_one_write_enough(fd: c_int) -> bool {
    barrier(false, || {
        let may_ask = matches!(process::phase(), Phase::Active | Phase::Exiting);
        if !may_ask || descriptors::marks(fd) & OTHER != 0 {
            return false;
        }
        match sys::fstat(fd) {
            Ok(status) if status.st_mode & libc::S_IFMT == libc::S_IFREG => true,
            Ok(_) => {
                descriptors::classify(fd, OTHER);
                false
            }
            Err(_) => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_numbers() {
        assert!([&b"2.37"[..], b"2.41", b"2.100", b"3.0", b"2.37.9000"].into_iter().all(is_2_37));
        assert!(![&b"2.36"[..], b"2.4", b"2", b"", b"1.99", b"2.36.9000"].into_iter().any(is_2_37));
    }
}
