//! pthread_setcancelstate(3).

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
