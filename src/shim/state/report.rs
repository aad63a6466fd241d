//! The library's messages: each is one line, formatted on the stack, and written by one call that can't block the program.
//!
//! They are logged by the macros of the `log` crate; the logger behind these neither allocates nor locks. A line goes to stderr only if
//! that is open on the file that it was open on when the program started (or on one opened to append, as daemons do), can be written
//! now, and can't raise SIGPIPE. Of messages that repeat, the first is logged, and then one after 30 s, 60 s, 120 s ...; the others are
//! counted (hhvm#119: ten minutes at the limit filled a disk with 211 GB of one message).

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::io::IoSlice;

use libc::rlimit;
use log::{LevelFilter, Log, Metadata, Record};
use tideover_contract::settings::{Id, SECOND, log_level};

use crate::os::output::Output;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::settings::SETTINGS;
use crate::state::{late_messages, process, streams};

pub use crate::os::display::{ErrnoName, Printable, Seconds};

const STDERR: i32 = 2;
/// For so many nanoseconds after its first line, a message is kept back; each time that it is logged again doubles that.
const QUIET: u64 = 30 * SECOND;

/// The logger: prints each record as a line.
struct Lines;

/// At load: sets the logger, and the level by TIDEOVER_LOG.
pub fn start() {
    log::set_max_level(match SETTINGS.get(Id::Log) {
        log_level::OFF => LevelFilter::Off,
        log_level::ERROR => LevelFilter::Error,
        log_level::INFO => LevelFilter::Info,
        log_level::DEBUG => LevelFilter::Debug,
        _ => LevelFilter::Warn,
    });
    let _ = log::set_logger(&Lines);
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let mut line = Text::<640>::new();
        let _ = write!(line, "tideover[{}]: {}", process::pid(), record.args());
        line.end_line();
        deliver(line.as_bytes());
    }

    fn flush(&self) {}
}

/// Writes a line to TIDEOVER_LOG_FILE, or to stderr; nowhere if neither can take it now.
fn deliver(line: &[u8]) {
    if let Some(path) = SETTINGS.log_file() {
        match open_log_file(path) {
            Ok(file) => {
                late_messages::write(&file);
                let _ = file.write(&[IoSlice::new(line)]);
                return;
            }
            // The file gets it later; a program that is killed before that has said it on stderr.
            Err(libc::EMFILE | libc::ENFILE) => late_messages::keep(line),
            // The path is wrong: stderr is better than nothing.
            Err(_) => {}
        }
    }
    let Ok(status) = sys::fstat(STDERR) else { return };
    let kind = status.st_mode & libc::S_IFMT;
    let same = streams::STDERR.is_file(&status);
    let appended = || {
        streams::STDERR.was_open()
            && kind == libc::S_IFREG
            && sys::status_flags(STDERR).is_ok_and(|flags| flags & libc::O_APPEND != 0)
    };
    if !same && !appended() {
        return;
    }
    match Output::of(STDERR, &status) {
        Ok(output) => drop(output.write(&[IoSlice::new(line)])),
        // What most messages are about. Nothing can be opened anew then, so a terminal is asked first whether it takes the line.
        Err(libc::EMFILE | libc::ENFILE) if kind == libc::S_IFCHR => write_when_ready(line),
        Err(_) => {}
    }
}

fn open_log_file(path: &CStr) -> Result<Output, sys::Errno> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    let fd = sys::open(path, flags | libc::O_NONBLOCK, 0o644)?;
    sys::fstat(fd).map(|status| Output::own(fd, &status)).inspect_err(|_| sys::close(fd))
}

/// Writes messages that could not be written before to TIDEOVER_LOG_FILE, if a descriptor is free now.
pub fn catch_up() {
    if late_messages::any()
        && let Some(file) = SETTINGS.log_file().and_then(|path| open_log_file(path).ok())
    {
        late_messages::write(&file);
    }
}

/// [`catch_up`] when the program ends, or is about to execute another: if no descriptor is free, the soft limit is raised by one for a moment,
/// in which other threads hardly open anything. Where it is the hard limit, standard error alone has the messages.
pub fn ending() {
    catch_up();
    if late_messages::any()
        && let Ok(limit) = sys::descriptor_limit(0)
        && limit.rlim_cur < limit.rlim_max
        && sys::set_descriptor_limit(0, rlimit { rlim_cur: limit.rlim_cur + 1, ..limit }).is_ok()
    {
        catch_up();
        let _ = sys::set_descriptor_limit(0, limit);
    }
}

/// Writes to a terminal that says that it can be written, without signals: SIGTTOU would stop a job in the background.
fn write_when_ready(line: &[u8]) {
    let mut ready = [sys::pollfd(STDERR, libc::POLLOUT)];
    if sys::poll_now(&mut ready).is_ok()
        && ready[0].revents == libc::POLLOUT
        && let Ok(own) = sys::block_signals()
    {
        let _ = sys::write(STDERR, line);
        sys::restore_signals(own);
    }
}

/// A message that may repeat.
pub struct Repeated {
    /// When it may be logged again, nanoseconds of CLOCK_MONOTONIC; 0: it has never been logged.
    next: AtomicU64,
    /// For how long it is kept back after it is logged, nanoseconds.
    quiet: AtomicU64,
    /// How often it was kept back since it was last logged.
    kept_back: AtomicU32,
}

impl Repeated {
    /// A message that has not been logged yet.
    pub const fn new() -> Repeated {
        Repeated { next: AtomicU64::new(0), quiet: AtomicU64::new(QUIET), kept_back: AtomicU32::new(0) }
    }

    /// May it be logged now? Some: yes, and so many were kept back since it was last logged.
    pub fn due(&self) -> Option<u32> {
        let now = sys::now();
        let next = self.next.load(Relaxed);
        let quiet = self.quiet.load(Relaxed);
        if now < next || self.next.compare_exchange(next, now + quiet, Relaxed, Relaxed).is_err() {
            self.kept_back.fetch_add(1, Relaxed);
            return None;
        }
        if next != 0 {
            self.quiet.store(quiet.saturating_mul(2), Relaxed);
        }
        Some(self.kept_back.swap(0, Relaxed))
    }
}

/// What [`Repeated::due`] returned: prints ` (and 12 more like it since the last line)`, or nothing if it is 0.
pub struct More(pub u32);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " (and {} more like it since the last line)", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_message_is_counted_not_said() {
        let kind = Repeated::new();
        assert_eq!(kind.due(), Some(0));
        assert_eq!(kind.due(), None);
        assert_eq!(kind.due(), None);
        kind.next.store(1, Relaxed);
        assert_eq!(kind.due(), Some(2));
        assert_eq!(kind.quiet.load(Relaxed), 2 * QUIET);
    }
}
