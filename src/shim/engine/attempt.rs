//! The second chance of a failed call.
//!
//! A hook that saw EMFILE or ENFILE hands its real call to [`retry_for`], which alternates between it and [`Attempt::next_move`]. The
//! real call is made with nothing of ours held, so that a cancellation in it finds nothing to clean up. `next_move` is where
//! everything is decided; it ends with the original error when nothing helps.

use core::ffi::{c_int, c_void};

use tideover_contract::collection::Skip;
use tideover_contract::page::{EventKind, Outcome};

use crate::arch;
use crate::engine::backoff::Backoff;
use crate::engine::call::{Call, Instead, Lack, Role, Tried, Try, is_exhaustion};
use crate::engine::reclaim::collect::{self, Collection};
use crate::engine::reclaim::{self, Climb, Pressure};
use crate::engine::told::{self, GaveUp};
use crate::engine::wait::{self, Candidate, Refusal, Step, Waiting};
use crate::engine::{breaker, reserve};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::events::{self, Event};
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

/// Something freed is followed by a try; more often than this in one attempt, others take what is freed.
const CLIMBS: u32 = 16;
/// What having waited for another thread's reclaiming counts: nobody waits for more than two.
const ELSEWHERE: u32 = CLIMBS / 2;

/// May this call sleep? Asked once, when there is nothing more to free.
#[derive(Clone, Copy)]
enum Sleep {
    NotAsked,
    Allowed,
    Refused(Refusal),
}

/// One failed call and what has been tried for it.
struct Attempt {
    call: Call,
    lack: Lack,
    errno: c_int,
    /// Where this thread's stack ended when it began.
    foot: usize,
    /// When it began, nanoseconds of CLOCK_MONOTONIC.
    begun: u64,
    /// Tries so far.
    tries: u32,
    /// How often something was freed, or looked for.
    climbs: u32,
    /// What a success would be due to now.
    due_to: Outcome,
    sleep: Sleep,
    waiting: Waiting,
    slept: bool,
    /// What accept(2) does instead of failing. Asked once, when there is nothing more to free.
    instead: Option<Instead>,
    /// What the call is in its runtime.
    role: Role,
    /// A garbage collection that is due, or under way.
    collection: Option<Collection>,
    /// How it went.
    climbed: Option<Climb>,
    /// The reserve was given up for it.
    gave_up_reserve: bool,
}

/// What [`retry_for`] does next.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
enum Move {
    /// The real call.
    Try,
    /// A garbage collection.
    Collect,
    /// Nothing more.
    End,
}

/// Makes a call again that failed with errno `wrong` for lack of something, after whatever helps. True: the last try's answer stands.
/// False: nothing helped, the first answer stands, and errno is as it was, or EAGAIN for an accept(2) whose client waits.
///
/// # Safety
/// `again` may be called with `context`.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn retry_for(lack: Lack, call: Call, wrong: c_int, again: Try, context: *mut c_void) -> bool {
    let saved = sys::errno();
    if let Some(mut attempt) = Attempt::begin(lack, call, wrong, arch::stack_pointer()) {
        loop {
            match attempt.next_move() {
                Move::Try => {}
                Move::Collect => {
                    attempt.collect();
                    continue;
                }
                Move::End => break,
            }
            // SAFETY: the caller of this function promises that `again` may be called with `context`.
            let tried = unsafe { again(context) };
            if tried.wrong != wrong && !(lack == Lack::Descriptor && is_exhaustion(tried.wrong)) {
                let kept = sys::errno();
                attempt.ended(&tried);
                sys::set_errno(kept);
                return true;
            }
        }
        if attempt.instead.is_some_and(|instead| instead.quiet) {
            sys::set_errno(libc::EAGAIN);
            return false;
        }
    }
    sys::set_errno(saved);
    false
}

impl Attempt {
    /// For a call that failed with `errno`. None: pass the error on.
    #[cold]
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn begin(lack: Lack, call: Call, errno: c_int, foot: usize) -> Option<Attempt> {
        barrier(None, || may_begin(lack, errno, foot).then(|| Attempt::new(lack, call, errno, foot)))
    }

