//! The table of all watches of listening sockets. What the program asked epoll_ctl(2) for is noted for listening sockets only; of the
//! others, the kernel tells when it is asked (`survey`).
#![deny(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use libc::epoll_event;
use tideover_contract::settings::SECOND;

use super::survey;
use super::watch::{State, Watch, is_gone};
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::descriptors::{self, EPOLL, LISTENER};
use crate::state::{page, process};

/// Watches that can be noted. A process has few listeners; a server with one epoll set per thread has one watch each.
const PLACES: usize = 128;
/// The kernel is asked at most once in this time, nanoseconds.
const SURVEY_INTERVAL: u64 = SECOND / 10;
/// Sets that no hook has seen are looked for at most once in this time, nanoseconds.
const MARK_INTERVAL: u64 = 2 * SECOND;

/// See the module.
pub struct Table {
    /// None: a free place.
    places: [Option<Watch>; PLACES],
}

/// Taken by all that reads or changes a watch.
#[allow(unsafe_code, reason = "names its place, see layout.ld")]
#[unsafe(link_section = ".tables")]
pub static TABLE: Lock<Table> = Lock::new(Table { places: [None; PLACES] });

/// What can be asked of the table without taking its lock.
struct Summary {
    /// How many watches are parked by this process.
    parked: AtomicU32,
    /// Has any watch ever been noted? A server that watches no listener by epoll has children that need not look.
    used: AtomicBool,
    /// May there be watches that are not in the table?
    incomplete: AtomicBool,
    /// When a set was read last, nanoseconds of CLOCK_MONOTONIC; 0: never.
    surveyed_at: AtomicU64,
    /// When every listener was last looked for in every set, nanoseconds of CLOCK_MONOTONIC; 0: never.
    completed_at: AtomicU64,
    /// When sets that no hook has seen were looked for last, nanoseconds of CLOCK_MONOTONIC; 0: never.
    marked_at: AtomicU64,
}

static SUMMARY: Summary = Summary {
    parked: AtomicU32::new(0),
    used: AtomicBool::new(false),
    incomplete: AtomicBool::new(true),
    surveyed_at: AtomicU64::new(0),
    completed_at: AtomicU64::new(0),
    marked_at: AtomicU64::new(0),
};

/// Is any watch parked by this process? One load.
pub fn any_parked() -> bool {
    SUMMARY.parked.load(SeqCst) != 0
}

/// Has any watch ever been noted?
pub fn is_used() -> bool {
    SUMMARY.used.load(Relaxed)
}

/// May there be watches that are not in the table?
pub fn is_incomplete() -> bool {
    SUMMARY.incomplete.load(Relaxed)
}

/// From here on there may be watches that are not in the table.
pub fn set_incomplete() {
    SUMMARY.incomplete.store(true, Relaxed);
}

impl Table {
    /// The place of a watch that can be changed.
    pub fn find(&mut self, epoll: c_int, listener: c_int) -> Option<&mut Option<Watch>> {
        let is_it = |place: &&mut Option<Watch>| matches!(place, Some(w) if w.epoll == epoll && w.listener == listener && !w.is_lost());
        self.places.iter_mut().find(is_it)
    }

    /// The places of all watches; a watch whose place becomes None is forgotten.
    pub fn watches(&mut self) -> impl Iterator<Item = &mut Option<Watch>> {
        self.places.iter_mut().filter(|place| place.is_some())
    }

    /// Notes a watch in its place, a free one, or that of a lost one, whose socket is probably gone. Without a place, the table is
    /// incomplete.
    pub fn note(&mut self, watch: Watch) {
        let index =
            |places: &[Option<Watch>; PLACES], which: &dyn Fn(&Option<Watch>) -> bool| places.iter().position(which);
        let is_same = |w: &Watch| w.epoll == watch.epoll && w.listener == watch.listener;
        let is_its = |w: &Watch| is_same(w) && (!w.is_lost() || w.inode == watch.inode);
        let place = index(&self.places, &|place| place.as_ref().is_some_and(is_its))
            .or_else(|| index(&self.places, &Option::is_none))
            .or_else(|| index(&self.places, &|place| place.as_ref().is_some_and(Watch::is_lost)));
        match place.map(|place| &mut self.places[place]) {
            Some(place) => {
                *place = Some(watch);
                SUMMARY.used.store(true, Relaxed);
            }
            None => set_incomplete(),
        }
    }

    /// How many listeners this process has parked. One that several sets watch counts once.
    pub fn parked_listeners(&self) -> usize {
        let watches = || self.places.iter().flatten().filter(|watch| watch.is_parked_here());
        watches().enumerate().filter(|(i, w)| !watches().take(*i).any(|other| other.inode == w.inode)).count()
    }

