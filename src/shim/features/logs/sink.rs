//! Where diverted lines go: what standard output or standard error was when the program started, or a file on another filesystem.
//!
//! A sink must never block the program, raise SIGPIPE, or be on the disk that is full. Lines that its reader does not take in time are
//! dropped, and counted.
#![forbid(unsafe_code)]

use core::cell::Cell;
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND, sink as sinks};

use super::copies;
use super::messages::MESSAGES;
use super::payload::Payload;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::report::Printable;
use crate::state::settings::SETTINGS;
use crate::state::streams::{STDERR, STDOUT, Stream};

/// Descriptors below this number are looked at for a copy that the program made of a standard stream. Shells keep theirs at 10 while a
/// builtin command's output goes to a file.
const COPIES: i32 = 32;
/// Most bytes in one write. A pipe takes so many without blocking when poll(2) says that it can be written (PIPE_BUF).
pub const ONE_WRITE: usize = 4096;
/// How long a write waits for the reader, milliseconds.
const READER_WAIT: i32 = 4;
/// A reader that has not read for so many nanoseconds has stopped: until it reads again, lines are dropped without a wait.
const STOPPED: u64 = SECOND / 5;

/// Since when the sink's reader has not read, CLOCK_MONOTONIC nanoseconds; 0: it reads.
static STALLED_SINCE: AtomicU64 = AtomicU64::new(0);

/// Did the reader of the sink not read when it was last asked?
pub fn has_stalled_reader() -> bool {
    STALLED_SINCE.load(Relaxed) != 0
}

/// An open descriptor of a standard stream's file.
struct Found {
    fd: i32,
    status: libc::stat,
    /// It was opened for this use, and is to be closed after it.
    opened: bool,
}

/// A descriptor of the file that the stream was open on at start: the stream's own number, the library's copy, a copy that the
/// program made; or one that another process still has.
fn find(stream: &Stream) -> Option<Found> {
    let candidates = [stream.number, copies::number(stream)].into_iter().chain(3..COPIES);
    let here = candidates.filter(|&fd| fd >= 0).find_map(|fd| {
        let status = sys::fstat(fd).ok()?;
        let usable = stream.is_file(&status) && (fd == stream.number || is_writable(fd));
        usable.then_some(Found { fd, status, opened: false })
    });
    here.or_else(|| [sys::getppid(), 1].into_iter().find_map(|pid| open_of_process(pid, stream)))
}

/// Opens the stream's file through another process's descriptor, for one write: held longer, it would keep whoever waits for the end
/// of our standard output waiting.
fn open_of_process(pid: i32, stream: &Stream) -> Option<Found> {
    [stream.number, copies::number_in_parent(stream)].into_iter().find_map(|number| {
        let mut path = Text::<48>::new();
        let _ = write!(path, "/proc/{pid}/fd/{number}");
        let status = sys::stat(path.as_c_str(), true).ok().filter(|status| stream.is_file(status))?;
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
        let fd = sys::open(path.as_c_str(), flags, 0).ok()?;
        Some(Found { fd, status, opened: true })
    })
}

