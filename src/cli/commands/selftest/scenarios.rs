//! What the child process of `tideover selftest` does: each scenario runs out of descriptors in one way, and answers with one
//! line of JSON.
//!
//! All calls go through libc (by std), whose functions the library hooks, and none through rustix, which makes system calls
//! itself.
#![forbid(unsafe_code)]

use super::small_disk;
use crate::show::failure::Failure;
use crate::show::output::print;
use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::json;
use std::fs::{File, OpenOptions, read_dir};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The result of a scenario.
pub struct ScenarioResult {
    /// Did the child behave as it should with the library?
    pub ok: bool,
    /// What happened, in a few words that fit a column.
    pub says: String,
}

/// A scenario: its name, and what it does.
pub type Scenario = (&'static str, fn() -> ScenarioResult);

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("open-many", open_many),
    ("close-wakes-open", close_wakes_open),
    ("composite", composite),
    ("hopeless", hopeless),
    ("phantom", phantom),
    ("client-waits", client_waits),
    (FULL_LOG, full_log),
];

/// Name of the scenario that needs a small disk of its own.
pub const FULL_LOG: &str = "full-log";

/// How long after the first open that fails the other thread closes a descriptor.
const CLOSE_AFTER: Duration = Duration::from_millis(100);

/// The hidden command line: `selftest-child [--limits SOFT:HARD [--preload LIST]] SCENARIO`.
pub fn command() -> Command {
    Command::new("selftest-child")
        .hide(true)
        .arg(Arg::new("limits").long("limits").value_name("SOFT:HARD"))
        .arg(Arg::new("preload").long("preload").value_parser(value_parser!(PathBuf)))
        .arg(Arg::new("scenario").required(true).value_parser(SCENARIOS.iter().map(|s| s.0).collect::<Vec<_>>()))
}

/// With --limits: sets them and executes this command again, as a shell's ulimit does. Without: runs the scenario.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let name = matches.get_one::<String>("scenario").map_or("", String::as_str);
    if let Some(limits) = matches.get_one::<String>("limits") {
        return Err(start_over(limits, name, matches.get_one::<PathBuf>("preload")));
    }
    let result = SCENARIOS.iter().find(|s| s.0 == name).map(|s| s.1());
    let result = result.unwrap_or_else(|| ScenarioResult { ok: false, says: format!("no scenario {name}") });
    print(&format!("{}\n", json!({ "ok": result.ok, "says": result.says })))?;
    // The process ends only when the parent has read its page and closes the pipe.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

fn start_over(limits: &str, scenario: &str, preload: Option<&PathBuf>) -> Failure {
    let numbers: Vec<u64> = limits.split(':').filter_map(|n| n.parse().ok()).collect();
    let [soft, hard] = numbers[..] else { return Failure::usage("--limits takes SOFT:HARD") };
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: Some(hard) }) {
        return Failure::failed(format!("cannot set the limits {limits}: {error}"));
    }
    let itself = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
    let mut again = match scenario {
        FULL_LOG => small_disk::inside(&itself, preload.map(PathBuf::as_path)),
        _ => std::process::Command::new(itself),
    };
    again.args(["selftest-child", scenario]);
    match preload {
        Some(list) if scenario != FULL_LOG => again.env("LD_PRELOAD", list),
        _ => again.env_remove("LD_PRELOAD"),
    };
    Failure::failed(format!("cannot start over: {}", again.exec()))
}

fn null() -> io::Result<File> {
    File::open("/dev/null")
}

fn open_many() -> ScenarioResult {
    let mut files = Vec::new();
    for _ in 0..200 {
        match null() {
            Ok(file) => files.push(file),
            Err(error) => {
                return ScenarioResult {
                    ok: false,
                    says: format!("{} after {} files", error_name(&error), files.len()),
                };
            }
        }
    }
    ScenarioResult { ok: true, says: format!("{} files open", files.len()) }
}

/// Opens files until all descriptors below the soft limit are in use, so that the next open is the first to fail.
fn fill() -> io::Result<Vec<File>> {
    let soft = i32::try_from(soft_limit()).unwrap_or(i32::MAX);
    let mut files = vec![null()?];
    while files.last().is_some_and(|file| file.as_raw_fd() < soft - 1) {
        files.push(null()?);
    }
    Ok(files)
}

