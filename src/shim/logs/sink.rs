//! Where diverted lines go: what standard output or error was when the program started, or a file on another filesystem.
//!
//! A sink must never block the host, raise SIGPIPE, or be on the disk that is full. A stalled reader loses lines, and they are
//! counted.

use core::ffi::CStr;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, sink};

use super::payload::Payload;
use crate::report::{Printable, Repeated};
use crate::settings::SETTINGS;
use crate::{page, process, sys};

/// A pipe takes so much at once without blocking when poll(2) says it is writable.
const AT_ONCE: usize = 4096;

/// A standard stream as it was at load.
struct Stream {
    number: i32,
    open: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
    /// A copy of our own, made when the host was about to replace the stream; -1: none.
    kept: AtomicI32,
}

const fn stream(number: i32) -> Stream {
    Stream {
        number,
        open: AtomicU32::new(0),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
        kept: AtomicI32::new(-1),
    }
}

static STDOUT: Stream = stream(1);
static STDERR: Stream = stream(2);
static UNUSABLE_PATH: Repeated = Repeated::new();

/// At load: remembers the standard streams.
pub fn start() {
    for stream in [&STDOUT, &STDERR] {
        if let Ok(status) = sys::fstat(stream.number) {
            stream.device.store(status.st_dev, Relaxed);
            stream.inode.store(status.st_ino, Relaxed);
            stream.open.store(1, Relaxed);
        }
    }
}

impl Stream {
    fn is(&self, status: &libc::stat) -> bool {
        self.open.load(Relaxed) != 0
            && status.st_dev == self.device.load(Relaxed)
            && status.st_ino == self.inode.load(Relaxed)
    }

    /// A descriptor of it that still is what it was at load.
    fn descriptor(&self) -> Option<(i32, libc::stat)> {
        [self.number, self.kept.load(Relaxed)].into_iter().filter(|&fd| fd >= 0).find_map(|fd| {
            let status = sys::fstat(fd).ok()?;
            self.is(&status).then_some((fd, status))
        })
    }
}

/// Is this the file that standard output or error was at start?
pub fn is_standard(status: &libc::stat) -> bool {
    STDOUT.is(status) || STDERR.is(status)
}

/// Is this the file that standard error was at start?
pub fn is_stderr(status: &libc::stat) -> bool {
    STDERR.is(status)
}

/// The host is about to close or replace descriptors from `first` to `last`: if our sink is among them, a copy is kept, high up
/// and close-on-exec. Not before: programs that count their descriptors must not see us.
#[inline(always)]
pub fn before_losing(first: u32, last: u32) {
    if first <= 2 && last >= 1 {
        keep(first, last);
    }
}

#[cold]
#[inline(never)]
extern "C" fn keep(first: u32, last: u32) {
    crate::barrier::barrier((), || {
        let wanted = match SETTINGS.get(Id::Fallback) {
            sink::STDOUT => &STDOUT,
            sink::STDERR => &STDERR,
            _ => return,
        };
        let number = wanted.number as u32;
        if !(first..=last).contains(&number) || wanted.kept.load(Relaxed) >= 0 || !process::may_act() {
            return;
        }
        let Ok(status) = sys::fstat(wanted.number) else { return };
        if !wanted.is(&status) || is_pointless(&status) {
            return;
        }
        let soft = page::counters().soft_limit.load(Relaxed).min(1024) as i32;
        if let Ok(copy) = sys::duplicate(wanted.number, (soft - 24).max(3)) {
            wanted.kept.store(copy, Relaxed);
        }
    });
}

/// Is this descriptor our own copy? The host does not know of it, so its close must find nothing there.
#[inline(always)]
pub fn is_ours(fd: i32) -> bool {
    fd > 2 && (fd == STDOUT.kept.load(Relaxed) || fd == STDERR.kept.load(Relaxed))
}

/// Character devices that swallow or refuse everything.
fn is_pointless(status: &libc::stat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFCHR
        && libc::major(status.st_rdev) == 1
        && libc::minor(status.st_rdev) != 8
}

/// A sink that can be used now.
pub struct Sink {
    fd: i32,
    socket: bool,
    opened: bool,
    /// For messages.
    pub name: &'static str,
}

