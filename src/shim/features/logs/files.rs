//! The files whose lines go elsewhere now, by device and inode: a program that opens its log for each line (redis) has another
//! descriptor each time.

use Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use tideover_contract::hash::fnv1a;
use tideover_contract::settings::{Id, SECOND};

use crate::os::sys;
use crate::state::page;
use crate::state::settings::SETTINGS;

/// At most so many at a time; of one more, the true error is returned.
const FILES: usize = 64;
/// A file that nobody wrote to for so long is forgotten: it was rotated away, or its program's part that wrote it has ended.
const FORGOTTEN: u64 = 3600 * SECOND;
/// Longest gap between two probes of a quota, which shows only when a write succeeds.
const LONGEST_GAP: u64 = 10 * SECOND;

/// How often a thread yields to another that is about to finish. Bounded: that one may have left by longjmp(3).
const PATIENCE: u32 = 2000;

const FREE: u32 = 0;
const CLAIMED: u32 = 1;
const DIVERTED: u32 = 2;
const RETURNING: u32 = 3;

/// How many files are diverted: while it is 0, writes look at nothing else.
pub static COUNT: AtomicU32 = AtomicU32::new(0);

/// A diverted file.
pub struct File {
    state: AtomicU32,
    /// Threads that are sending lines of it elsewhere.
    senders: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
    /// Hash of its path.
    name: AtomicU64,
    /// errno that began it: ENOSPC or EDQUOT.
    pub errno: AtomicI32,
    /// Since when, CLOCK_REALTIME and CLOCK_MONOTONIC, nanoseconds.
    pub since: AtomicU64,
    begun: AtomicU64,
    /// What went elsewhere.
    pub lines: AtomicU64,
    /// See `lines`.
    pub bytes: AtomicU64,
    /// The last diverted byte was no newline: the rest of that line must follow it.
    pub mid_line: AtomicBool,
    /// The file ended in the middle of a line when it began.
    pub torn: AtomicBool,
    next_look: AtomicU64,
    gap: AtomicU64,
    touched: AtomicU64,
    /// How many files have had this entry. Part of its number.
    turn: AtomicU32,
}

#[unsafe(link_section = ".tables")]
static TABLE: [File; FILES] = [const {
    File {
        state: AtomicU32::new(FREE),
        senders: AtomicU32::new(0),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
        name: AtomicU64::new(0),
        errno: AtomicI32::new(0),
        since: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        lines: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        mid_line: AtomicBool::new(false),
        torn: AtomicBool::new(false),
        next_look: AtomicU64::new(0),
        gap: AtomicU64::new(0),
        touched: AtomicU64::new(0),
        turn: AtomicU32::new(0),
    }
}; FILES];

/// Is any file diverted? One load.
#[inline(always)]
pub fn any() -> bool {
    COUNT.load(Relaxed) != 0
}

/// What a file is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    device: u64,
    inode: u64,
}

impl Key {
    /// A file that exists.
    pub fn of_file(status: &libc::stat) -> Key {
        Key { device: status.st_dev, inode: status.st_ino }
    }

    /// A file that can't be made yet: known by its path, since each open makes another stand-in.
    pub fn of_path(path: &[u8]) -> Key {
        Key { device: NOWHERE, inode: fnv1a(path) }
    }
}

/// No device has this number.
const NOWHERE: u64 = u64::MAX;

/// The entry of a file that had this path when it was diverted, and has been rotated away: another file is there now.
pub fn find_rotated(path: &[u8]) -> Option<&'static File> {
    let name = fnv1a(path);
    TABLE.iter().find(|file| {
        file.state.load(Acquire) == DIVERTED && file.name.load(Relaxed) == name && file.device.load(Relaxed) != NOWHERE
    })
}

/// Is it time to look whether a file that is not diverted is the successor of one that is? Looking takes its path.
pub fn is_search_due() -> bool {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = sys::now();
    let due = now >= NEXT.load(Relaxed);
    if due {
        NEXT.store(now + SETTINGS.get(Id::RecoveryInterval), Relaxed);
    }
    due
}

/// The entry of a file, if it is diverted.
pub fn find(key: Key) -> Option<&'static File> {
    TABLE.iter().find(|file| {
        file.state.load(Acquire) >= DIVERTED
            && (Key { device: file.device.load(Relaxed), inode: file.inode.load(Relaxed) }) == key
    })
}

/// Turns of an entry that are told from each other.
const TURNS: u32 = 0xff;
/// Signal numbers that open files are marked with, by entry: real-time signals, which stand for nothing.
pub const MARKS: core::ops::Range<i32> = 36..64;

/// The entry of this number, if the same file still has it.
pub fn find_number(number: u32) -> Option<&'static File> {
    let file = TABLE.get(number as usize % FILES)?;
    (number != 0 && file.number() == number && file.state.load(Acquire) == DIVERTED).then_some(file)
}

/// Is any file diverted that could not be made?
pub fn any_unmade() -> bool {
    TABLE.iter().any(|file| file.state.load(Acquire) >= DIVERTED && file.device.load(Relaxed) == NOWHERE)
}

