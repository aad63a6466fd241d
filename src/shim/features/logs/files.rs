//! The files whose lines are diverted now, by device and inode: a program that opens its log for each line (redis) has another
//! descriptor each time.
#![deny(unsafe_code)]

use Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use tideover_contract::hash::fnv1a;
use tideover_contract::settings::{Id, SECOND};

use super::hold;
use crate::os::chunks::Chunks;
use crate::os::lock::Lock;
use crate::os::sys;
use crate::os::table::Zeroed;
use crate::state::page;
use crate::state::settings::SETTINGS;

/// So many files have entries in [`TABLE`]; those of more are in [`MORE`].
const FILES: usize = 16;
/// A file that nobody has written to for so many nanoseconds is forgotten: it was rotated away, or the part of the program that wrote
/// it has ended.
const FORGOTTEN: u64 = 3600 * SECOND;
/// Longest time between two attempts to write to a file whose quota is used up, nanoseconds: room shows only when a write succeeds.
const LONGEST_GAP: u64 = 10 * SECOND;
/// How often a thread calls sched_yield(2) for another that is about to finish. Bounded, since that one may have left by longjmp(3).
const MOST_YIELDS: u32 = 2000;

/// State of an entry that no file has.
const FREE: u32 = 0;
/// State of an entry that a thread fills in, or frees.
const CLAIMED: u32 = 1;
/// State of an entry whose file's lines are diverted.
const DIVERTED: u32 = 2;
/// State of an entry whose file's lines are diverted, while a thread tries to write to the file again.
const RECOVERING: u32 = 3;

/// How many files are diverted, and [`EVERY_WRITE`]. While it is 0, that is all that a write tests. A word by itself, for the assembly of
/// write(2) loads it.
pub static COUNT: AtomicU32 = AtomicU32::new(0);
/// A bit of [`COUNT`]: each write is looked at, whether files are diverted or not ([`super::rotate`]).
pub const EVERY_WRITE: u32 = 1 << 31;

/// A diverted file.
pub struct DivertedFile {
    /// [`FREE`], [`CLAIMED`], [`DIVERTED`] or [`RECOVERING`].
    state: AtomicU32,
    /// How many threads are sending lines of it elsewhere.
    senders: AtomicU32,
    /// st_dev, or [`NO_DEVICE`].
    device: AtomicU64,
    /// st_ino, or the hash of the path of a file that could not be created.
    inode: AtomicU64,
    /// Hash of its path.
    path_hash: AtomicU64,
    /// errno that began it: ENOSPC or EDQUOT.
    pub errno: AtomicI32,
    /// Since when its lines are diverted, CLOCK_REALTIME nanoseconds.
    pub since: AtomicU64,
    /// Since when its lines are diverted, CLOCK_MONOTONIC nanoseconds.
    since_monotonic: AtomicU64,
    /// Lines that went elsewhere.
    pub lines: AtomicU64,
    /// Bytes that went elsewhere.
    pub bytes: AtomicU64,
    /// Lines that were lost, because the sink's reader did not take them in time.
    pub lost_lines: AtomicU64,
    /// Bytes that were lost so.
    pub lost_bytes: AtomicU64,
    /// The last diverted byte was no newline: the rest of that line must follow it.
    pub mid_line: AtomicBool,
    /// The file ended in the middle of a line when it was diverted.
    pub ends_mid_line: AtomicBool,
    /// When to check next whether the file can be written again, CLOCK_MONOTONIC nanoseconds.
    next_check: AtomicU64,
    /// Time from one check to the next, nanoseconds.
    gap: AtomicU64,
    /// When the program last wrote to it, CLOCK_MONOTONIC nanoseconds.
    last_write: AtomicU64,
    /// How many files have had this entry. Part of its number.
    generation: AtomicU32,
}

impl DivertedFile {
    const fn free() -> DivertedFile {
        DivertedFile {
            state: AtomicU32::new(FREE),
            senders: AtomicU32::new(0),
            device: AtomicU64::new(0),
            inode: AtomicU64::new(0),
            path_hash: AtomicU64::new(0),
            errno: AtomicI32::new(0),
            since: AtomicU64::new(0),
            since_monotonic: AtomicU64::new(0),
            lines: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            lost_lines: AtomicU64::new(0),
            lost_bytes: AtomicU64::new(0),
            mid_line: AtomicBool::new(false),
            ends_mid_line: AtomicBool::new(false),
            next_check: AtomicU64::new(0),
            gap: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            generation: AtomicU32::new(0),
        }
    }
}

