//! Two bytes of memory per descriptor: has its user asked for durability, is it a log whose lines go elsewhere?
//!
//! A fixed table, not one sized by the limit (moby#38814 has limits of 2^30).
//! Numbers beyond it count as durable: what is not known gets the true error.

use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, AtomicU32};

const NUMBERS: usize = 65536;

/// The lower byte: what its user did that writers of logs don't do.
pub const HISTORY: u16 = 0xff;
/// Judged to be a log while its filesystem was full.
pub const LOG: u16 = 0x100;
/// Known not to be a regular file.
pub const OTHER: u16 = 0x200;

type Marks = [AtomicU16; NUMBERS];

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
extern "C" fn make_table() -> bool {
    let Ok(fresh) = crate::sys::map_private(size_of::<Marks>()) else {
        BLIND.store(true, Relaxed);
        return false;
    };
    if MARKS.compare_exchange(core::ptr::null_mut(), fresh.cast(), AcqRel, Relaxed).is_err() {
        crate::sys::unmap(fresh, size_of::<Marks>());
    }
    true
}

/// What is known of a descriptor.
#[inline(always)]
pub fn marks(fd: i32) -> u16 {
    match table() {
        Some(marks) => marks.get(fd as usize).map_or(HISTORY, |marks| marks.load(Relaxed)),
        None if (fd as usize) < NUMBERS && !BLIND.load(Relaxed) => 0,
        None => HISTORY,
    }
}

/// Notes something.
#[inline(always)]
pub fn add(fd: i32, marks: u16) {
    if table().is_none() && !make_table() {
        return;
    }
    let known = table().and_then(|table| table.get(fd as usize));
    if let Some(known) = known.filter(|known| known.load(Relaxed) & marks != marks) {
        known.fetch_or(marks, Relaxed);
        TOP.fetch_max(fd as u32 + 1, Relaxed);
    }
}

/// The number is free, or belongs to something new.
#[inline(always)]
pub fn forget(fd: i32) {
    let known = table().and_then(|table| table.get(fd as usize));
    if let Some(known) = known.filter(|known| known.load(Relaxed) != 0) {
        known.store(0, Relaxed);
    }
}

/// So are all these.
pub fn forget_range(first: u32, last: u32) {
    let end = last.saturating_add(1).min(TOP.load(Relaxed)) as usize;
    for known in table().and_then(|table| table.get(first as usize..end)).unwrap_or(&[]) {
        known.store(0, Relaxed);
    }
}

/// `to` is a copy of `from`: the same open file, with the same history.
#[inline(always)]
pub fn copy(from: i32, to: i32) {
    forget(to);
    if from != to && table().is_some() && marks(from) != 0 {
        add(to, marks(from));
    }
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
