//! Which calls may sleep until a descriptor is free, for how long, and who wakes them.
//!
//! Threads that wait for a descriptor stand in a queue (`queue`), and are woken by the hooks of close(2) and its like, in microseconds, first come first
//! served. One of them looks every 100 ms after closes that no hook sees (raw system calls, other processes under ENFILE), and after
//! whether descriptors are closed at all (`evidence`): if not, it makes one thread fail. The backoff of the settings bounds the whole
//! wait. What waits for something else (a local port, a turn to connect, finalizers) sleeps on the count of closes (`tickets`).
//!
//! Nothing is held across the real call, so a thread that is cancelled in it or leaves it by longjmp(3) leaves nothing behind.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use once_cell::race::OnceBool;
use tideover_contract::page::Outcome;

use crate::engine::backoff::Backoff;
use crate::engine::call::{Lack, Role};
use crate::engine::closes::{self, LONGEST_SLEEP, TICKETS};
use crate::engine::line::{self, Next, Queued};
use crate::engine::{breaker, evidence};
use crate::os::{elf, sys};
use crate::state::handlers::handlers;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

pub use crate::engine::closes::{expect_closes, handlers_interrupt, sleep_until, sleep_until_close};

/// What is known of a call that would wait.
pub struct Candidate {
    /// What it lacks.
    pub lack: Lack,
    /// Only this process can free what the call lacks (EMFILE, a limit of the settings; not ENFILE).
    pub is_process_limit: bool,
    /// May the call block? Not if the program asked for a non-blocking descriptor.
    pub may_block: bool,
    /// The call's backoff has at least one wait.
    pub has_waits: bool,
    /// Has the user or the program asked for waits, by a setting or by a policy of the call's own?
    pub asked: bool,
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

/// For how long this call may wait without seeing a close, nanoseconds; or why it must not wait.
pub fn may_wait(candidate: &Candidate) -> Result<u64, NoWait> {
    let hopeless = |why| Err(NoWait { outcome: Outcome::Hopeless, why });
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
    } else if candidate.is_process_limit && thread::count() <= 1 {
        hopeless("nothing to free, and no other thread that could close one")
    } else if candidate.is_process_limit && libuv_needs(sys::gettid()) {
        hopeless("nothing to free, and libuv's threads are needed to close some")
    } else if candidate.asked || !candidate.is_process_limit || candidate.lack != Lack::Descriptor {
        if breaker::of(candidate.lack).is_open() {
            return Err(NoWait { outcome: Outcome::BreakerOpen, why: "not waited, since so many waits were in vain" });
        }
        Ok(u64::MAX)
    } else {
        let none = NoWait { outcome: Outcome::BreakerOpen, why: "not waited, since no other thread closes any" };
        let patience = evidence::patience(sys::now()).ok_or(none)?;
        breaker::unasked().close();
        Ok(patience)
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
    /// What it waits for in the queue of threads that wait for a descriptor; None: it sleeps on the count of closes.
    queued: Option<Queued>,
}

impl Waiting {
    /// A call that has not waited yet.
    pub fn new(backoff: Backoff, needs_several: bool) -> Waiting {
        Waiting { backoff, seen: 0, ends: 0, deadline: 0, needs_several, queued: None }
    }

    /// Does the backoff of this call have any wait?
    pub fn has_any(&self) -> bool {
        self.backoff.tries > 0
    }

    /// The call may wait; `patience` is what [`may_wait`] has answered.
    pub fn begin(&mut self, candidate: &Candidate, patience: u64) {
        if candidate.lack == Lack::Descriptor {
            self.queued = Queued::new(patience, candidate.is_process_limit);
        }
    }

    /// Announces that the thread waits, when a wait of the backoff begins; after that sleeps until the call is worth another try.
    pub fn advance(&mut self) -> Next {
        let now = sys::now();
        if self.ends == 0 {
            return self.begin_wait(now);
        }
        let next = match &mut self.queued {
            Some(queued) => queued.advance(self.ends),
            None => self.sleep_on_count(now),
        };
        page::add(&page::counters().wait_ns, sys::now().saturating_sub(now));
        next.unwrap_or_else(|| {
            self.ends = 0;
            if sys::now() >= self.deadline { Next::End(Outcome::GaveUp) } else { Next::StartOver }
        })
    }

    fn begin_wait(&mut self, now: u64) -> Next {
        if self.deadline == 0 {
            self.deadline = now.saturating_add(self.backoff.total());
        }
        let Some(next) = self.backoff.next(now) else { return Next::End(Outcome::GaveUp) };
        self.ends = (now + next).min(self.deadline);
        page::add(&page::counters().waits, 1);
        if let Some(queued) = &mut self.queued
            && !queued.enter(self.deadline, now)
        {
            return Next::End(Outcome::GaveUp);
        }
        self.seen = expect_closes();
        Next::Try
    }

    /// None: the present wait is over.
    fn sleep_on_count(&mut self, now: u64) -> Option<Next> {
        let left = self.ends.saturating_sub(now);
        if left == 0 {
            return None;
        }
        let slept = sys::futex_wait(&TICKETS.closes, self.seen, left.min(LONGEST_SLEEP));
        if slept == Err(libc::EINTR) && handlers_interrupt() {
            return Some(Next::End(Outcome::Interrupted));
        }
        let before = self.seen;
        self.seen = expect_closes();
        if self.needs_several && self.seen != before {
            // One may be too few for this call, and enough for another thread's.
            closes::wake_sleeping(1);
        }
        Some(Next::Try)
    }

    /// The call has made its last try, with a descriptor or without.
    pub fn end(&self, succeeded: bool) {
        match &self.queued {
            Some(queued) => queued.leave(succeeded),
            None => closes::pass_wakeup_on(),
        }
    }
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
    let mut woken = false;
    let wake = |closes: &AtomicU32| {
        woken = line::wake_first(0).is_some();
        usize::from(woken) + sys::futex_wake(closes, 1)
    };
    TICKETS.closed(ticket, wake, tell_handler);
    if woken {
        line::hand_over();
    }
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
    line::wake_all();
    look_again();
    tell_handler();
}

/// What the threads in `sleep_until_close` wait for may have come, and it is no descriptor: they look again.
pub fn look_again() {
    TICKETS.closes.fetch_add(1, Ordering::SeqCst);
    closes::wake_sleeping(i32::MAX);
}

/// In the child of a fork: no thread sleeps.
pub fn forked() {
    TICKETS.forget();
    line::forked();
    evidence::forked();
    LIBUV.waiting.store(0, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tideover_contract::settings::{MILLION, SECOND};

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
