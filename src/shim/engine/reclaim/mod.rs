//! Reclaiming: what can be freed when no descriptor is free, in steps, the cheapest first.
//!
//! One thread at a time has its turn to reclaim. When eight Python threads collected garbage at once, 4,000 of 16,000 opens succeeded;
//! one after the other, all did (DESIGN.md). The others wait until that thread has ended its turn, for a second at most, and then try
//! their calls again.

pub mod callbacks;
mod caller;
pub mod collect;
mod functions;
mod guile;
pub mod idle;
mod jvm;
pub mod lifetime;
pub mod limit;
pub mod limit_for_exec;
mod loaded;
mod php;
mod python;
mod ruby;
pub mod tables;

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tideover_contract::collection::Skip;
use tideover_contract::page::Outcome;
use tideover_contract::settings::SECOND;

use self::collect::Collection;
use crate::arch;
use crate::engine::call::Role;
use crate::engine::{reserve, wait};
use crate::os::barrier::barrier;
use crate::os::lossy_lock::{LossyLock, Lost, Taken};
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

/// The call that failed for lack of a descriptor, and for which something is to be freed.
pub struct FailedCall {
    /// Its name, as in its man page.
    pub name: &'static str,
    /// EMFILE or ENFILE.
    pub errno: i32,
    /// What the call is in its language runtime.
    pub role: Role,
    /// May it block, and so wait for another thread? Not in an event loop, nor if the program asked for a non-blocking descriptor.
    pub may_block: bool,
    /// May garbage be collected for it?
    pub collects: bool,
    /// Stack pointer of its thread when it failed.
    pub stack_pointer: usize,
}

/// What one reclaim step has freed.
#[allow(clippy::large_enum_variant, reason = "nothing is allocated here, and it is moved once")]
pub enum Gain {
    /// One descriptor or more.
    Freed,
    /// None.
    Nothing,
    /// None yet: the program is about to close some.
    Later,
    /// The step can't be run for this call, but perhaps for another.
    NotForThisCall,
    /// This collection is still to be run. It runs code of the program's that may end the thread, so [`crate::engine::attempt`] runs it
    /// where nothing needs cleaning up.
    Collection(Collection),
}

/// A reclaim step.
struct Step {
    /// The outcome of a call that succeeds after it.
    outcome: Outcome,
    /// Can it help against ENFILE, too?
    for_enfile: bool,
    /// Frees something.
    run: fn(&FailedCall) -> Gain,
    /// When it may run again, nanoseconds of CLOCK_MONOTONIC.
    due: AtomicU64,
    /// How often in a row it has freed nothing.
    failures: AtomicU32,
}

impl Step {
    const fn new(outcome: Outcome, for_enfile: bool, run: fn(&FailedCall) -> Gain) -> Step {
        Step { outcome, for_enfile, run, due: AtomicU64::new(0), failures: AtomicU32::new(0) }
    }
}

/// The steps in the order in which they run, cheapest first.
static STEPS: [Step; 5] = [
    Step::new(Outcome::Raised, false, limit::raise),
    Step::new(Outcome::Reclaimed, true, callbacks::run),
    Step::new(Outcome::Reclaimed, true, collect::consider),
    Step::new(Outcome::Reclaimed, true, idle::run),
    Step::new(Outcome::Reclaimed, true, lifetime::run),
];
/// Index of the step that collects garbage. [`collection_ended`] goes on after it.
const COLLECT: usize = 2;

/// A step that freed nothing is not run again for so many nanoseconds, or for [`PAUSE_FACTOR`] times as long as it took: a program that
/// lives at its limit must not spend its time reclaiming. Each further failure in a row doubles that, up to [`LONG_PAUSE`] or four times
/// the first pause, whichever is longer.
const PAUSE: u64 = SECOND / 20;
/// See [`PAUSE`].
const PAUSE_FACTOR: u64 = 20;
/// See [`PAUSE`], nanoseconds.
const LONG_PAUSE: u64 = 2 * SECOND;
/// How long a call that may block waits until another thread's turn ends, nanoseconds.
const OTHERS_TURN: u64 = SECOND;
/// How long a call that should not block waits for that, nanoseconds.
const MOMENT: u64 = SECOND / 200;
/// After so many nanoseconds a thread that still has its turn is taken for lost: it may have left a step by longjmp(3).
const LOST: u64 = 10 * SECOND;

/// Which thread reclaims.
struct Reclaiming {
    /// Held by the thread whose turn it is. It runs the program's own code, which may end the thread.
    turn: LossyLock,
    /// Stack pointer of that thread when its call failed or its collection began: calls made from within a step have a lower one.
    stack_pointer: AtomicUsize,
    /// Counts turns that ended; threads that wait for that sleep on it, by futex(2).
    ends: AtomicU32,
    /// Collections that threads without the turn have begun since the last collection in a turn.
    without_turn: AtomicU32,
}

