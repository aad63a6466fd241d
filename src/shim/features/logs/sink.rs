//! Where diverted lines go: what standard output or standard error was when the program started, a file on another filesystem, the
//! journal, or syslog.
//!
//! A sink must never block the program, raise a signal, be on a disk that is full, or be somebody's data. Lines that its reader does not
//! take in time are dropped, and counted. How it is written, see [`crate::os::output`].
#![deny(unsafe_code)]

use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::io::IoSlice;

use tideover_contract::settings::{Id, SECOND, sink as sinks};

use super::delivery::{Delivery, Form, Header};
use super::evidence::{self, IsLog};
use super::messages::MESSAGES;
use super::payload::Payload;
use super::{copies, program};
use crate::os::output::{Output, PIECES};
use crate::os::sys;
use crate::os::text::Text;
use crate::state::report::Printable;
use crate::state::settings::SETTINGS;
use crate::state::streams::{STDERR, STDOUT, Stream};

/// Descriptors below this number are looked at for a copy that the program made of a standard stream. Shells keep theirs at 10 while a
/// builtin command's output goes to a file.
const COPIES: i32 = 32;
/// How long a write waits for the reader, nanoseconds: it may be a little slower than the writer, or not be scheduled for a while.
const READER_WAIT: u64 = SECOND / 250;
/// And one of many lines that have come fast, each of which might have waited.
pub const BURST_WAIT: u64 = SECOND / 50;
/// A reader that has not read for so many nanoseconds has stopped: until it reads again, lines are dropped without a wait.
const STOPPED: u64 = SECOND / 5;
/// Where journald listens for messages in its own protocol.
const JOURNAL: &[u8] = b"/run/systemd/journal/socket";
/// Where a syslog daemon listens.
const SYSLOG: &[u8] = b"/dev/log";

/// A place for lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The file that TIDEOVER_FALLBACK names.
    Path,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// journald, by its own protocol.
    Journal,
    /// A syslog daemon.
    Syslog,
}

impl Place {
    /// What messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Place::Path => "the fallback file",
            Place::Stdout => "stdout",
            Place::Stderr => "stderr",
            Place::Journal => "the journal",
            Place::Syslog => "syslog",
        }
    }
}

/// What is known of a place.
struct State {
    /// Since when its reader has not read, CLOCK_MONOTONIC nanoseconds; 0: it reads.
    stalled_since: AtomicU64,
    /// The last line in it was cut in the middle: the next write ends it first.
    is_cut: AtomicBool,
}

/// By [`Place`].
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".tables")]
static STATES: [State; 5] = [const { State { stalled_since: AtomicU64::new(0), is_cut: AtomicBool::new(false) } }; 5];

/// Number of the standard stream that lines go to, and that is a pipe at this number; 0: neither.
static PIPE: AtomicI32 = AtomicI32::new(0);

impl Place {
    fn state(self) -> &'static State {
        &STATES[self as usize]
    }

    fn of_stream(stream: &Stream) -> Place {
        if stream.number == STDOUT.number { Place::Stdout } else { Place::Stderr }
    }
}

/// The standard stream that lines go to, if it was a pipe at its own number when that was found out last.
pub fn pipe() -> Option<&'static Stream> {
    [&STDOUT, &STDERR].into_iter().find(|stream| stream.number == PIPE.load(Relaxed))
}

/// Can a line be put into this stream's pipe just so: does its reader read, and was its last line not cut?
pub fn is_plain(stream: &Stream) -> bool {
    let state = Place::of_stream(stream).state();
    state.stalled_since.load(Relaxed) == 0 && !state.is_cut.load(Relaxed)
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
    output: Output,
    place: Place,
    /// Why it is this one, for messages; empty if the user has named it.
    pub why: &'static str,
    /// How long a write waits for the reader, nanoseconds.
    pub wait: u64,
}

/// The places that lines may go to, in the order in which they are tried, and whether a standard stream must be seen to carry messages.
fn places() -> (&'static [Place], bool) {
    use Place::{Journal, Path, Stderr, Stdout, Syslog};
    match SETTINGS.get(Id::Fallback) {
        sinks::OFF | sinks::HOLD => (&[], true),
        sinks::STDOUT => (&[Stdout, Stderr], false),
        sinks::STDERR => (&[Stderr], false),
        sinks::JOURNAL => (&[Journal], false),
        sinks::SYSLOG => (&[Syslog], false),
        sinks::PATH => (&[Path, Stdout, Stderr, Journal, Syslog], true),
        _ => (&[Stdout, Stderr, Journal, Syslog], true),
    }
}

