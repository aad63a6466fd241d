//! Listeners and the epoll sets that watch them: at the limit a listener is *parked*.
//!
//! A level-triggered loop spins at the limit: the listener stays readable, accept fails, and so on. Parking masks its events in every
//! set that it is in; the clients wait in its backlog. Closes put the events back, which also arms an edge-triggered listener
//! again. Closes that no hook sees are found within 100 ms by whoever waits in epoll_wait(2).
//!
//! What the program asked epoll_ctl(2) for is noted for listening sockets only; the kernel tells about the others when asked
//! (`survey`). Each watch is put back exactly as it was asked for last.

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use libc::epoll_event;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::SECOND;

use super::survey;
use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::lock::Lock;
use crate::os::sys::{self, Errno};
use crate::state::descriptors::{self, EPOLL, LISTENER, SHARED};
use crate::state::events::{self, Event};
use crate::state::{page, process, thread};

/// Watches that can be noted. A process has few listeners; a server with one epoll set per thread has one watch each.
const PLACES: usize = 128;

const ONESHOT: u32 = libc::EPOLLONESHOT as u32;
const EXCLUSIVE: u32 = libc::EPOLLEXCLUSIVE as u32;
const EDGE: u32 = libc::EPOLLET as u32;

/// Nobody waits longer in epoll_wait(2) while something is parked.
const LOOK: u64 = SECOND / 10;
/// A parked listener is tried anyway after this time, whatever the counts of descriptors say.
const TRY_ANYWAY: u64 = SECOND;
/// For so long after a listener was parked, waits keep looking: the next one is parked more cheaply.
const ALERT_LASTS: u64 = SECOND;
/// When what a close freed is taken by others again and again, the listener is put back at most this often.
const LONGEST_REST: u64 = SECOND / 50;
const FIRST_REST: u64 = SECOND / 1000;

/// What has become of a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// As the program asked for it.
    Open,
    /// Its events are masked.
    Parked {
        /// Are they to be put back? An EPOLLONESHOT watch that has fired is for the program to arm.
        armed: bool,
    },
}

/// A listener in an epoll set.
#[derive(Clone, Copy)]
pub struct Watch {
    epoll: c_int,
    listener: c_int,
    /// Of the listener's socket: the number may have become another one's.
    inode: u64,
    /// What the program asked for last.
    event: epoll_event,
    /// The process that made it. A set that was inherited may be in use by both.
    maker: c_int,
    state: State,
}

struct Table {
    places: [Option<Watch>; PLACES],
}

#[unsafe(link_section = ".tables")]
static TABLE: Lock<Table> = Lock::new(Table { places: [None; PLACES] });
/// Watches that are parked.
static PARKED: AtomicU32 = AtomicU32::new(0);
/// Something is parked, or was a moment ago.
static ALERT: AtomicBool = AtomicBool::new(false);
/// Has anything ever been noted in the table? A server that watches no listener with epoll has children that need not look.
static NOTED: AtomicBool = AtomicBool::new(false);
/// Some watches may not be in the table.
static DOUBT: AtomicBool = AtomicBool::new(true);
/// When a listener was parked last, when one was put back last, when to look next, and before which time a close is no reason to.
static PARKED_AT: AtomicU64 = AtomicU64::new(0);
static PUT_BACK_AT: AtomicU64 = AtomicU64::new(0);
static LOOK_AT: AtomicU64 = AtomicU64::new(0);
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// There has been a close before that time.
static DEFERRED: AtomicBool = AtomicBool::new(false);
/// Clients accepted until something was put back last; and how often in a row that has served none.
static ACCEPTED: AtomicU64 = AtomicU64::new(0);
static FRUITLESS: AtomicU32 = AtomicU32::new(0);
/// The process that this one was forked from had parked something.
static INHERITED: AtomicBool = AtomicBool::new(false);
static SURVEYED_AT: AtomicU64 = AtomicU64::new(0);

/// How a listener could be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// In every set that watches it: accept(2) may answer EAGAIN, and no loop over these sets will spin.
    Parked,
    /// It was parked before.
    Again,
    /// No epoll set watches it, or one that may not be masked, level-triggered: EAGAIN will do, but the caller must be slowed down.
    Watched,
    /// Who watches it is not known, or can't be masked and is edge-triggered: after EAGAIN a loop would wait for ever.
    Unknown,
}

impl Watch {
    /// For [`survey`]: as the kernel tells it.
    pub fn told(epoll: c_int, listener: c_int, inode: u64, event: epoll_event) -> Watch {
        Watch { epoll, listener, inode, event, maker: process::pid(), state: State::Open }
    }

