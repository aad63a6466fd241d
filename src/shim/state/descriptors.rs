//! Four bytes of memory per descriptor: has its user asked for durability, is it a log whose lines go elsewhere, is it a
//! client's socket? Two would do, and cost an instruction more at each close of a client.
//!
//! A fixed table, not one sized by the limit (moby#38814 has limits of 2^30).
//! Numbers beyond it count as durable: what is not known gets the true error. Sockets beyond it are not counted.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64};

use tideover_contract::settings::SECOND;

use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::handlers::handlers;
use crate::state::process::{self, Phase};
use crate::state::{page, thread};

/// Descriptors from this number on are not known.
pub const NUMBERS: usize = 65536;

/// The lowest byte: what its user did that writers of logs don't do.
pub const HISTORY: u32 = 0xff;
/// Judged to be a log while its filesystem was full.
pub const LOG: u32 = 0x100;
/// Known not to be a regular file.
pub const OTHER: u32 = 0x200;
/// A socket that accept(2) gave.
pub const CLIENT: u32 = 0x400;
/// A socket that this program has connected.
pub const OUTGOING: u32 = 0x800;
/// A socket, or an epoll set, that has, or had, more than one descriptor here.
pub const SHARED: u32 = 0x1000;
/// A socket that clients connect to.
pub const LISTENER: u32 = 0x2000;
/// An epoll set.
pub const EPOLL: u32 = 0x4000;
/// A client that has been counted before its hook comes to it: where clients are limited.
pub const FRESH: u32 = 0x8000;
/// Standard output or error, and a pipe: looked at a moment ago (see [`crate::features::logs::pipe`]).
pub const PIPE: u32 = 0x1_0000;
/// Its history ends when its stream is closed ([`forget_after_flush`]).
const FLUSHING: u32 = 0x2_0000;
/// The upper part: which diverted file it is (see [`crate::features::logs::files`]); 0: not known.
const FILE: u32 = 0xfffc_0000;
/// Sockets that are counted while they are open.
const COUNTED: u32 = CLIENT | OUTGOING;

type Marks = [AtomicU32; NUMBERS];

/// Mapped when the first mark is made; most programs make none.
static MARKS: AtomicPtr<Marks> = AtomicPtr::new(core::ptr::null_mut());
/// There was no memory for a mark: from then on, nothing is known, and nothing is taken for a log.
static BLIND: AtomicBool = AtomicBool::new(false);
/// One above the highest number that was ever marked.
static TOP: AtomicU32 = AtomicU32::new(0);

#[inline(always)]
fn table() -> Option<&'static Marks> {
    // SAFETY: null, or a mapping of this size, zeroed, that is never unmapped.
    unsafe { MARKS.load(Acquire).as_ref() }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn make_table() -> bool {
    let made =
        if process::phase() == Phase::Sandboxed { Err(libc::EPERM) } else { sys::map_private(size_of::<Marks>()) };
    let Ok(fresh) = made else {
        BLIND.store(true, Relaxed);
        return false;
    };
    if MARKS.compare_exchange(core::ptr::null_mut(), fresh.cast(), AcqRel, Relaxed).is_err() {
        // SAFETY: mapped above with this size; another thread was first, and nobody knows of this one.
        unsafe { sys::unmap(fresh, size_of::<Marks>()) };
    }
    true
}

/// What is known of a descriptor.
#[inline(always)]
pub fn marks(fd: i32) -> u32 {
    match table() {
        Some(marks) => marks.get(fd as usize).map_or(HISTORY, |marks| marks.load(Relaxed)),
        None if (fd as usize) < NUMBERS && !BLIND.load(Relaxed) => 0,
        None => HISTORY,
    }
}

/// Notes a kind of descriptor that most programs have few of.
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

/// Notes something; not in the child of a vfork, whose descriptors are its own, and whose memory is its parent's.
#[inline(always)]
pub fn add(fd: i32, marks: u32) {
    if thread::is_in_vfork() || table().is_none() && !make_table() {
        return;
    }
    let known = table().and_then(|table| table.get(fd as usize));
    let is_new = |known: u32| known & marks != marks || known & FLUSHING != 0 && marks & HISTORY != 0;
    if let Some(known) = known.filter(|known| is_new(known.load(Relaxed))) {
        if marks & (HISTORY | FLUSHING) != 0 {
            // What is shown of a number from now on is of the file that it has next.
            known.fetch_and(!FLUSHING, Relaxed);
        }
        known.fetch_or(marks, Relaxed);
        reach(fd);
    }
}

