//! How a command ends badly: one text for stderr and an exit status.
#![forbid(unsafe_code)]

use std::fmt;

/// The statuses are those of env(1) and nohup(1), so that a script can tell tideover's refusal from its program's
/// failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command could not do what it is for.
    Failed,
    /// The command line, a file or a variable says something that is not accepted; nothing was started.
    Usage,
    /// `tideover doctor`: the worst that it found is a warning.
    Warning,
    /// `tideover doctor`: the worst that it found is critical.
    Critical,
    /// `tideover doctor`: it could not look.
    Unknown,
    /// The program was found and must not be started.
    Refused,
    /// The program was not found.
    NotFound,
}

impl Status {
    /// The number for exit(3). Those of `doctor` are the convention of monitoring plugins, whose 2 is not ours.
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
    /// Becomes the exit status.
    pub status: Status,
    /// Without prefix and newline; empty where nothing is left to say.
    pub text: String,
}

impl Failure {
    /// Exit status 1.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { status: Status::Failed, text: text.into() }
    }

    /// The status alone: what there is to say was said on stdout.
    pub fn told(status: Status) -> Failure {
        Failure { status, text: String::new() }
    }

    /// The same text with another status.
    pub fn with(self, status: Status) -> Failure {
        Failure { status, ..self }
    }

    /// Exit status 2.
    pub fn usage(text: impl Into<String>) -> Failure {
        Failure { status: Status::Usage, text: text.into() }
    }

    /// Exit status 126.
    pub fn refused(text: impl Into<String>) -> Failure {
        Failure { status: Status::Refused, text: text.into() }
    }

    /// Exit status 127.
    pub fn not_found(text: impl Into<String>) -> Failure {
        Failure { status: Status::NotFound, text: text.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The system's words for an error, without Rust's `(os error 2)`.
pub fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}
