//! First reclaim step: the soft limit on descriptors (RLIMIT_NOFILE). It is raised towards the hard one when it is reached; programs
//! that this one executes get the original one (`limit_for_exec`).

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use libc::rlimit;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::select;
use tideover_contract::settings::{Id, MILLION, raise};

use super::{FailedCall, Gain, tables};
use crate::engine::reserve;
use crate::os::barrier::barrier;
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::events::{self, Event};
use crate::state::handlers::handlers;
use crate::state::report::About;
use crate::state::settings::SETTINGS;
use crate::state::{control, page, usage};

/// Each raise multiplies the limit by this. It is not raised to the top at once: some programs close every number up to the limit, which
/// took one of them ten minutes at 2^30 (moby#38814).
const FACTOR: u64 = 4;
/// The reserve is taken while so many descriptors are free, or half of the limit, whichever is less: other threads use them up while one takes
/// it.
const RESERVE_MARGIN: u64 = 64;

/// What the library knows of the soft limit and has done about it.
struct State {
    /// The program has called setrlimit(2) on its limit: the library changes it no more.
    is_programs: AtomicBool,
    /// The soft limit that the library has set last; 0: none. Only such a limit is undone for programs that are executed.
    raised_to: AtomicU64,
    /// Descriptor number at which usage is looked at next; 0: now.
    look_at: AtomicU64,
    /// It has been announced that usage has reached TIDEOVER_FD_WARN.
    has_warned: AtomicBool,
    /// It has been announced that usage has reached TIDEOVER_FD_CRITICAL.
    is_critical: AtomicBool,
}

static STATE: State = State {
    is_programs: AtomicBool::new(false),
    raised_to: AtomicU64::new(0),
    look_at: AtomicU64::new(0),
    has_warned: AtomicBool::new(false),
    is_critical: AtomicBool::new(false),
};

/// Held by the thread that raises the limit.
static RAISING: Lock<()> = Lock::new(());

/// In the child of a fork: another thread that raises the limit does not exist here.
pub fn forked() {
    RAISING.forked();
}

/// The limits now, which are also noted in the page. None: getrlimit(2) failed.
pub fn read() -> Option<rlimit> {
    let limit = sys::descriptor_limit(0).ok()?;
    page::counters().soft_limit.store(limit.rlim_cur, Relaxed);
    page::counters().hard_limit.store(limit.rlim_max, Relaxed);
    Some(limit)
}

/// How far the library would raise the soft limit: so many descriptors can be had in all.
pub fn ceiling(limit: rlimit) -> u64 {
    let mode = match SETTINGS.get(Id::Raise) {
        raise::FORCE => raise::FORCE,
        _ if STATE.is_programs.load(Relaxed) => raise::OFF,
        mode => mode,
    };
    select::ceiling(limit.rlim_cur, limit.rlim_max, mode, SETTINGS.get(Id::RaiseCap), tables::end)
}

/// The reclaim step.
pub fn raise(_: &FailedCall) -> Gain {
    if raise_once() > 0 { Gain::Freed } else { Gain::Nothing }
}

/// Raises the soft limit by one [`FACTOR`]. Returns how many numbers that added.
fn raise_once() -> u64 {
    let Some(limit) = read() else { return 0 };
    let added = set(limit, limit.rlim_cur.saturating_mul(FACTOR).max(64));
    if added > 0 {
        emit(EventKind::Raised, limit.rlim_cur + added, Outcome::Raised);
    }
    added
}

/// Raises the soft limit to so much, if that may be, before the program is told it. No event: that would make the page's file, in each of
/// many short-lived programs.
pub(super) fn raise_to(least: u64) {
    if let Some(limit) = read() {
        set(limit, least);
    }
}

/// So many descriptors may be about to come in a message: room is made for them, as far as the limit may be raised.
pub fn make_room_for(descriptors: u64) {
    while let Some(limit) = read() {
        let used = usage::used(limit.rlim_cur);
        if used.saturating_add(descriptors) <= limit.rlim_cur || raise_once() == 0 {
            return;
        }
    }
}

