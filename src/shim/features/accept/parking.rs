//! Parking a listener at the limit, and putting it back.
//!
//! A level-triggered loop spins at the limit: the listener stays readable, accept fails, and so on. Parking masks its events in every
//! epoll set that watches it, and its clients wait in its backlog. Closes put the events back, exactly as the program asked for them
//! last, which also arms an edge-triggered watch again.
#![forbid(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::SECOND;

use super::table::{self, TABLE, Table};
use super::watch::{EDGE, ONESHOT, State, Watch, is_gone};
use super::{exhaustion, statistics};
use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::sys::{self, Errno};
use crate::state::descriptors::{self, EPOLL, LISTENER, SHARED};
use crate::state::events::{self, Event};
use crate::state::report::{ErrnoName, More, Repeated};
use crate::state::{page, process, thread};

/// While something is parked, no thread sleeps longer in epoll_wait(2) than this, nanoseconds.
pub const LOOK_INTERVAL: u64 = SECOND / 10;
/// For so long after a listener was parked, waits keep looking, nanoseconds: the next one is parked more cheaply.
const ALERT_LASTS: u64 = SECOND;
/// When what a close freed is taken by others again and again, a listener is put back after a rest that doubles each time, from the
/// first of these to the second, nanoseconds.
pub const FIRST_REST: u64 = SECOND / 1000;
pub const LONGEST_REST: u64 = SECOND / 50;

/// When what was done last, and when what is due. Times are nanoseconds of CLOCK_MONOTONIC, 0: never.
pub struct Schedule {
    /// Is something parked, or was it a moment ago? Read by each epoll_wait(2) and poll(2).
    alert: AtomicBool,
    /// When a listener was parked last.
    pub parked_at: AtomicU64,
    /// When all were put back last.
    pub put_back_at: AtomicU64,
    /// When a waiting thread is to look next.
    pub look_at: AtomicU64,
    /// Before this time a close is no reason to put anything back.
    pub rest_until: AtomicU64,
    /// Has there been a close before `rest_until`?
    pub close_deferred: AtomicBool,
    /// How many clients had been accepted when all were put back last.
    accepted: AtomicU64,
    /// How often in a row putting back has served no client.
    pub fruitless: AtomicU32,
    /// Had the process that this one was forked from parked something?
    inherited: AtomicBool,
}

/// See [`Schedule`].
pub static SCHEDULE: Schedule = Schedule {
    alert: AtomicBool::new(false),
    parked_at: AtomicU64::new(0),
    put_back_at: AtomicU64::new(0),
    look_at: AtomicU64::new(0),
    rest_until: AtomicU64::new(0),
    close_deferred: AtomicBool::new(false),
    accepted: AtomicU64::new(0),
    fruitless: AtomicU32::new(0),
    inherited: AtomicBool::new(false),
};

static REFUSED: Repeated = Repeated::new();

/// How a listener could be parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// In every set that watches it: accept(2) may answer EAGAIN, and no loop over these sets will spin.
    Parked,
    /// It was parked before.
    Again,
    /// No epoll set watches it, or a level-triggered watch could not be masked: accept(2) may answer EAGAIN, but its caller must be slowed
    /// down.
    Watched,
    /// It is not known which sets watch it, or an edge-triggered watch could not be masked: after EAGAIN a loop would wait for ever.
    Unknown,
}

/// Must waits look after what is parked? One load.
#[inline(always)]
pub fn is_alert() -> bool {
    SCHEDULE.alert.load(Relaxed)
}

/// Ends the alert, if nothing is parked. False: something is.
pub fn end_alert() -> bool {
    SCHEDULE.alert.store(false, SeqCst);
    if table::any_parked() {
        SCHEDULE.alert.store(true, SeqCst);
        return false;
    }
    true
}

/// Is the last parking so long ago that waits need not look any more?
pub fn is_long_ago(now: u64) -> bool {
    now.saturating_sub(SCHEDULE.parked_at.load(Relaxed)) >= ALERT_LASTS
}

