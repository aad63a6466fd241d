//! What is tried for a failed call, in which order.
//!
//! A hook whose real call failed for lack of something passes it to [`retry_for`], which alternates between [`Attempt::next_move`] and
//! the real call. All decisions are made in `next_move`; when nothing helps, the original error stands. While the real call is made
//! the library holds nothing, so that a thread that is cancelled in it has nothing to clean up.

use core::ffi::{c_int, c_void};
use core::sync::atomic::Ordering::Relaxed;

use tideover_contract::collection::Skip;
use tideover_contract::page::{EventKind, Outcome};

use crate::arch;
use crate::engine::backoff::Backoff;
use crate::engine::call::{Call, Instead, Lack, Role, Tried, Try, is_exhaustion};
use crate::engine::line::Next;
use crate::engine::may_begin::may_begin;
use crate::engine::messages::{self, GaveUp};
use crate::engine::other_limit::{self, OtherLimit};
use crate::engine::reclaim::collect::{self, Collection};
use crate::engine::reclaim::{self, FailedCall, Reclaimed};
use crate::engine::wait::{self, Candidate, NoWait, Waiting};
use crate::engine::{breaker, demand, evidence, reserve};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::events::{self, Event};
use crate::state::process::{self, Phase};
use crate::state::{control, page, thread};

/// How often something is freed for one call, before it waits. If the call still fails, other threads take what is freed.
const MAX_RECLAIMS: u32 = 16;
/// Waiting until another thread has freed something counts like so many: a call does so twice at most.
const RECLAIMS_BY_ANOTHER: u32 = MAX_RECLAIMS / 2;

/// May this call wait? Asked once, when there is nothing more to free.
#[derive(Clone, Copy)]
enum MayWait {
    NotAsked,
    Yes,
    No(NoWait),
}

