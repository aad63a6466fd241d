//! Files of a process by the paths that the process knows: they are followed within its root alone (openat2(2)), since whoever rules a
//! container can put any symbolic link there.
#![forbid(unsafe_code)]

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use std::path::Path;

/// The root folder of a process. None: there is no such process, or this user may not look into it.
pub fn open(pid: u32) -> Option<OwnedFd> {
    openat(CWD, format!("/proc/{pid}/root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Opens a path within the root of a process. Opening does not wait for the other end of a FIFO.
pub fn open_within(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    // With O_PATH, other flags are an error of openat2(2).
    let flags = if flags.contains(OFlags::PATH) { flags - OFlags::NONBLOCK - OFlags::NOCTTY } else { flags };
    openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}
