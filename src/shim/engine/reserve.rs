//! A few descriptors that are kept open for what needs some itself before it can free others: the JVM's Cleaner opens a socket pair
//! before it closes its first socket, Guile's finalizer thread opens a pipe, and a connection must be accepted before it can be closed.
//!
//! They are real descriptors, taken when usage comes near the limit and only if something may need them. They are closed for as long as
//! that runs (a loan), and before an error is passed on, so that the program can use its whole limit. Raising the soft limit instead
//! would not do: where it may be raised that is done first anyway, and where it may not be (select(2), TIDEOVER_RAISE=off, a program that
//! has set its own limit) it must not be for a moment either, since other threads would get the numbers above it.
//!
//! They have the highest numbers and are close-on-exec. Before one is closed it is checked, since programs call close_range(2) and
//! dup2(2) on numbers that they did not open. All are copies of one memfd_create(2) file, which nobody else can have open.

#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicI32, AtomicU64};

use crate::os::lossy_lock::{LossyLock, Lost, Taken};
use crate::os::sys;
use crate::state::process;
use crate::state::settings::SETTINGS;

/// How many descriptors are kept.
pub const SIZE: usize = 4;
/// How far below the soft limit a free number is looked for.
const DEPTH: u64 = 32;
/// No descriptor.
const NONE: i32 = -1;

/// The reserve.
struct Reserve {
    /// Held by the thread that takes, lends or closes the descriptors, and for as long as a loan lasts: the program's code that runs
    /// meanwhile may end the thread.
    lock: LossyLock,
    /// The descriptors, or [`NONE`].
    kept: [AtomicI32; SIZE],
    /// Device of the memory file that they are copies of.
    device: AtomicU64,
    /// Inode of that file.
    inode: AtomicU64,
}

static RESERVE: Reserve = Reserve {
    lock: LossyLock::new(Lost::ThreadGone),
    kept: [const { AtomicI32::new(NONE) }; SIZE],
    device: AtomicU64::new(0),
    inode: AtomicU64::new(0),
};

/// The reserve is lent until [`Loan::restore`]: its descriptors are closed, and the first calls that need one get them. There is no
/// destructor: of a thread that ends or leaves by longjmp(3) meanwhile, [`abandoned`] is told.
#[must_use]
pub struct Loan(());

/// Opens the descriptors that are missing in the reserve, as far as there are any.
pub fn fill() {
    if process::may_act() && lock() {
        open_missing();
        unlock();
    }
}

/// Closes all descriptors of the reserve for what is done next; also if there are none in it. None: another thread has the reserve.
pub fn lend() -> Option<Loan> {
    lend_some(SIZE)
}

/// Closes one descriptor of the reserve for what is done next; also if there is none in it. None: another thread has the reserve.
pub fn lend_one() -> Option<Loan> {
    lend_some(1)
}

fn lend_some(most: usize) -> Option<Loan> {
    lock().then(|| {
        close_some(most);
        Loan(())
    })
}

/// Are all [`SIZE`] descriptors there?
pub fn is_full() -> bool {
    RESERVE.kept.iter().all(|place| is_ours(place.load(Relaxed)))
}

impl Loan {
    /// Ends the loan: opens the descriptors again, as far as there are any.
    pub fn restore(self) {
        open_missing();
        unlock();
    }
}

/// Closes the reserve before an error is passed on. True if that made a descriptor available. Not if clients may have to be turned
/// away, which needs one.
pub fn release() -> bool {
    !SETTINGS.may_shed() && lock() && {
        let freed = close_some(SIZE);
        unlock();
        freed
    }
}

/// Closes the reserve, whatever it may be needed for: the library will open nothing any more.
pub fn release_for_good() {
    if lock() {
        close_some(SIZE);
        unlock();
    }
}

/// The thread of this number is lost, and may have the reserve: takes it from it.
pub fn abandoned(thread: i32) {
    RESERVE.lock.evict(thread);
}

/// In the child of a fork, which has the descriptors of its parent, but not the thread that may have held the lock.
pub fn forked() {
    RESERVE.lock.forked();
}

