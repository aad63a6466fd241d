//! First rung: the soft limit, raised towards the hard one when it is hit, and given back to what the program execs.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use libc::rlimit;
use once_cell::race::OnceNonZeroUsize;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::select;
use tideover_contract::settings::{Id, MILLION, raise};

use super::{Gain, Pressure};
use crate::engine::reserve;
use crate::os::barrier::barrier;
use crate::os::{elf, sys};
use crate::state::events::{self, Event};
use crate::state::settings::SETTINGS;
use crate::state::{page, usage};

/// Each raise is this many times the limit before. Not at once to the top: some hosts close every number up to the limit, and
/// 2^30 of them cost one ten minutes (moby#38814).
const STEP: u64 = 4;
/// Descriptors that a new program must find free: what its loader and its start-up open, or a quarter of the limit.
const HEIRS_NEED: u64 = 16;
/// See [`reserve_mark`].
const RESERVE_MARGIN: u64 = 16;

/// The program has set its limit itself: it is no longer ours to change.
static TAKEN_OVER: AtomicBool = AtomicBool::new(false);
/// The soft limit that the library has set last: only that is given back.
static RAISED_TO: AtomicU64 = AtomicU64::new(0);
/// The next highest number that is worth a look; the first is.
static LOOK_AT: AtomicU64 = AtomicU64::new(0);
static WARNED: AtomicBool = AtomicBool::new(false);
static CRITICAL: AtomicBool = AtomicBool::new(false);
/// See [`select::end`].
static END: OnceNonZeroUsize = OnceNonZeroUsize::new();

/// The limits now, noted in the page.
pub fn look() -> Option<rlimit> {
    let limit = sys::descriptor_limit(0).ok()?;
    page::counters().soft_limit.store(limit.rlim_cur, Relaxed);
    page::counters().hard_limit.store(limit.rlim_max, Relaxed);
    Some(limit)
}

/// How far the soft limit may go: what can be had in all.
pub fn ceiling(limit: rlimit) -> u64 {
    let mode = if TAKEN_OVER.load(Relaxed) { raise::OFF } else { SETTINGS.get(Id::Raise) };
    select::ceiling(limit.rlim_cur, limit.rlim_max, mode, SETTINGS.get(Id::RaiseCap), end)
}

fn end() -> u64 {
    let find = || select::end(crate::state::process::program(), elf::main_imports) as usize;
    END.get_or_init(|| NonZeroUsize::new(find()).unwrap_or(NonZeroUsize::MIN)).get() as u64
}

/// The rung.
pub fn raise(_: &Pressure) -> Gain {
    if raise_once() > 0 { Gain::Freed } else { Gain::Nothing }
}

/// Returns how many more numbers there are now.
fn raise_once() -> u64 {
    let Some(limit) = look() else { return 0 };
    let soft = limit.rlim_cur;
    let next = soft.saturating_mul(STEP).max(64).min(ceiling(limit));
    if next <= soft || sys::set_descriptor_limit(0, rlimit { rlim_cur: next, ..limit }).is_err() {
        return 0;
    }
    // Somebody else may have set it since. Another thread may have raised it further.
    if RAISED_TO.load(Relaxed) != soft {
        page::counters().raised_from.store(soft, Relaxed);
    }
    RAISED_TO.store(sys::descriptor_limit(0).map_or(next, |limit| limit.rlim_cur), Relaxed);
    page::counters().soft_limit.store(next, Relaxed);
    log::info!("soft limit on open files raised from {soft} to {next} (hard limit {})", limit.rlim_max);
    emit(EventKind::Raised, next, Outcome::Raised);
    next - soft
}

/// A call returned a number as high as this, plus one. Raises the soft limit when nine tenths of it are in use, because opens
/// inside libc (dlopen, getaddrinfo, iconv_open) can't be intercepted and would fail; warns when the ceiling comes near. True: nine tenths
/// of what can be had in all are in use.
pub fn reached(number: u64) -> bool {
    if number < LOOK_AT.load(Relaxed) {
        return false;
    }
    let Some(mut limit) = look() else { return false };
    let used = usage::used(limit.rlim_cur);
    if used.saturating_mul(10) >= limit.rlim_cur.saturating_mul(9) && raise_once() > 0 {
        limit = look().unwrap_or(limit);
    }
    // Asked at the warning already: the first answer takes a while, and other threads go on meanwhile.
    if used >= limit.rlim_cur / 2 && super::collect::wants_reserve() && used >= reserve_mark(limit.rlim_cur) {
        reserve::fill();
    }
    let top = ceiling(limit);
    let part = |id| top as u128 * u128::from(SETTINGS.get(id)) / u128::from(MILLION);
    let above = |id| SETTINGS.get(id) != 0 && u128::from(used) >= part(id);
    if above(Id::FdCritical) && !CRITICAL.swap(true, Relaxed) {
        WARNED.store(true, Relaxed);
        announce(EventKind::Critical, used, top, limit.rlim_max);
    } else if above(Id::FdWarn) && !WARNED.swap(true, Relaxed) {
        announce(EventKind::Warning, used, top, limit.rlim_max);
    }
    // Numbers may be high while few are in use (bash keeps a 255): then look again after as many as are missing.
    let mark = lowest_mark(limit.rlim_cur, top, used);
    LOOK_AT.store(number + mark.saturating_sub(used).max(1), Relaxed);
    used.saturating_mul(10) >= top.saturating_mul(9)
}