    /// Set, listener, data.
    #[cfg(test)]
    pub fn asked(&self) -> (c_int, c_int, u64) {
        (self.epoll, self.listener, self.event.u64)
    }

    fn has(&self, flag: u32) -> bool {
        self.event.events & flag != 0
    }

    fn is_parked(&self) -> bool {
        self.state != State::Open
    }

    /// Inherited with its set from a process that may be using both.
    fn is_foreign(&self) -> bool {
        self.maker != process::pid()
    }

    /// Masks the events. `nudge`: one last event, so that whoever sleeps in epoll_wait(2) comes back and looks every 100 ms.
    fn park(&mut self, nudge: bool) -> Result<(), Errno> {
        if self.has(ONESHOT) {
            if !self.is_parked() {
                // It has fired; the program is about to arm it again.
                self.state = State::Parked { armed: false };
            }
            return Ok(());
        }
        let events = if nudge { libc::EPOLLIN as u32 | ONESHOT } else { 0 };
        let quiet = epoll_event { events, ..self.event };
        if self.has(EXCLUSIVE) && !self.is_parked() {
            // The kernel refuses to change these.
            self.control(libc::EPOLL_CTL_DEL, None)?;
            if let Err(wrong) = self.control(libc::EPOLL_CTL_ADD, Some(&quiet)) {
                let _ = self.control(libc::EPOLL_CTL_ADD, Some(&self.event));
                return Err(wrong);
            }
        } else {
            self.control(libc::EPOLL_CTL_MOD, Some(&quiet))?;
        }
        self.state = State::Parked { armed: true };
        Ok(())
    }

    /// Puts the events back as the program wants them.
    fn put_back(&mut self) -> Result<(), Errno> {
        if self.state == (State::Parked { armed: true }) {
            if self.has(EXCLUSIVE) {
                match self.control(libc::EPOLL_CTL_DEL, None) {
                    Ok(()) | Err(libc::ENOENT) => {}
                    other => return other,
                }
                match self.control(libc::EPOLL_CTL_ADD, Some(&self.event)) {
                    // Another process that shares the set was faster.
                    Ok(()) | Err(libc::EEXIST) => {}
                    other => return other,
                }
            } else {
                self.control(libc::EPOLL_CTL_MOD, Some(&self.event))?;
            }
        }
        self.state = State::Open;
        Ok(())
    }

    fn control(&self, operation: c_int, event: Option<&epoll_event>) -> Result<(), Errno> {
        sys::epoll_control(self.epoll, operation, self.listener, event)
    }
}

/// Errors of epoll_ctl(2) after which there is no such watch. EPERM may be a sandbox's.
fn is_gone(wrong: Errno) -> bool {
    matches!(wrong, libc::ENOENT | libc::EBADF | libc::EINVAL)
}

impl Table {
    fn find(&mut self, epoll: c_int, listener: c_int) -> Option<&mut Option<Watch>> {
        let is_it = |place: &&mut Option<Watch>| matches!(place, Some(w) if w.epoll == epoll && w.listener == listener);
        self.places.iter_mut().find(is_it)
    }

    fn watches(&mut self) -> impl Iterator<Item = &mut Option<Watch>> {
        self.places.iter_mut().filter(|place| place.is_some())
    }

    /// Notes a watch, if there is room.
    pub fn note(&mut self, watch: Watch) {
        let known = self.find(watch.epoll, watch.listener).is_some();
        let place = self.places.iter_mut().find(|place| match place {
            Some(w) => known && w.epoll == watch.epoll && w.listener == watch.listener,
            None => !known,
        });
        match place {
            Some(place) => {
                *place = Some(watch);
                NOTED.store(true, Relaxed);
            }
            None => DOUBT.store(true, Relaxed),
        }
    }

    /// Counts what is parked, after a change; and the listeners, where that makes a difference.
    fn count(&mut self, before: usize) {
        let watches = self.places.iter().flatten().filter(|w| w.is_parked() && !w.is_foreign()).count();
        PARKED.store(watches as u32, SeqCst);
        let now = self.listeners();
        if now > before {
            page::add(&page::counters().parked, (now - before) as u64);
        } else {
            page::add(&page::counters().unparked, (before - now) as u64);
        }
    }

