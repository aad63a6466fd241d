//! The lock of a log among the processes that put lines back into it, as the library has it: one byte of a file in the folder of holds.
#![forbid(unsafe_code)]

use crate::before_exec::byte_lock::lock_bytes;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, fchown, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};
use tideover_contract::hold::{LOCK_FILE, lock_offset};

/// How long it is waited for: another process may be stopped while it has it.
const WAIT: Duration = Duration::from_millis(200);
/// How often the file is opened: whoever had it last may have removed it.
const MOST_TRIES: u32 = 100;

/// The right to put lines back into a log. It is this process's, whose other threads must not take one of the same user meanwhile.
pub struct LogLock<'a> {
    folder: &'a OwnedFd,
    /// None: no file can be locked, and others are not kept from the log.
    file: Option<OwnedFd>,
}

impl<'a> LogLock<'a> {
    /// The lock of the log of this device and inode, in this folder of a user's holds. None: another process does not release it.
    pub fn take(folder: &'a OwnedFd, user: u32, identity: (u64, u64)) -> Option<LogLock<'a>> {
        let until = Instant::now() + WAIT;
        for _ in 0..MOST_TRIES {
            let file = match open(folder, user) {
                Ok(file) => file,
                Err(Errno::NOENT | Errno::EXIST) => continue,
                Err(_) => break,
            };
            let is_locked = loop {
                match lock_bytes(&file, lock_offset(identity), 1) {
                    Ok(false) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                    other => break other,
                }
            };
            let is_still_there = || {
                let there = statat(folder, LOCK_FILE, AtFlags::SYMLINK_NOFOLLOW).ok().zip(fstat(&file).ok());
                there.is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
            };
            match is_locked {
                Ok(true) if is_still_there() => return Some(LogLock { folder, file: Some(file) }),
                Ok(true) => {}
                Ok(false) => return None,
                Err(_) => break,
            }
        }
        Some(LogLock { folder, file: None })
    }
}

impl Drop for LogLock<'_> {
    fn drop(&mut self) {
        // If nobody else has a part of it, nobody misses it.
        if let Some(file) = &self.file
            && lock_bytes(file, 0, 0).unwrap_or(false)
        {
            let _ = unlinkat(self.folder, LOCK_FILE, AtFlags::empty());
        }
    }
}

/// Opens the file, or makes it, for its user. Whatever else it is by its user's doing, nothing but a lock is done to it.
fn open(folder: &OwnedFd, user: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let make = || {
        let made = openat(folder, LOCK_FILE, flags | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR)?;
        // Fails for all users but root, whose own it is.
        let _ = fchown(&made, Some(Uid::from_raw(user)), None::<Gid>);
        Ok(made)
    };
    let file = openat(folder, LOCK_FILE, flags, Mode::empty()).or_else(|_: Errno| make())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        _ => Err(Errno::INVAL),
    }
}
