//! Starts some programs without and with the library, and compares what they print and how they end.
#![forbid(unsafe_code)]

use crate::before_exec::chroot;
use crate::executables::elf::{Elf, Libc};
use crate::show::failure::cause;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Programs that an administrator needs to log in and to repair a system, the shell first; and interpreters. Those that the
/// system has are tried.
const PROGRAMS: &[(&str, &[&str])] = &[
    ("/bin/sh", &["-c", "exit 3"]),
    ("/bin/bash", &["-c", "exit 3"]),
    ("/bin/ls", &["-d", "/"]),
    ("/bin/cat", &["/etc/passwd"]),
    ("/bin/mv", &["--version"]),
    ("/bin/rm", &["--version"]),
    ("/bin/sed", &["--version"]),
    ("/usr/bin/env", &["true"]),
    ("/usr/bin/id", &[]),
    ("/bin/su", &["--version"]),
    ("/usr/bin/sudo", &["-V"]),
    ("/usr/sbin/sshd", &["-?"]),
    ("/lib/systemd/systemd", &["--version"]),
    ("/usr/bin/dpkg", &["--version"]),
    ("/usr/bin/python3", &["-c", "import os; print(os.getcwd())"]),
    ("/usr/bin/perl", &["-e", "print 1"]),
];

/// Longest time that a program may take. None of them takes a second.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// How a program is started.
#[derive(Clone, Copy)]
pub enum With<'a> {
    /// Without LD_PRELOAD. /etc/ld.so.preload, if there is one, is in effect.
    Nothing,
    /// With this library in LD_PRELOAD.
    Preload(&'a Path),
}

#[derive(PartialEq, Eq)]
struct Behaviour {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Starts each program with the root directory `root`, without the library and with it; `library` is its path as seen from
/// there. Returns the names of those that were tried, or what went wrong.
pub fn compare(root: &Path, library: &Path) -> Result<Vec<&'static str>, String> {
    let mut tried = Vec::new();
    for &(program, arguments) in PROGRAMS.iter().filter(|(program, _)| loadable(root, program)) {
        let plain = start(root, program, arguments, With::Nothing)?;
        let preloaded = start(root, program, arguments, With::Preload(library))?;
        if plain != preloaded {
            return Err(format!(
                "{program} {} behaves otherwise with {}: {}",
                arguments.join(" "),
                library.display(),
                preloaded.text()
            ));
        }
        tried.push(Path::new(program).file_name().and_then(|name| name.to_str()).unwrap_or(program));
    }
    if tried.is_empty() {
        return Err(format!("there is no dynamically linked glibc program in {} to try it with", root.display()));
    }
    match PROGRAMS.iter().find(|(program, _)| loadable(root, program)) {
        Some((program, _)) if !loads(root, program, library, With::Preload(library))? => {
            Err(format!("{program} does not load {}", library.display()))
        }
        _ => Ok(tried),
    }
}

/// Starts the first of the programs without LD_PRELOAD, and keeps what it does, to compare it with what it does afterwards.
pub fn before(root: &Path) -> Option<Before> {
    let &(program, arguments) = PROGRAMS.iter().find(|(program, _)| loadable(root, program))?;
    Some(Before { program, arguments, behaviour: start(root, program, arguments, With::Nothing).ok()? })
}

/// What the first of the programs did before /etc/ld.so.preload was changed.
pub struct Before {
    program: &'static str,
    arguments: &'static [&'static str],
    behaviour: Behaviour,
}

impl Before {
    /// Starts the program again, now that /etc/ld.so.preload names the library: it must behave as before, and load the library. A
    /// loader that complains of what it reads there (glibc misreads files with several comments) counts as a difference.
    pub fn confirm(&self, root: &Path, library: &Path) -> Result<(), String> {
        let behaviour = start(root, self.program, self.arguments, With::Nothing)?;
        if behaviour != self.behaviour {
            return Err(format!("{} behaves otherwise now: {}", self.program, behaviour.text()));
        }
        match loads(root, self.program, library, With::Nothing)? {
            true => Ok(()),
            false => Err(format!("{} does not load {}", self.program, library.display())),
        }
    }
}

/// Is there a program at this path whose loader is that of glibc? A static program has no loader, and that of musl does not
/// read /etc/ld.so.preload.
fn loadable(root: &Path, program: &str) -> bool {
    let Ok(file) = File::open(root.join(program.trim_start_matches('/'))) else { return false };
    Elf::read(file).is_some_and(|elf| elf.libc() == Some(Libc::Glibc))
}

/// Does a program load the library? glibc's loader lists what it would map, and does not start the program.
fn loads(root: &Path, program: &str, library: &Path, with: With) -> Result<bool, String> {
    let mut command = command(root, program, with);
    let behaviour = run(command.env("LD_TRACE_LOADED_OBJECTS", "1"), program)?;
    let path = library.as_os_str().as_bytes();
    Ok(behaviour.stdout.split(|b| b"\n\t ".contains(b)).any(|word| word == path))
}

fn start(root: &Path, program: &str, arguments: &[&str], with: With) -> Result<Behaviour, String> {
    run(command(root, program, with).args(arguments), program)
}

fn command(root: &Path, program: &str, with: With) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C");
    if let With::Preload(library) = with {
        command.env("LD_PRELOAD", library);
    }
    if root != Path::new("/") {
        chroot::enter(&mut command, root);
    }
    command
}

/// Runs a command, and reads what it prints from two pipes.
fn run(command: &mut Command, program: &str) -> Result<Behaviour, String> {
    let failed = |error: std::io::Error| format!("cannot start {program}: {}", cause(&error));
    let (mut stdout, out) = std::io::pipe().map_err(failed)?;
    let (mut stderr, err) = std::io::pipe().map_err(failed)?;
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn().map_err(failed)?;
    // The command keeps the writing ends of the pipes open until it is given other files.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let deadline = Instant::now() + TIME_LIMIT;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} hung for {} s", TIME_LIMIT.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let (mut told_out, mut told_err) = (Vec::new(), Vec::new());
    stdout.read_to_end(&mut told_out).and_then(|_| stderr.read_to_end(&mut told_err)).map_err(failed)?;
    Ok(Behaviour { status, stdout: told_out, stderr: told_err })
}

impl Behaviour {
    fn text(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        match stderr.lines().next() {
            Some(line) => format!("{}: {}", self.status, crate::show::output::safe(line.as_bytes())),
            None => self.status.to_string(),
        }
    }
}
