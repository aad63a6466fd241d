//! Third reclaim step: the garbage collector of the language runtime in this process. Files that the program has dropped without
//! closing them are closed by their finalizers, as after any collection of the runtime's own.
//!
//! Each runtime has a file beside this one and a row in [`COLLECTORS`]: the functions that it is known by, when its collector may be run
//! from within a call ([`Collector::may_collect`]), and how. On any doubt it is not run, and the reason is counted: collectors run code
//! of the program's, which may take locks that the caller holds.

use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use tideover_contract::collection::{Runtime, Skip};
use tideover_contract::settings::{Id, SECOND};

use super::loaded::{self, Caller, LoadedRuntime, Names};
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
    /// The names of its functions. The object that exports the first is the runtime.
    pub names: &'static [Name],
    /// May its garbage be collected in the call that the thread is in, which was made by this object? Err: no, for this reason.
    pub may_collect: fn(&LoadedRuntime, &Caller) -> Result<(), Skip>,
    /// Collects; Some: it could not, for this reason. It must neither panic nor hold anything: the runtime may end the thread in it, by
    /// pthread_exit(3).
    ///
    /// # Safety
    /// `may_collect` has answered Ok for the same call, on the same thread.
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub collect: unsafe extern "C" fn(&LoadedRuntime) -> Option<Skip>,
    /// What is the call that the thread is in, made by this object if that is known, to the runtime?
    pub role: fn(&LoadedRuntime, Option<&Caller>) -> Role,
    /// Do finalizers run on a thread of the runtime's own? Then they are waited for.
    pub has_finalizer_thread: bool,
    /// Is the reserve lent while it collects? Otherwise it is kept for calls that are [`Role::Finalizing`].
    pub lends_reserve: bool,
}

/// The collectors, by [`Runtime`].
static COLLECTORS: [&Collector; Runtime::ALL.len()] =
    [&python::COLLECTOR, &jvm::COLLECTOR, &ruby::COLLECTOR, &guile::COLLECTOR, &php::COLLECTOR];
/// The names of their functions, by [`Runtime`].
static NAMES: Names = {
    let mut names: Names = [&[]; Runtime::ALL.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = COLLECTORS[index].names;
        index += 1;
    }
    names
};

/// How long a finalizer thread has to close its first descriptor, nanoseconds.
const FIRST_CLOSE: u64 = SECOND / 5;
/// After that, it is taken to be done when it has closed nothing for so many nanoseconds.
const NEXT_CLOSE: u64 = SECOND / 2000;
/// At most so many of its closes are waited for.
const MAX_CLOSES: u32 = 100;
/// A collector that returned faster than this, in nanoseconds, has done nothing.
const DID_NOTHING: u64 = SECOND / 10_000;

/// The time that collections may take: a program with a large heap, of which each collection frees a descriptor or two, must not spend
/// its life collecting.
struct Budget {
    /// What is left, nanoseconds; below 0: nothing is collected.
    left: AtomicI64,
    /// When that was last increased for the time that has passed, nanoseconds of CLOCK_MONOTONIC.
    at: AtomicU64,
}

static BUDGET: Budget = Budget { left: AtomicI64::new(Budget::MAX), at: AtomicU64::new(0) };

/// The messages so far.
#[unsafe(link_section = ".tables")]
static MESSAGES: Repeated = Repeated::new();

/// A collection that is under way.
pub struct Collection {
    runtime: Runtime,
    loaded: LoadedRuntime,
    /// When it began, nanoseconds of CLOCK_MONOTONIC.
    begun: u64,
    /// [`page::closes`] when it began.
    closes: u64,
    /// The reserve, if it is lent meanwhile.
    loan: Option<Loan>,
}

fn is_wanted(runtime: Runtime) -> bool {
    runtime.is_in(SETTINGS.get(Id::Gc))
}

fn collector(runtime: Runtime) -> &'static Collector {
    COLLECTORS[runtime as usize]
}

/// The runtimes in this process whose garbage TIDEOVER_GC allows to collect.
fn present() -> impl Iterator<Item = (Runtime, LoadedRuntime)> {
    Runtime::ALL
        .iter()
        .filter(|runtime| is_wanted(**runtime))
        .filter_map(|&runtime| Some((runtime, loaded::find(runtime)?)))
}

/// The reclaim step: is there a runtime whose garbage may be collected in this call? Then [`Gain::Collection`].
pub fn consider(call: &FailedCall) -> Gain {
    if !call.collects || SETTINGS.get(Id::Gc) == 0 || !loaded::look(&NAMES, 0, &mut None) {
        return Gain::NotForThisCall;
    }
    let mut caller = None;
    loaded::look(&NAMES, caller::address(), &mut caller);
    for &runtime in Runtime::ALL {
        let Some(loaded) = loaded::find(runtime) else { continue };
        let answer = match &caller {
            _ if !is_wanted(runtime) => Err(Skip::SwitchedOff),
            None => Err(Skip::ForeignCaller),
            Some(caller) => (collector(runtime).may_collect)(&loaded, caller),
        };
        match answer.and_then(|()| if BUDGET.has_some() { Ok(()) } else { Err(Skip::Budget) }) {
            Ok(()) => return Gain::Collection(Collection::begin(runtime, loaded)),
            Err(skip) => count_skip(runtime, skip),
        }
    }
    Gain::NotForThisCall
}

