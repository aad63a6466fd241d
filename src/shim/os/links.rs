//! Links in /proc of the calling thread: a thread may have descriptors and a working directory of its own (unshare(2)), and those in
//! /proc/self are the first thread's.
#![forbid(unsafe_code)]

use core::fmt::Write;

use super::sys;
use super::text::Text;

/// The link of a descriptor. Opening it opens the file anew, with flags of one's own.
pub fn descriptor(fd: i32) -> Text<64> {
    of_thread(format_args!("fd/{fd}"))
}

/// The link of the working directory.
pub fn working_directory() -> Text<64> {
    of_thread(format_args!("cwd"))
}

fn of_thread(what: core::fmt::Arguments<'_>) -> Text<64> {
    // Since Linux 3.17. Not /proc/TID, since a thread has another number in another pid namespace.
    let whose = if sys::stat(c"/proc/thread-self", false).is_ok() { "thread-self" } else { "self" };
    let mut path = Text::new();
    let _ = write!(path, "/proc/{whose}/{what}");
    path
}
