//! Waiting for a descriptor in the queue: which thread is woken by a close, and what the one that looks after all does.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tideover_contract::page::Outcome;
use tideover_contract::settings::SECOND;

use crate::engine::closes::{LONGEST_SLEEP, expect_closes, handlers_interrupt};
use crate::engine::queue::{Place, Queue, Word};
use crate::engine::sleepers::{IN_ACCEPT, IN_LOOPS};
use crate::engine::{breaker, evidence};
use crate::os::sys;
use crate::os::table::{Table, Zeroed};
use crate::state::{page, thread, usage};

/// What the caller does after `Waiting::advance` (engine/wait.rs).
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// It makes the call again, and then waits on.
    Try,
    /// One wait of the backoff is over: it frees what can be freed by now, as after the first failure.
    StartOver,
    /// It gives up.
    End(Outcome),
}

/// A call's place in the queue of threads that wait for a descriptor.
pub struct Queued {
    /// Its ticket; 0: it has none yet.
    ticket: u64,
    /// For how long it waits without seeing a close, nanoseconds; u64::MAX: it is not refused, since the user or the program has asked for waits.
    patience: u64,
    /// It was woken, and has made its call.
    tried: bool,
    /// Only this process can free a descriptor (not ENFILE).
    is_process_limit: bool,
}

/// The queue of threads that wait for a descriptor, and what the one that looks after all has seen. Times are nanoseconds of
/// CLOCK_MONOTONIC.
struct Line {
    queue: Queue,
    /// Mapped when the first thread waits.
    places: Table<Places>,
    /// How many descriptors the program had closed when more were seen last.
    closes: AtomicU64,
    /// When that was, when something else has freed some, or when the first thread began to wait.
    progress: AtomicU64,
    /// When a thread looked last.
    looked: AtomicU64,
    /// A thread was refused since more closes were seen last.
    refused: AtomicBool,
    /// A thread that was woken found its descriptor taken by one that had not waited: until nobody waits, whoever closes one lets the next
    /// have it.
    stolen: AtomicBool,
    /// Threads that have closed a descriptor, and wait until the thread that they have woken has made its call.
    closers: AtomicU32,
}

/// Threads that can wait at once; one more gets its error.
const PLACES: usize = 4096;
type Places = [Place; PLACES];

// SAFETY: a place is nothing but atomic numbers.
unsafe impl Zeroed for Place {}

/// When all threads of the process wait for a descriptor, or one was refused for lack of closes, the next is refused after this time,
/// nanoseconds.
const DEADLOCK: u64 = SECOND / 100;
/// When all threads that do not wait for a descriptor are event loops that wait for events, one is refused after this time, nanoseconds.
const LOOPS_ASLEEP: u64 = SECOND / 4;
/// A thread that does not look wakes up so often to see whether another one does.
const CHECK: u64 = 5 * SECOND;
/// If the thread that looks has not looked for so long, nanoseconds, the process was stopped (SIGSTOP), or the machine.
const STOPPED: u64 = 2 * SECOND;
/// Whoever has closed a descriptor waits for so long at most until the thread that it has woken has made its call.
const HAND_OVER: u64 = SECOND / 50;

static LINE: Line = Line {
    queue: Queue::new(),
    places: Table::new(),
    closes: AtomicU64::new(0),
    progress: AtomicU64::new(0),
    looked: AtomicU64::new(0),
    refused: AtomicBool::new(false),
    stolen: AtomicBool::new(false),
    closers: AtomicU32::new(0),
};

fn wake_place(word: &AtomicU32) {
    sys::futex_wake(word, 1);
}

/// Wakes the first thread in the queue that waits.
pub fn wake_first(after: u64) -> Option<u64> {
    if LINE.queue.is_empty() { None } else { LINE.queue.wake(LINE.places.get()?, after, wake_place) }
}

/// How many threads wait in the queue, and were not woken yet.
pub fn waiting() -> u64 {
    if LINE.queue.is_empty() { 0 } else { LINE.places.get().map_or(0, |places| LINE.queue.waiting(places)) }
}

/// Is any thread in the queue? Two loads.
pub fn is_waiting() -> bool {
    !LINE.queue.is_empty()
}

impl Queued {
    /// Not in the queue yet; None: there is no memory for one. `patience`: what `may_wait` has answered. `is_process_limit`: only this
    /// process can free a descriptor.
    pub fn new(patience: u64, is_process_limit: bool) -> Option<Queued> {
        LINE.places.map().map(|_| Queued { ticket: 0, patience, tried: false, is_process_limit })
    }

    /// Takes a place at the end, if it has none. False: there is no room.
    pub fn enter(&mut self, deadline: u64, now: u64) -> bool {
        if self.ticket != 0 {
            return true;
        }
        let Some(places) = LINE.places.get() else { return false };
        if LINE.queue.is_empty() {
            LINE.closes.store(page::closes(true), Ordering::Relaxed);
            LINE.looked.store(now, Ordering::Relaxed);
            progressed(now);
        }
        self.ticket = LINE.queue.enter(places, deadline.saturating_add(SECOND), self.patience).unwrap_or(0);
        self.ticket != 0
    }

