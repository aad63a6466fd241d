//! The marks of each descriptor, 32 bits: is it a log whose lines are diverted, has the program asked for durability, is it a socket of
//! a client ... 16 bits would be enough, but cost one more instruction at each close of a client.
//!
//! They are in a table of fixed size, not of the size of the limit, which may be 2^30 (moby#38814). Descriptors beyond its end count as
//! ones whose program has asked for durability, so that they get the original error; sockets beyond it are not counted.

use core::sync::atomic::Ordering::Relaxed;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::table::Table;
use crate::state::handlers::handlers;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

/// The table has marks for descriptors below this number.
pub const NUMBERS: usize = 65536;

/// Seven bits: what the program did with it that writers of logs don't do (`contract`'s refusals for logs).
pub const HISTORY: u32 = 0x7f;
/// It was synced, but not often.
pub const SYNCED: u32 = 0x80;
/// It was found to be a log, while its filesystem was full.
pub const LOG: u32 = 0x100;
/// It is not a regular file, or one that is copied from another.
pub const OTHER: u32 = 0x200;
/// A socket that accept(2) returned.
pub const CLIENT: u32 = 0x400;
/// A socket that the program has connected.
pub const OUTGOING: u32 = 0x800;
/// A socket or an epoll set that has or had more than one descriptor in this process.
pub const SHARED: u32 = 0x1000;
/// A listening socket.
pub const LISTENER: u32 = 0x2000;
/// An epoll set.
pub const EPOLL: u32 = 0x4000;
/// A client's socket that has been counted before the hook has returned from accept(2): where clients are limited.
pub const FRESH: u32 = 0x8000;
/// Standard output or error, and a pipe: looked at a moment ago (see [`crate::features::logs::pipe`]).
pub const PIPE: u32 = 0x1_0000;
/// Its [`HISTORY`] ends when its stream is closed ([`forget_after_flush`]).
const FLUSHING: u32 = 0x2_0000;
/// The upper part: which diverted file it is (see [`crate::features::logs::files`]); 0: not known.
const FILE: u32 = 0xfffc_0000;
/// Sockets that are counted while they are open.
pub const COUNTED: u32 = CLIENT | OUTGOING;

type Marks = [AtomicU32; NUMBERS];

/// What is known of the table.
struct State {
    /// The table, or null: it is mapped for the first mark, and most programs have none.
    table: Table<Marks>,
    /// There was no memory for it: nothing is known of any descriptor from then on, so none is taken for a log.
    has_no_memory: AtomicBool,
    /// One above the highest number that was ever marked.
    end: AtomicU32,
    /// See [`round`].
    next: AtomicU32,
}

static STATE: State = State {
    table: Table::new(),
    has_no_memory: AtomicBool::new(false),
    end: AtomicU32::new(0),
    next: AtomicU32::new(0),
};

/// The marks of one descriptor, if the table is there and has them.
#[inline(always)]
fn entry(fd: i32) -> Option<&'static AtomicU32> {
    STATE.table.get().and_then(|table| table.get(fd as usize))
}

/// Maps the table. False: there is no memory for it.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn make_table() -> bool {
    let made = process::phase() != Phase::Sandboxed && STATE.table.map().is_some();
    if !made {
        STATE.has_no_memory.store(true, Relaxed);
    }
    made
}

/// The marks of a descriptor: 0 if nothing is known of it, [`HISTORY`] if nothing can be known.
#[inline(always)]
pub fn marks(fd: i32) -> u32 {
    match STATE.table.get() {
        Some(marks) => marks.get(fd as usize).map_or(HISTORY, |marks| marks.load(Relaxed)),
        None if (fd as usize) < NUMBERS && !STATE.has_no_memory.load(Relaxed) => 0,
        None => HISTORY,
    }
}

/// [`add`], called from hooks for a kind of descriptor that most programs have few of.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn classify(fd: i32, kind: u32) {
    barrier((), || {
        if !matches!(process::phase(), Phase::Starting | Phase::Dormant) {
            add(fd, kind);
        }
    });
}

/// Adds marks; not in the child of a vfork(2), which has descriptors of its own in its parent's memory.
#[inline(always)]
pub fn add(fd: i32, marks: u32) {
    if thread::is_in_vfork() || STATE.table.get().is_none() && !make_table() {
        return;
    }
    let is_new = |known: u32| known & marks != marks || known & FLUSHING != 0 && marks & (HISTORY | SYNCED) != 0;
    if let Some(known) = entry(fd).filter(|known| is_new(known.load(Relaxed))) {
        if marks & (HISTORY | SYNCED | FLUSHING) != 0 {
            // From now on the marks are those of the file that the number is open on next.
            known.fetch_and(!FLUSHING, Relaxed);
        }
        known.fetch_or(marks, Relaxed);
        reach(fd);
    }
}

/// Marks a descriptor with the number of the diverted file that it is open on.
pub fn set_file(fd: i32, number: u32) {
    if let Some(known) = entry(fd) {
        let set = |marks| Some(marks & !FILE | number << FILE.trailing_zeros());
        let _ = known.fetch_update(Relaxed, Relaxed, set);
    }
}

