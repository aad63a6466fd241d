//! Can the library be preloaded into a program? If not, the refusal names the reason and what to do.
//!
//! A program is refused rather than run without the library and without a word, since that is what `tideover run` is for.
#![forbid(unsafe_code)]

use crate::executables::elf::{Elf, Libc};
use crate::executables::executable::Executable;
use crate::executables::privileges::{Caller, elevation};
use crate::executables::search;
use crate::launch::library::Library;
use crate::launch::sanitizer;
use crate::show::failure::{Failure, cause};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;

/// How many interpreters of interpreters are followed. The kernel stops at about as many.
const MAX_DEPTH: usize = 4;

/// What the check depends on besides the file.
pub struct Conditions<'a> {
    /// The library that would be preloaded.
    pub library: &'a Library,
    /// The ids with which the program is executed.
    pub caller: Caller,
    /// PATH, in which `#!/usr/bin/env` looks for the interpreter.
    pub path: Option<OsString>,
}

/// Refuses a program in which the library could not act, and warns of one in which it sees only some calls. True: AddressSanitizer has to
/// be told of the library, see [`sanitizer`].
pub fn check(file: &Path, conditions: &Conditions) -> Result<bool, Failure> {
    examine(file, conditions, &file.display().to_string(), 0)
}

/// Checks a file and its interpreters. `whose` names the file in messages: `x.sh: its interpreter /bin/y`.
fn examine(file: &Path, conditions: &Conditions, whose: &str, depth: usize) -> Result<bool, Failure> {
    let read =
        Executable::read(file).map_err(|error| Failure::refused(format!("cannot run {whose}: {}", cause(&error))))?;
    match read {
        Executable::Elf(elf) => program(&elf, file, conditions)
            .map(|()| sanitizer::is_needed_by(&elf))
            .map_err(|reason| Failure::refused(format!("cannot guard {whose}: {reason}"))),
        // Its set-id bits and capabilities can be read, though its content can't.
        Executable::Unreadable => match elevation(file, &conditions.caller) {
            Some(why) => Err(Failure::refused(format!("cannot guard {whose}: {}", privileged(&why)))),
            None => Ok(false),
        },
        Executable::Damaged => Err(Failure::refused(format!(
            "cannot run {whose}: it begins as an ELF program and is cut short or damaged; copy or install it again"
        ))),
        _ if depth == MAX_DEPTH => Ok(false),
        Executable::Other => {
            examine(Path::new("/bin/sh"), conditions, &format!("{whose}: its interpreter /bin/sh"), depth + 1)
        }
        Executable::Script(script) => {
            let mut interpreter = Path::new(&script.interpreter).to_path_buf();
            let first = examine(
                &interpreter,
                conditions,
                &format!("{whose}: its interpreter {}", script.interpreter),
                depth + 1,
            )?;
            // If env will not find the program, env's own message says it best.
            let found = script.through_env().and_then(|name| search::find(name.as_ref(), conditions.path.clone()).ok());
            let Some(behind_env) = found else { return Ok(first) };
            interpreter = behind_env;
            examine(&interpreter, conditions, &format!("{whose}: its interpreter {}", interpreter.display()), depth + 1)
                .map(|second| first || second)
        }
    }
}

/// Checks an ELF program; the error is the reason why the library can't act in it.
fn program(elf: &Elf, file: &Path, conditions: &Conditions) -> Result<(), String> {
    let library = conditions.library;
    if !elf.same_architecture(&library.elf) {
        return Err(format!(
            "it is a {} program and {} is {}; build tideover for its architecture and set TIDEOVER_LIB to that library",
            elf.architecture(),
            library.path.display(),
            library.elf.architecture()
        ));
    }
    let path = file.to_string_lossy();
    let (interpreter, libc) = match elf.interpreter.as_deref() {
        Some(interpreter) => (interpreter, elf.libc()),
        None => (&*path, Some(elf.loader_of(&path).ok_or_else(|| without_loader(elf))?)),
    };
    other_libc(libc, interpreter, library)?;
    if libc == Some(Libc::Musl) {
        log::warn!(
            "{} is a musl program: when a disk is full, the library sees what it writes by write(2), not what it writes through stdio",
            file.display()
        );
    }
    if !Path::new(interpreter).exists() {
        return Err(format!(
            "its loader {interpreter} does not exist here; install the C library that it was built for"
        ));
    }
    if let Some(why) = elevation(file, &conditions.caller) {
        return Err(privileged(&why));
    }
    if elf.go {
        log::warn!(
            "{} is a Go program: Go makes system calls itself, so the library sees only what its C parts do",
            file.display()
        );
    }
    Ok(())
}

fn without_loader(elf: &Elf) -> String {
    let remedy = if elf.go {
        "Go makes system calls itself anyway, so raise its limit instead: ulimit -n, LimitNOFILE= or docker --ulimit"
    } else {
        "link it dynamically (without -static), or raise its limit: ulimit -n, LimitNOFILE= or docker --ulimit"
    };
    format!("it is statically linked, so no loader would read LD_PRELOAD; {remedy}")
}

fn privileged(why: &str) -> String {
    format!(
        "{why}, so the loader ignores LD_PRELOAD; start it as the user it runs as, or let a service manager set the privileges"
    )
}

