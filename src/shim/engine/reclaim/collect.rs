//! Third rung: the garbage collector of the language runtime in this process. A program that drops its files without closing them
//! has them closed by their finalizers, as after any collection of its own.
//!
//! A runtime is a file beside this one and a row in [`COLLECTORS`]: the functions it is known by, when its collector may be run from
//! within a call ([`Collector::consider`]), and how. On any doubt it is not run, and the reason is counted: collectors run code of
//! the host's, which may want locks that the caller holds.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use tideover_contract::collection::{Runtime, Skip};
use tideover_contract::settings::{Id, SECOND};

use super::loaded::{self, Caller, Home, Names};
use super::{FailedCall, Gain, caller, guile, jvm, php, python, ruby};
use crate::engine::call::Role;
use crate::engine::reserve::{self, Loan};
use crate::engine::wait;
use crate::os::cancel::uncancelled;
use crate::os::elf::Name;
use crate::os::sys;
use crate::state::page;
use crate::state::report::{ErrnoName, More, Repeated, Seconds};
use crate::state::settings::SETTINGS;

/// What the library knows of a runtime.
pub struct Collector {
    /// Its functions; by the first it is known.
    pub names: &'static [Name],
    /// May its garbage be collected in this call?
    pub consider: fn(&Home, &Caller) -> Result<(), Skip>,
    /// Collects. No panic may be in it, and nothing held: the runtime may end the thread in it, by pthread_exit(3).
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub collect: extern "C" fn(&Home) -> Option<Skip>,
    /// What is this call in the runtime?
    pub role: fn(&Home, Option<&Caller>) -> Role,
    /// Finalizers run on a thread of the runtime's own, and need some time.
    pub elsewhere: bool,
    /// The reserve is lent to whoever asks first while it runs. Otherwise it is kept for [`Role::Finalizing`].
    pub lends: bool,
}

/// By [`Runtime`].
static COLLECTORS: [&Collector; Runtime::ALL.len()] =
    [&python::COLLECTOR, &jvm::COLLECTOR, &ruby::COLLECTOR, &guile::COLLECTOR, &php::COLLECTOR];
/// The functions that each is known by.
static NAMES: Names = {
    let mut names: Names = [&[]; Runtime::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = COLLECTORS[index].names;
        index += 1;
    }
    names
};

/// How long finalizers on another thread have to close the first descriptor.
const FINALIZERS_WORK: u64 = SECOND / 5;
/// They are done when nothing was closed for so long; that is not waited for more often than this.
const PAUSE: u64 = SECOND / 2000;
const MOST_PAUSES: u32 = 100;
/// A collector that returned faster than this has done nothing.
const DID_NOTHING: u64 = SECOND / 10_000;

/// The time that collections may take: half of what passes, 20 ms for each descriptor that comes back, and at most this at once.
/// A program with a large heap and a descriptor or two in each garbage must not spend its life collecting.
const LARGEST_BUDGET: i64 = 10 * SECOND as i64;
const PART: u64 = 2;
const WORTH: u64 = SECOND / 50;
static BUDGET: AtomicI64 = AtomicI64::new(LARGEST_BUDGET);
static BUDGET_AT: AtomicU64 = AtomicU64::new(0);

static TOLD: Repeated = Repeated::new();

/// A collection that is under way.
pub struct Collection {
    runtime: Runtime,
    home: Home,
    begun: u64,
    closes: u64,
    loan: Option<Loan>,
}

fn is_wanted(runtime: Runtime) -> bool {
    runtime.is_in(SETTINGS.get(Id::Gc))
}

fn collector(runtime: Runtime) -> &'static Collector {
    COLLECTORS[runtime as usize]
}

/// The runtimes in this process that the user wants collected.
fn present() -> impl Iterator<Item = (Runtime, Home)> {
    Runtime::ALL
        .iter()
        .filter(|runtime| is_wanted(**runtime))
        .filter_map(|&runtime| Some((runtime, loaded::home(runtime)?)))
}

/// The rung: is there a runtime whose garbage may be collected in this call? Then that is to be done next.
pub fn consider(_: &FailedCall) -> Gain {
    if SETTINGS.get(Id::Gc) == 0 || !loaded::look(&NAMES, 0, &mut None) {
        return Gain::NotForThisCall;
    }
    let mut from = None;
    loaded::look(&NAMES, caller::address(), &mut from);
    for &runtime in Runtime::ALL {
        let Some(home) = loaded::home(runtime) else { continue };
        let asked = match &from {
            _ if !is_wanted(runtime) => Err(Skip::SwitchedOff),
            None => Err(Skip::ForeignCaller),
            Some(from) => (collector(runtime).consider)(&home, from),
        };
        match asked.and_then(|()| if has_budget() { Ok(()) } else { Err(Skip::Budget) }) {
            Ok(()) => return Gain::Collection(Collection::begin(runtime, home)),
            Err(skip) => count_skip(runtime, skip),
        }
    }
    Gain::NotForThisCall
}