/// Has a call reached another limit than that on descriptors? Asked twice, with a try between.
#[derive(Clone, Copy)]
enum Other {
    /// Not asked yet.
    NotAsked,
    /// It seems so.
    Suspected,
    /// It has not.
    No,
    /// It has reached this one.
    Is(&'static OtherLimit),
}

/// A failed call, and what has been tried for it.
struct Attempt {
    call: Call,
    lack: Lack,
    /// errno of its first failure.
    errno: c_int,
    /// Stack pointer of the thread in [`retry_for`].
    stack_pointer: usize,
    /// When it began, nanoseconds of CLOCK_MONOTONIC.
    begun: u64,
    /// How often the real call has been made again.
    tries: u32,
    /// How often something has been freed or looked for; from [`MAX_RECLAIMS`] on nothing is.
    reclaims: u32,
    /// The outcome if the next try succeeds.
    outcome: Outcome,
    may_wait: MayWait,
    waiting: Waiting,
    /// Has it reached another limit than that on descriptors?
    other: Other,
    /// The call has waited.
    has_waited: bool,
    /// It waits because the user or the program has asked for that, or for what other processes close.
    asked: bool,
    /// For accept(2): what is done with its client. Asked once, when there is nothing more to free.
    instead: Option<Instead>,
    /// What the call is in its language runtime.
    role: Role,
    /// A garbage collection that is to be run, or under way.
    collection: Option<Collection>,
    /// What the last collection has freed, until [`Attempt::free`] has taken note of it.
    collected: Option<Reclaimed>,
    /// The reserve has been released for this call.
    has_released_reserve: bool,
}

/// What [`retry_for`] does next.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
enum Move {
    /// It makes the real call.
    Try,
    /// It runs a garbage collection, see [`Attempt::collect`].
    Collect,
    /// It returns.
    End,
}

/// Makes a call again that failed with `failure` (an errno) for lack of something, each time after something was freed or a wait.
/// True: the answer of the last try stands, a success or another error. False: nothing helped, the first answer stands, and errno is
/// what it was, or EAGAIN for an accept(2) whose client waits.
///
/// # Safety
/// Until this returns, `again` may be called with `context` any number of times, by the calling thread.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub unsafe extern "C" fn retry_for(lack: Lack, call: Call, failure: c_int, again: Try, context: *mut c_void) -> bool {
    let saved = sys::errno();
    if let Some(mut attempt) = Attempt::begin(lack, call, failure, arch::stack_pointer()) {
        loop {
            match attempt.next_move() {
                Move::Try => {}
                Move::Collect => {
                    attempt.collect();
                    continue;
                }
                Move::End => break,
            }
            // SAFETY: the caller of this function promises that `again` may be called with `context`, here and now.
            let tried = unsafe { again(context) };
            if tried.errno != failure && !(lack == Lack::Descriptor && is_exhaustion(tried.errno)) {
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
    /// For a call that failed with `errno`. None: nothing may be done for it.
    #[cold]
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn begin(lack: Lack, call: Call, errno: c_int, stack_pointer: usize) -> Option<Attempt> {
        barrier(None, || may_begin(lack, errno, stack_pointer).then(|| Attempt::new(lack, call, errno, stack_pointer)))
    }

    fn new(lack: Lack, call: Call, errno: c_int, stack_pointer: usize) -> Attempt {
        Attempt {
            call,
            lack,
            errno,
            stack_pointer,
            begun: sys::now(),
            tries: 0,
            reclaims: if lack == Lack::Descriptor { 0 } else { MAX_RECLAIMS },
            outcome: Outcome::Waited,
            may_wait: MayWait::NotAsked,
            waiting: Waiting::new(call.backoff.unwrap_or_else(Backoff::from_settings), call.needs_several),
            other: Other::NotAsked,
            has_waited: false,
            asked: false,
            instead: None,
            role: collect::role(),
            collection: None,
            collected: None,
            has_released_reserve: false,
        }
    }

    /// Frees something or sleeps, and says what is to be done then. After [`Move::End`] the attempt is over, counted and logged.
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

    /// Runs the collection that is due. It runs code of the program's that may end this thread by a forced unwind (Python does, when the
    /// interpreter ends meanwhile). So, like the real call, it is run without the panic barrier, and no frame of ours around it has
    /// anything to clean up.
    #[inline(always)]
    fn collect(&mut self) {
        if let Some(collection) = &self.collection {
            reclaim::collection_begins();
            let skipped = collection.run();
            self.collection_ended(skipped);
        }
    }

    #[cold]
    #[inline(never)]
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    extern "C" fn collection_ended(&mut self, skipped: Option<Skip>) {
        barrier((), || {
            if let Some(collection) = self.collection.take() {
                self.collected = Some(reclaim::collection_ended(collection, skipped, &self.failed_call()));
            }
        });
    }

    fn failed_call(&self) -> FailedCall {
        FailedCall {
            name: self.call.name,
            errno: self.errno,
            role: self.role,
            may_block: self.call.may_block && !thread::is_event_loop(),
            stack_pointer: self.stack_pointer,
            collects: self.call.collects,
        }
    }

    /// As [`Attempt::next_move`]. Err: the call fails, with this outcome.
    fn next(&mut self) -> Result<Move, Outcome> {
        if control::look() {
            return Err(Outcome::GaveUp);
        }
        if self.reached_other_limit()? {
            return Ok(Move::Try);
        }
        loop {
            if let Some(next) = self.free().or_else(|| self.release_reserve()) {
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

    /// Has the call reached another limit than that on descriptors? True: it seems so, and the call is to be made once more to be sure.
    fn reached_other_limit(&mut self) -> Result<bool, Outcome> {
        if matches!(self.other, Other::No) || self.lack != Lack::Descriptor || self.errno != libc::EMFILE {
            return Ok(false);
        }
        self.other = match (self.other, other_limit::of(self.call.name)) {
            (Other::NotAsked, Some(_)) => Other::Suspected,
            (Other::Suspected, Some(limit)) => Other::Is(limit),
            _ => Other::No,
        };
        match self.other {
            Other::Is(_) => Err(Outcome::Hopeless),
            Other::Suspected => Ok(true),
            _ => Ok(false),
        }
    }

    /// Frees something, by the cheapest way that there is. None: nothing can be freed.
    fn free(&mut self) -> Option<Move> {
        if self.reclaims >= MAX_RECLAIMS && self.collected.is_none() {
            return None;
        }
        self.reclaims += 1;
        let collected = self.collected.take();
        match collected.unwrap_or_else(|| reclaim::run(&self.failed_call())) {
            Reclaimed::Freed(outcome) => {
                self.outcome = outcome;
                Some(Move::Try)
            }
            Reclaimed::ByAnother => {
                self.reclaims += RECLAIMS_BY_ANOTHER;
                Some(Move::Try)
            }
            Reclaimed::Collect(collection) => {
                self.collection = Some(collection);
                Some(Move::Collect)
            }
            Reclaimed::Nothing => {
                self.reclaims = MAX_RECLAIMS;
                None
            }
        }
    }

    /// Closes the reserve for this call. None: it has, it must not, or there is none.
    fn release_reserve(&mut self) -> Option<Move> {
        let may = !self.has_released_reserve && self.lack == Lack::Descriptor && self.role != Role::Internal;
        if !may || !reserve::release() {
            return None;
        }
        self.has_released_reserve = true;
        self.outcome = Outcome::Reclaimed;
        Some(Move::Try)
    }

    /// For accept(2): is the call to be made again, now that its listener is parked?
    fn last_resort(&mut self) -> Result<bool, Outcome> {
        let Some(resort) = self.call.last_resort else { return Ok(false) };
        let instead = match self.instead {
            Some(instead) => Instead { again: false, ..instead },
            None => (resort.functions.decide)(resort.listener, self.errno),
        };
        self.instead = Some(instead);
        if !instead.again && (instead.quiet || instead.by_hook) {
            return Err(Outcome::Parked);
        }
        Ok(instead.again)
    }

    /// Sleeps until the call is worth another try. False: one wait is over, and what can be freed is to be freed again.
    fn wait(&mut self) -> Result<bool, Outcome> {
        if let MayWait::NotAsked = self.may_wait {
            if self.lack == Lack::Descriptor && self.errno == libc::EMFILE && self.call.last_resort.is_none() {
                demand::lacked(self.call.needs_several);
            }
            let candidate = Candidate {
                lack: self.lack,
                is_process_limit: self.errno == libc::EMFILE || self.lack.is_limit(),
                may_block: self.call.may_block,
                has_waits: self.waiting.has_any(),
                asked: self.call.backoff.is_some() || Backoff::is_set(),
                role: self.role,
            };
            self.may_wait = match wait::may_wait(&candidate) {
                Ok(patience) => {
                    self.asked = candidate.asked || !candidate.is_process_limit;
                    self.waiting.begin(&candidate, patience);
                    MayWait::Yes
                }
                Err(reason) => MayWait::No(reason),
            };
        }
        if let MayWait::No(reason) = self.may_wait {
            return Err(reason.outcome);
        }
        self.has_waited = true;
        self.outcome = Outcome::Waited;
        match self.waiting.advance() {
            Next::Try => {
                page::catch_up();
                Ok(true)
            }
            Next::StartOver => {
                if self.lack == Lack::Descriptor {
                    self.reclaims = 0;
                }
                Ok(false)
            }
            Next::End(outcome) => Err(outcome),
        }
    }

    /// A try succeeded, or failed for another reason: that is the answer of the call.
    #[cold]
    #[inline(never)]
    extern "C" fn ended(&mut self, tried: &Tried) {
        barrier((), || match tried.errno {
            0 => self.recovered(tried.descriptor),
            _ => self.emit(EventKind::Recovered, -1, self.end(false), Outcome::OtherError),
        });
    }

    fn recovered(&self, fd: c_int) {
        let waited = self.end(true);
        if let (Some(resort), Some(_)) = (self.call.last_resort, self.instead) {
            (resort.functions.succeeded)();
        }
        if self.lack == Lack::Descriptor {
            page::add(&page::counters().recovered, 1);
        }
        if self.has_waited {
            breaker::of(self.lack).succeeded();
            if self.lack == Lack::Descriptor {
                evidence::helped(waited);
            }
            messages::recovered(self.call.name, self.lack, self.errno, waited);
        }
        self.emit(EventKind::Recovered, fd, waited, self.outcome);
    }

    fn failed(&mut self, outcome: Outcome) {
        let waited = self.end(false);
        if let Other::Is(limit) = self.other {
            page::counters().emfile.fetch_sub(1, Relaxed);
            page::add(&page::counters().other_limits, 1);
            self.emit(EventKind::Exhausted, -1, waited, outcome);
            return messages::other_limit(self.call.name, limit);
        }
        if let (Some(resort), Some(Instead { paced: true, .. })) = (self.call.last_resort, self.instead) {
            (resort.functions.slow_down)(resort.listener);
        }
        let message = GaveUp {
            call: self.call.name,
            lack: self.lack,
            errno: self.errno,
            tried: self.tried(outcome),
            waited,
            parked: outcome == Outcome::Parked,
        };
        if outcome == Outcome::Parked {
            return message.log();
        }
        if self.lack == Lack::Descriptor {
            page::add(&page::counters().gave_up, 1);
        }
        if outcome == Outcome::GaveUp && (self.asked || self.lack != Lack::Descriptor) {
            breaker::of(self.lack).gave_up();
        }
        self.emit(EventKind::Exhausted, -1, waited, outcome);
        message.log();
    }

    /// What was tried, in words, for the message.
    fn tried(&self, outcome: Outcome) -> &'static str {
        match (self.may_wait, outcome, self.call.last_resort) {
            (MayWait::No(reason), ..) => reason.why,
            (_, Outcome::Interrupted, _) => "waited until a signal came",
            (_, Outcome::Parked, Some(resort)) => (resort.functions.describe)(),
            _ => "waited in vain",
        }
    }

    /// The last try is made. Returns the nanoseconds since the first failure.
    fn end(&self, succeeded: bool) -> u64 {
        if self.has_waited {
            self.waiting.end(succeeded);
        }
        wait::end();
        sys::now().saturating_sub(self.begun)
    }

    fn emit(&self, kind: EventKind, fd: c_int, waited: u64, outcome: Outcome) {
        events::emit(&Event { kind, call: self.call.name, errno: self.errno, fd, tries: self.tries, waited, outcome });
    }
}