static RECLAIMING: Reclaiming = Reclaiming {
    turn: LossyLock::new(Lost::After(LOST)),
    stack_pointer: AtomicUsize::new(0),
    ends: AtomicU32::new(0),
    without_turn: AtomicU32::new(0),
};

/// Slack in bytes when the stack pointers of two hooks are compared: hooks differ in the size of their frames.
const FRAMES: usize = 256;

/// What reclaiming has brought for a call.
#[allow(clippy::large_enum_variant, reason = "nothing is allocated here, and it is moved once")]
pub enum Reclaimed {
    /// Something was freed: try the call again. If it succeeds, this is its outcome.
    Freed(Outcome),
    /// Another thread has reclaimed meanwhile: try the call again.
    ByAnother,
    /// Run this collection, and then call [`collection_ended`]. The thread keeps its turn meanwhile.
    Collect(Collection),
    /// Nothing can be freed.
    Nothing,
}

/// Is the calling thread in the middle of reclaiming? Then the call with this stack pointer was made by a reclaim step, or by a signal
/// handler that interrupted one.
pub fn is_reclaiming(stack_pointer: usize) -> bool {
    thread::is_collecting() || (has_turn() && !has_left_by_longjmp(stack_pointer))
}

fn has_turn() -> bool {
    RECLAIMING.turn.is_mine()
}

/// For the thread that has the turn: has it left its reclaim step by longjmp(3)? It has if it now calls from an outer frame, or after a
/// long time. Then its turn ends.
fn has_left_by_longjmp(stack_pointer: usize) -> bool {
    // A signal handler's own stack may lie anywhere.
    let is_outer = stack_pointer + FRAMES > RECLAIMING.stack_pointer.load(Relaxed) && sys::alternate_stack().is_none();
    let has_left = is_outer || RECLAIMING.turn.held_for(sys::now()) > LOST;
    if has_left {
        abandon_turn();
    }
    has_left
}

/// Ends the calling thread's turn, if it has it, and its loan of the reserve.
fn abandon_turn() {
    reserve::abandoned(sys::gettid());
    end_turn();
}

/// The calling thread ends, perhaps in the middle of a collection: an interpreter may end it there.
#[cold]
#[inline(never)]
pub extern "C" fn thread_ends() {
    barrier((), || {
        thread::set_collecting(false);
        if process::phase() != Phase::Sandboxed {
            abandon_turn();
        }
    });
}

/// Runs the steps that are due until one frees something.
pub fn run(call: &FailedCall) -> Reclaimed {
    let now = sys::now();
    if STEPS.iter().all(|step| !step.is_due(call, now)) {
        return Reclaimed::Nothing;
    }
    if !take_turn(now, call.stack_pointer) {
        // The thread that has the turn may wait for something that this thread holds.
        return match call.role {
            Role::Usual => {
                wait_for_end_of_turn(if call.may_block { OTHERS_TURN } else { MOMENT });
                Reclaimed::ByAnother
            }
            Role::Locking => collect_without_turn(call, now),
            Role::Internal | Role::Finalizing => Reclaimed::Nothing,
        };
    }
    run_from(0, call, now)
}

/// For the thread that has the turn: runs the steps from this index on, and ends the turn, unless a collection is to be run.
fn run_from(first: usize, call: &FailedCall, now: u64) -> Reclaimed {
    let mut reclaimed = Reclaimed::Nothing;
    for step in STEPS.iter().skip(first).filter(|step| step.is_due(call, now)) {
        let begun = sys::now();
        match (step.run)(call) {
            Gain::Freed => {
                step.has_helped();
                reclaimed = Reclaimed::Freed(step.outcome);
                break;
            }
            Gain::Nothing => step.has_failed(sys::now() - begun),
            Gain::Later => step.due.store(sys::now() + PAUSE, Relaxed),
            Gain::NotForThisCall => {}
            Gain::Collection(collection) => return Reclaimed::Collect(collection),
        }
    }
    end_turn();
    if matches!(reclaimed, Reclaimed::Freed(_)) {
        wait::wake_all();
    }
    reclaimed
}

/// Waits until the turn of another thread ends, at most for so many nanoseconds.
fn wait_for_end_of_turn(longest: u64) {
    let ends = RECLAIMING.ends.load(Relaxed);
    if RECLAIMING.turn.is_taken() {
        let _ = sys::futex_wait(&RECLAIMING.ends, ends, longest);
    }
}