#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".tables")]
static TABLE: [DivertedFile; FILES] = [const { DivertedFile::free() }; FILES];

/// Entries of more files than [`TABLE`] has room for.
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".tables")]
static MORE: Chunks<DivertedFile> = Chunks::new();

/// Two threads that find the disk full at once would make two entries for one file.
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".tables")]
static ENTERING: Lock<()> = Lock::new(());

// SAFETY: it has nothing but atomics, of which zero is a valid value: an entry that no file has.
#[allow(unsafe_code, reason = "what the trait asks for stands above")]
unsafe impl Zeroed for DivertedFile {}

/// All entries.
fn entries() -> impl Iterator<Item = &'static DivertedFile> {
    TABLE.iter().chain(MORE.iter())
}

/// May any file be diverted, or is each write looked at? Costs one load.
#[inline(always)]
pub fn any() -> bool {
    COUNT.load(Relaxed) != 0
}

/// Is any file diverted?
pub fn any_diverted() -> bool {
    COUNT.load(Relaxed) & !EVERY_WRITE != 0
}

/// What a file is known by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// st_dev, or [`NO_DEVICE`].
    device: u64,
    /// st_ino, or the hash of the path.
    inode: u64,
}

impl Key {
    /// A file that exists.
    pub fn of_file(status: &libc::stat) -> Key {
        Key { device: status.st_dev, inode: status.st_ino }
    }

    /// What [`Key::identity`] says of a file.
    pub fn of_identity((device, inode): (u64, u64)) -> Key {
        Key { device, inode }
    }

    /// A file that can't be created yet. It is known by its path, since each open(2) makes another [placeholder](super::placeholder).
    pub fn of_path(path: &[u8]) -> Key {
        Key { device: NO_DEVICE, inode: fnv1a(path) }
    }
}

impl Key {
    /// st_dev and st_ino, or what stands for them.
    pub fn identity(self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Is it a file that can't be created yet?
    pub fn is_uncreated(self) -> bool {
        self.device == NO_DEVICE
    }
}

/// Stands for the device of a file that could not be created; no device has this number.
const NO_DEVICE: u64 = u64::MAX;

/// The entry of a file that had this path when it was diverted, and was rotated away since: another file has that path now.
pub fn find_rotated(path: &[u8]) -> Option<&'static DivertedFile> {
    let wanted = fnv1a(path);
    entries().find(|file| {
        file.state.load(Acquire) == DIVERTED
            && file.path_hash.load(Relaxed) == wanted
            && file.device.load(Relaxed) != NO_DEVICE
    })
}

/// The entry of a file, if it is diverted.
pub fn find(key: Key) -> Option<&'static DivertedFile> {
    entries().find(|file| {
        file.state.load(Acquire) >= DIVERTED
            && (Key { device: file.device.load(Relaxed), inode: file.inode.load(Relaxed) }) == key
    })
}

/// Generations of an entry that its number tells from each other.
const GENERATIONS: u32 = 0xff;
/// Signal numbers that open files are labelled with: real-time signals, which the kernel sends for nothing of its own.
pub const SIGNALS: core::ops::Range<i32> = 36..64;

/// The entry of this number, if the file that had it then has it still.
pub fn find_number(number: u32) -> Option<&'static DivertedFile> {
    let file = TABLE.get(number as usize % FILES)?;
    (number != 0 && file.number() == number && file.state.load(Acquire) == DIVERTED).then_some(file)
}

/// Is any file diverted that could not be created?
pub fn any_uncreated() -> bool {
    entries().any(|file| file.state.load(Acquire) >= DIVERTED && file.device.load(Relaxed) == NO_DEVICE)
}

