//! Sockets that were closed where no hook could see it: the marks of `descriptors` are compared with the kernel.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::SECOND;

use crate::os::sys;
use crate::state::descriptors::{self, COUNTED, ROUND_IS_OVER, begin_round, marked, take};
use crate::state::process::{self, Phase};
use crate::state::{page, usage};

/// What is known of earlier comparisons.
struct State {
    /// When [`reconcile_now_and_then`] last did something, nanoseconds of CLOCK_MONOTONIC.
    reconciled: AtomicU64,
    /// By how much the kernel's count of descriptors was higher than that of the hooks.
    difference: AtomicU64,
}

static STATE: State = State { reconciled: AtomicU64::new(0), difference: AtomicU64::new(0) };

/// Forgets the sockets of a kind that were closed where no hook could see it. Makes a system call for each socket.
pub fn reconcile(kind: u32) {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    for fd in marked(kind) {
        if !sys::is_connection(fd) {
            take(fd);
        }
    }
}

/// Longest time that [`reconcile_now_and_then`] asks the kernel at once, nanoseconds.
const SLICE: u64 = SECOND / 5000;

/// [`reconcile`] for all counted sockets, at most ten times a second and for [`SLICE`] each time: ten thousand of them take several
/// milliseconds, which the clients of an event loop would have to wait. Does nothing while the kernel's count of descriptors agrees with
/// the library's.
pub fn reconcile_now_and_then() {
    let (now, last) = (sys::now(), STATE.reconciled.load(Relaxed));
    let is_due = now.saturating_sub(last) >= SECOND / 10;
    if !is_due || STATE.reconciled.compare_exchange(last, now, Relaxed, Relaxed).is_err() {
        return;
    }
    let difference = usage::counted().map(|used| used.wrapping_sub(page::opens().wrapping_sub(page::closes(true))));
    if difference.is_none_or(|difference| STATE.difference.swap(difference, Relaxed) != difference) {
        begin_round();
    }
    if process::phase() != Phase::Sandboxed {
        go_on_with_round(now + SLICE);
    }
}

/// Forgets sockets that are closed, until a time, nanoseconds of CLOCK_MONOTONIC.
fn go_on_with_round(until: u64) {
    /// The clock is read after so many questions.
    const FEW: usize = 16;
    let first = descriptors::round().load(Relaxed);
    if first == ROUND_IS_OVER {
        return;
    }
    for (asked, fd) in marked(COUNTED).skip_while(|&fd| (fd as u32) < first).enumerate() {
        if asked % FEW == FEW - 1 && sys::now() >= until {
            return descriptors::round().store(fd as u32, Relaxed);
        }
        if !sys::is_connection(fd) {
            take(fd);
        }
    }
    descriptors::round().store(ROUND_IS_OVER, Relaxed);
}