    /// Sleeps until the call is to be made again. None: it is `ends` o'clock.
    pub fn advance(&mut self, ends: u64) -> Option<Next> {
        let places = LINE.places.get()?;
        loop {
            let now = sys::now();
            match LINE.queue.read(places, self.ticket) {
                Word::Fail => return Some(Next::End(Outcome::GaveUp)),
                Word::Try if self.tried => {
                    self.wait_on(places);
                    return Some(Next::Try);
                }
                Word::Try => {
                    self.tried = true;
                    return Some(Next::Try);
                }
                Word::Sleep(_) if now >= ends => return None,
                Word::Sleep(word) => {
                    let looks = LINE.queue.looks(self.ticket);
                    let time = (ends - now).min(if looks { self.until_look(now) } else { CHECK });
                    let slept = sys::futex_wait(LINE.queue.futex(places, self.ticket), word, time);
                    if slept == Err(libc::EINTR) && handlers_interrupt() {
                        return Some(Next::End(Outcome::Interrupted));
                    }
                    self.look(places, looks);
                }
            }
        }
    }

    /// It was woken, and another thread has taken the descriptor.
    fn wait_on(&mut self, places: &Places) {
        self.tried = false;
        LINE.stolen.store(true, Ordering::Relaxed);
        LINE.queue.wait_on(places, self.ticket);
        expect_closes();
        self.let_closers_go(places);
    }

    fn let_closers_go(&self, places: &Places) {
        if LINE.closers.load(Ordering::SeqCst) != 0 {
            sys::futex_wake(LINE.queue.futex(places, self.ticket), i32::MAX);
        }
    }

    /// Nanoseconds until the thread that looks after all has something to do.
    fn until_look(&self, now: u64) -> u64 {
        let progress = LINE.progress.load(Ordering::Relaxed);
        let soon = progress.saturating_add(DEADLOCK);
        let next = if soon > now { soon } else { progress.saturating_add(self.patience) };
        next.saturating_sub(now).clamp(SECOND / 1000, LONGEST_SLEEP)
    }

    /// What the thread that looks after all does, when it has slept.
    fn look(&self, places: &Places, looks: bool) {
        let now = sys::now();
        if !looks {
            if now.saturating_sub(LINE.looked.load(Ordering::Relaxed)) > CHECK {
                LINE.queue.take_over_looks(self.ticket);
            }
            return;
        }
        let since = now.saturating_sub(LINE.looked.swap(now, Ordering::Relaxed));
        if since >= STOPPED {
            // All threads stood still: that nobody has closed anything meanwhile says nothing.
            LINE.progress.store(now, Ordering::Relaxed);
        }
        let closes = page::closes(true);
        if LINE.closes.swap(closes, Ordering::Relaxed) != closes {
            progressed(now);
        }
        if since >= LONGEST_SLEEP / 2 {
            LINE.queue.sweep(places, now);
            if !self.is_process_limit || usage::has_free_number() {
                LINE.queue.wake(places, 0, wake_place);
                return;
            }
        }
        self.refuse_if_in_vain(places, now);
    }

    /// If no close was seen for as long as one may be waited for, or none can come: one thread gets its error. It may close what it holds
    /// then.
    fn refuse_if_in_vain(&self, places: &Places, now: u64) {
        let without = now.saturating_sub(LINE.progress.load(Ordering::Relaxed));
        let refused = LINE.refused.load(Ordering::Relaxed);
        // Threads that could close something: those that don't sleep here or for lack of a descriptor in accept(2).
        let awake = || thread::count().saturating_sub(LINE.queue.waiting(places) + IN_ACCEPT.count());
        let is_deadlock =
            without >= DEADLOCK && (refused || awake() == 0) || without >= LOOPS_ASLEEP && awake() <= IN_LOOPS.count();
        let patience = if is_deadlock { u64::MAX - 1 } else { without };
        if !LINE.queue.refuse_last(places, patience, wake_place) {
            return;
        }
        LINE.progress.store(now, Ordering::Relaxed);
        LINE.refused.store(true, Ordering::Relaxed);
        evidence::in_vain(without);
        if !refused {
            breaker::unasked().trip();
        }
    }

    pub fn leave(&self, succeeded: bool) {
        let Some(places) = LINE.places.get() else { return };
        LINE.queue.hand_looks_on(places, self.ticket, wake_place);
        if LINE.queue.leave(places, self.ticket, succeeded && self.tried) {
            wake_first(self.ticket);
        }
        if LINE.queue.is_empty() {
            LINE.stolen.store(false, Ordering::Relaxed);
        }
        self.let_closers_go(places);
    }
}

/// Waits until the threads that were woken have made their calls: else the caller, which may open the next file at once, would have a
/// descriptor that one of them was woken for, and threads that wait would go without. Only after that has happened; not in an event loop.
pub fn hand_over() {
    if !LINE.stolen.load(Ordering::Relaxed) || thread::is_event_loop() {
        return;
    }
    let Some(places) = LINE.places.get() else { return };
    let end = sys::now().saturating_add(HAND_OVER);
    LINE.closers.fetch_add(1, Ordering::SeqCst);
    while let Some((ticket, word)) = LINE.queue.first_trying(places) {
        let left = end.saturating_sub(sys::now());
        if left == 0 || sys::futex_wait(LINE.queue.futex(places, ticket), word, left) == Err(libc::EINTR) {
            break;
        }
    }
    LINE.closers.fetch_sub(1, Ordering::SeqCst);
}

/// Descriptors have come free, or the first thread begins to wait.
fn progressed(now: u64) {
    LINE.progress.store(now, Ordering::Relaxed);
    LINE.refused.store(false, Ordering::Relaxed);
}

/// Wakes all threads that wait: many descriptors have come free.
pub fn wake_all() {
    if LINE.queue.is_empty() {
        return;
    }
    progressed(sys::now());
    let mut after = 0;
    while let Some(woken) = wake_first(after) {
        after = woken;
    }
}

/// In the child of a fork: nobody waits.
pub fn forked() {
    LINE.queue.forked();
    LINE.stolen.store(false, Ordering::Relaxed);
    LINE.closers.store(0, Ordering::Relaxed);
}
