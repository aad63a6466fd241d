//! The format of a program's file: ELF, a script, or something else that the shell will read.
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use crate::executables::script::Script;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

/// The format of a file, as execve(2) and execvp(3) see it.
#[derive(Debug)]
pub enum Executable {
    /// An ELF file.
    Elf(Box<Elf>),
    /// A script: another program reads it.
    Script(Script),
    /// It begins as an ELF file and is none: cut short, or damaged.
    Damaged,
    /// No known format: execvp(3) hands it to /bin/sh.
    Other,
    /// The file may be executed but not read (mode 0711), so that its format is not known.
    Unreadable,
}

impl Executable {
    /// Reads the format of a file. The error is that of open(2) or read(2).
    pub fn read(path: &Path) -> io::Result<Executable> {
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(Executable::Unreadable),
            opened => opened?,
        };
        // The kernel looks at the first 256 bytes, too (BINPRM_BUF_SIZE).
        let mut head = Vec::new();
        (&file).take(256).read_to_end(&mut head)?;
        if let Some(script) = Script::read(&head) {
            return Ok(Executable::Script(script));
        }
        file.rewind()?;
        Ok(match Elf::read(file) {
            Some(elf) => Executable::Elf(Box::new(elf)),
            None if head.starts_with(b"\x7fELF") => Executable::Damaged,
            None => Executable::Other,
        })
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
        let whole = std::fs::read("/bin/sh").unwrap();
        for length in [4, 16, 63, 100] {
            assert!(matches!(kind(&whole[..length]), Executable::Damaged), "{length}");
        }
        let mut odd = whole;
        odd[4] = 7; // neither 32 nor 64 bits
        assert!(matches!(kind(&odd), Executable::Damaged));
        assert!(matches!(Executable::read(Path::new("/bin/sh")).unwrap(), Executable::Elf(_)));
        assert!(Executable::read(Path::new("/nonexistent")).is_err());
    }
}
