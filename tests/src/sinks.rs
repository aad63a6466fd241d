//! Where lines go that don't fit into their log: pipes, sockets and standard error, and what the C loggers say at their end.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Outcome;

/// A pipe: to read, to write.
pub fn pipe() -> (File, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
    // SAFETY: pipe2 has just made them.
    unsafe { (File::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) }
}

/// A pseudo-terminal: its master, and the terminal.
pub fn terminal() -> (File, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    // SAFETY: room for two descriptors; neither a name nor modes are asked for.
    let made = unsafe {
        libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
    };
    assert_eq!(made, 0, "a terminal can be had");
    // SAFETY: openpty has just made them. The master must not be inherited: a terminal ends with its last master.
    unsafe {
        libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave))
    }
}

/// A unix socket whose other end collects what comes, until all who have it open have closed it.
pub fn collected() -> (OwnedFd, JoinHandle<String>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let reader = thread::spawn(move || {
        let mut all = String::new();
        (&ours).read_to_string(&mut all).expect("it ends");
        all
    });
    (theirs.into(), reader)
}

/// What a pipe, a FIFO or a terminal holds now, of which nobody reads: at most 1 MiB.
pub fn left_in(mut end: &File) -> String {
    use std::os::fd::AsRawFd;
    // SAFETY: fcntl(2) with numbers touches no memory.
    assert_eq!(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }, 0);
    let (mut all, mut part) = (vec![], [0; 4096]);
    // EAGAIN: that was all. EIO: no program has the terminal open any more.
    while let Ok(count @ 1..) = end.read(&mut part) {
        all.extend_from_slice(&part[..count]);
        assert!(all.len() <= 1 << 20, "somebody still writes");
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What of standard error is lines that were sent there: neither the library's own nor the loggers' last line.
pub fn sent_to_stderr(outcome: &Outcome) -> String {
    outcome.theirs().iter().filter(|l| !l.contains(" failed, longest ")).map(|l| format!("{l}\n")).collect()
}

/// How many writes failed, as the loggers in C say at their end.
///
/// # Panics
/// If it does not say so.
#[track_caller]
pub fn failed(outcome: &Outcome) -> u32 {
    let said = outcome.stderr.lines().chain(outcome.stdout.lines()).find(|line| line.contains(" failed, longest "));
    let number = said.and_then(|line| line.split(" failed").next()?.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("it should say how many writes failed: {outcome}"))
}

/// How long the slowest write took, as the loggers in C say at their end.
///
/// # Panics
/// If it does not say so.
#[track_caller]
pub fn longest(outcome: &Outcome) -> Duration {
    let said = outcome.stderr.split("longest ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    Duration::from_micros(said.unwrap_or_else(|| panic!("it should say how long a write took: {outcome}")))
}
