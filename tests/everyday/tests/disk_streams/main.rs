//! Where lines go when the user has said nothing (TIDEOVER_FALLBACK=auto), for each way in which standard output is used; and that a
//! reader who does not read, or a terminal, harms no program. Each program runs without the library and with it.

mod account;
mod auto;
mod daemons;
mod owners;
mod stalled;
mod users;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use tideover_tests::loggers::c;
use tideover_tests::numbered::{Account, line, lines};
use tideover_tests::programs::sh;
use tideover_tests::sinks::{collected, failed, left_in, longest, pipe, sent_to_stderr, terminal};
use tideover_tests::{Disk, Kind, Outcome, Run, program};

/// How many lines are logged.
const LINES: u32 = 100;

/// All lines.
fn text() -> String {
    lines(1..=LINES)
}

/// A full tmpfs, and an empty log on it.
fn full_disk() -> (Disk, std::path::PathBuf) {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    (disk, log)
}

/// A writer of all lines, for whom the library decides where they go.
fn writer(log: &Path) -> Run {
    c("write", log).stdin(text()).env("TIDEOVER_FALLBACK", "auto")
}

/// A program that runs another in a shell: `"$@"` in the script.
fn in_a_shell(script: &str, run: &Run) -> Run {
    sh(script).arg("sh").args(run.command()).stdin(text()).env("TIDEOVER_FALLBACK", "auto")
}

/// The lines that are in this text, of those that were logged: all, once, in order.
#[track_caller]
fn all_in(text: &str) {
    Account::new("", text).complete(1..=LINES, 0).in_order();
}

/// No line is in this text.
#[track_caller]
fn none_in(text: &str) {
    assert!(Account::new("", text).in_sink.is_empty(), "it should have no lines: {text}");
}

/// mount(8) in the test's own mount namespace.
fn mount(args: &[&str]) {
    let done = std::process::Command::new(program("mount", "mount")).args(args).output().expect("mount runs");
    assert!(done.status.success(), "mount {args:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Gives the test a /run and a /dev of its own, so that it can have a journal and a syslog daemon of its own, or none.
fn own_daemons() {
    tideover_tests::disk::own_mounts();
    mount(&["-t", "tmpfs", "tmpfs", "/run"]);
    let folder = tideover_tests::Scratch::new();
    let fresh = folder.join("dev");
    fs::create_dir(&fresh).expect("a folder can be made");
    let fresh = fresh.to_str().expect("UTF-8");
    mount(&["-t", "tmpfs", "tmpfs", fresh]);
    for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx"] {
        let file = format!("{fresh}/{name}");
        File::create(&file).expect("a mount point can be made");
        mount(&["--bind", &format!("/dev/{name}"), &file]);
    }
    for name in ["pts", "shm"] {
        let folder = format!("{fresh}/{name}");
        fs::create_dir(&folder).expect("a mount point can be made");
        mount(&["--bind", &format!("/dev/{name}"), &folder]);
    }
    mount(&["--move", fresh, "/dev"]);
}