/// For a thread that holds its interpreter's lock, while another has the turn: that one may be waiting for the lock, so this thread
/// must not wait for it, but may collect. The lock sees to it that there is one collection at a time.
fn collect_without_turn(call: &FailedCall, now: u64) -> Reclaimed {
    if !STEPS[COLLECT].is_due(call, now) {
        return Reclaimed::Nothing;
    }
    match collect::consider(call) {
        Gain::Collection(collection) => {
            RECLAIMING.without_turn.fetch_add(1, Relaxed);
            Reclaimed::Collect(collection)
        }
        _ => Reclaimed::Nothing,
    }
}

/// The calling thread is about to run a collection: what calls from within has a lower stack pointer than its own here.
#[inline(always)]
pub fn collection_begins() {
    if has_turn() {
        RECLAIMING.stack_pointer.store(arch::stack_pointer(), Relaxed);
    } else {
        thread::set_collecting(true);
    }
}

/// The collection that the calling thread ran has returned, or was skipped for a reason.
pub fn collection_ended(collection: Collection, skipped: Option<Skip>, call: &FailedCall) -> Reclaimed {
    thread::set_collecting(false);
    let step = &STEPS[COLLECT];
    let begun = collection.begun();
    let freed = collection.end(skipped, call);
    // Of two collections at once, one may get the credit for what the other has freed: that this one has failed is certain only if it
    // was alone.
    let in_turn = has_turn();
    let was_alone = in_turn && RECLAIMING.without_turn.swap(0, Relaxed) == 0;
    if freed == 0 {
        let now = sys::now();
        if was_alone {
            step.has_failed(now - begun);
        }
        return if in_turn { run_from(COLLECT + 1, call, now) } else { Reclaimed::Nothing };
    }
    step.has_helped();
    end_turn();
    wait::wake_all();
    Reclaimed::Freed(step.outcome)
}

impl Step {
    fn has_helped(&self) {
        self.failures.store(0, Relaxed);
    }

    /// It has freed nothing in so many nanoseconds: it is not run again for a while, see [`PAUSE`].
    fn has_failed(&self, took: u64) {
        let first = PAUSE.max(PAUSE_FACTOR * took);
        let doubled = first.saturating_mul(1 << self.failures.fetch_add(1, Relaxed).min(20));
        self.due.store(sys::now() + doubled.min(LONG_PAUSE.max(4 * first)), Relaxed);
    }

    fn is_due(&self, call: &FailedCall, now: u64) -> bool {
        (self.for_enfile || call.errno == libc::EMFILE) && now >= self.due.load(Relaxed)
    }
}

/// All steps may run at once: something has changed that may let them free something (a function was registered, the limit was set).
pub fn make_all_due() {
    for step in &STEPS {
        step.due.store(0, Relaxed);
        step.has_helped();
    }
}

/// Takes the turn, if no other thread has it or that thread is lost.
fn take_turn(now: u64, stack_pointer: usize) -> bool {
    match RECLAIMING.turn.take(now) {
        Taken::No => return false,
        Taken::Yes => {}
        Taken::From(lost) => reserve::abandoned(lost),
    }
    RECLAIMING.stack_pointer.store(stack_pointer, Relaxed);
    true
}

/// Ends the calling thread's turn, if it has it, and wakes the threads that wait for that.
fn end_turn() {
    if RECLAIMING.turn.release() {
        RECLAIMING.ends.fetch_add(1, Relaxed);
        let _ = sys::futex_wake(&RECLAIMING.ends, i32::MAX);
    }
}

/// Before a fork, in the parent.
pub fn before_fork() {
    collect::before_fork();
}

/// In the child of a fork: another thread that had the turn does not exist here.
pub fn forked() {
    RECLAIMING.turn.forked();
    callbacks::forked();
    loaded::forked();
    limit::forked();
    collect::forked();
}

/// Counts in the page that something was reclaimed, and how many descriptors that freed.
fn count(freed: u64) {
    page::add(&page::counters().reclaims, 1);
    page::add(&page::counters().reclaimed, freed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_has_the_turn_and_a_lost_one_loses_it() {
        let now = sys::now();
        assert!(take_turn(now, usize::MAX));
        assert!(has_turn());
        let other = std::thread::spawn(move || {
            (take_turn(now, usize::MAX), has_turn(), take_turn(now + 2 * LOST, usize::MAX), has_turn())
        });
        assert_eq!(other.join().unwrap(), (false, false, true, true));
        end_turn();
        assert!(RECLAIMING.turn.is_taken(), "the thread that was taken for lost must not free what another one holds");
    }
}
