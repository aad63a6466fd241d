//! How many descriptors are in use, found out without needing one.

#![forbid(unsafe_code)]

use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;

use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::{page, process};

/// How many descriptors one poll(2) asks about: 2 KiB of stack.
const BATCH: usize = 256;

/// How many descriptors the process has, also above its limit; None: this kernel does not count (before Linux 6.2).
pub fn counted() -> Option<u64> {
    sys::stat(c"/proc/self/fd", true).ok().map(|status| status.st_size as u64).filter(|&count| count > 0)
}

/// How many descriptors below `soft` are in use. From Linux 6.2 on that is the size of /proc/self/fd; before, poll(2) says of each number
/// whether it is open.
pub fn used(soft: u64) -> u64 {
    counted().unwrap_or_else(|| count_by_poll(soft))
}

/// Is no number below `soft` free, as far as one system call can tell? False if there are descriptors above `soft`, or if the kernel does
/// not count.
pub fn is_full(soft: u64) -> bool {
    page::high_water() <= soft && sys::stat(c"/proc/self/fd", true).is_ok_and(|status| status.st_size as u64 >= soft)
}

/// Is a number below `soft` free? The count alone does not always tell, since it has descriptors above the limit in it: inherited ones, and
/// those from before it was lowered. So numbers are asked about, too, [`WINDOW`] of them each time, until all of them were while the count
/// stayed as it is.
pub fn has_room(soft: u64) -> bool {
    let counted = counted();
    counted.is_some_and(|counted| counted < soft) || finds_free_number(soft, counted.unwrap_or(0))
}

/// poll(2) of so many sockets takes a tenth of a millisecond, which the clients of an event loop hardly notice.
const WINDOW: u64 = 1024;

/// Is one of the next numbers below `soft` free? Up to [`WINDOW`] descriptors, of all of them. `counted`: how many there are; 0: not known.
fn finds_free_number(soft: u64, counted: u64) -> bool {
    /// The number at which it goes on.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    /// The count for which none was free, and how many numbers were asked about since it is so.
    static COUNTED: AtomicU64 = AtomicU64::new(0);
    static ASKED: AtomicU64 = AtomicU64::new(0);
    let end = asked_about(soft);
    if counted == 0 || COUNTED.swap(counted, Relaxed) != counted {
        ASKED.store(0, Relaxed);
    } else if ASKED.load(Relaxed) >= end {
        return false;
    }
    let first = if end > WINDOW { NEXT.load(Relaxed) % end } else { 0 };
    let last = end.min(first + WINDOW);
    NEXT.store(last, Relaxed);
    let is_free = open_among(first, last, soft).is_some_and(|open| open < last - first);
    ASKED.store(if is_free { 0 } else { ASKED.load(Relaxed) + last - first }, Relaxed);
    is_free
}

/// Is a number below the soft limit free, as far as a few system calls can tell?
pub fn has_free_number() -> bool {
    sys::descriptor_limit(0).is_ok_and(|limit| has_room(limit.rlim_cur))
}

/// Counts descriptors below `soft` by poll(2).
fn count_by_poll(soft: u64) -> u64 {
    open_among(0, asked_about(soft), soft).unwrap_or(0)
}

/// With a limit of 2^30 it must not take minutes, so that only numbers up to twice the highest one seen are asked about.
fn asked_about(soft: u64) -> u64 {
    soft.min(page::high_water().max(1024) * 2)
}

/// How many of the numbers `first..end` are open: poll(2) says POLLNVAL of the others. None: it fails.
fn open_among(mut first: u64, end: u64, soft: u64) -> Option<u64> {
    // poll(2) fails with more entries than the soft limit.
    let batch = BATCH.min(soft as usize);
    let mut open = 0;
    while batch > 0 && first < end {
        let mut fds = [sys::pollfd(0, 0); BATCH];
        let here = batch.min((end - first) as usize);
        for (i, fd) in fds[..here].iter_mut().enumerate() {
            fd.fd = (first + i as u64) as i32;
        }
        sys::poll_now(&mut fds[..here]).ok()?;
        open += fds[..here].iter().filter(|fd| fd.revents & libc::POLLNVAL == 0).count() as u64;
        first += here as u64;
    }
    Some(open)
}

/// Has this process been at its limit, or is it near it? A few loads, once the limit is known.
#[inline(always)]
pub fn is_tight() -> bool {
    let counters = page::counters();
    counters.emfile.load(Relaxed) != 0
        || counters.high_water.load(Relaxed) + NEAR >= counters.soft_limit.load(Relaxed) && is_near()
}

/// Near is: at most so many descriptors below the limit.
const NEAR: u64 = 4;

/// Is the process really near its limit? Asked only if the numbers say so; but before the first look at the limit, it is noted as 0.
#[cold]
#[inline(never)]
extern "C" fn is_near() -> bool {
    barrier(false, || {
        page::counters().soft_limit.load(Relaxed) != 0
            || process::may_note()
                && sys::descriptor_limit(0)
                    .is_ok_and(|limit| used(limit.rlim_cur).saturating_add(NEAR) >= limit.rlim_cur)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_count_agree() {
        let listed = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        // Other tests of this process open and close meanwhile.
        assert!(used(1024).abs_diff(listed) <= 4);
        assert!(count_by_poll(1024).abs_diff(listed) <= 4);
    }
}
