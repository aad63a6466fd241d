//! Which code called the hook: its return address, found only when it is needed.
//!
//! If each hook passed it on, every successful call would pay for a load and a register. Instead the frames of this library are walked
//! with its own static unwinder, up to the first frame that is not in it. That takes a few microseconds, allocates nothing, and takes
//! no lock.

use core::ffi::{c_int, c_void};

/// `struct _Unwind_Context`.
type Context = c_void;

/// _URC_NO_REASON: the walk goes on.
const GO_ON: c_int = 0;
/// _URC_NORMAL_STOP: the walk ends.
const STOP: c_int = 4;

unsafe extern "C" {
    /// The unwinder's _Unwind_Backtrace, under a name of ours (see build.rs).
    fn tideover_backtrace(visit: unsafe extern "C" fn(*mut Context, *mut c_void) -> c_int, found: *mut c_void)
    -> c_int;
    fn _Unwind_GetIP(context: *mut Context) -> usize;
    /// Start and end of this library in memory, defined by the linker.
    static __ehdr_start: u8;
    static _end: u8;
}

/// The return address of the hook that this thread is in; 0 if the frames can't be read.
pub fn address() -> usize {
    let mut found = 0usize;
    // SAFETY: `visit` is called with this pointer to a usize, before this function returns.
    unsafe { tideover_backtrace(visit, (&raw mut found).cast()) };
    found
}

/// For the standard library of the unit tests, which prints backtraces: the name that build.rs has taken away.
///
/// # Safety
/// As the unwinder's function asks: `visit` may be called with `found`.
#[cfg(test)]
#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_Backtrace(
    visit: unsafe extern "C" fn(*mut Context, *mut c_void) -> c_int,
    found: *mut c_void,
) -> c_int {
    // SAFETY: it is the function that the caller means to call, so what holds for that holds here.
    unsafe { tideover_backtrace(visit, found) }
}

/// Called for each frame, the innermost first.
///
/// # Safety
/// `context` is what the unwinder passes to its callback; `found` points to a usize.
unsafe extern "C" fn visit(context: *mut Context, found: *mut c_void) -> c_int {
    // SAFETY: the caller promises that `context` is the unwinder's, and `found` a usize. Of the linker's symbols only addresses are taken.
    unsafe {
        let at = _Unwind_GetIP(context);
        if (&raw const __ehdr_start as usize..&raw const _end as usize).contains(&at) {
            return GO_ON;
        }
        *found.cast::<usize>() = at;
    }
    STOP
}