/// The number that [`set_file`] has put into these marks; 0: none.
pub fn file(marks: u32) -> u32 {
    marks >> FILE.trailing_zeros()
}

/// Notes that there is a descriptor of this number, for [`forget_range`] and [`marked`].
pub fn reach(fd: i32) {
    STATE.end.fetch_max(fd.max(0) as u32 + 1, Relaxed);
}

/// Forgets the marks of a descriptor that is about to be closed, or whose number is open on something new. True: it is one of the
/// library's own, so a close(2) by the program must fail with EBADF.
#[inline(always)]
pub fn forget(fd: i32) -> bool {
    let Some(table) = STATE.table.get() else { return false };
    if (fd as u32 as usize) >= NUMBERS {
        unknown();
        return false;
    }
    let known = &table[fd as usize];
    match known.load(Relaxed) {
        0 => false,
        // The usual close of a server. If two threads close one client at once, two clients are subtracted; a swap would tell, and costs
        // more. A program that does that also closes other files by mistake at times.
        CLIENT if !thread::is_in_vfork() => {
            known.store(0, Relaxed);
            uncount_client();
            false
        }
        _ => forget_known(fd),
    }
}

/// Nothing. The call keeps the two conditions in [`forget`] apart, which the compiler would otherwise make one of, in twice as many
/// instructions.
#[cold]
#[inline(never)]
extern "C" fn unknown() {
    core::hint::black_box(());
}

/// One client less is open.
#[inline(always)]
fn uncount_client() {
    let clients = &page::counters().clients;
    // Written as an addition so that the compiler uses the flags that the addition sets, and needs no comparison.
    const MINUS_ONE: u64 = u64::MAX;
    if (clients.fetch_add(MINUS_ONE, Relaxed).wrapping_add(MINUS_ONE) as i64) < 0 {
        was_not_counted(clients);
    }
}