/// Sets the soft limit to `next`, or to less where less may be had. Returns how many numbers that added.
fn set(limit: rlimit, next: u64) -> u64 {
    let soft = limit.rlim_cur;
    let next = next.min(ceiling(limit));
    if next <= soft {
        return 0;
    }
    {
        // One thread at a time: the raise of another must not be taken for the program's own limit, nor undone.
        let Some(_raising) = RAISING.enter() else { return 0 };
        let Some(now) = read() else { return 0 };
        if now.rlim_cur != soft {
            return now.rlim_cur.saturating_sub(soft);
        }
        if sys::set_descriptor_limit(0, rlimit { rlim_cur: next, ..limit }).is_err() {
            return 0;
        }
        // If the limit was not the one that the library had set last, somebody else has set it, and it is the original one.
        if STATE.raised_to.swap(next, Relaxed) != soft {
            page::counters().raised_from.store(soft, Relaxed);
        }
        page::counters().soft_limit.store(next, Relaxed);
    }
    log::info!(target: "raised", "soft limit on open files raised from {soft} to {next} (hard limit {})", limit.rlim_max);
    next - soft
}

/// A call returned a descriptor, and `number` is its number plus one. Raises the soft limit when nine tenths of it are in use, because
/// opens inside libc (dlopen, getaddrinfo, iconv_open) can't be intercepted and would fail; warns at TIDEOVER_FD_WARN and
/// TIDEOVER_FD_CRITICAL. When nine tenths of the [`ceiling`] are in use, `on_near_limit` of [`handlers`] is called, before a message is
/// written: other threads use up the rest meanwhile.
#[inline(always)]
pub fn reached(number: u64) {
    if number >= STATE.look_at.load(Relaxed) {
        look(number);
    }
}

#[cold]
#[inline(never)]
fn look(number: u64) {
    let Some(mut limit) = read() else { return };
    if control::look() {
        // Until it is told to act again.
        STATE.look_at.store(u64::MAX, Relaxed);
        return;
    }
    let used = usage::used(limit.rlim_cur);
    if used.saturating_mul(10) >= limit.rlim_cur.saturating_mul(9) && raise_once() > 0 {
        limit = read().unwrap_or(limit);
    }
    // From half of the limit on: the first answer of `wants_reserve` takes a while, and other threads open more meanwhile.
    if used >= limit.rlim_cur / 2 && super::collect::wants_reserve() && used >= reserve_threshold(limit.rlim_cur) {
        reserve::fill();
    }
    // To ask how far it may be raised goes through the names of all libraries. That is put off until it can matter.
    let top = if used + 1 < lowest_threshold(limit.rlim_cur) { limit.rlim_cur } else { ceiling(limit) };
    if used.saturating_mul(10) >= top.saturating_mul(9) {
        (handlers().on_near_limit)();
    }
    let part = |id| top as u128 * u128::from(SETTINGS.get(id)) / u128::from(MILLION);
    let above = |id| SETTINGS.get(id) != 0 && u128::from(used) >= part(id);
    if above(Id::FdCritical) && !STATE.is_critical.swap(true, Relaxed) {
        STATE.has_warned.store(true, Relaxed);
        announce(EventKind::Critical, used, top, limit.rlim_max);
    } else if above(Id::FdWarn) && !STATE.has_warned.swap(true, Relaxed) {
        announce(EventKind::Warning, used, top, limit.rlim_max);
    }
    // Numbers may be high while few descriptors are in use (bash has a 255). Usage grows by one with each number at most, so nothing is
    // due before the numbers have grown by as many as are missing.
    let threshold = next_threshold(limit.rlim_cur, top, used);
    STATE.look_at.store(number + threshold.saturating_sub(used).max(1), Relaxed);
}

/// Usage at which the reserve is taken: nine tenths of the soft limit, or less where [`RESERVE_MARGIN`] descriptors would not be free then.
fn reserve_threshold(soft: u64) -> u64 {
    (soft - soft / 10).min(soft - RESERVE_MARGIN.min(soft / 2))
}

/// The lowest usage at which anything is to be done where `soft` descriptors can be had, or more.
fn lowest_threshold(soft: u64) -> u64 {
    next_threshold(soft, soft, 0)
}