    /// How many listeners are parked.
    fn listeners(&self) -> usize {
        let parked = |w: &&Watch| w.is_parked() && !w.is_foreign();
        let watches = || self.places.iter().flatten().filter(parked);
        watches().enumerate().filter(|(i, w)| !watches().take(*i).any(|other| other.inode == w.inode)).count()
    }

    /// Puts back what is parked and fits.
    fn put_back(&mut self, fits: impl Fn(&Watch) -> bool) {
        let before = self.listeners();
        for place in self.watches() {
            let parked = place.as_mut().filter(|watch| watch.is_parked() && fits(watch));
            // What could be parked can be put back, unless its number is a file's now.
            let is_gone = |wrong| is_gone(wrong) || wrong == libc::EPERM;
            if parked.is_some_and(|watch| watch.put_back().is_err_and(is_gone)) {
                *place = None;
            }
        }
        self.count(before);
    }

    /// The same before it is forgotten. What another process has parked is for that to put back.
    fn forget(&mut self, fits: impl Fn(&Watch) -> bool) {
        self.put_back(|watch| !watch.is_foreign() && fits(watch));
        for place in self.watches() {
            if place.as_ref().is_some_and(&fits) {
                *place = None;
            }
        }
    }
}

/// Is a closer to tell [`closed`]? One load.
pub fn any_parked() -> bool {
    PARKED.load(SeqCst) != 0
}

/// Must waits look after what is parked? One load.
#[inline(always)]
pub fn is_alert() -> bool {
    ALERT.load(Relaxed)
}

/// Parks a listener at which a client waits.
pub fn park(listener: c_int) -> Parking {
    let Some(mut table) = TABLE.enter() else { return Parking::Unknown };
    let Ok(status) = sys::fstat(listener) else { return Parking::Unknown };
    let inode = status.st_ino;
    let known = |table: &mut Table| table.watches().flatten().any(|watch| watch.inode == inode);
    // Received from another process, perhaps, and registered before it was known for a listener.
    let strange = descriptors::marks(listener) & LISTENER == 0;
    if !known(&mut table) && (strange || DOUBT.load(Relaxed)) {
        if !look_around(&mut table) && !known(&mut table) {
            return Parking::Unknown;
        }
        descriptors::add(listener, LISTENER);
    }
    // Whoever sleeps in epoll_wait(2) since before does not look; the only thread does not sleep there.
    let nudge = !ALERT.swap(true, SeqCst) && thread::count() > 1;
    let before = table.listeners();
    let (mut parked, mut loud, mut refused) = (false, false, None);
    for place in table.watches() {
        let Some(watch) = place.as_mut().filter(|watch| watch.inode == inode) else { continue };
        if watch.is_foreign() {
            if sys::is_alive(watch.maker) {
                loud |= watch.has(EDGE);
                refused.get_or_insert((watch.epoll, 0));
                continue;
            }
            watch.maker = process::pid();
        }
        match watch.park(nudge) {
            Ok(()) => parked = true,
            Err(wrong) if is_gone(wrong) => {
                *place = None;
                DOUBT.store(true, Relaxed);
            }
            Err(wrong) => {
                loud |= watch.has(EDGE);
                refused = Some((watch.epoll, wrong));
            }
        }
    }
    table.count(before);
    let first = table.listeners() > before;
    drop(table);
    if parked {
        settle(first);
    }
    match refused {
        Some((epoll, wrong)) => {
            super::refused_to_park(listener, epoll, wrong);
            if loud { Parking::Unknown } else { Parking::Watched }
        }
        None if parked && first => Parking::Parked,
        None if parked => Parking::Again,
        None => Parking::Watched,
    }
}

/// Something was parked: from here on closes are seen, so the caller must try its accept(2) once more.
fn settle(first: bool) {
    if first {
        let now = sys::now();
        let quiet_since = PARKED_AT.swap(now, Relaxed);
        LOOK_AT.store(now + LOOK, Relaxed);
        let served = page::counters().accepted.load(Relaxed) != ACCEPTED.load(Relaxed);
        let rest = if served || PUT_BACK_AT.load(Relaxed) == 0 {
            FRUITLESS.store(0, Relaxed);
            0
        } else {
            (FIRST_REST << FRUITLESS.fetch_add(1, Relaxed).min(10)).min(LONGEST_REST)
        };
        NOT_BEFORE.store(now + rest, Relaxed);
        if now.saturating_sub(quiet_since) > ALERT_LASTS {
            tell(EventKind::Parked);
        }
    }
    wait::expect_closes();
}

