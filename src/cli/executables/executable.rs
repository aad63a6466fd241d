//! A program's file: ELF, script, or something that the shell will read.
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use crate::executables::script::Script;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// What execve(2) will make of a file.
#[derive(Debug)]
pub enum Executable {
    /// A program.
    Elf(Box<Elf>),
    /// Another program reads it.
    Script(Script),
    /// No known format: execvp(3) hands it to /bin/sh.
    Other,
    /// It may be run but not read (mode 0711): nothing is known about it.
    Unreadable,
}

impl Executable {
    /// Looks into a file.
    pub fn read(path: &Path) -> io::Result<Executable> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Executable::Unreadable),
            opened => opened?,
        };
        // The kernel, too, looks at the first 256 bytes only (BINPRM_BUF_SIZE).
        let mut head = Vec::new();
        (&file).take(256).read_to_end(&mut head)?;
        if let Some(script) = Script::read(&head) {
            return Ok(Executable::Script(script));
        }
        file.rewind()?;
        Ok(Elf::read(file).map_or(Executable::Other, |elf| Executable::Elf(Box::new(elf))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_by_what_runs_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let kind = |content: &[u8]| {
            std::fs::write(&path, content).unwrap();
            Executable::read(&path).unwrap()
        };
        assert!(matches!(kind(b"#!/bin/sh\n"), Executable::Script(_)));
        assert!(matches!(kind(b"echo hello\n"), Executable::Other));
        assert!(matches!(kind(b""), Executable::Other));
        assert!(matches!(Executable::read(Path::new("/bin/sh")).unwrap(), Executable::Elf(_)));
        assert!(Executable::read(Path::new("/nonexistent")).is_err());
    }
}