fn lock() -> bool {
    RESERVE.lock.take(sys::now()) != Taken::No
}

fn unlock() {
    RESERVE.lock.release();
}

/// Is the memory file of the reserve still at this number?
fn is_ours(fd: i32) -> bool {
    let (device, inode) = (RESERVE.device.load(Relaxed), RESERVE.inode.load(Relaxed));
    sys::fstat(fd).is_ok_and(|status| status.st_ino == inode && status.st_dev == device)
}

/// Closes at most `most` descriptors of the reserve; returns whether one was closed.
fn close_some(most: usize) -> bool {
    let mut freed = false;
    for place in RESERVE.kept.iter().filter(|place| place.load(Relaxed) != NONE).take(most) {
        let fd = place.swap(NONE, Acquire);
        if fd != NONE && is_ours(fd) {
            sys::close(fd);
            freed = true;
        }
    }
    freed
}

/// Opens what is missing, at the highest numbers that are free: the lowest, which the program gets next, are those that it would get
/// without the library.
fn open_missing() {
    let kept = || RESERVE.kept.iter().map(|place| place.load(Relaxed)).find(|&fd| is_ours(fd));
    let Ok(limit) = sys::descriptor_limit(0) else { return };
    let mut numbers = (limit.rlim_cur.saturating_sub(DEPTH).max(3)..limit.rlim_cur).rev();
    for place in &RESERVE.kept {
        if is_ours(place.load(Relaxed)) {
            continue;
        }
        // The memory file is opened at the lowest free number, copied to a high one, and closed. If there is no number for a copy, it
        // is kept where it is.
        let Some((file, is_new)) = kept().map(|fd| (fd, false)).or_else(|| Some((make()?, true))) else { return };
        let at = |number: u64| sys::duplicate(file, i32::try_from(number).ok()?).ok();
        let copy = numbers.find_map(at);
        // After the number of the file, by which `is_ours` knows it.
        place.store(copy.unwrap_or(if is_new { file } else { NONE }), Release);
        if is_new && copy.is_some() {
            sys::close(file);
        }
    }
}

/// Opens a memory file, and notes which one it is.
fn make() -> Option<i32> {
    let file = sys::memory_file(c"tideover reserve", true).ok()?;
    let status = sys::fstat(file).ok()?;
    RESERVE.device.store(status.st_dev, Relaxed);
    RESERVE.inode.store(status.st_ino, Relaxed);
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Vec<i32> {
        RESERVE.kept.iter().map(|place| place.load(Relaxed)).filter(|&fd| is_ours(fd)).collect()
    }

    #[test]
    fn it_is_lent_restored_and_released_and_never_closes_what_is_not_its_own() {
        process::adopt();
        process::set_phase(process::Phase::Active);
        let limit = sys::descriptor_limit(0).unwrap();
        fill();
        let first = kept();
        assert_eq!(first.len(), SIZE);
        assert!(first.iter().all(|&fd| fd as u64 >= limit.rlim_cur - DEPTH), "{first:?}");
        assert!(first.iter().all(|&fd| sys::descriptor_flags(fd) == Ok(libc::FD_CLOEXEC)));

        // The program puts a file of its own over one, and closes another.
        let programs = std::fs::File::open("/dev/null").unwrap();
        sys::duplicate_onto(std::os::fd::AsRawFd::as_raw_fd(&programs), first[0], true).unwrap();
        sys::close(first[1]);

        let loan = lend().unwrap();
        assert!(kept().is_empty());
        assert!(sys::fstat(first[0]).is_ok(), "the program's file stays open");
        assert!(sys::fstat(first[2]).is_err());
        assert!(lend().is_none(), "it is lent");
        assert!(!release(), "there is nothing to release");
        loan.restore();
        assert_eq!(kept().len(), SIZE);
        let one = lend_one().unwrap();
        assert_eq!(kept().len(), SIZE - 1);
        assert!(!is_full());
        one.restore();
        assert!(is_full());

        assert!(release());
        assert!(kept().is_empty());
        sys::close(first[0]);
    }
}
