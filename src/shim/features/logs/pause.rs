//! TIDEOVER_ON_FULL=wait: a call that finds its disk full waits for space, instead of ending a long job. Opt-in, and not for
//! writes to logs, which go elsewhere.

use core::ffi::c_void;

use tideover_contract::settings::{Id, SECOND, on_full};

use crate::engine::call::Try;
use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::report::{ErrnoName, Seconds};
use crate::state::settings::SETTINGS;
use crate::state::{page, process};

/// The call is tried again after this, then after twice as long each time, up to [`LONGEST`].
const SHORTEST: u64 = SECOND / 50;
const LONGEST: u64 = SECOND / 4;
/// It says that it waits so often.
const REMINDER: u64 = 30 * SECOND;

/// Is this a lack of space that is to be waited for?
#[inline]
pub fn is_wanted(errno: i32) -> bool {
    (errno == libc::ENOSPC || errno == libc::EDQUOT) && SETTINGS.get(Id::OnFull) == on_full::WAIT && process::may_act()
}

/// Tries a call that failed with ENOSPC or EDQUOT again until there is space. True: the last try's answer stands. False: the first
/// answer stands, and errno is as it was: the wait was too long, or a signal handler interrupted it.
///
/// # Safety
/// `again` may be called with `context`.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn carry(call: &'static str, wrong: i32, again: Try, context: *mut c_void) -> bool {
    let saved = sys::errno();
    let mut pause = Pause::begin(call);
    while pause.sleep(wrong) {
        // SAFETY: promised by the caller.
        let tried = unsafe { again(context) };
        if tried.errno != libc::ENOSPC && tried.errno != libc::EDQUOT {
            let kept = sys::errno();
            pause.end(true);
            sys::set_errno(kept);
            return true;
        }
    }
    pause.end(false);
    // A write that waits may be interrupted, as a write to a pipe may: the program runs its handler and writes again.
    let interrupted = pause.interrupted && call.contains("write");
    sys::set_errno(if interrupted { libc::EINTR } else { saved });
    false
}

/// Signals come only while it sleeps: a handler that runs between two sleeps may be what the program wants to end by, and the sleep
/// would know nothing of it.
struct Pause {
    mask: Option<u64>,
    call: &'static str,
    begun: u64,
    next: u64,
    told: u64,
    interrupted: bool,
}

impl Pause {
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn begin(call: &'static str) -> Pause {
        let begun = sys::now();
        Pause { mask: None, call, begun, next: SHORTEST, told: begun, interrupted: false }
    }

    /// Sleeps; false when it is time to give up.
    extern "C" fn sleep(&mut self, wrong: i32) -> bool {
        barrier(false, || {
            self.mask = self.mask.or_else(|| sys::block_handlers().ok());
            let (Some(mask), Some(left)) = (self.mask, self.may_sleep(wrong)) else { return false };
            // Asked before, too: a handler for one signal (SA_RESETHAND) is gone when it has run.
            let interrupts = wait::handlers_interrupt();
            let slept = sys::sleep_with_mask(self.next.min(left), mask);
            self.next = (self.next * 2).min(LONGEST);
            self.interrupted = slept == Err(libc::EINTR) && (interrupts || wait::handlers_interrupt());
            !self.interrupted
        })
    }

    /// How much longer, in ns; None: it was long enough. Says what there is to say.
    fn may_sleep(&mut self, wrong: i32) -> Option<u64> {
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
            log::warn!("{}: the disk is full ({}), waiting for space, at most {most}", self.call, ErrnoName(wrong));
        } else if now - self.told >= REMINDER {
            self.told = now;
            log::warn!("{}: still waiting for space, since {}", self.call, Seconds(now - self.begun));
        }
        Some(left)
    }

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
