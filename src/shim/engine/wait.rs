//! Who may sleep for a descriptor, for how long, and who wakes it.
//!
//! A sleeping thread is woken by our own close hooks, in microseconds (`tickets`). For closes that can't be seen (raw system calls, other
//! processes under ENFILE) it looks again every 100 ms, and the backoff of the settings bounds the whole.
//!
//! Nothing is held across the real call, so a thread that is cancelled or jumps away leaves nothing behind.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceBool;
use tideover_contract::page::Outcome;
use tideover_contract::settings::SECOND;

use crate::engine::backoff::Backoff;
use crate::engine::breaker::Breaker;
use crate::engine::call::Role;
use crate::engine::tickets::Tickets;
use crate::os::{elf, sys};
use crate::state::handlers::handlers;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

/// Longest sleep without a look.
const LOOK: u64 = SECOND / 10;

static TICKETS: Tickets = Tickets { closes: AtomicU32::new(0), last: AtomicU64::new(0), next: AtomicU64::new(1) };

/// What is known of a call that would like to wait.
pub struct Candidate {
    /// Only this process itself can free what it lacks.
    pub within: bool,
    /// The host did not ask for a non-blocking descriptor.
    pub patient: bool,
    /// Its policy has waits in it.
    pub waits: bool,
    /// The breaker for what it lacks.
    pub breaker: &'static Breaker,
    /// What it is in its runtime.
    pub role: Role,
}

/// Why a call must not sleep.
#[derive(Clone, Copy)]
pub struct Refusal {
    /// How the call ends then.
    pub outcome: Outcome,
    /// For the message.
    pub why: &'static str,
}

/// Why this call must not sleep; None if it may.
pub fn refusal(candidate: &Candidate) -> Option<Refusal> {
    let hopeless = |why| Some(Refusal { outcome: Outcome::Hopeless, why });
    if !candidate.waits {
        hopeless("nothing to free, and waits are switched off")
    } else if !candidate.patient {
        hopeless("nothing to free, and the call must not block")
    } else if thread::is_event_loop() {
        hopeless("nothing to free, and an event loop must not sleep")
    } else if process::phase() == Phase::Exiting {
        hopeless("nothing to free, and the program is ending")
    } else if candidate.role != Role::Usual {
        hopeless("nothing to free, and the call would hold up its interpreter")
    } else if candidate.within && libuv_needs(sys::gettid()) {
        hopeless("nothing to free, and libuv's threads are needed to close some")
    } else if candidate.within && thread::count() <= 1 {
        hopeless("nothing to free, and no other thread that could close one")
    } else if candidate.breaker.is_open() {
        Some(Refusal { outcome: Outcome::BreakerOpen, why: "not waited, since so many waits were in vain" })
    } else {
        None
    }
}

/// The thread of libuv's that waits. Its pool is four, and whatever would close a descriptor is a job behind them.
static OF_LIBUV: AtomicI32 = AtomicI32::new(0);

/// Is this a thread of libuv's that must go on: the first one, or one of the pool while another waits? Node has no other threads that
/// close anything.
fn libuv_needs(thread: i32) -> bool {
    static HAS_LIBUV: OnceBool = OnceBool::new();
    let has = || elf::started_with().any(|exports| exports.find(&elf::Name::new(c"uv_queue_work")).is_some());
    HAS_LIBUV.get_or_init(has)
        && (thread == process::pid()
            || OF_LIBUV.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_err())
}

