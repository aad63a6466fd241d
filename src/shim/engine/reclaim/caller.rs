//! Who called the hook: the return address, found only when it is needed.
//!
//! Handed down from the hook it would cost every successful call a load and a register. So the frames of this library are walked,
//! with its own static unwinder, up to the first that is not in it. That takes a few microseconds, allocates nothing, and takes no
//! lock where libc has _dl_find_object(3) (glibc 2.35).

use core::ffi::{c_int, c_void};

/// The unwinder's state.
type Context = c_void;

const GO_ON: c_int = 0;
const STOP: c_int = 4;

unsafe extern "C" {
    /// The unwinder's _Unwind_Backtrace (see build.rs).
    fn tideover_backtrace(visit: unsafe extern "C" fn(*mut Context, *mut c_void) -> c_int, found: *mut c_void)
    -> c_int;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
    /// Start and end of this library in memory, by the linker.
    static __ehdr_start: u8;
    static _end: u8;
}

/// The address behind the call of the hook that this thread is in; 0 if the frames can't be read.
pub fn address() -> usize {
    let mut found = 0usize;
    // SAFETY: the callback takes what is passed.
    unsafe { tideover_backtrace(visit, (&raw mut found).cast()) };
    found
}

/// Unit tests print backtraces, by the name that build.rs has taken away.
#[cfg(test)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_Backtrace(
    visit: unsafe extern "C" fn(*mut Context, *mut c_void) -> c_int,
    found: *mut c_void,
) -> c_int {
    // SAFETY: the same function.
    unsafe { tideover_backtrace(visit, found) }
}

unsafe extern "C" fn visit(context: *mut Context, found: *mut c_void) -> c_int {
    // SAFETY: the unwinder's own context, and the number that `address` passed.
    unsafe {
        let at = _Unwind_GetIP(context);
        if (&raw const __ehdr_start as usize..&raw const _end as usize).contains(&at) {
            return GO_ON;
        }
        *found.cast::<usize>() = at;
    }
    STOP
}
