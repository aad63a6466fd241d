//! What the child of `tideover selftest` does: one way to run out of descriptors each, told in one line of JSON.
//!
//! All of it goes through libc (std), which is what the library hooks, never through rustix, whose system calls nobody
//! sees.
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

/// Did it go well, and how, in a few words.
pub struct Told {
    /// As the check wants it to be under the library.
    pub ok: bool,
    /// Short: it becomes a column.
    pub says: String,
}

/// A scenario by its name.
pub type Scenario = (&'static str, fn() -> Told);

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

/// The one that needs a small disk of its own.
pub const FULL_LOG: &str = "full-log";

/// The close in `close-wakes-open` comes so long after the open began to fail.
const CLOSE_AFTER: Duration = Duration::from_millis(100);

/// The hidden command line: `selftest-child [--limits SOFT:HARD [--preload LIST]] SCENARIO`.
pub fn command() -> Command {
    Command::new("selftest-child")
        .hide(true)
        .arg(Arg::new("limits").long("limits").value_name("SOFT:HARD"))
        .arg(Arg::new("preload").long("preload").value_parser(value_parser!(PathBuf)))
        .arg(Arg::new("scenario").required(true).value_parser(SCENARIOS.iter().map(|s| s.0).collect::<Vec<_>>()))
}

/// With limits: lowers them and starts over under them, as a shell's ulimit does. Without: plays the scenario.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let name = matches.get_one::<String>("scenario").map_or("", String::as_str);
    if let Some(limits) = matches.get_one::<String>("limits") {
        return Err(start_over(limits, name, matches.get_one::<PathBuf>("preload")));
    }
    let told = SCENARIOS.iter().find(|s| s.0 == name).map(|s| s.1());
    let told = told.unwrap_or_else(|| Told { ok: false, says: format!("no scenario {name}") });
    print(&format!("{}\n", json!({ "ok": told.ok, "says": told.says })))?;
    // Stay until the parent has read our page.
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

fn open_many() -> Told {
    let mut files = Vec::new();
    for _ in 0..200 {
        match null() {
            Ok(file) => files.push(file),
            Err(error) => return Told { ok: false, says: format!("{} after {} files", word(&error), files.len()) },
        }
    }
    Told { ok: true, says: format!("{} files open", files.len()) }
}

/// Opens up to the soft limit and not one more, so that the next open is the first to fail.
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

fn close_wakes_open() -> Told {
    let mut files = match fill() {
        Ok(files) => files,
        Err(error) => return Told { ok: false, says: format!("{} too early", word(&error)) },
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
    let Ok(closed) = closer.join() else { return Told { ok: false, says: "the closing thread died".to_string() } };
    match opened {
        Ok(_) if now < closed => Told { ok: false, says: "opened before anything was closed".to_string() },
        Ok(_) => Told { ok: true, says: format!("opened {} us after the close", (now - closed).as_micros()) },
        Err(error) => Told { ok: false, says: format!("{} at once", word(&error)) },
    }
}

/// Calls inside which libc opens descriptors, made while another thread frees one at a time: opendir needs one, a spawn
/// with pipes five.
fn composite() -> Told {
    let mut files = match fill() {
        Ok(files) => files,
        Err(error) => return Told { ok: false, says: format!("{} too early", word(&error)) },
    };
    std::thread::spawn(move || {
        for _ in 0..8 {
            std::thread::sleep(CLOSE_AFTER / 4);
            files.pop();
        }
        // The rest stays open to the end.
        std::thread::park();
    });
    let itself = std::env::current_exe().unwrap_or_default();
    let opendir = read_dir("/").err();
    let spawn = std::process::Command::new(itself).arg("--version").env_remove("LD_PRELOAD").output().err();
    let told = |error: &Option<io::Error>| error.as_ref().map_or_else(|| "done".to_string(), word);
    let says = match (told(&opendir), told(&spawn)) {
        (one, other) if one == other => format!("opendir, spawn: {one}"),
        (one, other) => format!("opendir: {one}, spawn: {other}"),
    };
    Told { ok: opendir.is_none() && spawn.is_none(), says }
}

/// One thread at a limit that can't be raised: nobody could free anything, so the error must come at once, and be the
/// true one.
fn hopeless() -> Told {
    let _files = match fill() {
        Ok(files) => files,
        Err(error) => return Told { ok: false, says: format!("{} too early", word(&error)) },
    };
    let before = Instant::now();
    let opened = null();
    let took = before.elapsed();
    match opened {
        Ok(_) => Told { ok: false, says: "it opened".to_string() },
        Err(error) => Told {
            ok: error.raw_os_error() == Some(libc::EMFILE) && took < CLOSE_AFTER,
            says: format!("{} in {} us", word(&error), took.as_micros()),
        },
    }
}

/// Linux hands out the number before it looks at the queue: at the limit, a non-blocking accept fails with EMFILE though
/// nobody is waiting, and a loop that takes that for a client spins.
fn phantom() -> Told {
    let listener = match TcpListener::bind("127.0.0.1:0") {
        Ok(listener) => listener,
        Err(error) => return Told { ok: false, says: error.to_string() },
    };
    let _files = match listener.set_nonblocking(true).and_then(|()| fill()) {
        Ok(files) => files,
        Err(error) => return Told { ok: false, says: format!("{} too early", word(&error)) },
    };
    match listener.accept() {
        Ok(_) => Told { ok: false, says: "somebody was there".to_string() },
        Err(error) => Told { ok: error.kind() == io::ErrorKind::WouldBlock, says: word(&error) },
    }
}

/// A client comes when there is no descriptor for it, and another thread closes something later.
fn client_waits() -> Told {
    let listener = TcpListener::bind("127.0.0.1:0");
    let prepared = listener.and_then(|listener| {
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok((listener, client, fill()?))
    });
    let (listener, _client, mut files) = match prepared {
        Ok(all) => all,
        Err(error) => return Told { ok: false, says: format!("{} too early", word(&error)) },
    };
    let victim = files.pop();
    let closer = std::thread::spawn(move || {
        std::thread::sleep(CLOSE_AFTER);
        drop(victim);
    });
    let accepted = listener.accept();
    if closer.join().is_err() {
        return Told { ok: false, says: "the closing thread died".to_string() };
    }
    match accepted {
        Ok(_) => Told { ok: true, says: "served after the close".to_string() },
        Err(error) => Told { ok: false, says: format!("{} at once", word(&error)) },
    }
}

/// In a folder that is a disk of a few KiB: lines of a log while it is full, and one when there is space again.
fn full_log() -> Told {
    const LINES: usize = 10;
    let failed = |what: &str, error: &io::Error| Told { ok: false, says: format!("{what}: {}", word(error)) };
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
            Told { ok: true, says: format!("{LINES} lines kept, then back") }
        }
        Ok(_) => Told { ok: false, says: "not back in the file".to_string() },
        Err(error) => failed("afterwards", &error),
    }
}

fn word(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "EMFILE".to_string(),
        Some(libc::ENFILE) => "ENFILE".to_string(),
        Some(libc::EAGAIN) => "EAGAIN".to_string(),
        Some(libc::ENOSPC) => "ENOSPC".to_string(),
        _ => error.to_string(),
    }
}
