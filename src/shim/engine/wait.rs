//! Which calls may sleep until a descriptor is free, for how long, and who wakes them.
//!
//! A sleeping thread is woken by our own close hooks, in microseconds (`tickets`). Closes that no hook sees (raw system calls, other
//! processes under ENFILE) are found by trying the call every 100 ms. The backoff of the settings bounds the whole wait.
//!
//! Nothing is held across the real call, so a thread that is cancelled in it or leaves it by longjmp(3) leaves nothing behind.

#![forbid(unsafe_code)]

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

/// Longest sleep before the call is tried again, nanoseconds.
const LONGEST_SLEEP: u64 = SECOND / 10;

static TICKETS: Tickets = Tickets { closes: AtomicU32::new(0), last: AtomicU64::new(0), next: AtomicU64::new(1) };

/// What is known of a call that would wait.
pub struct Candidate {
    /// Only this process can free what the call lacks (EMFILE, a limit of the settings; not ENFILE).
    pub is_process_limit: bool,
    /// May the call block? Not if the program asked for a non-blocking descriptor.
    pub may_block: bool,
    /// The call's backoff has at least one wait.
    pub has_waits: bool,
    /// The circuit breaker for what the call lacks.
    pub breaker: &'static Breaker,
    /// What the call is in its language runtime.
    pub role: Role,
}

/// Why a call must not wait.
#[derive(Clone, Copy)]
pub struct NoWait {
    /// The outcome of the call, for its event.
    pub outcome: Outcome,
    /// The reason, for the message.
    pub why: &'static str,
}

/// Why this call must not wait; None if it may.
pub fn reason_not_to_wait(candidate: &Candidate) -> Option<NoWait> {
    let hopeless = |why| Some(NoWait { outcome: Outcome::Hopeless, why });
    if !candidate.has_waits {
        hopeless("nothing to free, and waits are switched off")
    } else if !candidate.may_block {
        hopeless("nothing to free, and the call must not block")
    } else if thread::is_event_loop() {
        hopeless("nothing to free, and an event loop must not sleep")
    } else if process::phase() == Phase::Exiting {
        hopeless("nothing to free, and the program is ending")
    } else if candidate.role != Role::Usual {
        hopeless("nothing to free, and the call would hold up its interpreter")
    } else if candidate.is_process_limit && libuv_needs(sys::gettid()) {
        hopeless("nothing to free, and libuv's threads are needed to close some")
    } else if candidate.is_process_limit && thread::count() <= 1 {
        hopeless("nothing to free, and no other thread that could close one")
    } else if candidate.breaker.is_open() {
        Some(NoWait { outcome: Outcome::BreakerOpen, why: "not waited, since so many waits were in vain" })
    } else {
        None
    }
}

/// What is known of libuv, whose pool of four threads runs the jobs that close descriptors.
struct Libuv {
    /// Was the program started with libuv in one of its objects?
    is_loaded: OnceBool,
    /// Number of the thread of libuv's that waits here; 0: none does.
    waiting: AtomicI32,
}

static LIBUV: Libuv = Libuv { is_loaded: OnceBool::new(), waiting: AtomicI32::new(0) };

/// Is this a thread of libuv's that must not sleep: the first one, or one of the pool while another sleeps? Node has no other threads
/// that close anything. If it may sleep, it is noted as the one that does, until [`end`].
fn libuv_needs(thread: i32) -> bool {
    let is_loaded = || elf::started_with().any(|exports| exports.find(&elf::Name::new(c"uv_queue_work")).is_some());
    LIBUV.is_loaded.get_or_init(is_loaded)
        && (thread == process::pid()
            || LIBUV.waiting.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_err())
}