/// Usage at which the reserve is taken: nine tenths, and of a small limit while there are still some.
fn reserve_mark(soft: u64) -> u64 {
    (soft - soft / 10).min(soft - RESERVE_MARGIN.min(soft / 4))
}

/// The lowest usage above `used` at which something is to be done.
fn lowest_mark(soft: u64, top: u64, used: u64) -> u64 {
    let part =
        |whole: u64, millionths: u64| (u128::from(whole) * u128::from(millionths)).div_ceil(u128::from(MILLION)) as u64;
    let marks = [
        part(soft, 900_000),
        reserve_mark(soft),
        if WARNED.load(Relaxed) { u64::MAX } else { part(top, SETTINGS.get(Id::FdWarn)) },
        if CRITICAL.load(Relaxed) { u64::MAX } else { part(top, SETTINGS.get(Id::FdCritical)) },
    ];
    marks.into_iter().filter(|&mark| mark > used).min().unwrap_or(u64::MAX / 2)
}

fn announce(kind: EventKind, used: u64, top: u64, hard: u64) {
    let word = if kind == EventKind::Critical { "critical" } else { "warning" };
    log::warn!("{word}: {used} of {top} descriptors are in use; {}", Remedy { soft: top, hard });
    emit(kind, used, Outcome::None);
}

/// An event that is about a number of descriptors and not about a call.
fn emit(kind: EventKind, number: u64, outcome: Outcome) {
    let fd = i32::try_from(number).unwrap_or(i32::MAX);
    events::emit(&Event { kind, call: "", errno: 0, fd, tries: 0, waited: 0, outcome });
}

/// Prints what a person can do about the limit, as commands.
pub struct Remedy {
    /// Soft limit, or how far the library would raise it.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

impl core::fmt::Display for Remedy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if TAKEN_OVER.load(Relaxed) && self.soft < self.hard {
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
                "it uses select(2) or getdtablesize(3), so the limit stays at {}; if it has no tables of descriptors, TIDEOVER_RAISE=force",
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

/// The program has called setrlimit(2) or prlimit(2) on its own limit: from now on it is the program's.
#[cold]
#[inline(never)]
pub extern "C" fn taken_over() {
    barrier((), take_over);
}

/// What is done at the marks is done once more.
pub fn look_again() {
    LOOK_AT.store(0, Relaxed);
}

fn take_over() {
    if !crate::state::process::may_act() {
        return;
    }
    TAKEN_OVER.store(true, Relaxed);
    page::counters().raised_from.store(0, Relaxed);
    LOOK_AT.store(0, Relaxed);
    look();
    super::rested();
}

/// The soft limit that the host started with, if the library has raised it since.
pub fn original() -> Option<u64> {
    Some(page::counters().raised_from.load(Relaxed)).filter(|&soft| soft != 0)
}

/// Is this limit of our making? A child of vfork(2) may have set its own, and an administrator that of a running process.
fn is_raised(limit: &rlimit) -> bool {
    limit.rlim_cur == RAISED_TO.load(Relaxed)
}

/// What a program that is executed now should find: the original limit, unless the descriptors that it inherits fill that.
/// Then not even its loader could open a file.
fn heirs_limit() -> Option<rlimit> {
    let soft = original()?;
    let limit = sys::descriptor_limit(0).ok().filter(is_raised)?;
    let needs = HEIRS_NEED.min(soft / 4);
    let inherited = |fd: u64| sys::descriptor_flags(fd as i32).is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0);
    let room = usage::used(limit.rlim_cur) + needs <= soft
        || (0..soft).filter(|&fd| !inherited(fd)).nth(needs as usize).is_some();
    room.then_some(rlimit { rlim_cur: soft.min(limit.rlim_max), ..limit })
}

/// Sets the original soft limit, as a program that is about to be executed expects it. Returns what to put back if that fails.
pub fn give_back() -> Option<rlimit> {
    let heirs = heirs_limit()?;
    let limit = sys::descriptor_limit(0).ok()?;
    sys::set_descriptor_limit(0, heirs).ok()?;
    Some(limit)
}

/// Puts back what [`give_back`] returned, unless somebody else has set it meanwhile.
pub fn take_again(limit: rlimit) {
    let given = original().map(|soft| soft.min(limit.rlim_max));
    if sys::descriptor_limit(0).is_ok_and(|now| Some(now.rlim_cur) == given) {
        let _ = sys::set_descriptor_limit(0, limit);
    }
}

/// Gives a child that was just spawned the original soft limit. It has had the raised one for as long as its start took.
pub fn give_child(pid: i32) {
    if let Some(heirs) = heirs_limit()
        && sys::descriptor_limit(pid).is_ok_and(|limit| is_raised(&limit))
    {
        let _ = sys::set_descriptor_limit(pid, heirs);
    }
}
