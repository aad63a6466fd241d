//! Tiny programs for the unit tests, built with the machine's C compiler.
#![cfg(test)]
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// With -DGO it has the section that the Go toolchain leaves in its programs.
const SOURCE: &str = "\
#ifdef GO
__attribute__((section(\".go.buildinfo\"), used)) const char built_by_go[16] = \"go\";
#endif
int main(void) { return 0; }
";

/// A compiled program in a directory of its own, which is removed with it.
pub struct Program {
    directory: tempfile::TempDir,
}

impl Program {
    /// [`SOURCE`] built with these flags. The tests need a C compiler, and libc.a for static programs.
    pub fn compile(flags: &[&str]) -> Program {
        let program = Program { directory: tempfile::tempdir().unwrap() };
        let source = program.directory.path().join("program.c");
        std::fs::write(&source, SOURCE).unwrap();
        let mut cc = Command::new("cc");
        let status = cc.args(flags).arg("-o").arg(program.path()).arg(&source).status();
        assert!(status.as_ref().is_ok_and(|status| status.success()), "cc {flags:?}: {status:?}");
        program
    }

    /// Path of the executable.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("program")
    }
}

/// Opens a file that must be there.
pub fn open(path: impl AsRef<Path>) -> File {
    File::open(path.as_ref()).unwrap()
}