/// Parks a listener at which a client waits.
pub fn park(listener: c_int) -> Parking {
    let Some(mut table) = TABLE.enter() else { return Parking::Unknown };
    let Ok(status) = sys::fstat(listener) else { return Parking::Unknown };
    // A program that is told by a signal is told of each client once.
    if sys::status_flags(listener).is_ok_and(|flags| flags & libc::O_ASYNC != 0) {
        return Parking::Unknown;
    }
    let inode = status.st_ino;
    if !is_known(&mut table, listener, inode) {
        return Parking::Unknown;
    }
    // A thread that sleeps in epoll_wait(2) since before does not look. Where there is one thread, it does not sleep there.
    let wake = !SCHEDULE.alert.swap(true, SeqCst) && thread::count() > 1;
    let before = table.parked_listeners();
    let masked = mask(&mut table, inode, wake);
    let is_first = table.recount(before) > before;
    drop(table);
    if masked.any {
        settle(is_first, listener);
    }
    if let Some((epoll, errno)) = masked.refused {
        report_refused(listener, epoll, errno);
        return if masked.edge_refused { Parking::Unknown } else { Parking::Watched };
    }
    match (masked.any, is_first) {
        (true, true) => Parking::Parked,
        (true, false) => Parking::Again,
        (false, _) => Parking::Watched,
    }
}

/// Is it known which sets watch this listener? Asks the kernel, if the table may not tell: it may have been registered by a system call of
/// the program's own, or received from another process and registered before it was known for a listener.
fn is_known(table: &mut Table, listener: c_int, inode: u64) -> bool {
    if table.watches().flatten().any(|watch| watch.inode == inode) {
        return true;
    }
    descriptors::add(listener, LISTENER);
    table.find_unseen(listener).is_some()
}

/// In the place of an errno: the number under which the listener was put into the set has been closed.
const LOST: Errno = -1;

/// In how many sets a listener could be masked.
struct Masked {
    /// In any?
    any: bool,
    /// A set in which it could not be masked, and the errno; 0: another process uses the set, too; [`LOST`].
    refused: Option<(c_int, Errno)>,
    /// Is one of the watches that could not be masked edge-triggered?
    edge_refused: bool,
}

/// Masks all watches of the socket with this inode.
fn mask(table: &mut Table, inode: u64, wake: bool) -> Masked {
    let mut masked = Masked { any: false, refused: None, edge_refused: false };
    for place in table.watches() {
        let Some(watch) = place.as_mut().filter(|watch| watch.inode == inode) else { continue };
        if watch.is_inherited() {
            if sys::is_alive(watch.maker) {
                masked.edge_refused |= watch.has(EDGE);
                masked.refused.get_or_insert((watch.epoll, 0));
                continue;
            }
            watch.maker = process::pid();
        }
        let parked = if watch.is_lost() { Err(LOST) } else { watch.park(wake) };
        match parked {
            Ok(()) => masked.any = true,
            Err(errno) if errno == LOST || is_gone(errno) && watch.has_lost_its_number() => {
                watch.state = State::Lost;
                masked.edge_refused |= watch.has(EDGE);
                masked.refused = Some((watch.epoll, LOST));
            }
            Err(errno) if is_gone(errno) => {
                *place = None;
                table::set_incomplete();
            }
            Err(errno) => {
                masked.edge_refused |= watch.has(EDGE);
                masked.refused = Some((watch.epoll, errno));
            }
        }
    }
    masked
}

/// This listener was parked. From here on closes are seen, so the caller must try its accept(2) once more.
fn settle(is_first: bool, listener: c_int) {
    if is_first {
        let now = sys::now();
        let parked_before = SCHEDULE.parked_at.swap(now, Relaxed);
        SCHEDULE.look_at.store(now + LOOK_INTERVAL, Relaxed);
        let served = page::counters().accepted.load(Relaxed) != SCHEDULE.accepted.load(Relaxed);
        let rest = if served || SCHEDULE.put_back_at.load(Relaxed) == 0 {
            SCHEDULE.fruitless.store(0, Relaxed);
            0
        } else {
            (FIRST_REST << SCHEDULE.fruitless.fetch_add(1, Relaxed).min(10)).min(LONGEST_REST)
        };
        SCHEDULE.rest_until.store(now + rest, Relaxed);
        if now.saturating_sub(parked_before) > ALERT_LASTS {
            let kind = EventKind::Parked;
            events::emit(&Event {
                kind,
                call: "",
                errno: 0,
                fd: listener,
                tries: 0,
                waited: 0,
                outcome: Outcome::None,
            });
        }
    }
    statistics::tell_if_due();
    wait::expect_closes();
}

/// Puts all listeners back, if there is a descriptor for a client.
pub fn put_back_if_room() {
    if !exhaustion::lacks_margin() {
        put_back();
    }
}