fn tell(kind: EventKind) {
    events::emit(&Event { kind, call: "", errno: 0, fd: -1, tries: 0, waited: 0, outcome: Outcome::None });
}

/// Puts all listeners back.
pub fn put_back() {
    page::catch_up();
    let Some(mut table) = TABLE.enter() else { return };
    ACCEPTED.store(page::counters().accepted.load(Relaxed), Relaxed);
    PUT_BACK_AT.store(sys::now(), Relaxed);
    table.put_back(|watch| !watch.is_foreign());
}

/// The host has closed something. Only while something is parked.
pub fn closed() {
    if !process::is_ours() || !super::may_serve() {
        return;
    }
    if sys::now() >= NOT_BEFORE.load(Relaxed) {
        put_back();
    } else {
        DEFERRED.store(true, Relaxed);
    }
}

/// What a close had freed is taken. Listeners are parked before their loop is told of clients that it can't take: it would find out
/// by a failed accept(2) for each client that leaves, and some note that (memcached did, 500 times a second).
fn park_again() {
    let Some(mut table) = TABLE.enter() else { return };
    let before = table.listeners();
    for place in table.watches() {
        // Whether an EPOLLONESHOT watch is armed is not known.
        let own = place.as_mut().filter(|watch| !watch.is_foreign() && !watch.has(ONESHOT));
        if own.is_some_and(|watch| watch.park(false).is_err_and(is_gone)) {
            *place = None;
            DOUBT.store(true, Relaxed);
        }
    }
    table.count(before);
    let any = table.listeners() > before;
    drop(table);
    if any {
        settle(true);
        // A close that came before.
        if !super::is_full() {
            put_back();
        }
    }
}

/// Looks after what is parked, if that is due. Returns after how many nanoseconds to look again; None: nothing is parked, nor was
/// lately.
pub fn look() -> Option<u64> {
    claim();
    let now = sys::now();
    if !any_parked() && super::is_full() {
        park_again();
    }
    if !any_parked() {
        if now.saturating_sub(PARKED_AT.load(Relaxed)) < ALERT_LASTS {
            return Some(LOOK);
        }
        ALERT.store(false, SeqCst);
        if !any_parked() {
            descriptors::reconcile_now_and_then();
            return None;
        }
        ALERT.store(true, SeqCst);
    }
    let due = LOOK_AT.load(Relaxed);
    if now >= due && LOOK_AT.compare_exchange(due, now + LOOK, Relaxed, Relaxed).is_ok() {
        super::attend();
        let overdue = now.saturating_sub(PUT_BACK_AT.load(Relaxed).max(PARKED_AT.load(Relaxed))) > TRY_ANYWAY;
        if super::may_serve() && (overdue || super::has_descriptors()) {
            put_back();
        }
    }
    let rest = NOT_BEFORE.load(Relaxed).saturating_sub(now);
    if rest == 0 && DEFERRED.swap(false, Relaxed) && super::may_serve() {
        put_back();
    }
    let contended = match (FRUITLESS.load(Relaxed), rest) {
        (0, _) => LOOK,
        (_, 0) => LONGEST_REST,
        _ => rest,
    };
    let until = LOOK_AT.load(Relaxed).saturating_sub(now);
    Some(until.min(super::patience()).min(contended).clamp(FIRST_REST, LOOK))
}

/// Each parked listener of this process, with one of its numbers.
pub fn each_parked(mut act: impl FnMut(c_int)) {
    let mut numbers = [(0u64, -1); 16];
    if let Some(mut table) = TABLE.enter() {
        for watch in table.watches().flatten().filter(|watch| watch.is_parked() && !watch.is_foreign()) {
            let free = numbers.iter().position(|&(inode, fd)| fd < 0 || inode == watch.inode);
            if let Some(place) = free {
                numbers[place] = (watch.inode, watch.listener);
            }
        }
    }
    numbers.iter().filter(|(_, fd)| *fd >= 0).for_each(|&(_, fd)| act(fd));
}

type RealControl = unsafe extern "C" fn(c_int, c_int, c_int, *mut epoll_event) -> c_int;

