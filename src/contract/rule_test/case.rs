//! A write to a file, as the facts that the rule looks at, and what the rule must say of it.

use libc::O_WRONLY;

use super::super::*;

pub const LINE: &[u8] = b"2026-01-01 12:00:00,123 INFO started worker 7\n";
pub const OBJECT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A write to a file as F_GETFL and the others describe it, and what becomes of it.
#[derive(Clone, Copy)]
pub struct Case {
    pub facts: Facts<'static>,
    pub beside: &'static [&'static str],
    pub expected: Result<(), Refusal>,
}

pub const fn opened(path: &'static str, flags: i32) -> Case {
    let facts = Facts {
        path: path.as_bytes(),
        flags,
        regular: true,
        standard: false,
        at_end: false,
        stderr: false,
        history: History::from_bits(0),
        synced: false,
        positioned: false,
        payload: LINE,
        head: LINE,
        include: b"",
        exclude: b"",
        copied: None,
    };
    Case { facts, beside: &[], expected: Ok(()) }
}

/// Opened as text logs are: fopen "a", Python's FileHandler, the shell's `>>`.
pub const fn appended(path: &'static str) -> Case {
    opened(path, O_WRONLY | O_APPEND)
}

/// Standard output and standard error are the file: `> path 2>&1`. That the name says nothing of messages is left to the case.
pub const fn redirected(path: &'static str) -> Case {
    opened(path, O_WRONLY).standard()
}

/// Not opened to append, and written at its end: fopen "w", `> path` where the file is neither standard output nor standard error.
pub const fn at_end(path: &'static str) -> Case {
    let mut case = opened(path, O_WRONLY);
    case.facts.at_end = true;
    case
}

/// `> path 2>&1`, or `2> path`.
pub const fn messages(path: &'static str) -> Case {
    let mut case = redirected(path);
    case.facts.stderr = true;
    case
}

impl Case {
    pub const fn standard(mut self) -> Case {
        self.facts.standard = true;
        self
    }
    pub const fn after(mut self, history: History) -> Case {
        self.facts.history = history;
        self
    }
    pub const fn synced(mut self) -> Case {
        self.facts.synced = true;
        self
    }
    pub const fn copied(mut self) -> Case {
        self.facts.copied = Some(&|| true);
        self
    }
    pub const fn pwrite(mut self) -> Case {
        self.facts.positioned = true;
        self
    }
    pub const fn writes(mut self, payload: &'static [u8]) -> Case {
        self.facts.payload = payload;
        self
    }
    pub const fn begins(mut self, head: &'static [u8]) -> Case {
        self.facts.head = head;
        self
    }
    pub const fn beside(mut self, files: &'static [&'static str]) -> Case {
        self.beside = files;
        self
    }
    pub const fn include(mut self, globs: &'static str) -> Case {
        self.facts.include = globs.as_bytes();
        self
    }
    pub const fn exclude(mut self, globs: &'static str) -> Case {
        self.facts.exclude = globs.as_bytes();
        self
    }
    pub const fn irregular(mut self) -> Case {
        self.facts.regular = false;
        self
    }
    pub const fn is(mut self, refusal: Refusal) -> Case {
        self.expected = Err(refusal);
        self
    }
    pub fn judged(&self) -> Result<(), Refusal> {
        judge(&self.facts, || self.beside.iter().any(|name| is_database_file(name.as_bytes())))
    }
}

/// One line of a reflog.
pub const fn reflog() -> &'static [u8] {
    b"0000000000000000000000000000000000000000 0123456789abcdef0123456789abcdef01234567 U <u@h> 1767225600 +0000\tcommit: x\n"
}

/// Asserts that the rule says of each case what is expected.
pub fn check(cases: &[Case]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter(|case| case.judged() != case.expected)
        .map(|case| {
            let path = String::from_utf8_lossy(case.facts.path);
            format!("{path} (0{:o}): {:?}, not {:?}", case.facts.flags, case.judged(), case.expected)
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