/// Puts all listeners back.
pub fn put_back() {
    page::catch_up();
    let Some(mut table) = TABLE.enter() else { return };
    SCHEDULE.accepted.store(page::counters().accepted.load(Relaxed), Relaxed);
    SCHEDULE.put_back_at.store(sys::now(), Relaxed);
    table.put_back(|watch| !watch.is_inherited());
}

/// What a close had freed is taken again. Listeners are parked before their loop is told of clients that it can't take: it would find out
/// by a failed accept(2) for each client that leaves, and some programs note that (memcached did, 500 times a second).
pub fn park_again() {
    let Some(mut table) = TABLE.enter() else { return };
    let before = table.parked_listeners();
    let mut listener = -1;
    for place in table.watches() {
        // Whether an EPOLLONESHOT watch is armed is not known.
        let own = place.as_mut().filter(|watch| !watch.is_inherited() && !watch.has(ONESHOT) && !watch.is_lost());
        let Some(watch) = own else { continue };
        listener = watch.listener;
        if watch.park(false).is_err_and(is_gone) {
            *place = None;
            table::set_incomplete();
        }
    }
    let any = table.recount(before) > before;
    drop(table);
    if any {
        settle(true, listener);
        // There may have been a close before closes were seen.
        if !exhaustion::is_full() {
            put_back();
        }
    }
}

/// Calls `act` for each listener that this process has parked, with one of its descriptors.
pub fn each_parked(mut act: impl FnMut(c_int)) {
    /// More listeners than these wait for the next time.
    const MOST: usize = 16;
    let mut numbers = [(0u64, -1); MOST];
    if let Some(mut table) = TABLE.enter() {
        for watch in table.watches().flatten().filter(|watch| watch.is_parked_here()) {
            let free = numbers.iter().position(|&(inode, fd)| fd < 0 || inode == watch.inode);
            if let Some(place) = free {
                numbers[place] = (watch.inode, watch.listener);
            }
        }
    }
    numbers.iter().filter(|(_, fd)| *fd >= 0).for_each(|&(_, fd)| act(fd));
}

/// A set could not be masked: its kind refuses that (an errno), or another process uses it too (0).
fn report_refused(listener: c_int, epoll: c_int, errno: Errno) {
    page::add(&page::counters().bypassed, 1);
    if let Some(more) = REFUSED.due() {
        if errno == LOST {
            log::warn!(
                "listener {listener} is not parked: it is in epoll set {epoll} under a number that was closed{}",
                More(more)
            );
        } else if errno == 0 {
            log::warn!(
                "listener {listener} is not parked: its epoll set {epoll} is in use by another process, too{}",
                More(more)
            );
        } else {
            log::warn!(
                "listener {listener} is not parked: its epoll set {epoll} refuses ({}){}",
                ErrnoName(errno),
                More(more)
            );
        }
    }
}

/// A listener or an epoll set is about to be closed, of which these marks were known.
pub fn closing(fd: c_int, marks: u32) {
    if !process::may_note() {
        return;
    }
    table::closing(fd);
    if marks & (SHARED | EPOLL) == SHARED | EPOLL {
        table::set_incomplete();
    }
}

/// A close that [`closing`] was told of has not happened: what was forgotten for it is looked for again.
pub fn close_undone() {
    table::set_incomplete();
}

/// While there still are descriptors: learns what was registered where no hook could see it, or before listen(2).
pub fn prepare() {
    if table::is_incomplete()
        && let Some(mut table) = TABLE.enter()
    {
        table.complete();
    }
}

/// A socket listens from now on: it may be in epoll sets already, where no hook has noted it.
#[cold]
#[inline(never)]
pub extern "C" fn listens(listener: c_int) {
    barrier((), || {
        if process::may_note()
            && let Some(mut table) = TABLE.enter()
            && table.find_in_sets(listener, true).is_none()
        {
            table::set_incomplete();
        }
    });
}

/// In the child of a fork: what the parent has parked is the parent's to put back, in sets that both have. Only a child that itself waits
/// for sets puts it back too ([`put_back_inherited`]).
pub fn forked() {
    if table::forked() {
        SCHEDULE.inherited.store(true, Relaxed);
    }
}

/// Puts back what the process that this one was forked from had parked.
pub fn put_back_inherited() {
    if SCHEDULE.inherited.swap(false, Relaxed)
        && let Some(mut table) = TABLE.enter()
    {
        table.put_back(Watch::is_inherited);
    }
}