    /// Counts what is parked anew after a change, `before` which so many listeners were parked. Returns how many are now.
    pub fn recount(&mut self, before: usize) -> usize {
        let watches = self.places.iter().flatten().filter(|watch| watch.is_parked_here()).count();
        SUMMARY.parked.store(watches as u32, SeqCst);
        let now = self.parked_listeners();
        if now > before {
            page::add(&page::counters().parked, (now - before) as u64);
        } else {
            page::add(&page::counters().unparked, (before - now) as u64);
        }
        now
    }

    /// Puts back the parked watches for which `which` holds.
    pub fn put_back(&mut self, which: impl Fn(&Watch) -> bool) {
        let before = self.parked_listeners();
        for place in self.watches() {
            let parked = place.as_mut().filter(|watch| watch.is_parked() && which(watch));
            // EPERM: what could be parked can be put back, unless its number is another file's by now.
            let is_gone = |errno| is_gone(errno) || errno == libc::EPERM;
            if parked.is_some_and(|watch| watch.put_back().is_err_and(is_gone)) {
                *place = None;
            }
        }
        self.recount(before);
    }

    /// Forgets the watches for which `which` holds. Puts them back first, except what another process has parked, which puts it back
    /// itself.
    pub fn forget(&mut self, which: impl Fn(&Watch) -> bool) {
        self.put_back(|watch| !watch.is_inherited() && which(watch));
        for place in self.watches() {
            if place.as_ref().is_some_and(&which) {
                *place = None;
            }
        }
    }

    /// Is the listener in a set although no hook has seen that? Then reads the set, if there is a descriptor for that. None: it is in one,
    /// and that could not be read.
    pub fn find_unseen(&mut self, listener: c_int) -> Option<()> {
        let now = sys::now();
        if !is_too_early(&SUMMARY.marked_at, now, MARK_INTERVAL) {
            survey::find_unmarked();
        }
        self.find_in_sets(listener, !is_too_early(&SUMMARY.surveyed_at, now, SURVEY_INTERVAL))
    }

    /// [`Table::find_unseen`] for sets that are known. They are asked without a descriptor: EPOLL_CTL_ADD answers EEXIST. `may_read`: sets
    /// may be read, which takes milliseconds for one of ten thousand clients.
    pub fn find_in_sets(&mut self, listener: c_int, may_read: bool) -> Option<()> {
        let nothing = epoll_event { events: 0, u64: 0 };
        for epoll in descriptors::marked(EPOLL) {
            match sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, listener, Some(&nothing)) {
                Ok(()) => {
                    let _ = sys::epoll_control(epoll, libc::EPOLL_CTL_DEL, listener, None);
                }
                Err(libc::EEXIST) if self.find(epoll, listener).is_none() => {
                    if may_read {
                        survey::one_set(epoll, &mut |watch| self.note_surveyed(watch));
                    }
                    self.find(epoll, listener)?;
                }
                Err(_) => {}
            }
        }
        Some(())
    }

    /// Notes a watch as the kernel has it.
    fn note_surveyed(&mut self, watch: Watch) {
        // The kernel's events of a parked watch are not what the program asked for.
        let known = self.find(watch.epoll, watch.listener).and_then(|place| *place);
        if known.is_none_or(|known| !known.is_parked()) {
            self.note(watch);
        }
    }

    /// Learns what was registered where no hook could see it, while there are descriptors for that.
    pub fn complete(&mut self) {
        let now = sys::now();
        if is_too_early(&SUMMARY.completed_at, now, SURVEY_INTERVAL) {
            return;
        }
        SUMMARY.marked_at.store(now, Relaxed);
        survey::find_unmarked();
        // A process that nears its limit with sets that it has inherited uses them itself.
        for watch in self.watches().flatten().filter(|watch| watch.is_inherited() && !watch.is_parked()) {
            watch.maker = process::pid();
        }
        let mut complete = true;
        for listener in descriptors::marked(LISTENER) {
            complete &= self.find_in_sets(listener, true).is_some();
        }
        SUMMARY.incomplete.store(!complete, Relaxed);
    }
}

/// Was something done less than `interval` before `now`? Else it is done now.
fn is_too_early(last: &AtomicU64, now: u64, interval: u64) -> bool {
    let before = last.load(Relaxed);
    let early = before != 0 && now.saturating_sub(before) < interval;
    if !early {
        last.store(now, Relaxed);
    }
    early
}

/// A listener or an epoll set is about to be closed. The kernel keeps a watch for as long as any process has the socket open, so it is
/// put back first, and remembered: this process may have the socket under another number.
pub fn closing(fd: c_int) {
    if is_used()
        && let Some(mut table) = TABLE.enter()
    {
        table.forget(|watch| watch.epoll == fd);
        table.put_back(|watch| !watch.is_inherited() && watch.listener == fd);
        table.watches().flatten().filter(|watch| watch.listener == fd).for_each(|watch| watch.state = State::Lost);
    }
}

/// In the child of a fork. True: the parent had parked something, which is the parent's to put back in the sets that both have.
pub fn forked() -> bool {
    TABLE.forked();
    SUMMARY.parked.swap(0, Relaxed) != 0
}
