//! TIDEOVER_ON_FULL=wait (opt-in): a call that fails because its disk is full waits for space, so that a long job need not end. Not for
//! writes to logs, whose lines are diverted.

use core::ffi::c_void;

use tideover_contract::settings::{Id, SECOND, on_full};

use crate::engine::call::Try;
use crate::engine::wait::handlers_interrupt;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::report::{ErrnoName, Seconds};
use crate::state::settings::SETTINGS;
use crate::state::{page, process};

/// Nanoseconds before the call is tried again; they double each time, up to [`LONGEST`].
const SHORTEST: u64 = SECOND / 50;
/// Longest time between two tries, nanoseconds.
const LONGEST: u64 = SECOND / 4;
/// Time from one message that the call still waits to the next, nanoseconds.
const REMINDER: u64 = 30 * SECOND;

/// Does this errno mean that there is no space, and is that to be waited for?
#[inline]
pub fn may_wait(errno: i32) -> bool {
    (errno == libc::ENOSPC || errno == libc::EDQUOT) && waits()
}

/// Is there any waiting for space in this process?
pub fn waits() -> bool {
    SETTINGS.get(Id::OnFull) == on_full::WAIT && process::may_act()
}

/// Repeats the call named `call`, which failed with `errno` (ENOSPC or EDQUOT), until there is space: `again` makes it once more. True:
/// the answer of the last call stands. False: the first answer stands, because the wait was longer than TIDEOVER_FULL_WAIT, and errno
/// is as it was; or because a signal handler interrupted it, and errno is EINTR if the call is a write.
///
/// # Safety
/// `again` may be called with `context`, on this thread and until this function returns.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn retry_until_space(call: &'static str, errno: i32, again: Try, context: *mut c_void) -> bool {
    let saved = sys::errno();
    let mut wait = Wait::begin(call);
    while wait.sleep(errno) {
        // SAFETY: the caller's own promise.
        let tried = unsafe { again(context) };
        if tried.errno != libc::ENOSPC && tried.errno != libc::EDQUOT {
            let kept = sys::errno();
            wait.end(true);
            sys::set_errno(kept);
            return true;
        }
    }
    wait.end(false);
    // A write that waits may be interrupted, as a write to a pipe may: the program runs its handler and writes again.
    let interrupted = wait.interrupted && call.contains("write");
    sys::set_errno(if interrupted { libc::EINTR } else { saved });
    false
}

/// The wait of one call. Signals that have a handler are blocked but while it sleeps: a handler that ran between two sleeps may be how
/// the program wants to end the call, and the next sleep would not notice it.
struct Wait {
    /// The thread's signal mask as it was; None: nothing is blocked yet.
    mask: Option<u64>,
    /// Name of the call, for messages.
    call: &'static str,
    /// When it began, CLOCK_MONOTONIC nanoseconds.
    begun: u64,
    /// How long the next sleep is, nanoseconds.
    next: u64,
    /// When it was last said that the call waits, CLOCK_MONOTONIC nanoseconds.
    told: u64,
    /// A signal handler has ended the wait.
    interrupted: bool,
}

impl Wait {
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn begin(call: &'static str) -> Wait {
        let begun = sys::now();
        Wait { mask: None, call, begun, next: SHORTEST, told: begun, interrupted: false }
    }

    /// Sleeps once; false when the wait is over.
    extern "C" fn sleep(&mut self, errno: i32) -> bool {
        barrier(false, || {
            self.mask = self.mask.or_else(|| sys::block_handlers().ok());
            let (Some(mask), Some(left)) = (self.mask, self.may_sleep(errno)) else { return false };
            // Asked before the sleep, too: a handler with SA_RESETHAND is gone once it has run.
            let interrupts = handlers_interrupt();
            let slept = sys::sleep_with_mask(self.next.min(left), mask);
            self.next = (self.next * 2).min(LONGEST);
            self.interrupted = slept == Err(libc::EINTR) && (interrupts || handlers_interrupt());
            !self.interrupted
        })
    }

    /// How much longer the call may wait, nanoseconds; None: no longer. Says so, or that it waits, when that is due.
    fn may_sleep(&mut self, errno: i32) -> Option<u64> {
        let (now, most) = (sys::now(), SETTINGS.get(Id::FullWait));
        let left = self.begun.saturating_add(most).saturating_sub(now);
        if left == 0 {
            log::warn!("{}: still no space after {}: the error is passed on", self.call, Seconds(now - self.begun));
            return None;
        }
        if self.next == SHORTEST {
            page::ensure();
            page::add(&page::counters().full_waits, 1);
            let most = Seconds(most);
            log::warn!("{}: the disk is full ({}), waiting for space, at most {most}", self.call, ErrnoName(errno));
        } else if now - self.told >= REMINDER {
            self.told = now;
            log::warn!("{}: still waiting for space, since {}", self.call, Seconds(now - self.begun));
        }
        Some(left)
    }

    /// Restores the signal mask.
    extern "C" fn end(&self, has_space: bool) {
        barrier((), || {
            if has_space {
                log::warn!("{}: there is space again, waited {}", self.call, Seconds(sys::now() - self.begun));
            }
            if let Some(mask) = self.mask {
                sys::restore_signals(mask);
            }
        });
    }
}
