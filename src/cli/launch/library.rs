//! Finds libtideover.so, and checks that a loader can load it.
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use crate::launch::preload;
use crate::show::failure::{Failure, cause};
use rustix::fs::statvfs;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Name of the library's file.
pub const NAME: &str = "libtideover.so";

/// The library, after the checks.
#[derive(Debug)]
pub struct Library {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its ELF file, with symbols.
    pub elf: Elf,
}

impl Library {
    /// Why programs that this command runs beside can't load it: it is for another architecture than `program`, which `whose` names. None if
    /// it is for the same one.
    pub fn foreign_to(&self, program: &Elf, whose: &str) -> Option<String> {
        (!program.same_architecture(&self.elf)).then(|| {
            format!(
                "{} is {} and {whose} is {}: no program here can load it; set TIDEOVER_LIB to a library for {}",
                self.path.display(),
                self.elf.architecture(),
                program.architecture(),
                program.architecture()
            )
        })
    }
}

/// Finds the library: by TIDEOVER_LIB alone if that is set, else beside this executable and in the lib folders next to it.
pub fn find() -> Result<Library, Failure> {
    let executable = std::env::current_exe().unwrap_or_default();
    let beside = executable.parent().unwrap_or(Path::new("/"));
    check(locate(std::env::var_os("TIDEOVER_LIB"), beside)?)
}

fn locate(named: Option<OsString>, beside: &Path) -> Result<PathBuf, Failure> {
    if let Some(named) = named.filter(|path| !path.is_empty()) {
        let path = std::path::absolute(&named).unwrap_or_else(|_| PathBuf::from(&named));
        return match path.metadata() {
            Ok(_) => Ok(path),
            Err(error) => Err(Failure::refused(format!(
                "cannot use TIDEOVER_LIB={}: {}; set it to the full path of {NAME}, or unset it",
                path.display(),
                cause(&error)
            ))),
        };
    }
    let places = places(beside);
    let found = places.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| {
        let tried: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        Failure::refused(format!(
            "cannot find {NAME}, looked for {}; set TIDEOVER_LIB to its full path",
            tried.join(", ")
        ))
    })
}

fn places(beside: &Path) -> Vec<PathBuf> {
    let above = beside.parent().unwrap_or(beside);
    let mut folders = vec![beside.to_path_buf(), above.join("lib"), above.join("lib64")];
    folders.insert(2, above.join("lib").join(multiarch()));
    folders.into_iter().map(|folder| folder.join(NAME)).collect()
}

/// The folder below lib that Debian and its derivatives use for this architecture.
pub fn multiarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86_64-linux-gnu",
        "x86" => "i386-linux-gnu",
        "aarch64" => "aarch64-linux-gnu",
        "arm" => "arm-linux-gnueabihf",
        "riscv64" => "riscv64-linux-gnu",
        "powerpc64" => "powerpc64le-linux-gnu",
        "s390x" => "s390x-linux-gnu",
        other => other,
    }
}

fn check(path: PathBuf) -> Result<Library, Failure> {
    match preload::inexpressible(&path) {
        Some(why) => Err(Failure::refused(format!("cannot preload {}: {why}", path.display()))),
        None => examine(&path),
    }
}

/// Checks that a file is a shared library that a loader can map.
pub fn examine(path: &Path) -> Result<Library, Failure> {
    let refuse = |why: String| Failure::refused(format!("cannot preload {}: {why}", path.display()));
    let metadata = path.metadata().map_err(|error| refuse(cause(&error)))?;
    if !metadata.is_file() {
        return Err(refuse(format!("it is not a file; set TIDEOVER_LIB to the full path of {NAME}")));
    }
    let file =
        File::open(path).map_err(|error| refuse(format!("{}; make it readable for this user", cause(&error))))?;
    let Some(elf) = Elf::read_with_symbols(file).filter(|elf| elf.relocatable && elf.interpreter.is_none()) else {
        return Err(refuse(format!("it is not a shared library; set TIDEOVER_LIB to the full path of {NAME}")));
    };
    // The loader maps a library executable, which a noexec mount forbids: every program would print an error, and run
    // without the library.
    if statvfs(path).is_ok_and(|fs| fs.f_flag.bits() & libc::ST_NOEXEC != 0) {
        return Err(refuse("its filesystem is mounted noexec; put it elsewhere".to_string()));
    }
    Ok(Library { path: path.to_path_buf(), elf })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executables::compiled::Program;

    #[test]
    fn it_is_looked_for_beside_the_executable_and_in_the_lib_folders() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        let deep = directory.path().join("lib").join(multiarch());
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::create_dir(&bin).unwrap();
        let missing = locate(None, &bin).unwrap_err().text;
        assert!(missing.contains("TIDEOVER_LIB") && missing.contains(multiarch()), "{missing}");
        for folder in [deep, directory.path().join("lib"), bin.clone()] {
            std::fs::write(folder.join(NAME), "").unwrap();
            assert_eq!(locate(None, &bin).unwrap(), folder.join(NAME), "nearer folders win");
        }
    }

    #[test]
    fn a_wrong_tideover_lib_is_not_papered_over() {
        let error = locate(Some("/nonexistent/x.so".into()), Path::new("/usr/bin")).unwrap_err();
        assert!(error.text.contains("/nonexistent/x.so") && error.text.contains("unset"), "{error}");
        assert!(check("/etc/passwd".into()).unwrap_err().text.contains("not a shared library"));
        assert!(check("/bin/sh".into()).unwrap_err().text.contains("not a shared library"));
        assert!(check("/tmp".into()).unwrap_err().text.contains("not a file"));
    }

    #[test]
    fn a_library_of_another_architecture_is_told_from_this_ones() {
        let program = Elf::read(crate::executables::compiled::open("/bin/sh")).unwrap();
        let built = Program::compile(&["-shared", "-fPIC"]);
        assert_eq!(examine(&built.path()).unwrap().foreign_to(&program, "/bin/sh"), None);
        // The same file with another machine in its header, at byte 18: x86-64 is 62, AArch64 183.
        let mut bytes = std::fs::read(built.path()).unwrap();
        bytes[18] = if bytes[18] == 62 { 183 } else { 62 };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        std::fs::write(&path, bytes).unwrap();
        let said = examine(&path).unwrap().foreign_to(&program, "/bin/sh").unwrap();
        assert!(said.contains("aarch64") && said.contains("x86-64") && said.contains("TIDEOVER_LIB"), "{said}");
    }

    #[test]
    fn a_shared_library_is_taken() {
        let program = Program::compile(&["-shared", "-fPIC"]);
        assert!(check(program.path()).is_ok());
    }
}
