//! What standard output and standard error were when the program started: the files that they were open on, by device and inode, and what
//! the environment said of them. Later in the program's life the numbers 1 and 2 may be open on something else.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::os::sys;

/// A standard stream as it was when the library was loaded.
pub struct Stream {
    /// Its descriptor: 1 or 2.
    pub number: i32,
    /// Was the descriptor open?
    open: AtomicBool,
    /// st_dev of its file.
    device: AtomicU64,
    /// st_ino of its file.
    inode: AtomicU64,
}

/// Standard output.
pub static STDOUT: Stream = Stream::new(libc::STDOUT_FILENO);
/// Standard error.
pub static STDERR: Stream = Stream::new(libc::STDERR_FILENO);

/// What the environment said at start.
struct Said {
    /// JOURNAL_STREAM: st_dev of the socket by which systemd has connected the streams with the journal; 0: it is not set.
    journal_device: AtomicU64,
    /// Its st_ino.
    journal_inode: AtomicU64,
    /// GATEWAY_INTERFACE: a web server has started this program, and its standard output is the answer to a request.
    is_cgi: AtomicBool,
}

static SAID: Said =
    Said { journal_device: AtomicU64::new(0), journal_inode: AtomicU64::new(0), is_cgi: AtomicBool::new(false) };

/// At load: remembers the values of JOURNAL_STREAM and GATEWAY_INTERFACE, if they are set.
pub fn remember_environment(journal_stream: Option<&[u8]>, gateway_interface: Option<&[u8]>) {
    SAID.is_cgi.store(gateway_interface.is_some(), Relaxed);
    let number = |text: &[u8]| core::str::from_utf8(text).ok()?.parse().ok();
    let numbers = journal_stream.and_then(|text| {
        let colon = text.iter().position(|&byte| byte == b':')?;
        let (device, inode) = text.split_at_checked(colon)?;
        Some((number(device)?, number(inode.get(1..)?)?))
    });
    if let Some((device, inode)) = numbers {
        SAID.journal_device.store(device, Relaxed);
        SAID.journal_inode.store(inode, Relaxed);
    }
}

/// Has systemd said that this file, from fstat(2), is the journal?
pub fn is_journal_stream(status: &libc::stat) -> bool {
    let inode = SAID.journal_inode.load(Relaxed);
    inode != 0 && status.st_ino == inode && status.st_dev == SAID.journal_device.load(Relaxed)
}

/// Is this program the child of a web server that takes its standard output for the answer to a request?
pub fn is_cgi() -> bool {
    SAID.is_cgi.load(Relaxed)
}

/// At load: remembers both. Returns whether one of them is a regular file.
pub fn remember() -> bool {
    let mut to_file = false;
    for stream in [&STDOUT, &STDERR] {
        if let Ok(status) = sys::fstat(stream.number) {
            stream.device.store(status.st_dev, Relaxed);
            stream.inode.store(status.st_ino, Relaxed);
            stream.open.store(true, Relaxed);
            to_file |= status.st_mode & libc::S_IFMT == libc::S_IFREG;
        }
    }
    to_file
}

impl Stream {
    const fn new(number: i32) -> Stream {
        Stream { number, open: AtomicBool::new(false), device: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }

    /// The stream's file, if it is the one of `old`, was replaced by the one of `new`: a log that was rotated.
    pub fn moved(&self, old: &libc::stat, new: &libc::stat) {
        if self.is_file(old) {
            self.device.store(new.st_dev, Relaxed);
            self.inode.store(new.st_ino, Relaxed);
        }
    }

    /// Was the descriptor open at start?
    pub fn was_open(&self) -> bool {
        self.open.load(Relaxed)
    }

    /// Is this, from fstat(2) or stat(2), the file that the stream was open on at start?
    pub fn is_file(&self, status: &libc::stat) -> bool {
        self.was_open() && status.st_dev == self.device.load(Relaxed) && status.st_ino == self.inode.load(Relaxed)
    }
}
