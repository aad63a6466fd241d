//! A few descriptors kept back for what needs some itself before it can free others: the JVM's Cleaner opens a socket pair before
//! it closes its first socket, Guile's finalizer thread a pipe, shedding a connection needs the number it is accepted at.
//!
//! They are real ones, taken when usage comes near the limit and only where something will want them, lent while that runs, and
//! given up before an error is passed on: the program can use its whole limit. Not room above the soft limit: the limit
//! is raised first anyway, where it may be, and where it may not be (select(2), TIDEOVER_RAISE=off, a program that has set its
//! own) it may not be for a moment either, since other threads would get those numbers.
//!
//! The numbers are the highest, close-on-exec, and looked at before they are closed: hosts run close_range(2) and dup2(2) over
//! everything. All are one memory file, which nobody else can have open.

use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use crate::os::lossy_lock::{LossyLock, Lost, Taken};
use crate::os::sys;
use crate::state::process;
use crate::state::settings::SETTINGS;

/// So many.
pub const SIZE: usize = 4;
/// How far below the limit a free number is looked for.
const DEPTH: u64 = 32;
const NONE: i32 = -1;

static KEPT: [AtomicI32; SIZE] = [const { AtomicI32::new(NONE) }; SIZE];
static DEVICE: AtomicU64 = AtomicU64::new(0);
static INODE: AtomicU64 = AtomicU64::new(0);
/// Held by the thread that has the reserve in hand, also while it runs a collection, in which it may end.
static IN_HAND: LossyLock = LossyLock::new(Lost::ThreadGone);

/// The reserve is this thread's until [`Loan::restore`]: its descriptors are free, and whoever asks first gets them. No destructor:
/// a thread that is unwound or jumps away leaves it to [`abandoned`].
#[must_use]
pub struct Loan(());

/// Takes what is missing of the reserve, as far as there are descriptors.
pub fn fill() {
    if process::may_act() && take_in_hand() {
        take();
        let_go();
    }
}

/// Frees the descriptors of the reserve for what is done next, also when there are none. None: another thread has borrowed it.
pub fn lend() -> Option<Loan> {
    lend_some(SIZE)
}

/// The same for one of them.
pub fn lend_one() -> Option<Loan> {
    lend_some(1)
}

fn lend_some(most: usize) -> Option<Loan> {
    take_in_hand().then(|| {
        release(most);
        Loan(())
    })
}

/// Is all of it there?
pub fn is_full() -> bool {
    KEPT.iter().all(|place| is_ours(place.load(Relaxed)))
}

impl Loan {
    /// Takes the descriptors again, as far as there are any.
    pub fn restore(self) {
        take();
        let_go();
    }
}

/// The last resort before an error is passed on: frees the reserve. True if that made a descriptor available. Not while it is needed
/// to turn clients away.
pub fn give_up() -> bool {
    !SETTINGS.may_shed() && take_in_hand() && {
        let freed = release(SIZE);
        let_go();
        freed
    }
}

/// Frees the reserve for good.
pub fn dissolve() {
    if take_in_hand() {
        release(SIZE);
        let_go();
    }
}

/// The thread of this number may have borrowed the reserve, and does not bring it back.
pub fn abandoned(thread: i32) {
    IN_HAND.evict(thread);
}

/// In the child of a fork, which has the same descriptors: a thread that had them in hand does not exist.
pub fn forked() {
    IN_HAND.forked();
}

fn take_in_hand() -> bool {
    IN_HAND.take(sys::now()) != Taken::No
}

fn let_go() {
    IN_HAND.release();
}

/// Is the memory file still at this number?
fn is_ours(fd: i32) -> bool {
    sys::fstat(fd).is_ok_and(|status| status.st_ino == INODE.load(Relaxed) && status.st_dev == DEVICE.load(Relaxed))
}

fn release(most: usize) -> bool {
    let mut freed = false;
    for place in KEPT.iter().filter(|place| place.load(Relaxed) != NONE).take(most) {
        let fd = place.swap(NONE, Relaxed);
        if fd != NONE && is_ours(fd) {
            sys::close(fd);
            freed = true;
        }
    }
    freed
}

/// From the highest number down: the program finds its next numbers as it would without us.
fn take() {
    let kept = || KEPT.iter().map(|place| place.load(Relaxed)).find(|&fd| is_ours(fd));
    let Ok(limit) = sys::descriptor_limit(0) else { return };
    let mut numbers = (limit.rlim_cur.saturating_sub(DEPTH).max(3)..limit.rlim_cur).rev();
    for place in &KEPT {
        if is_ours(place.load(Relaxed)) {
            continue;
        }
        // The first is copied and then closed; with no room for a copy, it is kept where it is.
        let Some((file, is_new)) = kept().map(|fd| (fd, false)).or_else(|| Some((make()?, true))) else { return };
        let at = |number: u64| sys::duplicate(file, i32::try_from(number).ok()?).ok();
        let copy = numbers.find_map(at);
        place.store(copy.unwrap_or(if is_new { file } else { NONE }), Relaxed);
        if is_new && copy.is_some() {
            sys::close(file);
        }
    }
}

/// A memory file that nobody else has.
fn make() -> Option<i32> {
    let file = sys::memory_file(c"tideover reserve", true).ok()?;
    let status = sys::fstat(file).ok()?;
    DEVICE.store(status.st_dev, Relaxed);
    INODE.store(status.st_ino, Relaxed);
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Vec<i32> {
        KEPT.iter().map(|place| place.load(Relaxed)).filter(|&fd| is_ours(fd)).collect()
    }

    #[test]
    fn it_is_lent_restored_and_given_up_and_never_closes_what_is_not_its_own() {
        process::adopt();
        process::set_phase(process::Phase::Active);
        let limit = sys::descriptor_limit(0).unwrap();
        fill();
        let first = kept();
        assert_eq!(first.len(), SIZE);
        assert!(first.iter().all(|&fd| fd as u64 >= limit.rlim_cur - DEPTH), "{first:?}");
        assert!(first.iter().all(|&fd| sys::descriptor_flags(fd) == Ok(libc::FD_CLOEXEC)));

        // A host puts its own file over one, and closes another.
        let hosts = std::fs::File::open("/dev/null").unwrap();
        sys::duplicate_onto(std::os::fd::AsRawFd::as_raw_fd(&hosts), first[0], true).unwrap();
        sys::close(first[1]);

        let loan = lend().unwrap();
        assert!(kept().is_empty());
        assert!(sys::fstat(first[0]).is_ok(), "the host's file stays open");
        assert!(sys::fstat(first[2]).is_err());
        assert!(lend().is_none(), "it is lent");
        assert!(!give_up(), "there is nothing to give up");
        loan.restore();
        assert_eq!(kept().len(), SIZE);
        let one = lend_one().unwrap();
        assert_eq!(kept().len(), SIZE - 1);
        assert!(!is_full());
        one.restore();
        assert!(is_full());

        assert!(give_up());
        assert!(kept().is_empty());
        sys::close(first[0]);
    }
}