/// The first usable sink for lines of a file on the filesystem `full` (st_dev), after the place `after`. None: there is none, and the
/// program must get the true error.
pub fn choose(full: u64, is_log: IsLog<'_>, after: Option<Place>) -> Option<Sink> {
    let (places, must_carry_messages) = places();
    let begin =
        after.map_or(0, |after| places.iter().position(|&place| place == after).map_or(places.len(), |at| at + 1));
    places.get(begin..)?.iter().find_map(|&place| match place {
        Place::Path => file(SETTINGS.fallback_path(), full),
        Place::Stdout => stream(&STDOUT, full, is_log, must_carry_messages),
        Place::Stderr => stream(&STDERR, full, is_log, must_carry_messages),
        Place::Journal => daemon(place, JOURNAL, must_carry_messages),
        Place::Syslog => daemon(place, SYSLOG, must_carry_messages),
    })
}

/// A standard stream, if it may be used.
fn stream(stream: &Stream, full: u64, is_log: IsLog<'_>, must_carry_messages: bool) -> Option<Sink> {
    let Found { fd, status, opened } = find(stream)?;
    // Made before it is checked, so that what was opened is closed if it can't be used.
    let output = if opened { Output::own(fd, &status) } else { Output::of(fd, &status).ok()? };
    let place = Place::of_stream(stream);
    let why = if must_carry_messages { evidence::reason(stream, fd, &status, is_log)? } else { "" };
    let usable = match status.st_mode & libc::S_IFMT {
        // A data stream must not get log lines: `prog > out.csv`.
        libc::S_IFREG => status.st_dev != full && (must_carry_messages || is_log(fd, &status)),
        libc::S_IFSOCK => sys::socket_domain(fd) == Ok(libc::AF_UNIX),
        libc::S_IFCHR => !copies::is_useless_device(&status) && !would_be_stopped(fd),
        libc::S_IFIFO => true,
        _ => false,
    };
    let mut asked = [sys::pollfd(fd, 0)];
    let is_gone = sys::poll_now(&mut asked).is_err() || asked[0].revents & (libc::POLLERR | libc::POLLNVAL) != 0;
    if !usable || is_gone {
        return None;
    }
    let is_pipe = fd == stream.number && !opened && status.st_mode & libc::S_IFMT == libc::S_IFIFO;
    PIPE.store(if is_pipe { stream.number } else { 0 }, Relaxed);
    Some(Sink { output, place, why, wait: READER_WAIT })
}

/// Is this a terminal that stops jobs in the background when they write (stty tostop), and this process such a job? Its user wants to see
/// nothing of it.
fn would_be_stopped(fd: i32) -> bool {
    sys::terminal(fd).is_ok_and(|terminal| terminal.stops_background && !terminal.is_foreground)
}

/// A daemon that takes messages by datagrams at this path; not for programs that may be it, or feed it.
fn daemon(place: Place, path: &[u8], may_be_refused: bool) -> Option<Sink> {
    if may_be_refused && program::is_logging_daemon() {
        return None;
    }
    let fd = sys::connect_datagram(path).ok()?;
    let Ok(status) = sys::fstat(fd) else {
        sys::close(fd);
        return None;
    };
    PIPE.store(0, Relaxed);
    let why = if may_be_refused { "no standard stream carries messages" } else { "" };
    Some(Sink { output: Output::own(fd, &status), place, why, wait: READER_WAIT })
}

/// The file that TIDEOVER_FALLBACK names, unless it is on the filesystem `full`.
fn file(path: &CStr, full: u64) -> Option<Sink> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    let problem = match sys::open(path, flags, 0o644) {
        Ok(fd) => match sys::fstat(fd) {
            Ok(status) if status.st_dev != full || status.st_mode & libc::S_IFMT != libc::S_IFREG => {
                PIPE.store(0, Relaxed);
                return Some(Sink { output: Output::own(fd, &status), place: Place::Path, why: "", wait: READER_WAIT });
            }
            _ => {
                sys::close(fd);
                "is on the same full disk"
            }
        },
        Err(_) => "can't be opened",
    };
    complain(path, problem);
    None
}

/// Says that the file that TIDEOVER_FALLBACK names can't be used.
fn complain(path: &CStr, problem: &str) {
    if MESSAGES.unusable_path.due().is_some() {
        let path = Printable(path.to_bytes());
        log::warn!("TIDEOVER_FALLBACK={path} {problem}; using what TIDEOVER_FALLBACK=auto would use instead");
    }
}

