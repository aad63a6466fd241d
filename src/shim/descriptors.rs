//! Two bytes of memory per descriptor: has its user asked for durability, is it a log whose lines go elsewhere?
//!
//! A fixed table, not one sized by the limit (moby#38814 has limits of 2^30); pages of it that nobody touches cost nothing.
//! Numbers beyond it count as durable: what is not known gets the true error.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed};

const NUMBERS: usize = 65536;

/// The lower byte: what its user did that writers of logs don't do.
pub const HISTORY: u16 = 0xff;
/// Judged to be a log while its filesystem was full.
pub const LOG: u16 = 0x100;
/// Known not to be a regular file.
pub const OTHER: u16 = 0x200;

static MARKS: [AtomicU16; NUMBERS] = [const { AtomicU16::new(0) }; NUMBERS];
/// One above the highest number that was ever marked.
static TOP: AtomicU32 = AtomicU32::new(0);

/// What is known of a descriptor.
#[inline(always)]
pub fn marks(fd: i32) -> u16 {
    MARKS.get(fd as usize).map_or(HISTORY, |marks| marks.load(Relaxed))
}

/// Notes something.
#[inline(always)]
pub fn add(fd: i32, marks: u16) {
    if let Some(known) = MARKS.get(fd as usize) {
        if known.load(Relaxed) & marks != marks {
            known.fetch_or(marks, Relaxed);
            TOP.fetch_max(fd as u32 + 1, Relaxed);
        }
    }
}

/// The number is free, or belongs to something new.
#[inline(always)]
pub fn forget(fd: i32) {
    if let Some(known) = MARKS.get(fd as usize) {
        if known.load(Relaxed) != 0 {
            known.store(0, Relaxed);
        }
    }
}

/// So are all these.
pub fn forget_range(first: u32, last: u32) {
    let end = last.saturating_add(1).min(TOP.load(Relaxed)) as usize;
    for known in MARKS.get(first as usize..end).unwrap_or(&[]) {
        known.store(0, Relaxed);
    }
}

/// `to` is a copy of `from`: the same open file, with the same history.
#[inline(always)]
pub fn copy(from: i32, to: i32) {
    forget(to);
    if from != to {
        let known = MARKS.get(from as usize).map_or(0, |marks| marks.load(Relaxed));
        if known != 0 {
            add(to, known);
        }
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