fn is_writable(fd: i32) -> bool {
    sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// A sink that can be used now.
pub struct Sink {
    fd: i32,
    /// It is a socket: written by sendto(2), which raises no SIGPIPE.
    socket: bool,
    /// It was opened for this use, and is closed with the value.
    opened: bool,
    /// poll(2) has just said that it can be written. Holds for one write.
    ready: Cell<bool>,
    /// What messages call it.
    pub name: &'static str,
}

/// The first usable sink for lines of a file on the filesystem `full` (st_dev). `is_log` says whether a regular file, given by
/// descriptor and fstat(2), is a log. None: there is no sink, and the program must get the true error.
pub fn choose(full: u64, is_log: &dyn Fn(i32, &libc::stat) -> bool) -> Option<Sink> {
    let stream = |stream: &Stream, name| {
        let found = find(stream)?;
        let (socket, opened) = (is_socket(&found.status), found.opened);
        // Made before it is checked, so that what was opened is closed if it can't be used.
        let sink = Sink { fd: found.fd, socket, opened, ready: Cell::new(false), name };
        let ready = check(found.fd, &found.status, full, is_log)?;
        sink.ready.set(ready);
        Some(sink)
    };
    match SETTINGS.get(Id::Fallback) {
        sinks::OFF => None,
        sinks::STDERR => stream(&STDERR, "stderr"),
        sinks::PATH => file(SETTINGS.fallback_path(), full)
            .or_else(|| stream(&STDOUT, "stdout"))
            .or_else(|| stream(&STDERR, "stderr")),
        _ => stream(&STDOUT, "stdout").or_else(|| stream(&STDERR, "stderr")),
    }
}

fn is_socket(status: &libc::stat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// None: it must not or can't be used. Else whether poll(2) says that it can be written now.
fn check(fd: i32, status: &libc::stat, full: u64, is_log: &dyn Fn(i32, &libc::stat) -> bool) -> Option<bool> {
    let allowed = match status.st_mode & libc::S_IFMT {
        // A data stream must not get log lines: `prog > out.csv`.
        libc::S_IFREG => status.st_dev != full && is_log(fd, status),
        libc::S_IFSOCK => sys::socket_domain(fd) == Ok(libc::AF_UNIX),
        libc::S_IFCHR => !copies::is_useless_device(status),
        libc::S_IFIFO => true,
        _ => false,
    };
    if !allowed {
        return None;
    }
    let mut asked = [sys::pollfd(fd, libc::POLLOUT)];
    sys::poll_now(&mut asked).ok()?;
    let gone = asked[0].revents & (libc::POLLERR | libc::POLLNVAL) != 0;
    (!gone).then_some(asked[0].revents == libc::POLLOUT)
}

/// The file that TIDEOVER_FALLBACK names, unless it is on the filesystem `full`.
fn file(path: &CStr, full: u64) -> Option<Sink> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let problem = match sys::open(path, flags, 0o644) {
        Ok(fd) => match sys::fstat(fd) {
            Ok(status) if status.st_dev != full || status.st_mode & libc::S_IFMT != libc::S_IFREG => {
                return Some(Sink {
                    fd,
                    socket: false,
                    opened: true,
                    ready: Cell::new(false),
                    name: "the fallback file",
                });
            }
            _ => {
                sys::close(fd);
                "is on the same full disk"
            }
        },
        Err(_) => "can't be opened",
    };
    if MESSAGES.unusable_path.due().is_some() {
        log::warn!("TIDEOVER_FALLBACK={} {problem}; using stdout or stderr instead", Printable(path.to_bytes()));
    }
    None
}

impl Sink {
    /// Writes the payload, with the prefix before each line that begins in it; `mid_line`: its first bytes continue a line. Once the
    /// reader does not take a part in time, the rest is dropped. Returns how many bytes were dropped.
    pub fn deliver(&self, payload: Payload<'_>, prefix: &[u8], mid_line: bool) -> usize {
        let mut dropped = 0;
        let mut line_begins = !mid_line;
        for mut piece in payload.pieces() {
            while !piece.is_empty() {
                let (part, rest) = piece.split_at(chunk(piece, !prefix.is_empty()));
                if dropped > 0 || !self.write_in_time(if line_begins { prefix } else { b"" }, part) {
                    dropped += part.len();
                }
                line_begins = part.last() == Some(&b'\n');
                piece = rest;
            }
        }
        dropped
    }

    /// Writes this part when the sink can take it, or after a short wait. True if all of it was written.
    fn write_in_time(&self, prefix: &[u8], part: &[u8]) -> bool {
        let ready = self.ready.replace(false);
        if ready && has_stalled_reader() {
            STALLED_SINCE.store(0, Relaxed);
        }
        if !ready && !self.wait_for_reader() {
            return false;
        }
        if prefix.is_empty() {
            return self.write(part) == part.len();
        }
        self.write(prefix) == prefix.len() && self.write(part) == part.len()
    }

    /// Waits until the sink can be written: for [`READER_WAIT`], since a reader may be a little slower than the writer or not be
    /// scheduled for a while; not at all if the reader has stopped.
    fn wait_for_reader(&self) -> bool {
        let since = STALLED_SINCE.load(Relaxed);
        let now = sys::now();
        let has_stopped = since != 0 && now.saturating_sub(since) > STOPPED;
        let mut asked = [sys::pollfd(self.fd, libc::POLLOUT)];
        let wait = if has_stopped { 0 } else { READER_WAIT };
        let writable = sys::poll_for(&mut asked, wait).is_ok() && asked[0].revents == libc::POLLOUT;
        if writable {
            STALLED_SINCE.store(0, Relaxed);
        } else if since == 0 {
            STALLED_SINCE.store(now, Relaxed);
        }
        writable
    }

    /// One write; returns how many bytes were taken.
    fn write(&self, bytes: &[u8]) -> usize {
        if self.socket { sys::send(self.fd, bytes) } else { sys::write(self.fd, bytes) }.unwrap_or(0)
    }
}

/// How many bytes of a piece go in one write: as many whole lines as fit, or one line where each gets a prefix.
fn chunk(piece: &[u8], line_by_line: bool) -> usize {
    let most = piece.get(..ONE_WRITE).unwrap_or(piece);
    let newline = if line_by_line {
        most.iter().position(|&b| b == b'\n')
    } else {
        most.iter().rposition(|&b| b == b'\n').filter(|_| most.len() < piece.len())
    };
    newline.map_or(most.len(), |at| at + 1)
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
        assert_eq!(chunk(&long, false), ONE_WRITE);
        long[99] = b'\n';
        assert_eq!(chunk(&long, false), 100);
    }
}