/// The first usable sink for lines of a file on the filesystem `full`; `is_log` says whether a path is a log's. None: there is
/// none, and the host must get the true error.
pub fn choose(full: u64, is_log: &dyn Fn(i32, &libc::stat) -> bool) -> Option<Sink> {
    let stream = |stream: &Stream, name| {
        let (fd, status) = stream.descriptor()?;
        usable(fd, &status, full, is_log).then_some(Sink { fd, socket: is_socket(&status), opened: false, name })
    };
    match SETTINGS.get(Id::Fallback) {
        sink::OFF => None,
        sink::STDERR => stream(&STDERR, "stderr"),
        sink::PATH => file(SETTINGS.fallback_path(), full)
            .or_else(|| stream(&STDOUT, "stdout"))
            .or_else(|| stream(&STDERR, "stderr")),
        _ => stream(&STDOUT, "stdout").or_else(|| stream(&STDERR, "stderr")),
    }
}

fn is_socket(status: &libc::stat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

fn usable(fd: i32, status: &libc::stat, full: u64, is_log: &dyn Fn(i32, &libc::stat) -> bool) -> bool {
    let allowed = match status.st_mode & libc::S_IFMT {
        // A data stream must not get log lines: `prog > out.csv`.
        libc::S_IFREG => status.st_dev != full && is_log(fd, status),
        libc::S_IFSOCK => sys::socket_domain(fd) == Ok(libc::AF_UNIX),
        libc::S_IFCHR => !is_pointless(status),
        libc::S_IFIFO => true,
        _ => false,
    };
    let mut asked = [sys::pollfd(fd, libc::POLLOUT)];
    let gone = sys::poll_now(&mut asked).is_ok() && asked[0].revents & (libc::POLLERR | libc::POLLNVAL) != 0;
    allowed && !gone
}

fn file(path: &CStr, full: u64) -> Option<Sink> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let wrong = match sys::open(path, flags, 0o644) {
        Ok(fd) => match sys::fstat(fd) {
            Ok(status) if status.st_dev != full || status.st_mode & libc::S_IFMT != libc::S_IFREG => {
                return Some(Sink { fd, socket: false, opened: true, name: "the fallback file" });
            }
            _ => {
                sys::close(fd);
                "is on the same full disk"
            }
        },
        Err(_) => "can't be opened",
    };
    if UNUSABLE_PATH.due().is_some() {
        log::warn!("TIDEOVER_FALLBACK={} {wrong}; using stdout or stderr instead", Printable(path.to_bytes()));
    }
    None
}

impl Sink {
    /// Writes the payload, with the prefix before each line that begins in it. What the reader can't take now is dropped; returns
    /// how many bytes were.
    pub fn deliver(&self, payload: Payload<'_>, prefix: &[u8], mid_line: bool) -> usize {
        let mut dropped = 0;
        let mut line_begins = !mid_line;
        for mut piece in payload.pieces() {
            while !piece.is_empty() {
                let (part, rest) = piece.split_at(chunk(piece, !prefix.is_empty()));
                if dropped > 0 || !self.put(if line_begins { prefix } else { b"" }, part) {
                    dropped += part.len();
                }
                line_begins = part.last() == Some(&b'\n');
                piece = rest;
            }
        }
        dropped
    }

    /// One write that does not block: all of it, or false.
    fn put(&self, prefix: &[u8], part: &[u8]) -> bool {
        let mut ready = [sys::pollfd(self.fd, libc::POLLOUT)];
        if sys::poll_now(&mut ready).is_err() || ready[0].revents != libc::POLLOUT {
            return false;
        }
        if prefix.is_empty() {
            return self.write(part) == part.len();
        }
        self.write(prefix) == prefix.len() && self.write(part) == part.len()
    }

    fn write(&self, bytes: &[u8]) -> usize {
        if self.socket { sys::send(self.fd, bytes) } else { sys::write(self.fd, bytes) }.unwrap_or(0)
    }
}

/// How much of a piece goes in one write: as many whole lines as fit, or one line where each gets a prefix.
fn chunk(piece: &[u8], line_by_line: bool) -> usize {
    let reach = piece.get(..AT_ONCE).unwrap_or(piece);
    let newline = if line_by_line {
        reach.iter().position(|&b| b == b'\n')
    } else {
        reach.iter().rposition(|&b| b == b'\n').filter(|_| reach.len() < piece.len())
    };
    newline.map_or(reach.len(), |at| at + 1)
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.opened {
            sys::close(self.fd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_cut_at_newlines() {
        assert_eq!(chunk(b"one\ntwo\n", true), 4);
        assert_eq!(chunk(b"one\ntwo\n", false), 8);
        let mut long = [b'x'; 5000];
        assert_eq!(chunk(&long, false), AT_ONCE);
        long[99] = b'\n';
        assert_eq!(chunk(&long, false), 100);
    }
}
