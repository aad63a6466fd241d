//! Lines that come fast. Each is copied to the stage of the hold (`tideover_contract::hold`), without a lock, and with no system call but
//! the one that tells whether the descriptor is that log still; standard output's pipe gets them together: at most 4 KiB or 5 ms behind while the program writes, and before the process ends,
//! forks or executes another program. A line that comes by itself goes there at once.
//!
//! A thread that stands still while it copies a line (it was interrupted by a signal, whose handler may never return) is waited for a
//! little. Then its line goes the usual way, should it go on, and there is no stage any more.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

use tideover_contract::hold::{FIRST_SLOT, Hold, SLOTS, slot};
use tideover_contract::settings::SECOND;

use super::files::{self, DivertedFile, Key};
use super::payload::{Buffer, Written};
use super::readable::Readable;
use super::{cap, decide, hold, sink};
use crate::os::mapping::Mapping;
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::settings::SETTINGS;
use crate::state::thread;

/// Most bytes that the pipe is behind, and longest time, nanoseconds.
const MOST: u32 = 4096;
const LONGEST: u64 = SECOND / 200;
/// Lines that follow each other sooner than this many nanoseconds come fast, from so many on.
const GAP: u64 = SECOND / 1000;
const FIRST: u32 = 16;
/// How often a thread calls sched_yield(2) for others that copy a line.
const YIELDS: u32 = 500;

/// In [`Shared::next`]: lines may be put on the stage. The other bits: how often it was opened (31), lines on it (16), bytes on it (16).
const OPEN: u64 = 1 << 63;
/// The word of a slot whose line goes the usual way.
const GIVEN_UP: u64 = 1;

/// In a page that the kernel empties in the child of any fork(2), clone(2) or _Fork(3): the stage is the parent's. Zeroed, it says that
/// nothing is known and that there is no stage.
struct Shared {
    /// How many lines have come fast.
    fast: AtomicU32,
    /// When the last line came, CLOCK_MONOTONIC nanoseconds.
    last: AtomicU64,
    /// See [`OPEN`].
    next: AtomicU64,
    /// Number of the entry of the log whose lines the stage takes.
    stage_number: AtomicU32,
    /// When it was opened, CLOCK_MONOTONIC nanoseconds.
    opened: AtomicU64,
    /// Address of the text on it.
    text: AtomicUsize,
    /// Address of the first slot.
    slots: AtomicPtr<AtomicU64>,
    /// A thread was given up.
    is_broken: AtomicBool,
    /// Where the program's lines are.
    readable: Readable,
}

/// Null: there is no such page, and each line goes the usual way.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());
/// The kernel can't make such a page.
static IS_IMPOSSIBLE: AtomicBool = AtomicBool::new(false);

fn shared() -> Option<&'static Shared> {
    // SAFETY: null, or a page of zeroed memory that is never unmapped; all fields are atomics.
    unsafe { SHARED.load(Relaxed).as_ref() }
}

/// A line of a diverted log goes the usual way: notes when that was. Makes the page when there is none.
pub fn note_line(now: u64) {
    match shared() {
        Some(shared) => shared.count(now),
        None if thread::is_in_vfork() || IS_IMPOSSIBLE.load(Relaxed) => {}
        None => match sys::map_emptied_in_children(size_of::<Shared>()) {
            Ok(page) => {
                let (null, new) = (core::ptr::null_mut(), page.cast());
                if SHARED.compare_exchange(null, new, Release, Relaxed).is_err() {
                    // SAFETY: just mapped, and nobody else knows it.
                    unsafe { sys::unmap(page, size_of::<Shared>()) };
                }
            }
            Err(_) => IS_IMPOSSIBLE.store(true, Relaxed),
        },
    }
}

impl Shared {
    fn count(&self, now: u64) {
        let is_fast = now.abs_diff(self.last.swap(now, Relaxed)) < GAP;
        self.fast.store(if is_fast { self.fast.load(Relaxed).saturating_add(1) } else { 0 }, Relaxed);
    }

    fn is_burst(&self, now: u64) -> bool {
        self.fast.load(Relaxed) >= FIRST && now.abs_diff(self.last.load(Relaxed)) < GAP
    }

    /// Puts a line on the stage as it was when `next` was read. False: it is full, or was closed since, or this thread was given up.
    fn put(&self, next: u64, text: &[u8]) -> bool {
        if is_full(next, text.len()) {
            return false;
        }
        let (index, offset) = ((next >> 16 & 0xffff) as usize, (next & 0xffff) as usize);
        let (to, slots) = (self.text.load(Acquire), self.slots.load(Acquire));
        let taken = next + (1 << 16) + text.len() as u64;
        if self.next.compare_exchange(next, taken, AcqRel, Relaxed).is_err() {
            return false;
        }
        // SAFETY: the stage was open with this address until here, so it is mapped, and has MOST bytes. Whoever closes it waits for the slot,
        // or gives this thread up, and then never uses the room again nor unmaps it.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), (to + offset) as *mut u8, text.len()) };
        // SAFETY: as above, there are SLOTS of them.
        let word = unsafe { &*slots.add(index) };
        let is_there = word.compare_exchange(0, slot(offset as u32, text.len() as u32), Release, Relaxed).is_ok();
        if !is_there {
            // What others have made of it meanwhile: a line of blanks.
            // SAFETY: as above.
            unsafe {
                core::ptr::write_bytes((to + offset) as *mut u8, b' ', text.len() - 1);
                core::ptr::write((to + offset + text.len() - 1) as *mut u8, b'\n');
            }
        }
        is_there
    }
}

