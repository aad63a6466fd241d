//! The first line of a script, which says what program will read it.
#![forbid(unsafe_code)]

/// A `#!` line as the kernel reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Path of the interpreter.
    pub interpreter: String,
    /// The rest of the line. The kernel takes it for one argument, whatever blanks it holds.
    pub argument: String,
}

impl Script {
    /// From the first bytes of a file; None if they don't start with `#!` and a path.
    pub fn read(head: &[u8]) -> Option<Script> {
        let line = head.strip_prefix(b"#!")?.split(|&b| b == b'\n' || b == 0).next()?;
        let line = String::from_utf8_lossy(line);
        let line = line.trim_matches([' ', '\t', '\r']);
        let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
        (!interpreter.is_empty())
            .then(|| Script { interpreter: interpreter.to_string(), argument: argument.trim().to_string() })
    }

    /// The program that env(1) will look for in PATH, if the interpreter is env: past `-S`, other options and
    /// assignments.
    pub fn through_env(&self) -> Option<&str> {
        if self.interpreter.rsplit('/').next() != Some("env") {
            return None;
        }
        let words = self.argument.split_whitespace().map(|word| word.strip_prefix("-S").unwrap_or(word));
        words.into_iter().find(|word| !word.is_empty() && !word.starts_with('-') && !word.contains('='))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_is_found_as_the_kernel_does() {
        let script = Script::read(b"#! /bin/sh -e  \nexit 1\n").unwrap();
        assert_eq!(script, Script { interpreter: "/bin/sh".into(), argument: "-e".into() });
        assert_eq!(script.through_env(), None);
        assert_eq!(Script::read(b"#!\n"), None);
        assert_eq!(Script::read(b"\x7fELF"), None);
        assert_eq!(Script::read(b"#!/bin/bash").unwrap().interpreter, "/bin/bash");
    }

    #[test]
    fn env_is_seen_through() {
        let through = |line: &str| Script::read(line.as_bytes()).unwrap().through_env().map(str::to_string);
        assert_eq!(through("#!/usr/bin/env python3\n").as_deref(), Some("python3"));
        assert_eq!(through("#!/usr/bin/env -S python3 -u\n").as_deref(), Some("python3"));
        assert_eq!(through("#!/usr/bin/env -SLANG=C perl -w\n").as_deref(), Some("perl"));
        assert_eq!(through("#!/usr/bin/env\n"), None);
    }
}