impl Collection {
    fn begin(runtime: Runtime, home: Home) -> Collection {
        let closes = page::closes(collector(runtime).elsewhere);
        let loan = if collector(runtime).lends { reserve::lend() } else { None };
        Collection { runtime, home, begun: sys::now(), closes, loan }
    }

    /// Runs the collector. None of our frames between here and the hook has anything to clean up, see [`Collector::collect`].
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub extern "C" fn run(&self) -> Option<Skip> {
        uncancelled(|| (collector(self.runtime).collect)(&self.home))
    }

    /// Waits for the finalizers: for the first close, and then until they seem to have done.
    fn settle(&self) {
        let mut closes = self.closes;
        let mut patience = FINALIZERS_WORK;
        for _ in 0..MOST_PAUSES {
            wait::sleep_until(|| page::closes(true) != closes, patience);
            let now = page::closes(true);
            if now == closes {
                break;
            }
            (closes, patience) = (now, PAUSE);
        }
    }

    /// When it began.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// It has returned: how many descriptors came back?
    pub fn end(self, skipped: Option<Skip>, call: &FailedCall) -> u64 {
        let elsewhere = collector(self.runtime).elsewhere;
        let mut skipped = skipped;
        if elsewhere && skipped.is_none() {
            if sys::now() - self.begun < DID_NOTHING {
                skipped = Some(Skip::Disabled);
            } else {
                self.settle();
            }
        }
        let freed = page::closes(elsewhere).wrapping_sub(self.closes);
        match self.loan {
            Some(loan) => loan.restore(),
            None => reserve::fill(),
        }
        let took = sys::now() - self.begun;
        spend(took, freed);
        match skipped {
            Some(skip) => count_skip(self.runtime, skip),
            None => {
                count(self.runtime, took, freed);
                tell(self.runtime, took, freed, call);
            }
        }
        freed
    }
}

fn has_budget() -> bool {
    let now = sys::now();
    let passed = now - BUDGET_AT.swap(now, Relaxed).max(now.saturating_sub(3600 * SECOND));
    let budget = BUDGET.load(Relaxed).saturating_add((passed / PART) as i64).min(LARGEST_BUDGET);
    BUDGET.store(budget, Relaxed);
    budget > 0
}

fn spend(took: u64, freed: u64) {
    let earned = freed.saturating_mul(WORTH).min(LARGEST_BUDGET as u64) as i64;
    BUDGET.store((BUDGET.load(Relaxed) - took as i64 + earned).min(LARGEST_BUDGET), Relaxed);
}

fn count(runtime: Runtime, took: u64, freed: u64) {
    super::count(freed);
    page::add(&page::counters().gc_runs, 1);
    page::add(&page::counters().gc_ns, took);
    let collector = &page::page().collectors[runtime as usize];
    page::add(&collector.runs, 1);
    page::add(&collector.ns, took);
    page::add(&collector.freed, freed);
}

fn count_skip(runtime: Runtime, skip: Skip) {
    page::add(&page::page().collectors[runtime as usize].skipped, 1);
    page::add(&page::page().skips[skip as usize], 1);
}

fn tell(runtime: Runtime, took: u64, freed: u64, call: &FailedCall) {
    if freed == 0 {
        return;
    }
    if let Some(more) = TOLD.due() {
        log::warn!(
            "{}: no descriptor was free ({}); {freed} came back with the garbage of {}, collected in {}{}: it forgets to close some",
            call.name,
            ErrnoName(call.errno),
            runtime.name(),
            Seconds(took),
            More(more)
        );
    }
}

/// The role of the call that this thread is in.
pub fn role() -> Role {
    if SETTINGS.get(Id::Gc) == 0 || !loaded::look(&NAMES, 0, &mut None) {
        return Role::Usual;
    }
    let mut from = None;
    loaded::look(&NAMES, caller::address(), &mut from);
    let roles = present().map(|(runtime, home)| (collector(runtime).role)(&home, from.as_ref()));
    roles.into_iter().find(|role| *role != Role::Usual).unwrap_or(Role::Usual)
}

/// Is there a runtime whose finalizers may need descriptors of their own?
pub fn wants_reserve() -> bool {
    SETTINGS.get(Id::Gc) != 0 && loaded::look(&NAMES, 0, &mut None) && present().next().is_some()
}

/// Before a fork, in the parent.
pub fn before_fork() {
    python::before_fork();
}

/// In the child of a fork.
pub fn forked() {
    python::forked();
}
