//! pthread_setcancelstate(3) and pthread_testcancel(3).

use crate::arch::weak;

/// Runs code of the program's while this thread can't be cancelled: a cancellation would unwind through our frames.
pub fn uncancelled<T>(work: impl FnOnce() -> T) -> T {
    unsafe extern "C" {
        fn pthread_setcancelstate(state: i32, old: *mut i32) -> i32;
    }
    const DISABLE: i32 = 1;
    let mut old = 0;
    // SAFETY: sets one word of the calling thread's; async-signal-safe since POSIX 2024, and before in practice.
    unsafe { pthread_setcancelstate(DISABLE, &raw mut old) };
    let result = work();
    // SAFETY: the state that was before, from the call above.
    unsafe { pthread_setcancelstate(old, core::ptr::null_mut()) };
    result
}

/// pthread_testcancel(3). Before glibc 2.34 it is in libpthread, which a program that can be cancelled has loaded.
#[inline(always)]
pub fn test_cancel() {
    let address = weak!("pthread_testcancel");
    if address != 0 {
        // SAFETY: the function of this name takes and returns nothing.
        unsafe { core::mem::transmute::<usize, extern "C" fn()>(address)() };
    }
}
