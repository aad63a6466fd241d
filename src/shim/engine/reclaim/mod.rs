//! The ladder: what can be freed when there is no descriptor, one rung after the other, one thread at a time.
//!
//! Single-flight: without it, eight Python threads that collected garbage at once got 4,000 of 16,000 opens, with it all
//! 16,000 (DESIGN.md). Others wait for the thread on the ladder, bounded, and then simply try again.

pub mod callbacks;
mod caller;
pub mod collect;
mod functions;
mod guile;
pub mod idle;
mod jvm;
pub mod limit;
mod loaded;
mod php;
mod python;
mod ruby;

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
use crate::state::{page, thread};

/// What is needed, and what for.
pub struct Pressure {
    /// Name of the call.
    pub call: &'static str,
    /// EMFILE or ENFILE.
    pub errno: i32,
    /// What the call is in its runtime.
    pub role: Role,
    /// May it wait for another thread? Not an event loop, nor who asked for a non-blocking descriptor.
    pub patient: bool,
    /// Where the stack ended when the call failed.
    pub foot: usize,
}

/// What a rung has brought.
#[allow(clippy::large_enum_variant, reason = "nothing is allocated here, and it is moved once")]
pub enum Gain {
    /// Descriptors.
    Freed,
    /// None.
    Nothing,
    /// None yet: the program is about to close some.
    Later,
    /// It can't be asked in this call; in another's it may help.
    Unasked,
    /// It remains to be done, by code of the host's that may end the thread: see [`crate::engine::attempt::carry`].
    Collection(Collection),
}

/// A rung: how a call that it saved ended, whether it can help against ENFILE, the work, and how long it is to be left alone.
struct Rung {
    outcome: Outcome,
    system_wide: bool,
    run: fn(&Pressure) -> Gain,
    rests_until: AtomicU64,
    /// How often it brought nothing, since it brought something.
    fruitless: AtomicU32,
}

impl Rung {
    const fn new(outcome: Outcome, system_wide: bool, run: fn(&Pressure) -> Gain) -> Rung {
        Rung { outcome, system_wide, run, rests_until: AtomicU64::new(0), fruitless: AtomicU32::new(0) }
    }
}

/// Cheapest first.
static LADDER: [Rung; 4] = [
    Rung::new(Outcome::Raised, false, limit::raise),
    Rung::new(Outcome::Reclaimed, true, callbacks::run),
    Rung::new(Outcome::Reclaimed, true, collect::consider),
    Rung::new(Outcome::Reclaimed, true, idle::run),
];
/// The rung whose work is done outside: the climb goes on above it afterwards.
const COLLECT: usize = 2;

/// A rung that freed nothing rests for this long, or for [`REST_FACTOR`] times what it cost: a program that lives at its
/// limit must not spend its time on the ladder. Each time in a row doubles that, up to [`LONG_REST`], or four
/// times as long.
const REST: u64 = SECOND / 20;
const REST_FACTOR: u64 = 20;
const LONG_REST: u64 = 2 * SECOND;
/// How long a thread waits for another one that is on the ladder, and after how long that one is taken for lost: it may have
/// left a reclaimer by longjmp(3).
const OTHERS_WORK: u64 = SECOND;
/// How long one that should not wait does.
const MOMENT: u64 = SECOND / 200;
const LOST: u64 = 10 * SECOND;

/// Who is reclaiming.
struct Reclaiming {
    /// Held by the thread that reclaims. It runs the program's own code, which may end the thread.
    turn: LossyLock,
    /// Where its stack ended when the call failed that brought it there: what calls from within lies below.
    foot: AtomicUsize,
    /// Counts ends of reclaiming; who waits for that sleeps on it.
    ends: AtomicU32,
    /// Collections begun by threads that did not hold the turn, since the last one by a thread that did.
    beside: AtomicU32,
}