/// The entry of a file that is to be diverted from now on, and whether it is new; None if there is no memory for it.
pub fn enter(key: Key, path: &[u8], errno: i32) -> Option<(&'static DivertedFile, bool)> {
    if let Some(file) = find(key) {
        return Some((file, false));
    }
    let _entering = ENTERING.enter();
    if let Some(file) = find(key) {
        return Some((file, false));
    }
    // Lines that are kept belong to the file that they were written to, whatever it is called by now.
    if let Some(file) = find_rotated(path).filter(|_| !hold::is_on()) {
        file.move_to(key);
        file.errno.store(errno, Relaxed);
        return Some((file, false));
    }
    let now = sys::now();
    let free = |file: &DivertedFile| file.state.compare_exchange(FREE, CLAIMED, Acquire, Relaxed).is_ok();
    let free_entry = || entries().find(|file| free(file));
    let file = free_entry().or_else(|| {
        forget_old(now);
        free_entry().or_else(|| MORE.grow().filter(|file| free(file)))
    })?;
    file.generation.fetch_add(1, Relaxed);
    file.device.store(key.device, Relaxed);
    file.inode.store(key.inode, Relaxed);
    file.path_hash.store(fnv1a(path), Relaxed);
    file.errno.store(errno, Relaxed);
    file.since.store(sys::clock(libc::CLOCK_REALTIME), Relaxed);
    file.since_monotonic.store(now, Relaxed);
    file.lines.store(0, Relaxed);
    file.bytes.store(0, Relaxed);
    file.lost_lines.store(0, Relaxed);
    file.lost_bytes.store(0, Relaxed);
    file.mid_line.store(false, Relaxed);
    let interval = SETTINGS.get(Id::RecoveryInterval);
    file.gap.store(interval, Relaxed);
    file.next_check.store(now + interval, Relaxed);
    file.last_write.store(now, Relaxed);
    file.state.store(DIVERTED, Release);
    if COUNT.fetch_add(1, Relaxed) & !EVERY_WRITE == 0 {
        page::counters().degraded.store(1, Relaxed);
        page::counters().degraded_since.store(file.since.load(Relaxed), Relaxed);
    }
    Some((file, true))
}

impl DivertedFile {
    /// What its file is known by.
    pub fn key(&self) -> Key {
        Key { device: self.device.load(Relaxed), inode: self.inode.load(Relaxed) }
    }

    /// A file that could not be created is there now, and is this one.
    pub fn becomes(&self, key: Key) {
        self.device.store(key.device, Relaxed);
        self.inode.store(key.inode, Relaxed);
    }

    /// Is this still the entry of that file, and are its lines diverted?
    pub fn is_diverted(&self, key: Key) -> bool {
        self.state.load(Acquire) >= DIVERTED && self.key() == key
    }

    /// It is to be checked at the next write whether the file can be written again.
    pub fn check_soon(&self) {
        self.next_check.store(0, Relaxed);
    }

    /// The number of the entry and its generation, of 14 bits; 0 for an entry beyond [`TABLE`].
    pub fn number(&self) -> u32 {
        if !TABLE.as_ptr_range().contains(&core::ptr::from_ref(self)) {
            return 0;
        }
        let index = (core::ptr::from_ref(self).addr() - TABLE.as_ptr().addr()) / size_of::<DivertedFile>();
        (self.generation.load(Relaxed) % GENERATIONS + 1) * FILES as u32 + index as u32
    }

    /// The signal number that its open files are labelled with.
    pub fn signal(&self) -> i32 {
        SIGNALS.start + self.number() as i32 % SIGNALS.len() as i32
    }

