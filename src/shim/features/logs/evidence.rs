//! What this process knows of its standard output and standard error, for the rule that says whether they carry messages
//! (`tideover_contract::stream`).
#![forbid(unsafe_code)]

use core::fmt::Write;

use tideover_contract::stream::{self as rule, FIRST, KEPT};

use super::program;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::process;
use crate::state::streams::{STDERR, STDOUT, Stream, is_cgi, is_journal_stream};

/// Is this file, by its descriptor and fstat(2), a log by the rule?
pub type IsLog<'a> = &'a dyn Fn(i32, &libc::stat) -> bool;

/// Where journald listens for the standard streams of services.
const JOURNAL_STREAMS: &[u8] = b"/run/systemd/journal/stdout";

/// A standard stream whose file is open at this descriptor.
struct Open<'a> {
    stream: &'a Stream,
    fd: i32,
    status: &'a libc::stat,
    is_log: IsLog<'a>,
}

impl rule::Stream for Open<'_> {
    fn mode(&self) -> u32 {
        self.status.st_mode
    }
    fn is_stdout(&self) -> bool {
        self.stream.number == STDOUT.number
    }
    fn is_answer(&self) -> bool {
        is_cgi() && STDOUT.is_file(self.status)
    }
    fn is_terminal(&self) -> bool {
        sys::terminal(self.fd).is_ok()
    }
    fn is_journal(&self) -> bool {
        is_journal(self.fd, self.status)
    }
    fn is_log(&self) -> bool {
        (self.is_log)(self.fd, self.status)
    }
    fn is_filter(&self) -> bool {
        program::is_filter()
    }
    fn is_stderr(&self) -> bool {
        STDERR.is_file(self.status)
    }
    fn is_of_first_process(&self) -> bool {
        is_of_first_process(self.status)
    }
}

/// Why a stream carries messages, in words that stand after "its lines go to stdout".
pub fn reason(stream: &Stream, fd: i32, status: &libc::stat, is_log: IsLog<'_>) -> Option<&'static str> {
    rule::reason(&Open { stream, fd, status, is_log })
}

/// Does this socket lead to the journal: does its peer listen where journald does, or has systemd said so?
fn is_journal(fd: i32, status: &libc::stat) -> bool {
    let mut path = [0; 108];
    is_journal_stream(status) || sys::socket_path(fd, true, &mut path) == Ok(JOURNAL_STREAMS)
}

/// Is this what process 1 of this pid namespace has as its standard output? In a container, that is the container's log.
fn is_of_first_process(status: &libc::stat) -> bool {
    // This process may be it, and have put a file at the number for a moment, as shells do for a command of their own. Of another user's
    // process nothing is known: then lines go to standard error, which is the same log.
    process::pid() as u32 == FIRST
        || KEPT.into_iter().any(|number| {
            let mut path = Text::<24>::new();
            let _ = write!(path, "/proc/{FIRST}/fd/{number}");
            sys::stat(path.as_c_str(), true)
                .is_ok_and(|first| (first.st_dev, first.st_ino) == (status.st_dev, status.st_ino))
        })
}
