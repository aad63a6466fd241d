//! How a command fails: one text for stderr, and an exit status.
#![forbid(unsafe_code)]

use std::fmt;

/// The reason for an exit status. The numbers are those of env(1) and nohup(1), so that a script can tell a refusal of
/// tideover from a failure of the program that it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command could not do what was asked.
    Failed,
    /// The command line, a file or a variable holds a value that is not accepted; nothing was started.
    Usage,
    /// `tideover doctor`, `watch --once`: the worst that it found is a warning.
    Warning,
    /// `tideover doctor`, `watch --once`: the worst that it found is critical.
    Critical,
    /// `tideover doctor`, `watch --once`: the checks could not be made, or not be told.
    Unknown,
    /// `tideover run`: the program was found, and can't be started with the library.
    Refused,
    /// `tideover run`: the program was not found.
    NotFound,
}

impl Status {
    /// The number for exit(3). `doctor` and `watch --once` follow the convention of monitoring plugins, where 2 means critical; in all other
    /// commands 2 means a usage error.
    pub fn code(self) -> u8 {
        match self {
            Status::Failed | Status::Warning => 1,
            Status::Usage | Status::Critical => 2,
            Status::Unknown => 3,
            Status::Refused => 126,
            Status::NotFound => 127,
        }
    }
}

/// A failure; its text names the cause and the remedy.
#[derive(Debug)]
pub struct Failure {
    /// The reason for the exit status.
    pub status: Status,
    /// Text for stderr without prefix and newline; empty if stdout has said everything.
    pub text: String,
}

impl Failure {
    /// A failure with exit status 1.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { status: Status::Failed, text: text.into() }
    }

    /// A failure without text: stdout has said everything.
    pub fn without_text(status: Status) -> Failure {
        Failure { status, text: String::new() }
    }

    /// Returns this text with another status.
    pub fn with(self, status: Status) -> Failure {
        Failure { status, ..self }
    }

    /// A failure with exit status 2.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { status: Status::Usage, text: text.into() }
    }

    /// A failure with exit status 126.
    pub fn refused(text: impl Into<String>) -> Failure {
        Failure { status: Status::Refused, text: text.into() }
    }

    /// A failure with exit status 127.
    pub fn not_found(text: impl Into<String>) -> Failure {
        Failure { status: Status::NotFound, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text of an error in lower case, without the number that Rust adds, `(os error 2)`.
pub fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
