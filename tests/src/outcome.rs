//! How a run ended, and what a test asserts of it: alone, or of a plain and a preloaded run together.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub(crate) what: String,
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Was it killed because its time was up?
    pub timed_out: bool,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error, the library's lines included.
    pub stderr: String,
}

impl Outcome {
    /// Exit code; None if a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Ended by itself with exit code 0?
    pub fn succeeded(&self) -> bool {
        self.status.success() && !self.timed_out
    }

    /// Asserts that it ended by itself with exit code 0.
    #[track_caller]
    pub fn passes(&self) -> &Outcome {
        assert!(self.succeeded(), "should have passed: {self}");
        self
    }

    /// Asserts that it ended by itself, not well, and not by a signal.
    #[track_caller]
    pub fn fails(&self) -> &Outcome {
        let by_itself = !self.timed_out && self.status.code().is_some_and(|c| c != 0);
        assert!(by_itself, "should have failed with an exit code: {self}");
        self
    }

    /// Asserts that `text` is in its output, on either stream.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Outcome {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "should have said {text:?}: {self}");
        self
    }

    /// Asserts that `text` is not in its output.
    #[track_caller]
    pub fn does_not_say(&self, text: &str) -> &Outcome {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "should not have said {text:?}: {self}");
        self
    }

    /// The library's lines on standard error.
    pub fn ours(&self) -> Vec<&str> {
        self.stderr.lines().filter(|l| l.starts_with("tideover[") || l.starts_with("tideover:")).collect()
    }

    /// Standard error without the library's lines.
    pub fn theirs(&self) -> Vec<&str> {
        self.stderr.lines().filter(|l| !l.starts_with("tideover[") && !l.starts_with("tideover:")).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match (self.timed_out, self.status.signal()) {
            (true, _) => "killed at its timeout".to_string(),
            (_, Some(signal)) => format!("ended by signal {signal}"),
            _ => format!("exit code {:?}", self.status.code()),
        };
        write!(f, "{}\n{end}\n--- stdout\n{}\n--- stderr\n{}", self.what, tail(&self.stdout), tail(&self.stderr))
    }
}

/// The end of a text: enough to see what happened.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(4000);
    let from = (from..text.len()).find(|&i| text.is_char_boundary(i)).unwrap_or(text.len());
    &text[from..]
}

/// The same program without the library and with it.
#[derive(Debug)]
pub struct Both {
    /// Without.
    pub plain: Outcome,
    /// With.
    pub preloaded: Outcome,
}

impl Both {
    /// Asserts that it fails without the library, saying `error`, and passes with it.
    #[track_caller]
    pub fn rescued(&self, error: &str) -> &Both {
        self.plain.fails().says(error);
        let preloaded = self.preloaded.passes();
        // The library's own lines may name the error that it dealt with.
        let said = preloaded.stdout.contains(error) || preloaded.theirs().iter().any(|line| line.contains(error));
        assert!(!said, "should not have said {error:?}: {preloaded}");
        self
    }

    /// Asserts that the program can't tell the library from its absence: same end, same output, and no line of ours.
    #[track_caller]
    pub fn same(&self) -> &Both {
        self.same_but_for_messages();
        assert!(self.preloaded.ours().is_empty(), "the library had nothing to say: {}", self.preloaded);
        self
    }

    /// The same, but the library may say something on standard error.
    #[track_caller]
    pub fn same_but_for_messages(&self) -> &Both {
        let (plain, preloaded) = (&self.plain, &self.preloaded);
        let same = plain.status == preloaded.status
            && plain.timed_out == preloaded.timed_out
            && plain.stdout == preloaded.stdout
            && plain.theirs() == preloaded.theirs();
        assert!(same, "should be the same.\nplain: {plain}\npreloaded: {preloaded}");
        self
    }
}
