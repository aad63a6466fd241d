//! The panic barrier: a bug in the library must not end the program.
//!
//! Whatever a hook calls that might panic is an `extern "C"` function whose body is run by [`barrier`]. Such a function can't unwind, so the
//! hook needs no landing pads, and the cancellation of a thread can pass through its frame.

#![forbid(unsafe_code)]

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work` and returns its answer, or `fallback` if it panics.
#[inline(always)]
pub fn barrier<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(fallback)
}

/// At load: the message of a panic is one line in the log, instead of a backtrace, which allocates.
#[cfg(not(test))]
pub fn start() {
    std::panic::set_hook(Box::new(|bug| {
        log::error!("a bug in tideover, the program goes on without it for this call; please report: {bug}");
    }));
}