    /// Counts what went elsewhere at the time `now` (CLOCK_MONOTONIC nanoseconds). `whole_lines`: the last byte was a newline.
    pub fn count(&self, lines: u64, bytes: u64, whole_lines: bool, now: u64) {
        self.lines.fetch_add(lines, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
        self.mid_line.store(!whole_lines, Relaxed);
        self.last_write.store(now, Relaxed);
    }

    /// Counts what was lost.
    pub fn count_lost(&self, lines: u64, bytes: u64) {
        self.lost_lines.fetch_add(lines, Relaxed);
        self.lost_bytes.fetch_add(bytes, Relaxed);
    }

    /// None of its lines could go anywhere: it is not diverted.
    pub fn withdraw(&self) {
        if self.state.compare_exchange(DIVERTED, CLAIMED, Acquire, Relaxed).is_ok() {
            self.release();
        }
    }

    /// This file has the path of the diverted one, which was rotated away: the entry is the new file's from now on, and the note of what
    /// went elsewhere will be in it. The old file, if it is still written to, is another diverted file.
    pub fn move_to(&self, key: Key) {
        // A file that could not be created is known by its path.
        if self.device.load(Relaxed) != NO_DEVICE {
            if self.device.load(Relaxed) != key.device || self.inode.load(Relaxed) != key.inode {
                self.generation.fetch_add(1, Relaxed);
            }
            self.device.store(key.device, Relaxed);
            self.inode.store(key.inode, Relaxed);
        }
    }

    /// Is it time to check whether the file can be written again? `now` is CLOCK_MONOTONIC in nanoseconds. Also if that has jumped back.
    #[inline(never)]
    pub fn is_check_due(&self, now: u64) -> bool {
        sys::is_due(self.next_check.load(Relaxed), self.gap.load(Relaxed), now)
    }

    /// This thread checks it: the next check is due after the gap.
    pub fn checked(&self) {
        self.next_check.store(sys::now() + self.gap.load(Relaxed), Relaxed);
    }

    /// A write to the file failed again. For a quota, where only a write can tell, the gap to the next one doubles.
    pub fn write_failed(&self) {
        if self.errno.load(Relaxed) != libc::EDQUOT {
            return;
        }
        let gap = self.gap.load(Relaxed).saturating_mul(2).min(LONGEST_GAP.max(SETTINGS.get(Id::RecoveryInterval)));
        self.gap.store(gap, Relaxed);
        self.next_check.store(sys::now() + gap, Relaxed);
    }

    /// Nanoseconds since it was diverted.
    pub fn age(&self) -> u64 {
        sys::now().saturating_sub(self.since_monotonic.load(Relaxed))
    }

    /// This thread is about to send lines elsewhere. False if lines are written to the file again by now. While another thread tries to
    /// write to the file, waits for its outcome, so that no line goes elsewhere after the note that says how many did.
    pub fn begin_sending(&self) -> bool {
        for _ in 0..MOST_YIELDS {
            self.senders.fetch_add(1, SeqCst);
            match self.state.load(SeqCst) {
                DIVERTED => return true,
                RECOVERING => {
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

    /// This thread has sent them.
    pub fn end_sending(&self) {
        self.senders.fetch_sub(1, SeqCst);
    }

    /// This thread is about to write to the file again. Waits until no thread sends lines elsewhere. False if another thread is about
    /// to write to it, or has.
    pub fn begin_recovery(&self) -> bool {
        let mine = self.state.compare_exchange(DIVERTED, RECOVERING, SeqCst, Relaxed).is_ok();
        for _ in 0..MOST_YIELDS {
            if !mine || self.senders.load(SeqCst) == 0 {
                break;
            }
            sys::yield_now();
        }
        mine
    }

    /// The file could not be written: its lines are diverted as before.
    pub fn abandon_recovery(&self) {
        self.state.store(DIVERTED, Release);
    }

    /// Lines are written to the file again.
    pub fn recovered(&self) {
        self.release();
        page::add(&page::counters().recoveries, 1);
    }

    /// Frees the entry.
    fn release(&self) {
        self.state.store(FREE, Release);
        if COUNT.fetch_sub(1, Relaxed) & !EVERY_WRITE == 1 {
            page::counters().degraded.store(0, Relaxed);
            page::counters().degraded_since.store(0, Relaxed);
        }
    }
}

/// Frees the entries of files that nobody writes to any more.
fn forget_old(now: u64) {
    for file in entries() {
        let old = now.saturating_sub(file.last_write.load(Relaxed)) > FORGOTTEN;
        if old && file.state.compare_exchange(DIVERTED, CLAIMED, Acquire, Relaxed).is_ok() {
            file.release();
        }
    }
}

/// In the child of a fork: a thread that was sending lines or recovering the file does not exist here.
pub fn forked() {
    if !any_diverted() {
        return;
    }
    if ENTERING.is_taken() {
        ENTERING.forked();
    }
    for file in entries() {
        let _ = file.state.compare_exchange(RECOVERING, DIVERTED, Relaxed, Relaxed);
        file.senders.store(0, Relaxed);
        if hold::is_on() {
            // The parent keeps its lines, and says so in the file.
            file.lines.store(0, Relaxed);
            file.bytes.store(0, Relaxed);
            file.lost_lines.store(0, Relaxed);
            file.lost_bytes.store(0, Relaxed);
        }
    }
    page::counters().degraded.store(1, Relaxed);
}
