//! The queue of threads that wait for a descriptor: first come, first served.
//!
//! A ring of places, one a waiting thread, in the order of their tickets. A thread that closes a descriptor wakes the first place that
//! waits; each thread sleeps on the word of its own place, so that a sleeping thread costs nothing and keeps its turn while it sleeps.
//! A thread that was woken, and finds that another one has taken the descriptor, waits on at its old place.
//!
//! A thread may never come back to its place: it was cancelled, or a signal handler left by longjmp(3). A wake that goes to such a place
//! is lost, until a thread that looks ([`Queue::sweep`]) finds that the place is past its time.
//!
//! Nothing here but atomics and the caller's two futex operations, so that a loom test (tests/) runs this file in each order that the
//! memory model allows.

#![forbid(unsafe_code)]

use crate::os::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// How a place's thread is, the two lowest bits of its word. Above them is one bit that changes when the thread is to look at the queue
/// anew, then the ticket.
mod state {
    /// It has left, or nobody has come yet.
    pub const LEFT: u32 = 0;
    /// It sleeps, or is about to.
    pub const WAITING: u32 = 1;
    /// It was woken, and makes its call.
    pub const WOKEN: u32 = 2;
    /// It is to fail.
    pub const REFUSED: u32 = 3;
    pub const MASK: u32 = 3;
    pub const NUDGE: u32 = 4;
    pub const TICKET: u32 = 3;
}

/// One waiting thread.
pub struct Place {
    /// See [`state`]. Its thread sleeps on this, by futex(2).
    word: AtomicU32,
    /// For how long it waits without seeing a close, nanoseconds; u64::MAX: it is not refused, since the user or the program has asked it to wait.
    patience: AtomicU64,
    /// When it leaves at the latest, nanoseconds of CLOCK_MONOTONIC.
    until: AtomicU64,
}

/// The queue. Tickets count from 1; those in first..next are in the queue.
pub struct Queue {
    first: AtomicU64,
    next: AtomicU64,
    /// Ticket of the thread that looks after all, or 0.
    looks: AtomicU64,
}

/// What a waiting thread is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// Sleep, while its word has this value.
    Sleep(u32),
    /// Make its call.
    Try,
    /// Fail.
    Fail,
}

fn word_of(ticket: u64, state: u32) -> u32 {
    (ticket as u32) << state::TICKET | state
}

fn is(word: u32, ticket: u64, state: u32) -> bool {
    word & !state::NUDGE == word_of(ticket, state)
}

#[cfg(test)]
impl Place {
    /// Nobody has come yet.
    pub fn new() -> Place {
        Place { word: AtomicU32::new(0), patience: AtomicU64::new(0), until: AtomicU64::new(0) }
    }
}

impl Queue {
    /// Nobody waits.
    pub const fn new() -> Queue {
        Queue { first: AtomicU64::new(1), next: AtomicU64::new(1), looks: AtomicU64::new(0) }
    }