impl Collection {
    /// For a runtime whose [`Collector::may_collect`] has answered Ok.
    fn begin(runtime: Runtime, loaded: LoadedRuntime) -> Collection {
        let closes = page::closes(collector(runtime).has_finalizer_thread);
        let loan = if collector(runtime).lends_reserve { reserve::lend() } else { None };
        Collection { runtime, loaded, begun: sys::now(), closes, loan }
    }

    /// Runs the collector, in the call for which [`consider`] has returned this. No frame of ours between here and the hook may have
    /// anything to clean up, see [`Collector::collect`].
    #[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
    pub extern "C" fn run(&self) -> Option<Skip> {
        // SAFETY: `may_collect` has answered Ok before `begin`, and the retry loop, which `consider` gave this to, runs it next, on the same thread.
        uncancelled(|| unsafe { (collector(self.runtime).collect)(&self.loaded) })
    }

    /// Waits for the finalizer thread: for its first close, and then until it closes nothing more.
    fn wait_for_finalizers(&self) {
        let mut closes = self.closes;
        let mut longest = FIRST_CLOSE;
        for _ in 0..MAX_CLOSES {
            wait::sleep_until(|| page::closes(true) != closes, longest);
            let now = page::closes(true);
            if now == closes {
                break;
            }
            (closes, longest) = (now, NEXT_CLOSE);
        }
    }

    /// When it began, nanoseconds of CLOCK_MONOTONIC.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The collector has returned, or could not run for a reason. Returns how many descriptors the program has closed since it began.
    pub fn end(self, skipped: Option<Skip>, call: &FailedCall) -> u64 {
        let has_finalizer_thread = collector(self.runtime).has_finalizer_thread;
        let mut skipped = skipped;
        if has_finalizer_thread && skipped.is_none() {
            if sys::now() - self.begun < DID_NOTHING {
                skipped = Some(Skip::Disabled);
            } else {
                self.wait_for_finalizers();
            }
        }
        let freed = page::closes(has_finalizer_thread).wrapping_sub(self.closes);
        match self.loan {
            Some(loan) => loan.restore(),
            None => reserve::fill(),
        }
        let took = sys::now() - self.begun;
        BUDGET.spend(took, freed);
        match skipped {
            Some(skip) => count_skip(self.runtime, skip),
            None => {
                count(self.runtime, took, freed);
                log(self.runtime, took, freed, call);
            }
        }
        freed
    }
}

impl Budget {
    /// It never grows beyond this, nanoseconds.
    const MAX: i64 = 10 * SECOND as i64;
    /// One part in so many of the time that passes may be spent.
    const PART: u64 = 2;
    /// So many nanoseconds may be spent for each descriptor that a collection frees.
    const WORTH: u64 = SECOND / 50;

    /// Adds the part of the time that has passed. Is anything left?
    fn has_some(&self) -> bool {
        let now = sys::now();
        let passed = now - self.at.swap(now, Relaxed).max(now.saturating_sub(3600 * SECOND));
        let left = self.left.load(Relaxed).saturating_add((passed / Self::PART) as i64).min(Self::MAX);
        self.left.store(left, Relaxed);
        left > 0
    }

    /// A collection took so many nanoseconds, and freed so many descriptors.
    fn spend(&self, took: u64, freed: u64) {
        let earned = freed.saturating_mul(Self::WORTH).min(Self::MAX as u64) as i64;
        self.left.store((self.left.load(Relaxed) - took as i64 + earned).min(Self::MAX), Relaxed);
    }
}

/// Counts a collection in the page.
fn count(runtime: Runtime, took: u64, freed: u64) {
    super::count(freed);
    page::add(&page::counters().gc_runs, 1);
    page::add(&page::counters().gc_ns, took);
    let collector = &page::page().collectors[runtime as usize];
    page::add(&collector.runs, 1);
    page::add(&collector.ns, took);
    page::add(&collector.freed, freed);
}

/// Counts in the page that a collector was not run, and why.
fn count_skip(runtime: Runtime, skip: Skip) {
    page::add(&page::page().collectors[runtime as usize].skipped, 1);
    page::add(&page::page().skips[skip as usize], 1);
}

/// Logs that a collection has freed something, unless that was logged a moment ago.
fn log(runtime: Runtime, took: u64, freed: u64, call: &FailedCall) {
    if freed == 0 {
        return;
    }
    if let Some(more) = MESSAGES.due() {
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

/// What the call that this thread is in is to the runtime of this process.
pub fn role() -> Role {
    if SETTINGS.get(Id::Gc) == 0 || !loaded::look(&NAMES, 0, &mut None) {
        return Role::Usual;
    }
    let mut caller = None;
    loaded::look(&NAMES, caller::address(), &mut caller);
    let roles = present().map(|(runtime, loaded)| (collector(runtime).role)(&loaded, caller.as_ref()));
    roles.into_iter().find(|role| *role != Role::Usual).unwrap_or(Role::Usual)
}

/// Is there a runtime whose finalizers may need descriptors of the reserve?
pub fn wants_reserve() -> bool {
    SETTINGS.get(Id::Gc) != 0 && loaded::look(&NAMES, 0, &mut None) && present().next().is_some()
}

/// Before a fork, in the parent: what each runtime needs to know of it.
pub fn before_fork() {
    python::before_fork();
}

/// In the child of a fork: what each runtime needs to know of it.
pub fn forked() {
    python::forked();
}