/// The calling thread's call has ended: from now on another thread of libuv's may wait.
pub fn end() {
    if LIBUV.waiting.load(Ordering::Relaxed) != 0 {
        let _ = LIBUV.waiting.compare_exchange(sys::gettid(), 0, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// The waits of one call. Times are nanoseconds of CLOCK_MONOTONIC.
pub struct Waiting {
    /// The waits that are left.
    backoff: Backoff,
    /// Count of closes before the last try.
    seen: u32,
    /// When the present wait of the backoff ends; 0: none has begun.
    ends: u64,
    /// When the last wait of the call ends at the latest; 0: none has begun.
    deadline: u64,
    /// The call needs more than one descriptor.
    needs_several: bool,
}

/// What the caller does after [`Waiting::advance`].
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It makes the call again, and then waits on.
    Try,
    /// One wait of the backoff is over: it frees what can be freed by now, as after the first failure.
    StartOver,
    /// It gives up.
    End(Outcome),
}

impl Waiting {
    /// A call that has not waited yet.
    pub fn new(backoff: Backoff, needs_several: bool) -> Waiting {
        Waiting { backoff, seen: 0, ends: 0, deadline: 0, needs_several }
    }

    /// Does the backoff of this call have any wait?
    pub fn has_any(&self) -> bool {
        self.backoff.tries > 0
    }

    /// Announces that the thread waits, when a wait of the backoff begins; after that sleeps until the next close, or for
    /// [`LONGEST_SLEEP`] at most.
    pub fn advance(&mut self) -> Next {
        let now = sys::now();
        if self.ends == 0 {
            if self.deadline == 0 {
                self.deadline = now.saturating_add(self.backoff.total());
            }
            let Some(next) = self.backoff.next(now) else { return Next::End(Outcome::GaveUp) };
            self.ends = (now + next).min(self.deadline);
            page::add(&page::counters().waits, 1);
            self.seen = expect_closes();
            return Next::Try;
        }
        let left = self.ends.saturating_sub(now);
        if left == 0 {
            self.ends = 0;
            return if now >= self.deadline { Next::End(Outcome::GaveUp) } else { Next::StartOver };
        }
        let slept = sys::futex_wait(&TICKETS.closes, self.seen, left.min(LONGEST_SLEEP));
        page::add(&page::counters().wait_ns, sys::now().saturating_sub(now));
        if slept == Err(libc::EINTR) && handlers_interrupt() {
            return Next::End(Outcome::Interrupted);
        }
        let before = self.seen;
        self.seen = expect_closes();
        if self.needs_several && self.seen != before {
            // One descriptor may be too few for this call, and enough for another thread's.
            wake(1);
        }
        Next::Try
    }
}

/// Sleeps until `is_done` answers true, which is asked after each close and every 100 ms; at most for `longest` nanoseconds.
pub fn sleep_until(is_done: impl Fn() -> bool, longest: u64) {
    let end = sys::now() + longest;
    loop {
        let seen = expect_closes();
        let left = end.saturating_sub(sys::now());
        if is_done() || left == 0 {
            return pass_wakeup_on();
        }
        let _ = sys::futex_wait(&TICKETS.closes, seen, left.min(LONGEST_SLEEP));
    }
}

/// Announces that the calling thread waits: from here on closes are counted, no close is missed, and
/// [`Handlers::on_awaited_close`](crate::state::handlers::Handlers::on_awaited_close) is called for each. Returns the count of closes so far, for
/// [`sleep_until_close`].
pub fn expect_closes() -> u32 {
    TICKETS.announce()
}

/// Sleeps until more than `seen` closes have been counted, at most for so many nanoseconds. False: a signal handler has run that
/// interrupts blocked calls.
pub fn sleep_until_close(seen: u32, nanoseconds: u64) -> bool {
    sys::futex_wait(&TICKETS.closes, seen, nanoseconds) != Err(libc::EINTR) || !handlers_interrupt()
}

/// Wakes another thread, since this one may have been woken by a close that it has no use for.
pub fn pass_wakeup_on() {
    wake(1);
}

/// Does a signal have a handler without SA_RESTART? Such a handler asks for blocked calls to be interrupted. Those of profilers' timers and
/// the like have SA_RESTART, and must not cut waits short.
pub fn handlers_interrupt() -> bool {
    // All but the two by which libc cancels threads and sets their ids.
    (1..=64).filter(|signal| !(32..=33).contains(signal)).any(sys::interrupts)
}

/// The program has closed a descriptor: wakes one thread that waits for it. One load when nobody waits.
#[inline(always)]
pub fn wake_one() {
    let ticket = TICKETS.last();
    if ticket != 0 {
        closed(ticket);
    }
}

#[cold]
#[inline(never)]
extern "C" fn closed(ticket: u64) {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    TICKETS.closed(ticket, |closes| sys::futex_wake(closes, 1), tell_handler);
}

/// Tells the handler for closes that are waited for without sleeping. Returns whether it wants to hear of the next one, too.
fn tell_handler() -> bool {
    let wanted = (handlers().awaits_closes)();
    if wanted {
        (handlers().on_awaited_close)();
    }
    wanted
}

/// The program has closed several descriptors: wakes all threads that wait.
pub fn wake_all() {
    if TICKETS.last() != 0 {
        closed_several();
    }
}

#[cold]
#[inline(never)]
extern "C" fn closed_several() {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    TICKETS.closes.fetch_add(1, Ordering::SeqCst);
    wake(i32::MAX);
    tell_handler();
}

fn wake(most: i32) -> usize {
    sys::futex_wake(&TICKETS.closes, most)
}

/// In the child of a fork: no thread sleeps.
pub fn forked() {
    TICKETS.forget();
    LIBUV.waiting.store(0, Ordering::Relaxed);
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
            assert_eq!(waiting.advance(), Next::Try);
            assert_eq!(waiting.advance(), Next::Try);
            begun.elapsed()
        });
        while !sleeper.is_finished() {
            wake_one();
            std::thread::yield_now();
        }
        assert!(sleeper.join().unwrap() < std::time::Duration::from_secs(5));
        wake_one();
        wake_one();
        assert_eq!(TICKETS.last(), 0);
    }
}