static RECLAIMING: Reclaiming = Reclaiming {
    turn: LossyLock::new(Lost::After(LOST)),
    foot: AtomicUsize::new(0),
    ends: AtomicU32::new(0),
    beside: AtomicU32::new(0),
};

/// Slack in bytes when the stack pointers of two hooks are compared: hooks differ in the size of their frames.
const FRAMES: usize = 256;

/// How a climb ended.
#[allow(clippy::large_enum_variant, reason = "nothing is allocated here, and it is moved once")]
pub enum Climb {
    /// Something was freed: try again. The outcome is what a success would be due to.
    Freed(Outcome),
    /// Another thread was on the ladder, and has left it: try again.
    Elsewhere,
    /// This collection is to be run, and then reported to [`collected`]. This thread stays on the ladder meanwhile.
    Collect(Collection),
    /// Nothing to be had.
    Nothing,
}

/// Is this thread on the ladder? Then a reclaimer, or a signal handler above one, has called.
pub fn is_climbing(foot: usize) -> bool {
    thread::is_collecting() || (is_holder() && !has_jumped_off(foot))
}

fn is_holder() -> bool {
    RECLAIMING.turn.is_mine()
}

/// This thread holds the ladder, but calls from further out than it stepped on, or long after: it has left by longjmp(3).
/// Then the ladder is free again.
fn has_jumped_off(foot: usize) -> bool {
    // A signal handler's own stack may lie anywhere.
    let higher = foot + FRAMES > RECLAIMING.foot.load(Relaxed) && sys::alternate_stack().is_none();
    let gone = higher || RECLAIMING.turn.held_for(sys::now()) > LOST;
    if gone {
        abandon();
    }
    gone
}

fn abandon() {
    reserve::abandoned(sys::gettid());
    land();
}

/// This thread ends. Is it on the ladder, or in a collection beside it? An interpreter may end it there.
#[cold]
#[inline(never)]
pub extern "C" fn leave() {
    barrier((), || {
        thread::set_collecting(false);
        abandon();
    });
}

/// Goes up the ladder until a rung frees something.
pub fn climb(pressure: &Pressure) -> Climb {
    let now = sys::now();
    if LADDER.iter().all(|rung| !rung.ready(pressure, now)) {
        return Climb::Nothing;
    }
    if !take_off(now, pressure.foot) {
        // Whoever is on the ladder may wait for us.
        return match pressure.role {
            Role::Usual => {
                wait_for_landing(if pressure.patient { OTHERS_WORK } else { MOMENT });
                Climb::Elsewhere
            }
            Role::Locking => beside(pressure, now),
            Role::Internal | Role::Finalizing => Climb::Nothing,
        };
    }
    up(0, pressure, now)
}

/// From this rung on up, on the ladder; then off it, unless a collection is to be run.
fn up(from: usize, pressure: &Pressure, now: u64) -> Climb {
    let mut climb = Climb::Nothing;
    for rung in LADDER.iter().skip(from).filter(|rung| rung.ready(pressure, now)) {
        let begun = sys::now();
        match (rung.run)(pressure) {
            Gain::Freed => {
                rung.has_helped();
                climb = Climb::Freed(rung.outcome);
                break;
            }
            Gain::Nothing => rung.rest(sys::now() - begun),
            Gain::Later => rung.rests_until.store(sys::now() + REST, Relaxed),
            Gain::Unasked => {}
            Gain::Collection(collection) => return Climb::Collect(collection),
        }
    }
    land();
    if matches!(climb, Climb::Freed(_)) {
        wait::wake_all();
    }
    climb
}

/// Waits for the thread on the ladder, bounded.
fn wait_for_landing(most: u64) {
    let ends = RECLAIMING.ends.load(Relaxed);
    if RECLAIMING.turn.is_taken() {
        let _ = sys::futex_wait(&RECLAIMING.ends, ends, most);
    }
}