/// epoll_ctl(2) of a listener: answered by the kernel, noted, and masked while the listener is parked.
///
/// # Safety
/// As epoll_ctl(2); `real` is that.
pub unsafe extern "C" fn control(
    real: usize,
    epoll: c_int,
    operation: c_int,
    listener: c_int,
    event: *mut epoll_event,
) -> c_int {
    // SAFETY: promised by the caller.
    let call = |event| unsafe { core::mem::transmute::<usize, RealControl>(real)(epoll, operation, listener, event) };
    barrier(None, || {
        // SAFETY: as promised by the caller.
        let asked = unsafe { asked_for(event) };
        let mut table = if process::may_act() && !thread::is_in_vfork() { TABLE.enter()? } else { return None };
        let inode = sys::fstat(listener).ok()?.st_ino;
        let shared = |epoll| descriptors::marks(epoll) & SHARED != 0;
        if shared(epoll) {
            // One set with several numbers: which watch is changed by which number is not followed.
            table.forget(|watch| watch.listener == listener && shared(watch.epoll));
            DOUBT.store(true, Relaxed);
            return Some(call(event));
        }
        let known = table.find(epoll, listener).and_then(|place| *place);
        let parked = known.filter(|watch| watch.is_parked() && watch.inode == inode && !watch.is_foreign());
        let before = table.listeners();
        let answer = match (operation, asked, parked) {
            (libc::EPOLL_CTL_MOD, Some(asked), Some(watch)) if (asked.events | watch.event.events) & EXCLUSIVE == 0 => {
                let mut quiet = epoll_event { events: 0, ..asked };
                call(&raw mut quiet)
            }
            (libc::EPOLL_CTL_MOD, Some(_), Some(watch)) if watch.has(EXCLUSIVE) => {
                sys::set_errno(libc::EINVAL);
                -1
            }
            _ => call(event),
        };
        if answer == 0 {
            match (operation, asked) {
                (libc::EPOLL_CTL_DEL, _) => {
                    if let Some(place) = table.find(epoll, listener) {
                        *place = None;
                    }
                }
                (_, Some(event)) => {
                    let state = if parked.is_some() { State::Parked { armed: true } } else { State::Open };
                    table.note(Watch { state, ..Watch::told(epoll, listener, inode, event) });
                    descriptors::add(epoll, EPOLL);
                }
                _ => {}
            }
        }
        let errno = sys::errno();
        table.count(before);
        sys::set_errno(errno);
        Some(answer)
    })
    .unwrap_or_else(|| call(event))
}

/// The host's event, if it can be read.
unsafe fn asked_for(event: *const epoll_event) -> Option<epoll_event> {
    // SAFETY: the host's own, and readable.
    (sys::is_readable(event.cast(), size_of::<epoll_event>())).then(|| unsafe { event.read_unaligned() })
}

/// A listener, or an epoll set, is about to be closed. The kernel keeps a watch for as long as any process has the listener open,
/// so it is put back first. `marks` are what was known of the descriptor.
pub fn closing(fd: c_int, marks: u32) {
    if !process::may_act() {
        return;
    }
    if NOTED.load(Relaxed)
        && let Some(mut table) = TABLE.enter()
    {
        table.forget(|watch| watch.epoll == fd || watch.listener == fd);
    }
    if marks & (SHARED | EPOLL) == SHARED | EPOLL {
        DOUBT.store(true, Relaxed);
    }
}

/// A descriptor that was about to be closed is still there: what was forgotten of it is looked for.
pub fn doubt() {
    DOUBT.store(true, Relaxed);
}

/// Asks the kernel which listeners are in which sets. False: it could not be asked.
fn look_around(table: &mut Table) -> bool {
    let now = sys::now();
    let last = SURVEYED_AT.load(Relaxed);
    if last != 0 && now.saturating_sub(last) < LOOK {
        return false;
    }
    SURVEYED_AT.store(now, Relaxed);
    let complete = survey::run(|watch| {
        if table.find(watch.epoll, watch.listener).is_none_or(|known| known.is_none_or(|known| !known.is_parked())) {
            table.note(watch);
        }
    });
    DOUBT.store(!complete, Relaxed);
    complete
}

/// While there still are descriptors: learns what was registered where no hook could see it, or before listen(2).
pub fn prepare() {
    if DOUBT.load(Relaxed)
        && let Some(mut table) = TABLE.enter()
    {
        look_around(&mut table);
    }
}

/// In the child of a fork: what the parent has parked is the parent's to put back, in sets that both have. Only a child that
/// waits for sets itself puts it back too.
pub fn forked() {
    TABLE.forked();
    if PARKED.swap(0, Relaxed) != 0 {
        INHERITED.store(true, Relaxed);
    }
}

/// Puts back what the process that this one was forked from has parked.
fn claim() {
    if INHERITED.swap(false, Relaxed)
        && let Some(mut table) = TABLE.enter()
    {
        table.put_back(Watch::is_foreign);
    }
}