/// Notes which diverted file it is.
pub fn set_file(fd: i32, number: u32) {
    if let Some(known) = table().and_then(|table| table.get(fd as usize)) {
        let set = |marks| Some(marks & !FILE | number << FILE.trailing_zeros());
        let _ = known.fetch_update(Relaxed, Relaxed, set);
    }
}

/// The same number in [`marks`].
pub fn file(marks: u32) -> u32 {
    marks >> FILE.trailing_zeros()
}

/// There is a descriptor of this number.
pub fn reach(fd: i32) {
    TOP.fetch_max(fd.max(0) as u32 + 1, Relaxed);
}

/// The number is about to be free, or belongs to something new. True: it is a copy of our own, and the host's close must find
/// nothing there.
#[inline(always)]
pub fn forget(fd: i32) -> bool {
    let Some(table) = table() else { return false };
    if (fd as u32 as usize) >= NUMBERS {
        unknown();
        return false;
    }
    let known = &table[fd as usize];
    match known.load(Relaxed) {
        0 => false,
        // The usual case of a server's close. A swap would see that two threads close one client at once; but a program that does
        // so closes other files at times, and here it counts one client too few.
        CLIENT if !thread::is_in_vfork() => {
            known.store(0, Relaxed);
            one_less();
            false
        }
        _ => forget_known(fd),
    }
}

/// A branch of its own: the compiler would compute one condition out of two, in twice as many instructions.
#[cold]
#[inline(never)]
extern "C" fn unknown() {
    core::hint::black_box(());
}

/// A client is gone.
#[inline(always)]
fn one_less() {
    let clients = &page::counters().clients;
    // Minus one, said so that the compiler needs but the flags that the addition leaves.
    const LESS: u64 = u64::MAX;
    if (clients.fetch_add(LESS, Relaxed).wrapping_add(LESS) as i64) < 0 {
        one_more(clients);
    }
}

