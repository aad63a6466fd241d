//! Where diverted lines go: what standard output or error was when the program started, or a file on another filesystem.
//!
//! A sink must never block the host, raise SIGPIPE, or be on the disk that is full. A stalled reader loses lines, and they are
//! counted.

use core::cell::Cell;
use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use tideover_contract::glob;
use tideover_contract::settings::{Id, SECOND, sink};

use super::payload::Payload;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, PIPE, SHARED};
use crate::state::process::Phase;
use crate::state::report::{Printable, Repeated};
use crate::state::settings::SETTINGS;
use crate::state::{process, thread};

/// Programs that put files over their standard output and back all the time.
const SHELLS: &[u8] = b"sh, bash, dash, zsh, ksh*, mksh, ash, busybox, fish";
/// Copies that a program made of a standard stream are looked for up to this number.
const COPIES: i32 = 32;
/// A pipe takes so much at once without blocking when poll(2) says it is writable.
pub const AT_ONCE: usize = 4096;

/// A standard stream as it was at load.
struct Stream {
    number: i32,
    open: AtomicU32,
    device: AtomicU64,
    inode: AtomicU64,
    /// A copy of our own, made when the host was about to replace the stream; negative: none, but the parent of this fork has
    /// one at the complement.
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
/// How long a write waits for its reader, milliseconds.
const PATIENCE: i32 = 4;
/// A reader that has not read for so long has stopped: until it reads again, lines are dropped at once.
const STOPPED: u64 = SECOND / 5;
/// Since when the reader has not read, CLOCK_MONOTONIC; 0: it does.
static STALLED: AtomicU64 = AtomicU64::new(0);
static UNUSABLE_PATH: Repeated = Repeated::new();

/// At load: remembers the standard streams. Is one of them a file?
pub fn start() -> bool {
    let mut to_file = false;
    for stream in [&STDOUT, &STDERR] {
        if let Ok(status) = sys::fstat(stream.number) {
            stream.device.store(status.st_dev, Relaxed);
            stream.inode.store(status.st_ino, Relaxed);
            stream.open.store(1, Relaxed);
            to_file |= status.st_mode & libc::S_IFMT == libc::S_IFREG;
        }
    }
    to_file
}

impl Stream {
    fn is(&self, status: &libc::stat) -> bool {
        self.open.load(Relaxed) != 0
            && status.st_dev == self.device.load(Relaxed)
            && status.st_ino == self.inode.load(Relaxed)
    }

    /// A descriptor of it: the number itself, a copy that the program made (shells keep their stdout at 10 while a builtin's
    /// goes to a file), our own, or one that an ancestor still has open.
    fn descriptor(&self) -> Option<Found> {
        let kept = self.kept.load(Relaxed);
        let own = [self.number, kept].into_iter().chain(3..COPIES);
        own.filter(|&fd| fd >= 0)
            .find_map(|fd| {
                let status = sys::fstat(fd).ok()?;
                (self.is(&status) && (fd == self.number || is_writable(fd))).then_some(Found {
                    fd,
                    status,
                    opened: false,
                })
            })
            .or_else(|| [sys::getppid(), 1].into_iter().find_map(|pid| self.of_process(pid, kept)))
    }

