//! Who may sleep for a descriptor, for how long, and who wakes it.
//!
//! A sleeper is woken by our own close hooks, in microseconds. For closes that can't be seen (raw system calls, other
//! processes under ENFILE) it looks again every 100 ms, and the backoff of the settings bounds the whole.
//!
//! Nothing is held across the real call, so a thread that is cancelled or jumps away leaves nothing behind: there is no count
//! of sleepers to go stale, only a ticket of whoever came last, which a closer that woke nobody clears.

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use once_cell::race::OnceBool;
use tideover_contract::page::Outcome;
use tideover_contract::settings::{Id, MILLION, SECOND};

use crate::arch;
use crate::engine::breaker::{self, Breaker};
use crate::engine::reclaim::collect::Role;
use crate::features::accept;
use crate::os::{elf, sys};
use crate::state::process::{self, Phase};
use crate::state::settings::SETTINGS;
use crate::state::{page, thread};

/// Longest sleep without a look.
const LOOK: u64 = SECOND / 10;

/// Counts closes that happened while somebody waited; sleepers sleep on it.
static CLOSES: AtomicU32 = AtomicU32::new(0);
/// Ticket of the last thread that announced it would sleep; 0: nobody sleeps.
static TICKET: AtomicU64 = AtomicU64::new(0);
static TICKETS: AtomicU64 = AtomicU64::new(1);

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
    /// CLOSES before the last try.
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
        let slept = sys::futex_wait(&CLOSES, self.seen, left.min(LOOK));
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

    /// From here on a close is not missed: it changes CLOSES, or finds the ticket.
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
        let _ = sys::futex_wait(&CLOSES, seen, left.min(LOOK));
    }
}

/// From here on closes are counted, and parked listeners hear of them. Returns their count so far, for [`sleep`].
pub fn expect_closes() -> u32 {
    let seen = CLOSES.load(Ordering::SeqCst);
    // A swap, which costs what a SeqCst store does, so that tests/sleepers.rs can prove it: loom lets a store pass by the zero that
    // a closer puts in the place of the ticket before.
    TICKET.swap(TICKETS.fetch_add(1, Ordering::Relaxed), Ordering::SeqCst);
    seen
}

/// Sleeps until more than `seen` closes have been counted, at most so many nanoseconds. False: a signal handler has run that
/// wants blocked calls interrupted.
pub fn sleep(seen: u32, nanoseconds: u64) -> bool {
    sys::futex_wait(&CLOSES, seen, nanoseconds) != Err(libc::EINTR) || !handlers_interrupt()
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

/// The host closed a descriptor. One load when nobody waits.
#[inline(always)]
pub fn closed() {
    let ticket = TICKET.load(Ordering::Acquire);
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
    CLOSES.fetch_add(1, Ordering::SeqCst);
    let woken = wake(1);
    if accept::awaits_closes() {
        accept::closed();
    } else if woken == 0 {
        // Nobody sleeps. Whoever has announced itself since keeps its ticket; whoever did before has yet to see CLOSES.
        let _ = TICKET.compare_exchange(ticket, 0, Ordering::SeqCst, Ordering::Relaxed);
    }
}

/// Many descriptors have come free.
pub fn wake_all() {
    if TICKET.load(Ordering::Acquire) != 0 {
        all_closed();
    }
}

#[cold]
#[inline(never)]
extern "C" fn all_closed() {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    CLOSES.fetch_add(1, Ordering::SeqCst);
    wake(i32::MAX);
    if accept::awaits_closes() {
        accept::closed();
    }
}

fn wake(most: i32) -> usize {
    sys::futex_wake(&CLOSES, most)
}

/// In the child of a fork: nobody sleeps.
pub fn forked() {
    TICKET.store(0, Ordering::Relaxed);
    OF_LIBUV.store(0, Ordering::Relaxed);
    breaker::forked();
}

/// The seeds' backoff: so many waits, each longer than the one before, none longer than a maximum, with jitter.
#[derive(Clone, Copy)]
pub struct Backoff {
    /// Waits left.
    pub tries: u64,
    /// Next wait, nanoseconds.
    pub wait: u64,
    /// Longest wait, nanoseconds.
    pub longest: u64,
    /// Growth, millionths.
    pub multiplier: u64,
    /// Variation, millionths.
    pub jitter: u64,
}

impl Backoff {
    /// As the settings say.
    pub fn from_settings() -> Backoff {
        Backoff {
            tries: SETTINGS.get(Id::MaxRetries),
            wait: SETTINGS.get(Id::InitialWait),
            longest: SETTINGS.get(Id::MaxWait),
            multiplier: SETTINGS.get(Id::BackoffMultiplier),
            jitter: SETTINGS.get(Id::Jitter),
        }
    }

    /// The next wait, varied by jitter; `seed` is any number that differs from call to call.
    fn next(&mut self, seed: u64) -> Option<u64> {
        self.tries = self.tries.checked_sub(1)?;
        let wait = self.wait.min(self.longest);
        self.wait = scaled(wait, self.multiplier);
        let span = scaled(wait, self.jitter);
        // Fibonacci hashing is random enough to keep threads from waking together.
        let random = (seed ^ arch::thread_pointer() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let shift = ((u128::from(random) * 2 * u128::from(span)) >> 32) as u64;
        Some((wait - span.min(wait) + shift).max(1))
    }

    /// No call waits longer than this in all: the waits at their longest.
    fn total(&self) -> u64 {
        let mut rest = *self;
        let mut total = 0u64;
        for _ in 0..self.tries.min(1000) {
            let wait = rest.wait.min(rest.longest);
            rest.wait = scaled(wait, rest.multiplier);
            total = total.saturating_add(wait + scaled(wait, rest.jitter));
        }
        total
    }
}

fn scaled(value: u64, millionths: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(millionths) / u128::from(MILLION)).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDS: Backoff =
        Backoff { tries: 5, wait: SECOND / 2, longest: 10 * SECOND, multiplier: 2 * MILLION, jitter: MILLION / 4 };

    #[test]
    fn the_backoff_is_the_seeds() {
        assert_eq!(SEEDS.total(), 19_375_000_000, "0.5 + 1 + 2 + 4 + 8 s, and a quarter more");
        let mut exact = Backoff { jitter: 0, ..SEEDS };
        let waits: Vec<u64> = core::iter::from_fn(|| exact.next(7)).map(|ns| ns / (SECOND / 10)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80]);
        let mut long = Backoff { tries: 20, jitter: 0, ..SEEDS };
        assert_eq!(core::iter::from_fn(|| long.next(7)).max(), Some(10 * SECOND));
    }

    #[test]
    fn jitter_stays_within_its_part() {
        for seed in 0..1000 {
            let first = Backoff { ..SEEDS }.next(seed * 7919).unwrap();
            assert!((375_000_000..=625_000_000).contains(&first), "{first}");
        }
    }

    #[test]
    fn a_close_ends_a_sleep_and_nobody_is_remembered_after() {
        let sleeper = std::thread::spawn(|| {
            let mut waiting = Waiting::new(SEEDS, false);
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
        assert_eq!(TICKET.load(Ordering::SeqCst), 0);
    }
}