/// This call's waits, if it had any, are over.
pub fn over() {
    if OF_LIBUV.load(Ordering::Relaxed) != 0 {
        let _ = OF_LIBUV.compare_exchange(sys::gettid(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// One call's waits. Between two steps the caller tries its call.
pub struct Waiting {
    backoff: Backoff,
    /// Count of closes before the last try.
    seen: u32,
    /// End of the present wait of the backoff; 0 before the first.
    ends: u64,
    /// No sleep goes past this.
    deadline: u64,
    /// This call needs more than one descriptor.
    greedy: bool,
}

/// What to do after [`Waiting::step`].
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Try the call.
    Try,
    /// A wait of the backoff is over: try everything again from the start.
    StartOver,
    /// Give up.
    End(Outcome),
}

impl Waiting {
    /// Not waiting yet.
    pub fn new(backoff: Backoff, greedy: bool) -> Waiting {
        Waiting { backoff, seen: 0, ends: 0, deadline: 0, greedy }
    }

    /// Has this call any wait at all?
    pub fn has_any(&self) -> bool {
        self.backoff.tries > 0
    }

    /// Announces itself, or sleeps until it is worth trying.
    pub fn step(&mut self) -> Step {
        let now = sys::now();
        if self.ends == 0 {
            if self.deadline == 0 {
                self.deadline = now.saturating_add(self.backoff.total());
            }
            let Some(next) = self.backoff.next(now) else { return Step::End(Outcome::GaveUp) };
            self.ends = (now + next).min(self.deadline);
            page::add(&page::counters().waits, 1);
            self.announce();
            return Step::Try;
        }
        let left = self.ends.saturating_sub(now);
        if left == 0 {
            self.ends = 0;
            return if now >= self.deadline { Step::End(Outcome::GaveUp) } else { Step::StartOver };
        }
        let slept = sys::futex_wait(&TICKETS.closes, self.seen, left.min(LOOK));
        page::add(&page::counters().wait_ns, sys::now().saturating_sub(now));
        if slept == Err(libc::EINTR) && handlers_interrupt() {
            return Step::End(Outcome::Interrupted);
        }
        let before = self.seen;
        self.announce();
        if self.greedy && self.seen != before {
            // One descriptor is too few for this call; another sleeper may need no more.
            wake(1);
        }
        Step::Try
    }

    /// From here on no close is missed.
    fn announce(&mut self) {
        self.seen = expect_closes();
    }
}

/// Sleeps until something is done that comes with a close, at most for so long.
pub fn until(done: impl Fn() -> bool, longest: u64) {
    let end = sys::now() + longest;
    loop {
        let seen = expect_closes();
        let left = end.saturating_sub(sys::now());
        if done() || left == 0 {
            return leave();
        }
        let _ = sys::futex_wait(&TICKETS.closes, seen, left.min(LOOK));
    }
}

/// From here on closes are counted, and parked listeners hear of them. Returns their count so far, for [`sleep`].
pub fn expect_closes() -> u32 {
    TICKETS.announce()
}

/// Sleeps until more than `seen` closes have been counted, at most so many nanoseconds. False: a signal handler has run that
/// wants blocked calls interrupted.
pub fn sleep(seen: u32, nanoseconds: u64) -> bool {
    sys::futex_wait(&TICKETS.closes, seen, nanoseconds) != Err(libc::EINTR) || !handlers_interrupt()
}

/// Passes a wake-up on that this call has no more use for.
pub fn leave() {
    wake(1);
}

/// A handler without SA_RESTART asks for blocked calls to be interrupted; timers of profilers and the like have it, and must
/// not cut waits short.
pub fn handlers_interrupt() -> bool {
    // But for the two by which libc cancels threads and sets their ids.
    (1..=64).filter(|signal| !(32..=33).contains(signal)).any(sys::interrupts)
}

/// The program closed a descriptor. One load when nobody waits.
#[inline(always)]
pub fn closed() {
    let ticket = TICKETS.last();
    if ticket != 0 {
        closed_for(ticket);
    }
}

#[cold]
#[inline(never)]
extern "C" fn closed_for(ticket: u64) {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    TICKETS.closed(ticket, |closes| sys::futex_wake(closes, 1), tell_others);
}

/// Tells whoever wants to hear of closes, but does not sleep. Is there such a one?
fn tell_others() -> bool {
    let wanted = (handlers().awaits_closes)();
    if wanted {
        (handlers().closed)();
    }
    wanted
}

/// Many descriptors have come free.
pub fn wake_all() {
    if TICKETS.last() != 0 {
        all_closed();
    }
}

#[cold]
#[inline(never)]
extern "C" fn all_closed() {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    TICKETS.closes.fetch_add(1, Ordering::SeqCst);
    wake(i32::MAX);
    tell_others();
}

fn wake(most: i32) -> usize {
    sys::futex_wake(&TICKETS.closes, most)
}

/// In the child of a fork: nobody sleeps.
pub fn forked() {
    TICKETS.forget();
    OF_LIBUV.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tideover_contract::settings::MILLION;

    const BACKOFF: Backoff =
        Backoff { tries: 5, wait: SECOND / 2, longest: 10 * SECOND, multiplier: 2 * MILLION, jitter: MILLION / 4 };

    #[test]
    fn a_close_ends_a_sleep_and_nobody_is_remembered_after() {
        let sleeper = std::thread::spawn(|| {
            let mut waiting = Waiting::new(BACKOFF, false);
            let begun = std::time::Instant::now();
            assert_eq!(waiting.step(), Step::Try);
            assert_eq!(waiting.step(), Step::Try);
            begun.elapsed()
        });
        while !sleeper.is_finished() {
            closed();
            std::thread::yield_now();
        }
        assert!(sleeper.join().unwrap() < std::time::Duration::from_secs(5));
        closed();
        closed();
        assert_eq!(TICKETS.last(), 0);
    }
}