/// What became of one write.
enum Put {
    /// All of it is there.
    Whole,
    /// So many bytes are there; the reader did not take the others in time.
    Late(usize),
    /// So many bytes are there; the sink takes no more: its disk is full, too, or nobody reads it any more.
    Failed(usize),
}

impl Sink {
    /// Where it leads.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Is it a daemon that takes lines as messages?
    pub fn is_daemon(&self) -> bool {
        matches!(self.place, Place::Journal | Place::Syslog)
    }

    /// What messages call it.
    pub fn name(&self) -> &'static str {
        self.place.name()
    }

    /// Writes the payload, with the prefix before each line that begins in it; `mid_line`: its first bytes continue a line. Once the
    /// reader does not take a part in time, the rest is dropped. If the sink fails, the rest is still to be sent elsewhere.
    pub fn deliver(&self, payload: Payload<'_>, header: &Header<'_>, mid_line: bool) -> Delivery {
        let form = match self.place {
            Place::Path | Place::Stdout | Place::Stderr => Form::Stream,
            Place::Journal => Form::Journal,
            Place::Syslog => Form::Syslog,
        };
        let state = self.place.state();
        let mut done = Delivery::default();
        // Is the last line in the sink without its end?
        let mut is_open = mid_line;
        for part in form.parts(payload, header, mid_line) {
            let cut = form == Form::Stream && state.is_cut.load(Relaxed);
            let (put, ahead) = part.write(form, header, cut, |pieces| self.put(pieces));
            let sent = match put {
                Put::Whole => part.len(),
                Put::Late(sent) | Put::Failed(sent) => sent.saturating_sub(ahead),
            };
            done.count(&part, sent);
            if cut && !matches!(put, Put::Late(0) | Put::Failed(0)) {
                state.is_cut.store(false, Relaxed);
            }
            is_open = if sent > 0 { !part.ends_line(sent) } else { is_open };
            match put {
                Put::Whole => continue,
                Put::Late(_) => done.dropped = payload.len() - done.sent,
                Put::Failed(_) => done.failed = true,
            }
            if form == Form::Stream && is_open && done.sent > 0 {
                state.is_cut.store(true, Relaxed);
            }
            break;
        }
        if done.failed && self.place == Place::Path {
            complain(SETTINGS.fallback_path(), "can't be written");
        }
        done
    }

    /// Writes these pieces, waiting a little if the reader is slow; not at all if it has stopped.
    fn put(&self, pieces: &[&[u8]]) -> Put {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        let state = self.place.state();
        let mut sent = 0;
        let mut until = None;
        loop {
            match self.write(pieces, sent) {
                Ok(more) => sent += more,
                Err(libc::EAGAIN) => {
                    let now = sys::now();
                    let since = state.stalled_since.load(Relaxed);
                    let has_stopped = since != 0 && now.saturating_sub(since) > STOPPED;
                    let end = *until.get_or_insert(now + if has_stopped { 0 } else { self.wait });
                    if now >= end {
                        if since == 0 {
                            state.stalled_since.store(now, Relaxed);
                        }
                        return Put::Late(sent);
                    }
                    let mut asked = [sys::pollfd(self.output.fd(), libc::POLLOUT)];
                    let milliseconds = (end - now).div_ceil(SECOND / 1000) as i32;
                    if sys::poll_for(&mut asked, milliseconds).is_ok_and(|ready| ready > 0)
                        && asked[0].revents != libc::POLLOUT
                    {
                        return Put::Failed(sent);
                    }
                    continue;
                }
                Err(libc::EINTR) => continue,
                Err(_) => return Put::Failed(sent),
            }
            if state.stalled_since.load(Relaxed) != 0 {
                state.stalled_since.store(0, Relaxed);
            }
            if sent >= total {
                return Put::Whole;
            }
        }
    }

    /// One write of these pieces without their first `skip` bytes.
    fn write(&self, pieces: &[&[u8]], mut skip: usize) -> Result<usize, i32> {
        let mut vector = [IoSlice::new(&[]); PIECES];
        let mut count = 0;
        for piece in pieces {
            let rest = piece.get(skip..).unwrap_or(&[]);
            skip = skip.saturating_sub(piece.len());
            if let Some(to) = vector.get_mut(count).filter(|_| !rest.is_empty()) {
                *to = IoSlice::new(rest);
                count += 1;
            }
        }
        self.output.write(vector.get(..count).unwrap_or(&[]))
    }
}