    fn place<'a>(&self, places: &'a [Place], ticket: u64) -> &'a Place {
        &places[(ticket % places.len() as u64) as usize]
    }

    /// Takes a place at the end; its ticket, or None if there is no room. From here on no close is missed, if the caller makes its call
    /// once more before it sleeps.
    pub fn enter(&self, places: &[Place], until: u64, patience: u64) -> Option<u64> {
        loop {
            self.advance(places);
            let ticket = self.next.load(SeqCst);
            if ticket - self.first.load(SeqCst) >= places.len() as u64 {
                return None;
            }
            if self.next.compare_exchange(ticket, ticket + 1, SeqCst, Relaxed).is_ok() {
                let place = self.place(places, ticket);
                place.patience.store(patience, Relaxed);
                place.until.store(until, Relaxed);
                place.word.store(word_of(ticket, state::WAITING), SeqCst);
                return Some(ticket);
            }
        }
    }

    /// Its thread was woken, has made its call in vain, and waits on. It is to make its call once more before it sleeps.
    pub fn wait_on(&self, places: &[Place], ticket: u64) {
        self.place(places, ticket).word.store(word_of(ticket, state::WAITING), SeqCst);
    }

    /// What the thread of this place is to do now.
    pub fn read(&self, places: &[Place], ticket: u64) -> Word {
        let word = self.place(places, ticket).word.load(SeqCst);
        match word & state::MASK {
            state::WOKEN => Word::Try,
            state::REFUSED => Word::Fail,
            _ => Word::Sleep(word),
        }
    }

    /// The word that the thread of this place sleeps on.
    pub fn futex<'a>(&self, places: &'a [Place], ticket: u64) -> &'a AtomicU32 {
        &self.place(places, ticket).word
    }

    /// Leaves the queue. True: it was woken meanwhile, and must pass that on.
    pub fn leave(&self, places: &[Place], ticket: u64, uses_wakeup: bool) -> bool {
        let before = self.place(places, ticket).word.swap(word_of(ticket, state::LEFT), SeqCst);
        self.advance(places);
        before & state::MASK == state::WOKEN && !uses_wakeup
    }

    /// Moves `first` past places that were left.
    fn advance(&self, places: &[Place]) {
        loop {
            let first = self.first.load(SeqCst);
            let left =
                first < self.next.load(SeqCst) && is(self.place(places, first).word.load(SeqCst), first, state::LEFT);
            if !left {
                return;
            }
            let _ = self.first.compare_exchange(first, first + 1, SeqCst, Relaxed);
        }
    }

    /// Wakes the first thread that waits, behind the place `after` if that is not 0. Its ticket; None: nobody waits.
    pub fn wake(&self, places: &[Place], after: u64, wake: impl Fn(&AtomicU32)) -> Option<u64> {
        let (first, next) = (self.first.load(SeqCst), self.next.load(SeqCst));
        for ticket in first.max(after + 1)..next {
            let place = self.place(places, ticket);
            let word = place.word.load(SeqCst);
            let woken = word_of(ticket, state::WOKEN);
            if is(word, ticket, state::WAITING) {
                if place.word.compare_exchange(word, woken, SeqCst, Relaxed).is_ok() {
                    wake(&place.word);
                    return Some(ticket);
                }
                // Nudged meanwhile, or it has left.
                let word = place.word.load(SeqCst);
                if is(word, ticket, state::WAITING) && place.word.compare_exchange(word, woken, SeqCst, Relaxed).is_ok()
                {
                    wake(&place.word);
                    return Some(ticket);
                }
            }
        }
        None
    }

    /// The first place that was woken and whose thread has not made its call yet, and the word to sleep on until it has.
    pub fn first_trying(&self, places: &[Place]) -> Option<(u64, u32)> {
        (self.first.load(SeqCst)..self.next.load(SeqCst)).find_map(|ticket| {
            let word = self.place(places, ticket).word.load(SeqCst);
            is(word, ticket, state::WOKEN).then_some((ticket, word))
        })
    }

    /// How many threads wait.
    pub fn waiting(&self, places: &[Place]) -> u64 {
        let waits = |&ticket: &u64| is(self.place(places, ticket).word.load(Relaxed), ticket, state::WAITING);
        (self.first.load(SeqCst)..self.next.load(SeqCst)).filter(waits).count() as u64
    }

    /// Is anybody in the queue? Two loads.
    pub fn is_empty(&self) -> bool {
        self.first.load(Relaxed) == self.next.load(Relaxed)
    }

    /// Makes the thread fail that came last, of those whose patience is no longer than this. False: there is none.
    pub fn refuse_last(&self, places: &[Place], patience: u64, wake: impl Fn(&AtomicU32)) -> bool {
        (self.first.load(SeqCst)..self.next.load(SeqCst)).rev().any(|ticket| {
            let place = self.place(places, ticket);
            let word = place.word.load(SeqCst);
            let refused = is(word, ticket, state::WAITING)
                && place.patience.load(Relaxed) <= patience
                && place.word.compare_exchange(word, word_of(ticket, state::REFUSED), SeqCst, Relaxed).is_ok();
            if refused {
                wake(&place.word);
            }
            refused
        })
    }

    /// Frees places whose threads should have left before `now`: they do not come back.
    pub fn sweep(&self, places: &[Place], now: u64) {
        for ticket in self.first.load(SeqCst)..self.next.load(SeqCst) {
            let place = self.place(places, ticket);
            let word = place.word.load(SeqCst);
            let is_its = word >> state::TICKET == ticket as u32 & u32::MAX >> state::TICKET;
            if is_its && word & state::MASK != state::LEFT && place.until.load(Relaxed) < now {
                let _ = place.word.compare_exchange(word, word_of(ticket, state::LEFT), SeqCst, Relaxed);
            }
        }
        self.advance(places);
    }

    /// Does the thread of this place look after all? It becomes the one that does, if nobody does.
    pub fn looks(&self, ticket: u64) -> bool {
        self.looks.load(SeqCst) == ticket || self.looks.compare_exchange(0, ticket, SeqCst, Relaxed).is_ok()
    }

    /// Takes over from a thread that has not looked for long.
    pub fn take_over_looks(&self, ticket: u64) {
        self.looks.store(ticket, SeqCst);
    }

    /// The thread of this place does not look any more: the one that came last does, since its turn is furthest away.
    pub fn hand_looks_on(&self, places: &[Place], ticket: u64, wake: impl Fn(&AtomicU32)) {
        if self.looks.compare_exchange(ticket, 0, SeqCst, Relaxed).is_err() {
            return;
        }
        for other in (self.first.load(SeqCst)..self.next.load(SeqCst)).rev() {
            let place = self.place(places, other);
            let word = place.word.load(SeqCst);
            let waits = other != ticket && is(word, other, state::WAITING);
            if waits && place.word.compare_exchange(word, word ^ state::NUDGE, SeqCst, Relaxed).is_ok() {
                // It finds nobody looking when it wakes.
                wake(&place.word);
                return;
            }
        }
    }

    /// In the child of a fork: nobody waits.
    pub fn forked(&self) {
        let next = self.next.load(Relaxed);
        self.first.store(next, Relaxed);
        self.looks.store(0, Relaxed);
    }
}