/// The count fell below zero, since the client was not counted: takes that back.
#[cold]
#[inline(never)]
extern "C" fn was_not_counted(clients: &AtomicU64) {
    clients.fetch_add(1, Relaxed);
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn forget_known(fd: i32) -> bool {
    barrier(false, || {
        (handlers().is_own_copy)(fd) || {
            taken(fd);
            false
        }
    })
}

/// [`forget`] before fclose(3) or freopen(3), which write what is buffered. The [`HISTORY`] of the descriptor is kept until then, and
/// returned, for [`flushed`].
#[inline(always)]
pub fn forget_after_flush(fd: i32) -> (bool, u32) {
    let history = if fd >= 0 { marks(fd) & (HISTORY | SYNCED) } else { 0 };
    let ours = forget(fd);
    if history != 0 {
        add(fd, history | FLUSHING);
    }
    (ours, history)
}

/// The stream is closed: forgets its history (what [`forget_after_flush`] returned) and the marks that its last write has made.
#[inline(always)]
pub fn flushed(fd: i32, history: u32) {
    if marks(fd) != 0 {
        forget_flush(fd, history);
    }
    if fd == 1 || fd == 2 {
        (handlers().on_stream_closed)();
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn forget_flush(fd: i32, history: u32) {
    if let Some(known) = entry(fd).filter(|_| !thread::is_in_vfork()) {
        // If the number is open on another file by now, these marks are found out again, so they may be forgotten. A history of that
        // file must be kept: `add` has removed FLUSHING when it added one.
        let found = LOG | OTHER | PIPE | FILE;
        let ended = |known: u32| if known & FLUSHING != 0 { found | FLUSHING | history } else { found };
        let _ = known.fetch_update(Relaxed, Relaxed, |known| Some(known & !ended(known)));
    }
}

/// Forgets the marks of every descriptor in first..=last.
#[unsafe(link_section = ".text.on_success")]
pub fn forget_range(first: u32, last: u32) {
    let end = last.saturating_add(1).min(STATE.end.load(Relaxed));
    for fd in first..end.max(first) {
        forget(fd as i32);
    }
}

/// Forgets the marks of a descriptor, as [`forget`], and returns them. The descriptor must still be open, since otherwise it can't be told
/// whether another one is open on its socket.
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn take(fd: i32) -> u32 {
    barrier(0, || taken(fd))
}

#[unsafe(link_section = ".text.on_success")]
fn taken(fd: i32) -> u32 {
    // The child of a vfork(2) closes descriptors of its own, and has its parent's memory.
    let Some(known) = entry(fd).filter(|_| !thread::is_in_vfork()) else {
        return 0;
    };
    // The child of a clone(2) that shares memory does, too, but only its process id shows that, which costs a system call. It is made
    // where a mistake would do harm: a descriptor of the parent's whose history is forgotten may be taken for a log.
    let has_history = known.load(Relaxed) & (HISTORY | SYNCED) != 0;
    if has_history && !matches!(process::phase(), Phase::Starting | Phase::Sandboxed) && !process::is_ours() {
        return 0;
    }
    let old = known.swap(0, Relaxed);
    for (_, tell) in handlers().on_close.iter().filter(|(marks, _)| old & marks != 0) {
        tell(fd, old);
    }
    if old & COUNTED != 0 && !(old & SHARED != 0 && has_copy(fd)) {
        let counter = gauge(old);
        let _ = counter.fetch_update(Relaxed, Relaxed, |open| open.checked_sub(1));
    }
    old
}

/// Undoes a [`take`] of these marks: the descriptor was not closed.
#[inline(never)]
pub extern "C" fn undo_take(fd: i32, marks: u32) {
    barrier((), || {
        let has_copy = marks & SHARED != 0 && has_copy(fd);
        add(fd, marks & !FLUSHING);
        for (_, tell) in handlers().on_close_undone.iter().filter(|(wanted, _)| marks & wanted != 0) {
            tell();
        }
        if marks & COUNTED != 0 && !has_copy {
            page::add(gauge(marks), 1);
        }
    });
}

/// `to` is now a copy of `from` (dup(2)): it gets its marks.
#[inline(always)]
pub fn copy(from: i32, to: i32) {
    forget(to);
    if from != to && STATE.table.get().is_some() && marks(from) != 0 {
        share(from, to);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn share(from: i32, to: i32) {
    barrier((), || {
        if thread::is_in_vfork() {
            return;
        }
        let known = marks(from) & !FLUSHING;
        let shared = if known & (COUNTED | EPOLL) != 0 { SHARED } else { 0 };
        for (_, tell) in handlers().on_copy.iter().filter(|(marks, _)| known & marks != 0) {
            tell(from, to);
        }
        add(from, shared);
        add(to, known | shared);
    });
}

/// accept(2) has returned this descriptor: marks and counts it.
#[inline(always)]
pub fn accepted(fd: i32) {
    match STATE.table.get() {
        Some(table) if (fd as u32 as usize) < NUMBERS && table[fd as usize].load(Relaxed) == 0 => {
            table[fd as usize].store(CLIENT, Relaxed);
            page::add(&page::counters().clients, 1);
        }
        _ => count_in(fd, CLIENT),
    }
}

/// Marks and counts a new socket: [`CLIENT`] or [`OUTGOING`]. If its number has marks, they are those of a descriptor that was closed
/// where no hook could see it, and are forgotten.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn count_in(fd: i32, kind: u32) {
    barrier((), || {
        if thread::is_in_vfork() || matches!(process::phase(), Phase::Starting | Phase::Dormant) {
            return;
        }
        if let Some(known) = entry(fd)
            && known.load(Relaxed) & FRESH != 0
            && kind == CLIENT
        {
            known.fetch_and(!FRESH, Relaxed);
            return;
        }
        let unseen = marks(fd) & COUNTED != 0;
        take(fd);
        add(fd, kind);
        if unseen {
            // Where one close was not seen, others may not have been.
            begin_round();
            (handlers().on_unseen_close)();
        }
        if marks(fd) & HISTORY == 0 && marks(fd) & kind != 0 {
            page::add(gauge(kind), 1);
        }
    });
}

/// The count of open sockets of a kind, [`CLIENT`] or [`OUTGOING`].
fn gauge(kind: u32) -> &'static AtomicU64 {
    if kind & CLIENT != 0 { &page::counters().clients } else { &page::counters().outgoing }
}

/// The descriptors that have at least one of the marks in `mark`.
pub fn marked(mark: u32) -> impl Iterator<Item = i32> {
    let table =
        STATE.table.get().map_or(&[][..], |table| &table[..STATE.end.load(Relaxed).min(NUMBERS as u32) as usize]);
    (0..).zip(table).filter(move |(_, known)| known.load(Relaxed) & mark != 0).map(|(fd, _)| fd)
}

/// Of [`round`]: all numbers have been looked at.
pub const ROUND_IS_OVER: u32 = u32::MAX;

/// All counted sockets are to be compared with the kernel (state/reconcile.rs), unless that has begun already.
pub fn begin_round() {
    let _ = STATE.next.compare_exchange(ROUND_IS_OVER, 0, Relaxed, Relaxed);
}

/// The number at which that goes on; [`ROUND_IS_OVER`]: nothing is to be compared.
pub fn round() -> &'static AtomicU32 {
    &STATE.next
}

/// Is another descriptor of this process open on the same socket?
fn has_copy(fd: i32) -> bool {
    if process::phase() == Phase::Sandboxed {
        return false;
    }
    let identity = |fd| sys::fstat(fd).map(|status| (status.st_dev, status.st_ino)).ok();
    let socket = identity(fd);
    socket.is_some() && marked(SHARED).any(|other| other != fd && identity(other) == socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_follow_copies_and_end_with_the_descriptor() {
        add(40_000, LOG);
        copy(40_000, 40_001);
        assert_eq!(marks(40_001), LOG);
        forget(40_000);
        assert_eq!((marks(40_000), marks(40_001)), (0, LOG));
        forget_range(39_000, u32::MAX);
        assert_eq!(marks(40_001), 0);
        assert_eq!(marks(70_000), HISTORY);
        assert_eq!(marks(-1), HISTORY);
        add(-1, LOG);
        copy(-1, 70_000);
    }
}