/// The entry of a file that is to be diverted from now on, and whether it is new; None if there is no room.
pub fn enter(key: Key, path: &[u8], errno: i32) -> Option<(&'static File, bool)> {
    if let Some(file) = find(key) {
        return Some((file, false));
    }
    if let Some(file) = find_rotated(path) {
        file.is_now(key);
        file.errno.store(errno, Relaxed);
        return Some((file, false));
    }
    let now = sys::now();
    let free = |file: &File| file.state.compare_exchange(FREE, CLAIMED, Acquire, Relaxed).is_ok();
    let file = TABLE.iter().find(|file| free(file)).or_else(|| {
        forget_old(now);
        TABLE.iter().find(|file| free(file))
    })?;
    file.turn.fetch_add(1, Relaxed);
    file.device.store(key.device, Relaxed);
    file.inode.store(key.inode, Relaxed);
    file.name.store(fnv1a(path), Relaxed);
    file.errno.store(errno, Relaxed);
    file.since.store(sys::clock(libc::CLOCK_REALTIME), Relaxed);
    file.begun.store(now, Relaxed);
    file.lines.store(0, Relaxed);
    file.bytes.store(0, Relaxed);
    file.mid_line.store(false, Relaxed);
    let interval = SETTINGS.get(Id::RecoveryInterval);
    file.gap.store(interval, Relaxed);
    file.next_look.store(now + interval, Relaxed);
    file.touched.store(now, Relaxed);
    file.state.store(DIVERTED, Release);
    if COUNT.fetch_add(1, Relaxed) == 0 {
        page::counters().degraded.store(1, Relaxed);
        page::counters().degraded_since.store(file.since.load(Relaxed), Relaxed);
    }
    Some((file, true))
}

impl File {
    /// Not 0; of 14 bits.
    pub fn number(&self) -> u32 {
        // SAFETY: both are within the table.
        let index = unsafe { core::ptr::from_ref(self).offset_from(TABLE.as_ptr()) } as u32;
        (self.turn.load(Relaxed) % TURNS + 1) * FILES as u32 + index
    }

    /// What its open files are marked with.
    pub fn mark(&self) -> i32 {
        MARKS.start + self.number() as i32 % MARKS.len() as i32
    }

    /// Counts what went elsewhere.
    pub fn diverted(&self, lines: u64, bytes: u64, whole_lines: bool, now: u64) {
        self.lines.fetch_add(lines, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.mid_line.store(!whole_lines, Relaxed);
        self.touched.store(now, Relaxed);
    }

    /// The file of its name is this one: the one that was diverted was rotated away, and its note will be in the new one. What
    /// is written to the old one all the same is another diverted file.
    pub fn is_now(&self, key: Key) {
        // One that could not be made goes by its path.
        if self.device.load(Relaxed) != NOWHERE {
            if self.device.load(Relaxed) != key.device || self.inode.load(Relaxed) != key.inode {
                self.turn.fetch_add(1, Relaxed);
            }
            self.device.store(key.device, Relaxed);
            self.inode.store(key.inode, Relaxed);
        }
    }

    /// Is it time to look whether the file can be written again?
    pub fn is_look_due(&self, now: u64) -> bool {
        now >= self.next_look.load(Relaxed)
    }

    /// This thread looks.
    pub fn looked(&self) {
        self.next_look.store(sys::now() + self.gap.load(Relaxed), Relaxed);
    }

    /// A probe failed: where only probes can tell, the next comes later.
    pub fn probe_failed(&self) {
        if self.errno.load(Relaxed) != libc::EDQUOT {
            return;
        }
        let gap = self.gap.load(Relaxed).saturating_mul(2).min(LONGEST_GAP.max(SETTINGS.get(Id::RecoveryInterval)));
        self.gap.store(gap, Relaxed);
        self.next_look.store(sys::now() + gap, Relaxed);
    }

    /// Nanoseconds since it was diverted.
    pub fn age(&self) -> u64 {
        sys::now().saturating_sub(self.begun.load(Relaxed))
    }

    /// This thread sends lines elsewhere. False if the file has its lines again by now. While another thread tries to go back,
    /// it waits for that, so that nothing goes elsewhere behind the note that says how much did.
    pub fn begin_sending(&self) -> bool {
        for _ in 0..PATIENCE {
            self.senders.fetch_add(1, SeqCst);
            match self.state.load(SeqCst) {
                DIVERTED => return true,
                RETURNING => {
                    self.senders.fetch_sub(1, SeqCst);
                    sys::yield_now();
                }
                _ => {
                    self.senders.fetch_sub(1, SeqCst);
                    return false;
                }
            }
        }
        self.senders.fetch_add(1, SeqCst);
        true
    }

    /// It has sent them.
    pub fn end_sending(&self) {
        self.senders.fetch_sub(1, SeqCst);
    }

    /// This thread tries to go back to the file, when nobody sends any more.
    pub fn begin_return(&self) -> bool {
        let mine = self.state.compare_exchange(DIVERTED, RETURNING, SeqCst, Relaxed).is_ok();
        for _ in 0..PATIENCE {
            if !mine || self.senders.load(SeqCst) == 0 {
                break;
            }
            sys::yield_now();
        }
        mine
    }

    /// It did not work.
    pub fn abandon_return(&self) {
        self.state.store(DIVERTED, Release);
    }

    /// The file has its lines again.
    pub fn returned(&self) {
        self.release();
        page::add(&page::counters().recoveries, 1);
    }

    fn release(&self) {
        self.state.store(FREE, Release);
        if COUNT.fetch_sub(1, Relaxed) == 1 {
            page::counters().degraded.store(0, Relaxed);
            page::counters().degraded_since.store(0, Relaxed);
        }
    }
}

/// Makes room in the table.
fn forget_old(now: u64) {
    for file in &TABLE {
        let old = now.saturating_sub(file.touched.load(Relaxed)) > FORGOTTEN;
        if old && file.state.compare_exchange(DIVERTED, CLAIMED, Acquire, Relaxed).is_ok() {
            file.release();
        }
    }
}

/// In the child of a fork: a thread that was about to return does not exist here.
pub fn forked() {
    if !any() {
        return;
    }
    for file in &TABLE {
        let _ = file.state.compare_exchange(RETURNING, DIVERTED, Relaxed, Relaxed);
        file.senders.store(0, Relaxed);
    }
    page::counters().degraded.store(1, Relaxed);
}
