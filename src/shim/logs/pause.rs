//! TIDEOVER_ON_FULL=wait: a call that finds its disk full waits for space, instead of ending a long job. Opt-in, and not for
//! writes to logs, which go elsewhere.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tideover_contract::settings::{Id, ON_FULL_WAIT, SECOND};

use crate::acquire::Try;
use crate::barrier::barrier;
use crate::report::{ErrnoName, Seconds};
use crate::settings::SETTINGS;
use crate::{page, process, sys, wait};

/// The call is tried again after this, then after twice as long each time, up to [`LONGEST`].
const SHORTEST: u64 = SECOND / 50;
const LONGEST: u64 = SECOND / 4;
/// It says that it waits so often.
const REMINDER: u64 = 30 * SECOND;

/// Nobody wakes this: the sleep is for its time.
static NOTHING: AtomicU32 = AtomicU32::new(0);

/// Is this a lack of space that is to be waited for?
#[inline]
pub fn is_wanted(errno: i32) -> bool {
    (errno == libc::ENOSPC || errno == libc::EDQUOT) && SETTINGS.get(Id::OnFull) == ON_FULL_WAIT && process::may_act()
}

/// Tries a call that failed with ENOSPC or EDQUOT again until there is space. True: the last try's answer stands. False: the first
/// answer stands, and errno is as it was: the wait was too long, or a signal handler interrupted it.
///
/// # Safety
/// `again` may be called with `context`.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn carry(call: &'static str, wrong: i32, again: Try, context: *mut c_void) -> bool {
    let saved = sys::errno();
    let mut pause = Pause::begin(call, wrong);
    while pause.sleep() {
        // SAFETY: promised by the caller.
        let tried = unsafe { again(context) };
        if tried.wrong != libc::ENOSPC && tried.wrong != libc::EDQUOT {
            let kept = sys::errno();
            pause.end();
            sys::set_errno(kept);
            return true;
        }
    }
    // A write that waits may be interrupted, as a write to a pipe may: the program runs its handler and writes again.
    let interrupted = pause.interrupted && call.contains("write");
    sys::set_errno(if interrupted { libc::EINTR } else { saved });
    false
}

struct Pause {
    call: &'static str,
    begun: u64,
    next: u64,
    told: u64,
    interrupted: bool,
}

impl Pause {
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn begin(call: &'static str, wrong: i32) -> Pause {
        let begun = sys::now();
        barrier((), || {
            page::ensure();
            page::add(&page::counters().full_waits, 1);
            let most = Seconds(SETTINGS.get(Id::FullWait));
            log::warn!("{call}: the disk is full ({}), waiting for space, at most {most}", ErrnoName(wrong));
        });
        Pause { call, begun, next: SHORTEST, told: begun, interrupted: false }
    }

    /// Sleeps; false when it is time to give up.
    extern "C" fn sleep(&mut self) -> bool {
        barrier(false, || {
            let now = sys::now();
            let left = (self.begun.saturating_add(SETTINGS.get(Id::FullWait))).saturating_sub(now);
            if left == 0 {
                log::warn!("{}: still no space after {}: the error is passed on", self.call, Seconds(now - self.begun));
                return false;
            }
            if now - self.told >= REMINDER {
                self.told = now;
                log::warn!("{}: still waiting for space, since {}", self.call, Seconds(now - self.begun));
            }
            let slept = sys::futex_wait(&NOTHING, NOTHING.load(Relaxed), self.next.min(left));
            self.next = (self.next * 2).min(LONGEST);
            self.interrupted = slept == Err(libc::EINTR) && wait::handlers_interrupt();
            !self.interrupted
        })
    }

    extern "C" fn end(&self) {
        barrier((), || {
            log::warn!("{}: there is space again, waited {}", self.call, Seconds(sys::now() - self.begun));
        });
    }
}