    /// The same, of another process: opened for one write, and not held, so that whoever waits for the end of our standard output
    /// is not kept waiting.
    fn of_process(&self, pid: i32, kept: i32) -> Option<Found> {
        [self.number, if kept < 0 { !kept } else { kept }].into_iter().find_map(|number| {
            let mut path = Text::<48>::new();
            let _ = write!(path, "/proc/{pid}/fd/{number}");
            let status = sys::stat(path.as_c_str(), true).ok().filter(|status| self.is(status))?;
            let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
            let fd = sys::open(path.as_c_str(), flags, 0).ok()?;
            Some(Found { fd, status, opened: true })
        })
    }
}

/// An open standard stream.
struct Found {
    fd: i32,
    status: libc::stat,
    opened: bool,
}

fn is_writable(fd: i32) -> bool {
    sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
}

/// Is this the file that standard output or error was at start?
pub fn is_standard(status: &libc::stat) -> bool {
    STDOUT.is(status) || STDERR.is(status)
}

/// Is this the file that standard error was at start?
pub fn is_stderr(status: &libc::stat) -> bool {
    STDERR.is(status)
}

/// Was there a standard error at start?
pub fn had_stderr() -> bool {
    STDERR.open.load(Relaxed) != 0
}

/// The host is about to put another file at this number. If that is our sink, a copy is kept, high up and close-on-exec: the
/// PostgreSQL server does so with its standard output. Not before: programs that count their descriptors must not see us. Not
/// when the number is closed, and not in children: whoever reads our standard output may be waiting for its end (`$(daemon)`).
#[inline(always)]
pub fn before_replacing(fd: i32) {
    if fd == 1 || fd == 2 {
        replacing(fd);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn replacing(fd: i32) {
    crate::os::barrier::barrier((), || {
        if descriptors::marks(fd) & PIPE != 0 {
            changes();
        }
        let wanted = match SETTINGS.get(Id::Fallback) {
            sink::STDOUT => &STDOUT,
            sink::STDERR => &STDERR,
            _ => return,
        };
        if fd != wanted.number || wanted.kept.load(Relaxed) >= 0 || process::is_forked() || !process::may_act() {
            return;
        }
        // A shell puts files over its standard output for each command, and keeps its own copy meanwhile.
        if glob::any(SHELLS, crate::state::process::program()) {
            return;
        }
        let Ok(status) = sys::fstat(wanted.number) else { return };
        if !wanted.is(&status) || is_pointless(&status) {
            return;
        }
        let soft = sys::descriptor_limit(0).map_or(0, |limit| limit.rlim_cur.min(1024) as i32);
        if let Ok(copy) = sys::duplicate(wanted.number, (soft - 24).max(3)) {
            wanted.kept.store(copy, Relaxed);
            // So that a close looks closer.
            descriptors::add(copy, SHARED);
        }
    });
}

/// Is this descriptor our own copy? The host does not know of it, so its close must find nothing there; but what it opened itself
/// after it closed ours unseen is its own.
pub fn is_ours(fd: i32) -> bool {
    let Some(stream) = [&STDOUT, &STDERR].into_iter().find(|stream| fd >= 0 && fd == stream.kept.load(Relaxed)) else {
        return false;
    };
    if process::phase() == Phase::Sandboxed || sys::fstat(fd).is_ok_and(|status| stream.is(&status)) {
        return true;
    }
    // The child of a vfork has closed its own: its parent still has one.
    if !thread::is_in_vfork() {
        stream.kept.store(-1, Relaxed);
    }
    false
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
    /// What poll(2) said when it was chosen; good for one write.
    ready: Cell<bool>,
    /// For messages.
    pub name: &'static str,
}

/// The first usable sink for lines of a file on the filesystem `full`; `is_log` says whether a path is a log's. None: there is
/// none, and the host must get the true error.
pub fn choose(full: u64, is_log: &dyn Fn(i32, &libc::stat) -> bool) -> Option<Sink> {
    let stream = |stream: &Stream, name| {
        let found = stream.descriptor()?;
        let (socket, opened) = (is_socket(&found.status), found.opened);
        let sink = Sink { fd: found.fd, socket, opened, ready: Cell::new(false), name };
        let ready = usable(found.fd, &found.status, full, is_log)?;
        sink.ready.set(ready);
        Some(sink)
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

/// So long the number of a pipe is believed to be that of the same pipe, unless a hook sees it change: fstat(2) for each line costs as
/// much as the line.
const BELIEVED: u64 = SECOND / 1000;
/// So long it is not, when a hook does.
const CHANGING: u64 = SECOND / 100;
static BELIEVED_UNTIL: AtomicU64 = AtomicU64::new(0);
static CHANGING_UNTIL: AtomicU64 = AtomicU64::new(0);

/// The host is about to close or to replace one that is believed in, or this is the child of a fork, which may do so unseen: daemon(3).
pub fn changes() {
    CHANGING_UNTIL.store(sys::now() + CHANGING, Relaxed);
}

/// The same afterwards: where that took long, it has been believed in meanwhile.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn changed() {
    if BELIEVED_UNTIL.load(Relaxed) != 0 {
        changes();
    }
}

/// The first sink, when it is a pipe at its own number, and its reader reads.
pub fn pipe(now: u64) -> Option<i32> {
    let stream = match SETTINGS.get(Id::Fallback) {
        sink::STDOUT => &STDOUT,
        sink::STDERR => &STDERR,
        _ => return None,
    };
    let fresh = (CHANGING_UNTIL.load(Relaxed)..BELIEVED_UNTIL.load(Relaxed)).contains(&now);
    // The child of a vfork has descriptors of its own, and its parent's memory.
    let alone = !thread::is_in_vfork();
    if !alone || !fresh || descriptors::marks(stream.number) & PIPE == 0 {
        let status = sys::fstat(stream.number).ok()?;
        if !stream.is(&status) || status.st_mode & libc::S_IFMT != libc::S_IFIFO {
            return None;
        }
        if alone {
            descriptors::add(stream.number, PIPE);
            BELIEVED_UNTIL.store(now + BELIEVED, Relaxed);
        }
    }
    (STALLED.load(Relaxed) == 0).then_some(stream.number)
}

fn is_socket(status: &libc::stat) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFSOCK
}

/// Can it be used, and is it ready to be written?
fn usable(fd: i32, status: &libc::stat, full: u64, is_log: &dyn Fn(i32, &libc::stat) -> bool) -> Option<bool> {
    let allowed = match status.st_mode & libc::S_IFMT {
        // A data stream must not get log lines: `prog > out.csv`.
        libc::S_IFREG => status.st_dev != full && is_log(fd, status),
        libc::S_IFSOCK => sys::socket_domain(fd) == Ok(libc::AF_UNIX),
        libc::S_IFCHR => !is_pointless(status),
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

fn file(path: &CStr, full: u64) -> Option<Sink> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let wrong = match sys::open(path, flags, 0o644) {
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
        let ready = self.ready.replace(false);
        if ready && STALLED.load(Relaxed) != 0 {
            STALLED.store(0, Relaxed);
        }
        if !ready && !self.wait_for_reader() {
            return false;
        }
        if prefix.is_empty() {
            return self.write(part) == part.len();
        }
        self.write(prefix) == prefix.len() && self.write(part) == part.len()
    }

    /// A reader that is a little slower than the writer, or was not scheduled for a while, is waited for; one that has stopped is
    /// not.
    fn wait_for_reader(&self) -> bool {
        let since = STALLED.load(Relaxed);
        let now = sys::now();
        let patience = if since != 0 && now.saturating_sub(since) > STOPPED { 0 } else { PATIENCE };
        let mut asked = [sys::pollfd(self.fd, libc::POLLOUT)];
        let writable = sys::poll_for(&mut asked, patience).is_ok() && asked[0].revents == libc::POLLOUT;
        if writable {
            STALLED.store(0, Relaxed);
        } else if since == 0 {
            STALLED.store(now, Relaxed);
        }
        writable
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

/// In the child of a fork: our copy is closed, for the child may outlive its parent as a daemon. The parent's can be reached
/// as long as there is a parent.
#[unsafe(link_section = ".text.at_fork")]
pub fn forked() {
    changed();
    for stream in [&STDOUT, &STDERR] {
        let kept = stream.kept.load(Relaxed);
        if kept >= 0 && process::phase() != Phase::Sandboxed {
            sys::close(kept);
            stream.kept.store(!kept, Relaxed);
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
