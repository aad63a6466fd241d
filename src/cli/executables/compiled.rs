//! Tiny programs for the unit tests, built with the machine's C compiler.
#![cfg(test)]
#![forbid(unsafe_code)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
    /// [`SOURCE`] built with these flags; None where there is no compiler or it can't do that.
    pub fn compile(flags: &[&str]) -> Option<Program> {
        let program = Program { directory: tempfile::tempdir().unwrap() };
        let source = program.directory.path().join("program.c");
        std::fs::write(&source, SOURCE).unwrap();
        let mut cc = Command::new("cc");
        cc.args(flags).arg("-o").arg(program.path()).arg(&source).stderr(Stdio::null());
        cc.status().is_ok_and(|status| status.success()).then_some(program)
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