/// It was not counted.
#[cold]
#[inline(never)]
extern "C" fn one_more(clients: &AtomicU64) {
    clients.fetch_add(1, Relaxed);
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn forget_known(fd: i32) -> bool {
    barrier(false, || {
        crate::features::logs::copies::is_ours(fd) || {
            taken(fd);
            false
        }
    })
}

/// The same before fclose(3) or freopen(3), which write what is left: what its user did that writers of logs don't do is known until
/// then. Returns that, for [`flushed`].
#[inline(always)]
pub fn forget_after_flush(fd: i32) -> (bool, u32) {
    let history = if fd >= 0 { marks(fd) & HISTORY } else { 0 };
    let ours = forget(fd);
    if history != 0 {
        add(fd, history | FLUSHING);
    }
    (ours, history)
}

/// The stream is closed: forgets that, and what its last write has noted.
#[inline(always)]
pub fn flushed(fd: i32, history: u32) {
    if marks(fd) != 0 {
        forget_flush(fd, history);
    }
    if fd == 1 || fd == 2 {
        crate::features::logs::pipe::changed();
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn forget_flush(fd: i32, history: u32) {
    if let Some(known) = table().and_then(|table| table.get(fd as usize)).filter(|_| !thread::is_in_vfork()) {
        // Should the number be another's by now, these are found out again. Not so what that has shown since.
        let found = LOG | OTHER | PIPE | FILE;
        let ended = |known: u32| if known & FLUSHING != 0 { found | FLUSHING | history } else { found };
        let _ = known.fetch_update(Relaxed, Relaxed, |known| Some(known & !ended(known)));
    }
}

/// So are all these.
#[unsafe(link_section = ".text.on_success")]
pub fn forget_range(first: u32, last: u32) {
    let end = last.saturating_add(1).min(TOP.load(Relaxed));
    for fd in first..end.max(first) {
        forget(fd as i32);
    }
}

/// Forgets, and says what was known. The descriptor must still be open, or its last socket is not told from a copy.
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn take(fd: i32) -> u32 {
    barrier(0, || taken(fd))
}

#[unsafe(link_section = ".text.on_success")]
fn taken(fd: i32) -> u32 {
    // The child of a vfork(2) closes descriptors of its own; the memory is its parent's.
    let Some(known) = table().and_then(|table| table.get(fd as usize)).filter(|_| !thread::is_in_vfork()) else {
        return 0;
    };
    // So does that of a clone(2) which shares memory; what its parent has made durable stays so.
    let shown = known.load(Relaxed) & HISTORY != 0;
    if shown && !matches!(process::phase(), Phase::Starting | Phase::Sandboxed) && !process::is_ours() {
        return 0;
    }
    let old = known.swap(0, Relaxed);
    for (_, tell) in handlers().on_close.iter().filter(|(marks, _)| old & marks != 0) {
        tell(fd, old);
    }
    if old & COUNTED != 0 && !(old & SHARED != 0 && has_twin(fd)) {
        let counter = gauge(old);
        let _ = counter.fetch_update(Relaxed, Relaxed, |open| open.checked_sub(1));
    }
    old
}

/// Takes back a [`take`].
#[inline(never)]
pub extern "C" fn put_back(fd: i32, marks: u32) {
    barrier((), || {
        let twin = marks & SHARED != 0 && has_twin(fd);
        add(fd, marks & !FLUSHING);
        for (_, tell) in handlers().on_close_undone.iter().filter(|(wanted, _)| marks & wanted != 0) {
            tell();
        }
        if marks & COUNTED != 0 && !twin {
            page::add(gauge(marks), 1);
        }
    });
}

/// `to`, about which nothing is known, is a copy of `from`: the same open file, with the same history.
#[inline(always)]
pub fn copy(from: i32, to: i32) {
    forget(to);
    if from != to && table().is_some() && marks(from) != 0 {
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

/// accept(2) gave this descriptor.
#[inline(always)]
pub fn accepted(fd: i32) {
    match table() {
        Some(table) if (fd as u32 as usize) < NUMBERS && table[fd as usize].load(Relaxed) == 0 => {
            table[fd as usize].store(CLIENT, Relaxed);
            page::add(&page::counters().clients, 1);
        }
        _ => count_in(fd, CLIENT),
    }
}

/// A descriptor turns out to be a socket that is counted: [`CLIENT`] or [`OUTGOING`]. Whatever was known of its number was of
/// one that was closed unseen.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn count_in(fd: i32, kind: u32) {
    barrier((), || {
        if thread::is_in_vfork() || matches!(process::phase(), Phase::Starting | Phase::Dormant) {
            return;
        }
        if let Some(known) = table().and_then(|table| table.get(fd as usize))
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
            // Where one was closed unseen, others were.
            reconcile_now_and_then();
        }
        if marks(fd) & HISTORY == 0 && marks(fd) & kind != 0 {
            page::add(gauge(kind), 1);
        }
    });
}

/// How many sockets of a kind are open.
fn gauge(kind: u32) -> &'static AtomicU64 {
    if kind & CLIENT != 0 { &page::counters().clients } else { &page::counters().outgoing }
}

/// The descriptors that bear a mark.
pub fn marked(mark: u32) -> impl Iterator<Item = i32> {
    let table = table().map_or(&[][..], |table| &table[..TOP.load(Relaxed).min(NUMBERS as u32) as usize]);
    (0..).zip(table).filter(move |(_, known)| known.load(Relaxed) & mark != 0).map(|(fd, _)| fd)
}

/// Forgets the sockets that were closed where no hook could see it. Costs a system call for each.
pub fn reconcile(kind: u32) {
    if process::phase() == Phase::Sandboxed {
        return;
    }
    for fd in marked(kind) {
        if !sys::is_connection(fd) {
            take(fd);
        }
    }
}

/// The same, at most ten times a second.
pub fn reconcile_now_and_then() {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let (now, last) = (sys::now(), LAST.load(Relaxed));
    if now.saturating_sub(last) >= SECOND / 10 && LAST.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
        reconcile(COUNTED);
    }
}

/// Is there another descriptor of this one's socket?
fn has_twin(fd: i32) -> bool {
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