/// The lowest usage above `used` at which something is to be done.
fn next_threshold(soft: u64, top: u64, used: u64) -> u64 {
    let part =
        |whole: u64, millionths: u64| (u128::from(whole) * u128::from(millionths)).div_ceil(u128::from(MILLION)) as u64;
    let thresholds = [
        part(soft, 900_000),
        reserve_threshold(soft),
        if STATE.has_warned.load(Relaxed) { u64::MAX } else { part(top, SETTINGS.get(Id::FdWarn)) },
        if STATE.is_critical.load(Relaxed) { u64::MAX } else { part(top, SETTINGS.get(Id::FdCritical)) },
    ];
    thresholds.into_iter().filter(|&threshold| threshold > used).min().unwrap_or(u64::MAX / 2)
}

fn announce(kind: EventKind, used: u64, top: u64, hard: u64) {
    let word = if kind == EventKind::Critical { "critical" } else { "warning" };
    let remedy = Remedy { soft: top, hard };
    let about = About { kind: word, descriptors: Some([used, top, hard]), remedy: Some(&remedy), ..About::NOTHING };
    about.log(format_args!("{word}: {used} of {top} descriptors are in use"));
    emit(kind, used, Outcome::None);
}

/// An event that is about a number of descriptors and not about a call.
fn emit(kind: EventKind, number: u64, outcome: Outcome) {
    let fd = i32::try_from(number).unwrap_or(i32::MAX);
    events::emit(&Event { kind, call: "", errno: 0, fd, tries: 0, waited: 0, outcome });
}

/// Prints what an operator can do about the limit, as commands.
pub struct Remedy {
    /// Soft limit, or how far the library would raise it ([`ceiling`]).
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl core::fmt::Display for Remedy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if STATE.is_programs.load(Relaxed) && self.soft < self.hard && SETTINGS.get(Id::Raise) != raise::FORCE {
            return write!(
                f,
                "the program set this limit itself, so it is not raised; see its own settings, or start it with `ulimit -n {}`",
                self.hard
            );
        }
        if self.soft < self.hard && SETTINGS.get(Id::Raise) == raise::OFF {
            return write!(f, "to help: TIDEOVER_RAISE=auto, or `ulimit -n {}` before it starts", self.hard);
        }
        if self.soft < self.hard && self.soft >= SETTINGS.get(Id::RaiseCap) {
            return write!(f, "to help: a higher TIDEOVER_RAISE_CAP (hard limit {})", self.hard);
        }
        if self.soft < self.hard {
            return write!(
                f,
                "it uses select(2), or was told its limit, so the limit stays at {}; if it has no tables of descriptors, TIDEOVER_RAISE=force",
                self.soft
            );
        }
        let more = self.hard.saturating_mul(4).clamp(1024, 1 << 20);
        write!(
            f,
            "to help: `ulimit -n {more}` as root, LimitNOFILE={more} in its systemd unit, or docker run --ulimit nofile={more}"
        )
    }
}

/// The program has called setrlimit(2) or prlimit(2) on its own limit: from now on the library does not change it.
#[cold]
#[inline(never)]
pub extern "C" fn program_has_set_it() {
    barrier((), || {
        if !crate::state::process::may_note() {
            return;
        }
        STATE.is_programs.store(true, Relaxed);
        page::counters().raised_from.store(0, Relaxed);
        look_again();
        read();
        super::make_all_due();
    });
}

/// Usage is looked at with the next high number, whatever it is.
pub fn look_again() {
    STATE.look_at.store(0, Relaxed);
}

/// The soft limit that the program had before the library raised it; None: the library has not, or the program has set its own since.
pub fn original() -> Option<u64> {
    Some(page::counters().raised_from.load(Relaxed)).filter(|&soft| soft != 0)
}

/// Has the library set this limit? A child of vfork(2) may have set its own, and an administrator that of a running process.
pub(super) fn is_raised(limit: &rlimit) -> bool {
    limit.rlim_cur == STATE.raised_to.load(Relaxed)
}
