//! How a command ends badly: one text for stderr and an exit status.
#![forbid(unsafe_code)]

use std::fmt;

/// The statuses are those of env(1) and nohup(1), so that a script can tell tideover's refusal from its program's
/// failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The command could not do what it is for.
    Failed = 1,
    /// The command line, a file or a variable says something that is not accepted; nothing was started.
    Usage = 2,
    /// The program was found and must not be started.
    Refused = 126,
    /// The program was not found.
    NotFound = 127,
}

/// A failure; its text names the cause and the remedy.
#[derive(Debug)]
pub struct Failure {
    /// Becomes the exit status.
    pub status: Status,
    /// Without prefix and newline.
    pub text: String,
}

impl Failure {
    /// Exit status 1.
    pub fn failed(text: impl Into<String>) -> Failure {
        Failure { status: Status::Failed, text: text.into() }
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
