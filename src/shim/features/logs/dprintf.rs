//! dprintf(3) has no FILE since glibc 2.37, so no slot to take the place of ([`stdio`](super::stdio)): it makes its text in a buffer
//! on the stack, and libc's own write(2) takes each buffer of it. Once a piece has failed, nobody could tell which ones are in the
//! file. So the same is done here: vsnprintf(3) makes the text in a buffer of that size, and it is written as stdio writes.
//!
//! Of a text that the buffer does not hold, libc makes several writes. To a file, which keeps no trace of them, it is one here.
//! Anything else gets them from libc: a datagram's reader sees each.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::mem::{MaybeUninit, transmute};
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::{Relaxed, Release};

use libc::{size_t, ssize_t};

use super::calls::{write_all, write_raw};
use super::files;
use crate::arch::VaList;
use crate::os::barrier::barrier;
use crate::os::elf::{self, Exports, Name};
use crate::os::real::Real;
use crate::os::sys;
use crate::state::descriptors::{self, OTHER};
use crate::state::process::{self, Phase};

/// PRINTF_BUFFER_SIZE_DPRINTF of glibc: a text of so many bytes is one write.
const BUFFER: usize = 2048;
/// A text that is longer gets the true error.
const LONGEST: usize = 1 << 20;

type Format = unsafe extern "C" fn(*mut c_char, size_t, *const c_char, *mut VaList) -> c_int;
type FormatChecked = unsafe extern "C" fn(*mut c_char, size_t, c_int, size_t, *const c_char, *mut VaList) -> c_int;
type Print = unsafe extern "C" fn(c_int, *const c_char, *mut VaList) -> c_int;
type PrintChecked = unsafe extern "C" fn(c_int, c_int, *const c_char, *mut VaList) -> c_int;
type Write = unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t;

/// Functions of libc, as it calls them itself: not those that another preload has put before them. One whose write(2) tells what it
/// does by dprintf would never end.
macro_rules! own {
    ($($function:ident: $type:ty = $name:literal;)*) => {
        struct Own { $($function: AtomicUsize,)* }

        static OWN: Own = Own { $($function: AtomicUsize::new(0),)* };

        impl Own {
            /// False if one of them is not there.
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
                // SAFETY: nobody comes here before `find` has found them all; the names have these types.
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

/// What is called for dprintf(3) or one of its kin: `ours` where that is needed, else the real one. Kept in `known` for the next call.
pub fn choose(known: &AtomicUsize, real: &Real, name: &'static CStr, ours: usize) -> usize {
    let native = real.address(name, false);
    let chosen = barrier(native, || {
        let is_wanted = matches!(process::phase(), Phase::Active | Phase::Exiting) && super::may_divert_or_wait();
        if is_wanted && has_no_file(name, native) { ours } else { native }
    });
    if process::phase() != Phase::Starting {
        known.store(chosen, Release);
    }
    chosen
}

/// Is the real function a libc's that makes no FILE for it? musl's makes one that has no slot, and writes each part of the format.
fn has_no_file(name: &CStr, native: usize) -> bool {
    let Some(libc) = elf::libc() else { return false };
    let Some(version) = libc.find(&Name::new(c"gnu_get_libc_version")) else { return false };
    // SAFETY: that is its type, and it returns a C string.
    let version = unsafe { CStr::from_ptr(transmute::<usize, extern "C" fn() -> *const c_char>(version)()) };
    is_2_37(version.to_bytes()) && libc.find(&Name::new(name)) == Some(native) && OWN.find(&libc)
}

/// "2.36" is not; "2.41" and "3.0" are.
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
/// As it; and [`choose`] has answered with it, or with what calls it.
pub unsafe extern "C" fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut VaList) -> c_int {
    // SAFETY: the host's own arguments.
    unsafe {
        print(
            fd,
            arguments,
            |to, size, arguments| OWN.format()(to, size, format, arguments),
            |arguments| OWN.print()(fd, format, arguments),
        )
    }
}

/// `__vdprintf_chk`, which _FORTIFY_SOURCE makes of it.
///
/// # Safety
/// As [`vdprintf`].
pub unsafe extern "C" fn vdprintf_chk(fd: c_int, flag: c_int, format: *const c_char, arguments: *mut VaList) -> c_int {
    // SAFETY: the host's own arguments.
    unsafe {
        print(
            fd,
            arguments,
            |to, size, arguments| OWN.format_checked()(to, size, flag, size, format, arguments),
            |arguments| OWN.print_checked()(fd, flag, format, arguments),
        )
    }
}

/// Makes the text by `format` and writes it; or all is done by `native`. Nothing is held across a write that may be cancelled.
#[inline(always)]
unsafe fn print(
    fd: c_int,
    arguments: *mut VaList,
    format: impl Fn(*mut c_char, usize, *mut VaList) -> c_int,
    native: impl Fn(*mut VaList) -> c_int,
) -> c_int {
    // For %m, if the text has to be made again.
    let errno = sys::errno();
    let mut text = MaybeUninit::<[c_char; BUFFER + 1]>::uninit();
    // SAFETY: the host's own; each that makes the text uses up a copy of the arguments.
    unsafe {
        let mut copy = *arguments;
        let text = text.as_mut_ptr().cast::<c_char>();
        let length = format(text, BUFFER + 1, &raw mut copy);
        if length as usize <= BUFFER {
            return written(fd, text.cast(), length, errno);
        }
        // It can't be made, too: then the real one fails, with what it writes before that.
        if length > 0 && length as usize <= LONGEST && is_one_write_enough(fd) {
            OWN.test_cancel()();
            let size = length as usize + 1;
            if let Ok(text) = sys::map_private(size) {
                let mut copy = *arguments;
                sys::set_errno(errno);
                let again = format(text.cast(), size, &raw mut copy);
                // No point of cancellation any more, or the mapping would stay.
                let all = again == length
                    && write_all(fd, text, length as usize, None, write_apart).answer == length as ssize_t;
                // SAFETY: mapped above with this size; the text has been written, and nobody else knows of it.
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
#[inline(always)]
unsafe fn written(fd: c_int, text: *const c_void, length: c_int, errno: c_int) -> c_int {
    let count = length as usize;
    // SAFETY: so many bytes were made.
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
unsafe extern "C" fn write(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: as promised by the caller.
    uninterrupted(|| unsafe { OWN.write()(fd, data, count) })
}

/// The same, but no cancellation point.
unsafe extern "C" fn write_apart(fd: c_int, data: *const c_void, count: size_t) -> ssize_t {
    // SAFETY: as promised by the caller.
    uninterrupted(|| unsafe { write_raw(fd, data, count) })
}

/// Begins anew when a signal has interrupted it, as dprintf(3) does.
#[inline(always)]
fn uninterrupted(write: impl Fn() -> ssize_t) -> ssize_t {
    loop {
        let answer = write();
        if answer >= 0 || sys::errno() != libc::EINTR {
            return answer;
        }
    }
}

/// Is this a file, and may the library ask?
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
