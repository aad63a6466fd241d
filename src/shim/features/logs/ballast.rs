//! The ballast of a full disk: a file of real blocks, made by `tideover ballast` in the log's folder or in one above it on the same
//! filesystem. At the first ENOSPC or EDQUOT it is cut to its head, and the write is made again. `tideover watch` makes it anew.
//!
//! It is cut only if it surely is one (see `tideover_contract::ballast`): the name leads to it without a symbolic link, it is root's or of
//! the user that this process acts for, it has no second name, and its head names its own inode.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libc::{c_int, stat};
use tideover_contract::ballast::{Ballast, HEAD, NAME};
use tideover_contract::settings::SECOND;

use super::opened::{Log, PATH, directory};
use super::rotated_files::is_named_one;
use super::space;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::page;
use crate::state::report::Printable;

/// Nanoseconds from one search for a ballast to the next.
const GAP: u64 = SECOND;
/// How many folders above a file are searched.
const LEVELS: usize = 32;

/// A write to this file failed for want of space, with this errno: gives up the ballast of its filesystem. True: there may be space now.
pub(super) fn give_up(log: &Log<'_>, errno: c_int) -> bool {
    /// When to search next, CLOCK_MONOTONIC nanoseconds.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = sys::now();
    let due = NEXT.load(Relaxed);
    if now < due || NEXT.compare_exchange(due, now + GAP, Relaxed, Relaxed).is_err() {
        return false;
    }
    let mut path = directory(log.path());
    for _ in 0..LEVELS {
        if !sys::stat(path.as_c_str(), false).is_ok_and(|folder| folder.st_dev == log.device) {
            return false;
        }
        if give_up_in(&path, log, errno) {
            return true;
        }
        if path.as_bytes().len() <= 1 {
            return false;
        }
        path = directory(path.as_bytes());
    }
    false
}

/// Gives up the ballast in this folder, if one is there.
fn give_up_in(folder: &Text<PATH>, log: &Log<'_>, errno: c_int) -> bool {
    let mut path = folder.clone();
    if !(path.push(b"/") && path.push(NAME.as_bytes())) {
        return false;
    }
    let is_usable = |status: &stat| {
        is_named_one(status)
            && status.st_dev == log.device
            && status.st_size > HEAD as i64
            && (status.st_uid == 0 || status.st_uid == sys::geteuid())
            // To a quota of the log's owner, the blocks of others do not count.
            && (errno != libc::EDQUOT || status.st_uid == log.status.st_uid)
    };
    // Asked before it is opened: to open a FIFO or a device has effects.
    if !sys::stat(path.as_c_str(), false).is_ok_and(|status| is_usable(&status)) {
        return false;
    }
    let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let Ok(fd) = sys::open(path.as_c_str(), flags, 0) else { return false };
    // Where space is free, it is not what was missing: a limit on a part of the filesystem, or somebody has made room since.
    let helps = errno == libc::EDQUOT || !space::has_room(fd);
    let freed = sys::fstat(fd).ok().filter(|status| helps && is_usable(status)).and_then(|status| cut(fd, &status));
    sys::close(fd);
    let Some(freed) = freed else { return false };
    page::ensure();
    page::add(&page::counters().ballast_bytes, freed);
    log::warn!(
        "the disk of {} is full: {} was given up, {freed} bytes; `tideover watch --ballast` or `tideover ballast` makes it anew",
        log.name(),
        Printable(path.as_bytes())
    );
    true
}

/// Cuts the file to its head if it is a ballast; how many bytes that has freed.
fn cut(fd: c_int, status: &stat) -> Option<u64> {
    let mut head = [0u8; 256];
    let ballast = Ballast::read(sys::read_at(fd, &mut head, 0).ok()?)?;
    if ballast.inode != status.st_ino {
        return None;
    }
    sys::truncate(fd, HEAD as u64).ok()?;
    Some(status.st_blocks as u64 * 512)
}
