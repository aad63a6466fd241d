//! Does standard output, or standard error, carry messages? Only then lines of a log may go there unless the user has named it
//! (TIDEOVER_FALLBACK=auto). Standard output is often somebody's data: `v=$(script)`, a pipeline, CGI, git over ssh, a language server.
#![forbid(unsafe_code)]

use core::fmt::Write;

use super::program;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::process;
use crate::state::streams::{STDERR, STDOUT, Stream, is_cgi, is_journal_stream};

/// Is this file, by its descriptor and fstat(2), a log by the rule?
pub type IsLog<'a> = &'a dyn Fn(i32, &libc::stat) -> bool;

/// The first process of a pid namespace.
const FIRST: i32 = 1;
/// Where shells keep standard output while they have put another file at its number.
const KEPT: i32 = 10;
/// Where journald listens for the standard streams of services.
const JOURNAL_STREAMS: &[u8] = b"/run/systemd/journal/stdout";

/// Why a stream carries messages, in words that stand after "its lines go to stdout".
pub fn reason(stream: &Stream, fd: i32, status: &libc::stat, is_log: IsLog<'_>) -> Option<&'static str> {
    let is_stdout = stream.number == STDOUT.number;
    // The answer to a request, also where standard error is made a part of it.
    if is_cgi() && STDOUT.is_file(status) {
        return None;
    }
    match status.st_mode & libc::S_IFMT {
        libc::S_IFCHR => sys::terminal(fd).is_ok().then_some("a terminal"),
        libc::S_IFSOCK => is_journal(fd, status).then_some("the journal"),
        libc::S_IFREG => is_log(fd, status).then_some("a log"),
        libc::S_IFIFO if !is_stdout => Some("standard error"),
        libc::S_IFIFO if program::is_filter() => None,
        libc::S_IFIFO if STDERR.is_file(status) => Some("also standard error"),
        libc::S_IFIFO => is_of_first_process(status).then_some("the container's log"),
        _ => None,
    }
}

/// Does this socket lead to the journal: does its peer listen where journald does, or has systemd said so?
fn is_journal(fd: i32, status: &libc::stat) -> bool {
    let mut path = [0; 108];
    is_journal_stream(status) || sys::socket_path(fd, true, &mut path) == Ok(JOURNAL_STREAMS)
}

/// Is this what process 1 of this pid namespace has as its standard output? In a container, that is the container's log.
fn is_of_first_process(status: &libc::stat) -> bool {
    // This process may be it, and have put a file at the number for a moment, as shells do for a command of their own; they keep
    // standard output at 10 meanwhile. Of another user's process nothing is known: then lines go to standard error, which is the same log.
    process::pid() == FIRST
        || [STDOUT.number, KEPT].into_iter().any(|number| {
            let mut path = Text::<24>::new();
            let _ = write!(path, "/proc/{FIRST}/fd/{number}");
            sys::stat(path.as_c_str(), true)
                .is_ok_and(|first| (first.st_dev, first.st_ino) == (status.st_dev, status.st_ino))
        })
}