/// A collection beside the ladder, by a thread with the lock of its interpreter: whoever is on the ladder may want that lock, and
/// the lock sees to it that there is one collection at a time.
fn beside(pressure: &Pressure, now: u64) -> Climb {
    if !LADDER[COLLECT].ready(pressure, now) {
        return Climb::Nothing;
    }
    match collect::consider(pressure) {
        Gain::Collection(collection) => {
            RECLAIMING.beside.fetch_add(1, Relaxed);
            Climb::Collect(collection)
        }
        _ => Climb::Nothing,
    }
}

/// A collection is about to run: what calls from within lies below this.
#[inline(always)]
pub fn collecting() {
    if is_holder() {
        RECLAIMING.foot.store(arch::stack_pointer(), Relaxed);
    } else {
        thread::set_collecting(true);
    }
}

/// The collection that this thread was to run has returned.
pub fn collected(collection: Collection, skipped: Option<Skip>, pressure: &Pressure) -> Climb {
    thread::set_collecting(false);
    let rung = &LADDER[COLLECT];
    let begun = collection.begun();
    let freed = collection.end(skipped, pressure);
    // Of two collections at once, one may get what the other was looking for.
    let on_ladder = is_holder();
    let alone = on_ladder && RECLAIMING.beside.swap(0, Relaxed) == 0;
    if freed == 0 {
        let now = sys::now();
        if alone {
            rung.rest(now - begun);
        }
        return if on_ladder { up(COLLECT + 1, pressure, now) } else { Climb::Nothing };
    }
    rung.has_helped();
    land();
    wait::wake_all();
    Climb::Freed(rung.outcome)
}

impl Rung {
    fn has_helped(&self) {
        self.fruitless.store(0, Relaxed);
    }

    fn rest(&self, cost: u64) {
        let least = REST.max(REST_FACTOR * cost);
        let doubled = least.saturating_mul(1 << self.fruitless.fetch_add(1, Relaxed).min(20));
        self.rests_until.store(sys::now() + doubled.min(LONG_REST.max(4 * least)), Relaxed);
    }

    fn ready(&self, pressure: &Pressure, now: u64) -> bool {
        (self.system_wide || pressure.errno == libc::EMFILE) && now >= self.rests_until.load(Relaxed)
    }
}

/// Something has changed that makes the ladder worth another look: a reclaimer was registered, the limit was set.
pub fn rested() {
    for rung in &LADDER {
        rung.rests_until.store(0, Relaxed);
        rung.has_helped();
    }
}

fn take_off(now: u64, foot: usize) -> bool {
    match RECLAIMING.turn.take(now) {
        Taken::No => return false,
        Taken::Yes => {}
        Taken::From(lost) => reserve::abandoned(lost),
    }
    RECLAIMING.foot.store(foot, Relaxed);
    true
}

fn land() {
    if RECLAIMING.turn.release() {
        RECLAIMING.ends.fetch_add(1, Relaxed);
        let _ = sys::futex_wake(&RECLAIMING.ends, i32::MAX);
    }
}

/// Before a fork, in the parent.
pub fn before_fork() {
    collect::before_fork();
}

/// In the child of a fork: a thread that was on the ladder does not exist here, unless it is the one that forked.
pub fn forked() {
    RECLAIMING.turn.forked();
    callbacks::forked();
    loaded::forked();
    collect::forked();
}

/// Counts a run of a reclaimer.
fn count(freed: u64) {
    page::add(&page::counters().reclaims, 1);
    page::add(&page::counters().reclaimed, freed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_carries_one_thread_and_survives_a_lost_one() {
        let now = sys::now();
        assert!(take_off(now, usize::MAX));
        assert!(is_holder());
        let other = std::thread::spawn(move || {
            (take_off(now, usize::MAX), is_holder(), take_off(now + LOST + 1, usize::MAX), is_holder())
        });
        assert_eq!(other.join().unwrap(), (false, false, true, true));
        land();
        assert!(RECLAIMING.turn.is_taken(), "the thread that was taken for lost must not free what another one holds");
    }
}
