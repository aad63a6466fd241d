//! The lock of a log among the processes of a user that put lines back into it. Each of them looks how the log ends, and then writes: between
//! the two, no other may end the line that this one is about to go on with.
//!
//! It is a lock of fcntl(2) on one byte of a file in the folder of holds, for the log itself may be locked by its program. Such a lock is the
//! process's: its children do not inherit it, and the kernel releases it when the process is killed. Nobody waits long for it: another
//! process may be stopped while it has it. The lines stay in the hold meanwhile.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicI32, Ordering::Relaxed};

use tideover_contract::hold::{LOCK_FILE, lock_offset};
use tideover_contract::settings::SECOND;

use super::hold_file::{self, Path};
use crate::os::sys;
use crate::state::page_file;
use crate::state::process::{self, Phase};

/// How long it is waited for, nanoseconds; and by a program that ends.
const WAIT: u64 = SECOND / 5000;
const LAST_WAIT: u64 = SECOND / 10;
/// How often the file is opened that is to be locked: whoever had it last has removed it meanwhile.
const MOST_TRIES: u32 = 100;

/// The descriptor of the file, or -1. At most one thread has a lock, since that takes the right to use the hold.
static OPEN: AtomicI32 = AtomicI32::new(-1);

/// The right to put lines back into a log.
pub struct LogLock {
    /// -1: no file can be locked, and others are not kept from it.
    fd: i32,
}

impl LogLock {
    /// The lock of the log of this device and inode. None: another process does not release it in time. Not for threads that do not have
    /// [`Holding`](super::hold::Holding).
    pub fn take(identity: (u64, u64)) -> Option<LogLock> {
        let path = path();
        let wait = if process::phase() == Phase::Exiting { LAST_WAIT } else { WAIT };
        let until = sys::now() + wait;
        for _ in 0..MOST_TRIES {
            let Some(fd) = open(&path) else { break };
            OPEN.store(fd, Relaxed);
            let locked = lock(fd, lock_offset(identity), until);
            if locked.is_ok() && is_still_there(fd, &path) {
                return Some(LogLock { fd });
            }
            close(fd);
            match locked {
                Ok(()) => {}
                Err(libc::EAGAIN | libc::EACCES) => return None,
                Err(_) => break,
            }
        }
        Some(LogLock { fd: -1 })
    }
}

impl Drop for LogLock {
    fn drop(&mut self) {
        if self.fd < 0 {
            return;
        }
        // Nobody else has it or a part of it, so nobody misses it.
        if sys::lock_bytes(self.fd, 0, 0).is_ok() {
            let _ = sys::unlink(path().as_c_str());
        }
        close(self.fd);
        hold_file::remove_folder();
    }
}

/// In the child of a fork: the lock is the parent's, and so is the descriptor.
pub fn forked() {
    let fd = OPEN.swap(-1, Relaxed);
    if fd >= 0 {
        sys::close(fd);
    }
}

fn close(fd: i32) {
    OPEN.store(-1, Relaxed);
    sys::close(fd);
}

fn path() -> Path {
    let mut path = hold_file::folder(sys::geteuid());
    let _ = path.push(b"/") && path.push(LOCK_FILE.as_bytes());
    path
}

/// Opens the file; where locks may need an answer of a server, or where there is no folder for it, there is none.
fn open(path: &Path) -> Option<i32> {
    hold_file::check_folder().ok()?;
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let fd = sys::open(path.as_c_str(), flags, 0o600).ok()?;
    if page_file::is_unsafe_to_map(fd) {
        sys::close(fd);
        return None;
    }
    Some(fd)
}

fn lock(fd: i32, offset: i64, until: u64) -> Result<(), sys::Errno> {
    loop {
        let locked = sys::lock_bytes(fd, offset, 1);
        let now = sys::now();
        if !matches!(locked, Err(libc::EAGAIN | libc::EACCES)) || now >= until {
            return locked;
        }
        if until - now > WAIT { sys::sleep(SECOND / 1000) } else { sys::yield_now() }
    }
}

/// Is the file that was locked the one that others find?
fn is_still_there(fd: i32, path: &Path) -> bool {
    let there = sys::stat(path.as_c_str(), false).ok().zip(sys::fstat(fd).ok());
    there.is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}