fn soft_limit() -> u64 {
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn close_wakes_open() -> ScenarioResult {
    let mut files = match fill() {
        Ok(files) => files,
        Err(error) => return ScenarioResult { ok: false, says: format!("{} too early", error_name(&error)) },
    };
    let victim = files.pop();
    let closer = std::thread::spawn(move || {
        std::thread::sleep(CLOSE_AFTER);
        let at = Instant::now();
        drop(victim);
        at
    });
    let opened = null();
    let now = Instant::now();
    let Ok(closed) = closer.join() else {
        return ScenarioResult { ok: false, says: "the closing thread died".to_string() };
    };
    match opened {
        Ok(_) if now < closed => ScenarioResult { ok: false, says: "opened before anything was closed".to_string() },
        Ok(_) => ScenarioResult { ok: true, says: format!("opened {} us after the close", (now - closed).as_micros()) },
        Err(error) => ScenarioResult { ok: false, says: format!("{} at once", error_name(&error)) },
    }
}

/// Functions inside which libc opens descriptors, while another thread frees one after the other: opendir needs one, a spawn
/// with pipes needs five.
fn composite() -> ScenarioResult {
    let mut files = match fill() {
        Ok(files) => files,
        Err(error) => return ScenarioResult { ok: false, says: format!("{} too early", error_name(&error)) },
    };
    std::thread::spawn(move || {
        for _ in 0..8 {
            std::thread::sleep(CLOSE_AFTER / 4);
            files.pop();
        }
        // The other files stay open until the process ends.
        std::thread::park();
    });
    let itself = std::env::current_exe().unwrap_or_default();
    let opendir = read_dir("/").err();
    let spawn = std::process::Command::new(itself).arg("--version").env_remove("LD_PRELOAD").output().err();
    let result = |error: &Option<io::Error>| error.as_ref().map_or_else(|| "done".to_string(), error_name);
    let says = match (result(&opendir), result(&spawn)) {
        (one, other) if one == other => format!("opendir, spawn: {one}"),
        (one, other) => format!("opendir: {one}, spawn: {other}"),
    };
    ScenarioResult { ok: opendir.is_none() && spawn.is_none(), says }
}

/// One thread at a limit that can't be raised: nothing could free a descriptor, so the call must fail at once, with
/// EMFILE.
fn hopeless() -> ScenarioResult {
    let _files = match fill() {
        Ok(files) => files,
        Err(error) => return ScenarioResult { ok: false, says: format!("{} too early", error_name(&error)) },
    };
    let before = Instant::now();
    let opened = null();
    let took = before.elapsed();
    match opened {
        Ok(_) => ScenarioResult { ok: false, says: "it opened".to_string() },
        Err(error) => ScenarioResult {
            ok: error.raw_os_error() == Some(libc::EMFILE) && took < CLOSE_AFTER,
            says: format!("{} in {} us", error_name(&error), took.as_micros()),
        },
    }
}

/// Linux takes a descriptor before it looks at the queue: at the limit, a non-blocking accept fails with EMFILE even if no
/// client is waiting, and a loop that takes that for a client spins.
fn phantom() -> ScenarioResult {
    let listener = match TcpListener::bind("127.0.0.1:0") {
        Ok(listener) => listener,
        Err(error) => return ScenarioResult { ok: false, says: error.to_string() },
    };
    let _files = match listener.set_nonblocking(true).and_then(|()| fill()) {
        Ok(files) => files,
        Err(error) => return ScenarioResult { ok: false, says: format!("{} too early", error_name(&error)) },
    };
    match listener.accept() {
        Ok(_) => ScenarioResult { ok: false, says: "somebody was there".to_string() },
        Err(error) => ScenarioResult { ok: error.kind() == io::ErrorKind::WouldBlock, says: error_name(&error) },
    }
}

/// A client connects while there is no descriptor for it, and another thread closes one later.
fn client_waits() -> ScenarioResult {
    let listener = TcpListener::bind("127.0.0.1:0");
    let prepared = listener.and_then(|listener| {
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok((listener, client, fill()?))
    });
    let (listener, _client, mut files) = match prepared {
        Ok(all) => all,
        Err(error) => return ScenarioResult { ok: false, says: format!("{} too early", error_name(&error)) },
    };
    let victim = files.pop();
    let closer = std::thread::spawn(move || {
        std::thread::sleep(CLOSE_AFTER);
        drop(victim);
    });
    let accepted = listener.accept();
    if closer.join().is_err() {
        return ScenarioResult { ok: false, says: "the closing thread died".to_string() };
    }
    match accepted {
        Ok(_) => ScenarioResult { ok: true, says: "served after the close".to_string() },
        Err(error) => ScenarioResult { ok: false, says: format!("{} at once", error_name(&error)) },
    }
}

/// Run on a disk of a few KiB: writes lines of a log while the disk is full, and one line when there is space again.
fn full_log() -> ScenarioResult {
    const LINES: usize = 10;
    let failed =
        |what: &str, error: &io::Error| ScenarioResult { ok: false, says: format!("{what}: {}", error_name(error)) };
    let appended = OpenOptions::new().append(true).create(true).open("app.log");
    let (mut log, mut filler) = match appended.and_then(|log| Ok((log, File::create("filler")?))) {
        Ok(files) => files,
        Err(error) => return failed("making files", &error),
    };
    while filler.write_all(&[0; 512]).is_ok() {}
    for _ in 0..LINES {
        if let Err(error) = log.write_all(b"a line of the log\n") {
            return failed("its write failed", &error);
        }
    }
    if let Err(error) = std::fs::remove_file("filler") {
        return failed("removing", &error);
    }
    drop(filler);
    std::thread::sleep(2 * CLOSE_AFTER);
    let back = log.write_all(b"the last line\n").and_then(|()| std::fs::read_to_string("app.log"));
    match back {
        Ok(text) if text.ends_with("the last line\n") => {
            ScenarioResult { ok: true, says: format!("{LINES} lines kept, then back") }
        }
        Ok(_) => ScenarioResult { ok: false, says: "not back in the file".to_string() },
        Err(error) => failed("afterwards", &error),
    }
}

fn error_name(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "EMFILE".to_string(),
        Some(libc::ENFILE) => "ENFILE".to_string(),
        Some(libc::EAGAIN) => "EAGAIN".to_string(),
        Some(libc::ENOSPC) => "ENOSPC".to_string(),
        _ => error.to_string(),
    }
}
