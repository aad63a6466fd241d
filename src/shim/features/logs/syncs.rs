//! fsync(2) and fdatasync(2): some loggers sync their file every few seconds (Erlang's), which makes no data of it. A writer that syncs each
//! record does.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libc::c_int;
use tideover_contract::settings::SECOND;

use super::files::{self, Key};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::table::Table;
use crate::state::descriptors::{self, HISTORY, LOG, SYNCED};
use crate::state::process::{self, Phase};
use tideover_contract::rule::History;

/// Shortest time between two syncs of a log, nanoseconds: a second, and what a timer may be early.
const SHORTEST: u64 = SECOND * 9 / 10;
/// How many descriptors' times are kept. Two that share a place seem to be synced more often than they are, and so to be data.
const PLACES: usize = 1024;
/// The bit of a time that says: there was an earlier sync, and it was long before.
const IS_SELDOM: u64 = 1;

/// When a descriptor was last synced, CLOCK_MONOTONIC nanoseconds, but for the lowest bit, which is [`IS_SELDOM`]. Mapped with the first
/// sync.
static LAST: Table<[AtomicU64; PLACES]> = Table::new();

/// The program is about to sync this descriptor by the call that `done` names.
#[cold]
#[inline(never)]
pub extern "C" fn note(fd: c_int, done: u32) {
    barrier((), || {
        let times = if process::phase() == Phase::Sandboxed { LAST.get() } else { LAST.map() };
        let Some(last) = times.map(|times| &times[fd as usize % PLACES]) else {
            return descriptors::add(fd, done);
        };
        let now = sys::now() & !IS_SELDOM;
        if descriptors::marks(fd) & SYNCED == 0 {
            descriptors::add(fd, SYNCED);
            last.store(now, Relaxed);
            return;
        }
        let before = last.swap(now | IS_SELDOM, Relaxed) & !IS_SELDOM;
        if now.saturating_sub(before) < SHORTEST {
            descriptors::add(fd, done);
        }
    });
}

/// What is known of a descriptor with these marks. One that was synced a moment ago, for the first time, may be synced after each record.
pub fn history(fd: c_int, marks: u32) -> History {
    let known = (marks & HISTORY) as u8;
    let last = LAST.get().map_or(0, |last| last[fd as usize % PLACES].load(Relaxed));
    let is_recent = sys::now().saturating_sub(last & !IS_SELDOM) < SECOND;
    let first = marks & SYNCED != 0 && last & IS_SELDOM == 0 && is_recent;
    History::from_bits(known | if first { History::FSYNC.bits() } else { 0 })
}

/// The program has synced this descriptor: are lines of its file elsewhere? Then the file is not on the disk as the program believes.
#[cold]
#[inline(never)]
pub extern "C" fn is_untrue(fd: c_int) -> bool {
    let errno = sys::errno();
    // Another file may have the inode of a diverted one that is gone.
    let is_log = descriptors::marks(fd) & LOG != 0;
    let is_diverted = || {
        is_log && process::may_note() && sys::fstat(fd).is_ok_and(|status| files::find(Key::of_file(&status)).is_some())
    };
    let diverted = barrier(false, is_diverted);
    sys::set_errno(errno);
    diverted
}