/// Is there no place for so many bytes?
fn is_full(next: u64, length: usize) -> bool {
    (next >> 16 & 0xffff) as usize >= SLOTS || (next & 0xffff) as usize + length > MOST as usize
}

/// Takes a line of a burst. None: it is none, or has to go the usual way; nothing was done.
pub fn take(fd: i32, buffer: Buffer<'_>) -> Option<Written> {
    let shared = shared()?;
    let mut next = shared.next.load(Acquire);
    let (number, count) = (shared.stage_number.load(Acquire), buffer.len());
    if next & OPEN == 0 || !(1..=MOST as usize).contains(&count) || thread::is_in_vfork() {
        return None;
    }
    let now = sys::now();
    if !shared.is_burst(now) {
        return None;
    }
    let file = decide::recognise(fd).filter(|file| file.number() == number)?;
    if file.mid_line.load(Relaxed) || file.is_check_due(now) || !shared.readable.holds(buffer.address(), count) {
        return None;
    }
    // SAFETY: it can be read.
    let text = unsafe { buffer.text() };
    if text.last() != Some(&b'\n') || cap::charge(count as u64, now).is_err() {
        return None;
    }
    if is_full(next, count) || now.abs_diff(shared.opened.load(Relaxed)) >= LONGEST {
        hold::renew_stage(file.key());
        next = shared.next.load(Acquire);
    }
    if next & OPEN == 0 || shared.stage_number.load(Acquire) != number || !shared.put(next, text) {
        cap::uncharge(count as u64);
        return None;
    }
    shared.count(now);
    Some(Written::all(count, 0))
}

/// Is there a stage, on which lines may be?
pub fn is_open() -> bool {
    shared().is_some_and(|shared| shared.next.load(Relaxed) & OPEN != 0)
}

/// Closes the stage to all threads: the lines on it are in their slots afterwards. Returns how many bytes of it are not to be used again,
/// since a thread was given up that may write to them later. None: there is no stage. For whoever has the hold.
pub fn close() -> Option<usize> {
    let shared = shared()?;
    let next = shared.next.fetch_and(!OPEN, AcqRel);
    if next & OPEN == 0 {
        return None;
    }
    let slots = shared.slots.load(Relaxed);
    for index in 0..(next >> 16 & 0xffff) as usize {
        // SAFETY: there are SLOTS of them, and they are mapped as long as the hold is, which the caller has.
        let word = unsafe { &*slots.add(index) };
        for _ in 0..YIELDS {
            if word.load(Acquire) != 0 {
                break;
            }
            sys::yield_now();
        }
        if word.compare_exchange(0, GIVEN_UP, Acquire, Acquire).is_ok() {
            shared.is_broken.store(true, Relaxed);
        }
    }
    Some(if shared.is_broken.load(Relaxed) { (next & 0xffff) as usize } else { 0 })
}

/// Was a thread given up, that may still write to the hold's memory?
pub fn is_broken() -> bool {
    shared().is_some_and(|shared| shared.is_broken.load(Relaxed))
}

/// Opens a stage in this hold for lines of this file, of which one has just been kept, if they come fast. For whoever has the hold.
pub fn open(hold: &Hold<Mapping>, key: Key) {
    let Some(shared) = shared().filter(|shared| !shared.is_broken.load(Relaxed)) else { return };
    let now = sys::now();
    let is_wanted = shared.is_burst(now) && sink::pipe().is_some() && !thread::is_in_vfork();
    if !is_wanted || process::phase() != Phase::Active || !SETTINGS.fallback_prefix().is_empty() {
        return;
    }
    let Some(number) = files::find(key).map(DivertedFile::number).filter(|&number| number != 0) else { return };
    let (device, inode) = key.identity();
    let Some(room) = hold.find(device, inode).and_then(|log| hold.open_stage(log, MOST)) else { return };
    let Some((text, slots)) = hold.memory().addresses(room, MOST as usize, FIRST_SLOT) else { return };
    shared.text.store(text, Release);
    shared.slots.store(slots, Release);
    shared.stage_number.store(number, Release);
    shared.opened.store(now, Relaxed);
    shared.readable.find();
    let times = (shared.next.load(Relaxed) & !OPEN) >> 32;
    shared.next.store(OPEN | ((times + 1) << 32 & !OPEN), Release);
}
