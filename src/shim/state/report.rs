//! What the library says: one line, formatted on the stack, written once, never in the host's way.
//!
//! The `log` facade's macros are the front; the logger behind them neither allocates nor locks. A line goes to stderr only
//! if that is still what it was when the program started (or a file opened for appending, as daemons do), is ready to take
//! it, and can't raise SIGPIPE. Lines that repeat are counted instead: the first, then one after 30 s, 60 s, 120 s ...
//! (hhvm#119: ten minutes at the limit filled a disk with 211 GB of the same line).

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use log::{LevelFilter, Log, Metadata, Record};
use tideover_contract::settings::{Id, SECOND, log_level};

use crate::os::sys;
use crate::os::text::Text;
use crate::state::process;
use crate::state::settings::SETTINGS;
use crate::state::streams;

pub use crate::os::display::{ErrnoName, Printable, Seconds};

const STDERR: i32 = 2;
/// How long a kind of message is quiet after its first line; doubles each time.
const QUIET: u64 = 30 * SECOND;

struct Lines;

/// Sets the level and the logger.
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

fn deliver(line: &[u8]) {
    if let Some(path) = SETTINGS.log_file() {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
        if let Ok(fd) = sys::open(path, flags | libc::O_NONBLOCK, 0o644) {
            if sys::fstat(fd).is_ok_and(|status| fits(&status, line)) {
                let _ = sys::write(fd, line);
            }
            sys::close(fd);
            return;
        }
        // With no descriptor free, or a path that is wrong, stderr is better than silence.
    }
    let Ok(status) = sys::fstat(STDERR) else { return };
    let kind = status.st_mode & libc::S_IFMT;
    let same = streams::STDERR.is_file(&status);
    let appended = || {
        streams::STDERR.was_open()
            && kind == libc::S_IFREG
            && sys::status_flags(STDERR).is_ok_and(|flags| flags & libc::O_APPEND != 0)
    };
    if !same && !appended() || !fits(&status, line) {
        return;
    }
    let mut ready = [sys::pollfd(STDERR, libc::POLLOUT)];
    if sys::poll_now(&mut ready).is_err() || ready[0].revents != libc::POLLOUT {
        return;
    }
    let _ = match kind {
        libc::S_IFSOCK => sys::send(STDERR, line),
        // SIGTTOU stops a background job that writes to a terminal where the user wants that; not for a line of ours.
        libc::S_IFCHR => {
            let own = sys::block_signals();
            let written = sys::write(STDERR, line);
            if let Ok(own) = own {
                sys::restore_signals(own);
            }
            written
        }
        _ => sys::write(STDERR, line),
    };
}

/// Does the line fit below the limit on file sizes? Beyond it is SIGXFSZ.
fn fits(status: &libc::stat, line: &[u8]) -> bool {
    status.st_mode & libc::S_IFMT != libc::S_IFREG
        || (status.st_size as u64).saturating_add(line.len() as u64) <= sys::file_size_limit()
}

/// One kind of message that may repeat.
pub struct Repeated {
    next: AtomicU64,
    quiet: AtomicU64,
    kept_back: AtomicU32,
}

impl Repeated {
    /// Nothing said yet.
    pub const fn new() -> Repeated {
        Repeated { next: AtomicU64::new(0), quiet: AtomicU64::new(QUIET), kept_back: AtomicU32::new(0) }
    }

    /// May a line be said now? Then how many were kept back since the last.
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

/// Prints ` (and 12 more since the last line)`, or nothing.
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
