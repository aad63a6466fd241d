//! Programs started with and without the library, before every program is: do they start, and do they say the same?
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

/// What one needs to get in and to put things right, first the shell; and interpreters. Those that are there are tried.
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

/// None of them takes a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a program is started.
#[derive(Clone, Copy)]
pub enum With<'a> {
    /// Without any preload of its own (that of /etc/ld.so.preload works all the same).
    Nothing,
    /// LD_PRELOAD.
    Preload(&'a Path),
}

#[derive(PartialEq, Eq)]
struct Told {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

/// Starts each program below `root` without the library and with it, which is at `library` as seen from there. Names of those
/// that were tried, or what went wrong.
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
                preloaded.words()
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

/// What the first of the programs does without any preload of ours: to be held against what it does afterwards.
pub fn before(root: &Path) -> Option<Before> {
    let &(program, arguments) = PROGRAMS.iter().find(|(program, _)| loadable(root, program))?;
    Some(Before { program, arguments, told: start(root, program, arguments, With::Nothing).ok()? })
}

/// See [`before`].
pub struct Before {
    program: &'static str,
    arguments: &'static [&'static str],
    told: Told,
}

impl Before {
    /// Does it do the same, and load the library, now that /etc/ld.so.preload names it? A loader that now complains of what it
    /// reads there (glibc misreads files with several comments) counts as a difference.
    pub fn confirm(&self, root: &Path, library: &Path) -> Result<(), String> {
        let told = start(root, self.program, self.arguments, With::Nothing)?;
        if told != self.told {
            return Err(format!("{} behaves otherwise now: {}", self.program, told.words()));
        }
        match loads(root, self.program, library, With::Nothing)? {
            true => Ok(()),
            false => Err(format!("{} does not load {}", self.program, library.display())),
        }
    }
}

/// A program that is there, and whose loader is glibc's: a static one has none, and musl's does not read the file.
fn loadable(root: &Path, program: &str) -> bool {
    let Ok(file) = File::open(root.join(program.trim_start_matches('/'))) else { return false };
    Elf::read(file).is_some_and(|elf| elf.libc() == Some(Libc::Glibc))
}

/// glibc's loader lists what it maps, and starts nothing.
fn loads(root: &Path, program: &str, library: &Path, with: With) -> Result<bool, String> {
    let mut command = command(root, program, with);
    let told = run(command.env("LD_TRACE_LOADED_OBJECTS", "1"), program)?;
    let path = library.as_os_str().as_bytes();
    Ok(told.stdout.split(|b| b"\n\t ".contains(b)).any(|word| word == path))
}

fn start(root: &Path, program: &str, arguments: &[&str], with: With) -> Result<Told, String> {
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

/// What it says goes to unnamed files: it is little, and nobody has to read it meanwhile.
fn run(command: &mut Command, program: &str) -> Result<Told, String> {
    let trouble = |error: std::io::Error| format!("cannot start {program}: {}", cause(&error));
    let (mut stdout, out) = std::io::pipe().map_err(trouble)?;
    let (mut stderr, err) = std::io::pipe().map_err(trouble)?;
    let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0).spawn().map_err(trouble)?;
    // The command holds the pipes' other ends until it is given others.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(trouble)? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{program} hung for {} s", PATIENCE.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let (mut told_out, mut told_err) = (Vec::new(), Vec::new());
    stdout.read_to_end(&mut told_out).and_then(|_| stderr.read_to_end(&mut told_err)).map_err(trouble)?;
    Ok(Told { status, stdout: told_out, stderr: told_err })
}

impl Told {
    fn words(&self) -> String {
        let stderr = String::from_utf8_lossy(&self.stderr);
        match stderr.lines().next() {
            Some(line) => format!("{}: {}", self.status, crate::show::output::safe(line.as_bytes())),
            None => self.status.to_string(),
        }
    }
}