fn other_libc(libc: Option<Libc>, interpreter: &str, library: &Library) -> Result<(), String> {
    let (Some(theirs), Some(ours)) = (libc, library.elf.libc()) else { return Ok(()) };
    let reason = match (theirs, ours) {
        (Libc::Musl, Libc::Glibc) => match File::open(interpreter).ok().and_then(Elf::read_with_symbols) {
            Some(musl) => match missing(&library.elf, &musl) {
                None => return Ok(()),
                Some(name) => format!("; {interpreter} lacks {name}"),
            },
            None => String::new(),
        },
        _ if theirs != ours => String::new(),
        _ => return Ok(()),
    };
    Err(format!(
        "it is for {} and {} is for {}{reason}; set TIDEOVER_LIB to a build for {}",
        theirs.name(),
        library.path.display(),
        ours.name(),
        theirs.name()
    ))
}

/// What a library built for glibc needs and musl lacks. musl ignores symbol versions and takes the name libc.so.6 for
/// itself, so a library that needs nothing else runs with both.
fn missing<'a>(library: &'a Elf, musl: &Elf) -> Option<&'a String> {
    let own = ["libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet."];
    let other_library = library.needed.iter().find(|name| !own.iter().any(|own| name.starts_with(own)));
    other_library.or_else(|| library.undefined.iter().find(|name| !musl.defined.contains(name)))
}

#[cfg(test)]
mod tests {
    use tideover_tests::needs;

    use super::*;
    use crate::executables::compiled::Program;
    use std::os::unix::fs::{PermissionsExt, chown};

    fn refusal(file: &Path) -> String {
        let elf = Elf::read(crate::executables::compiled::open("/bin/sh")).unwrap();
        // A library for this machine's own libc, as far as the check looks at it.
        let elf = Elf { interpreter: None, ..elf };
        let library = Library { path: "/usr/lib/libtideover.so".into(), elf };
        let path = Some("/usr/bin:/bin".into());
        match check(file, &Conditions { library: &library, caller: Caller::me(), path }) {
            Ok(_) => String::new(),
            Err(failure) => failure.text,
        }
    }

    fn script(directory: &Path, name: &str, text: &str) -> std::path::PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn ordinary_programs_and_scripts_are_guarded() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(refusal(Path::new("/bin/ls")), "");
        assert_eq!(refusal(&script(directory.path(), "a", "#!/bin/sh\n")), "");
        assert_eq!(refusal(&script(directory.path(), "b", "#!/usr/bin/env sh\n")), "");
        assert_eq!(refusal(&script(directory.path(), "c", "echo no first line\n")), "");
        let itself = directory.path().join("loop");
        assert_eq!(refusal(&script(directory.path(), "loop", &format!("#!{}\n", itself.display()))), "");
        let loader = Elf::read(crate::executables::compiled::open("/bin/sh")).unwrap().interpreter.unwrap();
        assert_eq!(refusal(Path::new(&loader)), "", "the loader reads LD_PRELOAD for the program it loads");
    }

    #[test]
    fn a_static_program_is_refused_also_behind_scripts() {
        for flag in ["-static", "-static-pie"] {
            let program = Program::compile(&[flag]);
            assert!(refusal(&program.path()).contains("statically linked"), "{flag}");
            let directory = tempfile::tempdir().unwrap();
            let one = script(directory.path(), "one", &format!("#!{} -x\n", program.path().display()));
            let two = script(directory.path(), "two", &format!("#!{}\n", one.display()));
            let three = script(directory.path(), "three", &format!("#!/usr/bin/env {}\n", two.display()));
            assert!(refusal(&three).contains("statically linked"), "{}", refusal(&three));
            assert!(refusal(&three).contains(&format!("its interpreter {}", program.path().display())));
        }
    }

    #[test]
    fn a_program_for_another_libc_or_a_missing_loader_is_refused() {
        let musl = Program::compile(&["-Wl,--dynamic-linker=/nonexistent/ld-musl-x86_64.so.1"]);
        let text = refusal(&musl.path());
        assert!(text.contains("it is for musl") && text.contains("TIDEOVER_LIB"), "{text}");
        let lost = Program::compile(&["-Wl,--dynamic-linker=/nonexistent/ld-linux-x86-64.so.2"]);
        assert!(refusal(&lost.path()).contains("does not exist here"), "{}", refusal(&lost.path()));
    }

    #[test]
    fn one_build_may_serve_both_libcs() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_string()).collect::<Vec<_>>();
        let musl = Elf { defined: list(&["open", "dlsym"]), ..Elf::default() };
        let library = |needed, undefined| Elf { needed: list(needed), undefined: list(undefined), ..Elf::default() };
        assert_eq!(missing(&library(&["libc.so.6"], &["open", "dlsym"]), &musl), None);
        let loader = library(&["libc.so.6", "ld-linux-x86-64.so.2"], &["open"]);
        assert_eq!(missing(&loader, &musl).unwrap(), "ld-linux-x86-64.so.2");
        assert_eq!(missing(&library(&["libc.so.6"], &["__register_atfork"]), &musl).unwrap(), "__register_atfork");
    }

    #[test]
    fn another_class_or_machine_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let mut image = std::fs::read("/bin/sh").unwrap();
        image[18] = 183; // e_machine: aarch64
        let path = directory.path().join("sh");
        std::fs::write(&path, &image).unwrap();
        assert!(refusal(&path).contains("aarch64"), "{}", refusal(&path));
    }

    #[needs(setuid)]
    #[test]
    fn a_program_that_changes_its_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sh");
        std::fs::copy("/bin/sh", &path).unwrap();
        chown(&path, Some(65534), None).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4755)).unwrap();
        assert!(refusal(&path).contains("set-uid to user 65534"), "{}", refusal(&path));
    }
}
