//! Does standard output, or standard error, carry messages? Only then lines of a log may go there unless the user has named it
//! (TIDEOVER_FALLBACK=auto). Standard output is often somebody's data: `v=$(script)`, a pipeline, CGI, git over ssh, a language server.
//!
//! The library asks this of its own process, the command of another one.

use libc::{S_IFCHR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK};

/// The first process of a pid namespace.
pub const FIRST: u32 = 1;
/// The numbers at which that process has its standard output: shells keep it at the second while they have put another file at the first.
pub const KEPT: [u32; 2] = [1, 10];
/// Programs whose standard output is data, while files that they open to append may be logs; as globs of names.
pub const FILTERS: &[u8] = b"awk, gawk, mawk, original-awk";

/// What is known of a standard stream as it was when the program started. Each is asked only if it matters.
pub trait Stream {
    /// st_mode of its file.
    fn mode(&self) -> u32;
    /// Is it standard output, and not standard error?
    fn is_stdout(&self) -> bool;
    /// Is it the file in which the answer to a request is written (CGI)? So may be standard error, where it is made a part of the answer.
    fn is_answer(&self) -> bool;
    /// Is this device a terminal?
    fn is_terminal(&self) -> bool;
    /// Does this socket lead to the journal?
    fn is_journal(&self) -> bool;
    /// Is this file a log by the rule ([`crate::rule`])?
    fn is_log(&self) -> bool;
    /// Is the program one of [`FILTERS`]?
    fn is_filter(&self) -> bool;
    /// Is it the file of standard error?
    fn is_stderr(&self) -> bool;
    /// Is it what the first process of this pid namespace has as its standard output? In a container, that is the container's log.
    fn is_of_first_process(&self) -> bool;
}

/// Why a stream carries messages, in words that stand after "its lines go to stdout"; None: it may be data.
pub fn reason(stream: &impl Stream) -> Option<&'static str> {
    if stream.is_answer() {
        return None;
    }
    match stream.mode() & S_IFMT {
        S_IFCHR => stream.is_terminal().then_some("a terminal"),
        S_IFSOCK => stream.is_journal().then_some("the journal"),
        S_IFREG => stream.is_log().then_some("a log"),
        S_IFIFO if !stream.is_stdout() => Some("standard error"),
        S_IFIFO if stream.is_filter() => None,
        S_IFIFO if stream.is_stderr() => Some("also standard error"),
        S_IFIFO => stream.is_of_first_process().then_some("the container's log"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of which these questions are answered with yes.
    struct Known<'a>(u32, &'a [&'a str]);

    impl Stream for Known<'_> {
        fn mode(&self) -> u32 {
            self.0 | 0o600
        }
        fn is_stdout(&self) -> bool {
            self.1.contains(&"stdout")
        }
        fn is_answer(&self) -> bool {
            self.1.contains(&"answer")
        }
        fn is_terminal(&self) -> bool {
            self.1.contains(&"terminal")
        }
        fn is_journal(&self) -> bool {
            self.1.contains(&"journal")
        }
        fn is_log(&self) -> bool {
            self.1.contains(&"log")
        }
        fn is_filter(&self) -> bool {
            self.1.contains(&"filter")
        }
        fn is_stderr(&self) -> bool {
            self.1.contains(&"stderr")
        }
        fn is_of_first_process(&self) -> bool {
            self.1.contains(&"first")
        }
    }

    #[test]
    fn a_stream_is_data_unless_something_shows_that_it_is_not() {
        for (mode, facts, why) in [
            (S_IFIFO, &["stdout"][..], None),
            (S_IFIFO, &["stdout", "stderr"], Some("also standard error")),
            (S_IFIFO, &["stdout", "stderr", "filter"], None),
            (S_IFIFO, &["stdout", "first"], Some("the container's log")),
            (S_IFIFO, &["stderr"], Some("standard error")),
            (S_IFIFO, &["stderr", "answer"], None),
            (S_IFCHR, &["stdout"], None),
            (S_IFCHR, &["stdout", "terminal"], Some("a terminal")),
            (S_IFSOCK, &["stdout", "stderr"], None),
            (S_IFSOCK, &["stdout", "journal"], Some("the journal")),
            (S_IFREG, &["stderr"], None),
            (S_IFREG, &["stderr", "log"], Some("a log")),
            (libc::S_IFDIR, &["stderr", "log"], None),
        ] {
            assert_eq!(reason(&Known(mode, facts)), why, "{mode:o} {facts:?}");
        }
    }
}