    fn new(lack: Lack, call: Call, errno: c_int, foot: usize) -> Attempt {
        Attempt {
            call,
            lack,
            errno,
            foot,
            begun: sys::now(),
            tries: 0,
            climbs: if lack == Lack::Descriptor { 0 } else { CLIMBS },
            due_to: Outcome::Waited,
            sleep: Sleep::NotAsked,
            waiting: Waiting::new(call.backoff.unwrap_or_else(Backoff::from_settings), call.greedy),
            slept: false,
            instead: None,
            role: collect::role(),
            collection: None,
            climbed: None,
            gave_up_reserve: false,
        }
    }

    /// What is to be done next? Frees and sleeps as needed. After [`Move::End`] the attempt is over, counted and told.
    #[cold]
    #[inline(never)]
    extern "C" fn next_move(&mut self) -> Move {
        if process::phase() == Phase::Sandboxed {
            return Move::End;
        }
        barrier(Move::End, || match self.next() {
            Ok(next) => {
                self.tries += u32::from(next == Move::Try);
                next
            }
            Err(outcome) => {
                self.failed(outcome);
                Move::End
            }
        })
    }

    /// Runs the collection that is due. The program's code in it may end this thread by a forced unwind (Python does, when the
    /// interpreter ends meanwhile): like the real call, it is made with nothing of ours around it that needs cleaning up, and not
    /// behind the barrier.
    #[inline(always)]
    fn collect(&mut self) {
        if let Some(collection) = &self.collection {
            reclaim::collecting();
            let skipped = collection.run();
            self.collected(skipped);
        }
    }

    #[cold]
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn collected(&mut self, skipped: Option<Skip>) {
        barrier((), || {
            if let Some(collection) = self.collection.take() {
                self.climbed = Some(reclaim::collected(collection, skipped, &self.pressure()));
            }
        });
    }

    fn pressure(&self) -> Pressure {
        let patient = self.call.patient && !thread::is_event_loop();
        Pressure { call: self.call.name, errno: self.errno, role: self.role, patient, foot: self.foot }
    }

    fn next(&mut self) -> Result<Move, Outcome> {
        loop {
            if let Some(next) = self.free().or_else(|| self.give_up_reserve()) {
                return Ok(next);
            }
            if self.last_resort()? {
                return Ok(Move::Try);
            }
            if self.wait()? {
                return Ok(Move::Try);
            }
        }
    }

    /// Frees something, by the cheapest way that there is.
    fn free(&mut self) -> Option<Move> {
        if self.climbs >= CLIMBS && self.climbed.is_none() {
            return None;
        }
        self.climbs += 1;
        let climbed = self.climbed.take();
        match climbed.unwrap_or_else(|| reclaim::climb(&self.pressure())) {
            Climb::Freed(outcome) => {
                self.due_to = outcome;
                Some(Move::Try)
            }
            Climb::Elsewhere => {
                self.climbs += ELSEWHERE;
                Some(Move::Try)
            }
            Climb::Collect(collection) => {
                self.collection = Some(collection);
                Some(Move::Collect)
            }
            Climb::Nothing => {
                self.climbs = CLIMBS;
                None
            }
        }
    }

    fn give_up_reserve(&mut self) -> Option<Move> {
        if self.gave_up_reserve || self.lack != Lack::Descriptor || self.role == Role::Internal || !reserve::give_up() {
            return None;
        }
        self.gave_up_reserve = true;
        self.due_to = Outcome::Reclaimed;
        Some(Move::Try)
    }

    /// For accept(2): is it to be made again, now that its listener is parked?
    fn last_resort(&mut self) -> Result<bool, Outcome> {
        let Some(resort) = self.call.last_resort else { return Ok(false) };
        let instead = match self.instead {
            Some(instead) => Instead { again: false, ..instead },
            None => (resort.functions.decide)(resort.listener, self.errno),
        };
        self.instead = Some(instead);
        if !instead.again && (instead.quiet || instead.sheds) {
            return Err(Outcome::Parked);
        }
        Ok(instead.again)
    }

