//! The panic barrier: a bug in the library must not end the host.
//!
//! Every way from a hook into code that might panic is an `extern "C"` function whose body stands behind [`barrier`]: to the
//! hook it can't unwind, so the hook has no landing pads, and a cancellation can pass through its frame.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; if it panics, the answer is `fallback`.
#[inline(always)]
pub fn barrier<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(fallback)
}

/// Makes a panic one line of ours, instead of a backtrace with allocations.
#[cfg(not(test))]
pub fn start() {
    std::panic::set_hook(Box::new(|bug| {
        log::error!("a bug in tideover, the program goes on without it for this call; please report: {bug}");
    }));
}