    /// Sleeps until the call is worth another try. False: everything is to be tried anew from the start.
    fn wait(&mut self) -> Result<bool, Outcome> {
        if let Sleep::NotAsked = self.sleep {
            let candidate = Candidate {
                within: self.errno == libc::EMFILE || self.lack.is_limit(),
                patient: self.call.patient,
                waits: self.waiting.has_any(),
                breaker: breaker::of(self.lack),
                role: self.role,
            };
            self.sleep = wait::refusal(&candidate).map_or(Sleep::Allowed, Sleep::Refused);
        }
        if let Sleep::Refused(refusal) = self.sleep {
            return Err(refusal.outcome);
        }
        self.slept = true;
        self.due_to = Outcome::Waited;
        match self.waiting.step() {
            Step::Try => {
                page::catch_up();
                Ok(true)
            }
            Step::StartOver => {
                if self.lack == Lack::Descriptor {
                    self.climbs = 0;
                }
                Ok(false)
            }
            Step::End(outcome) => Err(outcome),
        }
    }

    /// The retry succeeded, or failed for another reason, which is the true answer.
    #[cold]
    #[inline(never)]
    extern "C" fn ended(&mut self, tried: &Tried) {
        barrier((), || match tried.wrong {
            0 => self.recovered(tried.descriptor),
            _ => self.emit(EventKind::Recovered, -1, self.end(), Outcome::OtherError),
        });
    }

    fn recovered(&self, fd: c_int) {
        let waited = self.end();
        if let (Some(resort), Some(_)) = (self.call.last_resort, self.instead) {
            (resort.functions.succeeded)();
        }
        if self.lack == Lack::Descriptor {
            page::add(&page::counters().recovered, 1);
        }
        if self.slept {
            breaker::of(self.lack).succeeded();
            told::recovered(self.call.name, self.lack, self.errno, waited);
        }
        self.emit(EventKind::Recovered, fd, waited, self.due_to);
    }

    fn failed(&mut self, outcome: Outcome) {
        let waited = self.end();
        if let (Some(resort), Some(Instead { paced: true, .. })) = (self.call.last_resort, self.instead) {
            (resort.functions.slow_down)(resort.listener);
        }
        let told = GaveUp {
            call: self.call.name,
            lack: self.lack,
            errno: self.errno,
            tried: self.tried(outcome),
            waited,
            parked: outcome == Outcome::Parked,
        };
        if outcome == Outcome::Parked {
            return told.say();
        }
        if self.lack == Lack::Descriptor {
            page::add(&page::counters().gave_up, 1);
        }
        if outcome == Outcome::GaveUp {
            breaker::of(self.lack).gave_up();
        }
        self.emit(EventKind::Exhausted, -1, waited, outcome);
        told.say();
    }

    /// For the message: what was tried.
    fn tried(&self, outcome: Outcome) -> &'static str {
        match (self.sleep, outcome, self.call.last_resort) {
            (Sleep::Refused(refusal), ..) => refusal.why,
            (_, Outcome::Interrupted, _) => "waited until a signal came",
            (_, Outcome::Parked, Some(resort)) => (resort.functions.says)(),
            _ => "waited in vain",
        }
    }

    fn end(&self) -> u64 {
        if self.slept {
            wait::leave();
        }
        wait::over();
        sys::now().saturating_sub(self.begun)
    }

    fn emit(&self, kind: EventKind, fd: c_int, waited: u64, outcome: Outcome) {
        events::emit(&Event { kind, call: self.call.name, errno: self.errno, fd, tries: self.tries, waited, outcome });
    }
}

/// May anything be done for a call that lacks something? Counts the failure.
fn may_begin(lack: Lack, errno: c_int, foot: usize) -> bool {
    if matches!(process::phase(), Phase::Starting | Phase::Dormant | Phase::Sandboxed) {
        page::add(&page::counters().bypassed, 1);
        return false;
    }
    // Not ours: the memory is the parent's, so that not even a count may be made in it.
    if !process::is_ours() || thread::is_retrying(foot) {
        return false;
    }
    page::ensure();
    let counters = page::counters();
    if reclaim::is_climbing(foot) {
        page::add(&counters.bypassed, 1);
        return false;
    }
    let counter = match lack {
        Lack::Descriptor if errno == libc::EMFILE => &counters.emfile,
        Lack::Descriptor => &counters.enfile,
        Lack::Port => &counters.ports_exhausted,
        Lack::Connection | Lack::EndpointConnection => &counters.limited,
    };
    page::add(counter, 1);
    true
}
