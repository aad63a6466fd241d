//! TIDEOVER_LOG_FORMAT and the journal's priorities: the library's messages as machines read them.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use tideover_tests::{Disk, Kind, Run, Scratch, fixture, library, needs, workspace};

/// A program that runs out of descriptors.
fn full(folder: &Scratch, name: &[u8]) -> Run {
    let path = folder.path().join(OsString::from_vec(name.to_vec()));
    if fs::symlink_metadata(&path).is_err() {
        std::os::unix::fs::symlink(fixture("ebb"), &path).unwrap();
    }
    let run = Run::new(path).limit(40).stdin("fill\n").preload(true);
    run.env("TIDEOVER_MAX_RETRIES", "0").env("TIDEOVER_LOG_FORMAT", "json")
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The keys and types of docs/json.md.
fn rows() -> Vec<(String, String)> {
    let text = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let start = text.find("## TIDEOVER_LOG_FORMAT=json").expect("a section");
    let cells = |line: &str| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        Some((cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_string(), cells.next()?.to_string()))
    };
    text[start..].lines().filter_map(cells).collect()
}

#[test]
fn each_message_is_an_object_as_the_document_has_it() {
    let folder = Scratch::new();
    let done = full(&folder, b"full").output();
    let all = objects(&done.passes().stderr);
    let rows = rows();
    for object in &all {
        assert_eq!(object.as_object().unwrap().len(), rows.len(), "{object}");
        for (key, kind) in &rows {
            let value = &object[key];
            let fits = kind.split(" or ").any(|kind| match kind {
                "number" => value.is_u64(),
                "text" => value.is_string(),
                "null" => value.is_null(),
                other => panic!("no type {other}"),
            });
            assert!(fits, "{key} is {value}, and no {kind}");
        }
    }
    let last = all.iter().find(|it| it["kind"] == "exhausted").unwrap_or_else(|| panic!("{done}"));
    assert_eq!((&last["call"], &last["errno"], &last["level"]), (&"open".into(), &libc::EMFILE.into(), &"warn".into()));
    assert_eq!((&last["used"], &last["soft"], &last["hard"]), (&40.into(), &40.into(), &40.into()));
    assert!(last["remedy"].as_str().unwrap().starts_with("to help: `ulimit -n"), "{last}");
    assert!(
        last["program"] == "full" && last["message"].as_str().unwrap().starts_with("open: no descriptor"),
        "{last}"
    );
    assert_eq!(last["time"].as_str().unwrap().len(), "2026-01-01T00:00:00Z".len());
    assert!(all.iter().any(|it| it["kind"] == "critical"), "{done}");
    // In text the message and what helps are one line.
    let text = full(&folder, b"full").env("TIDEOVER_LOG_FORMAT", "text").output();
    let line = text.stderr.lines().find(|line| line.contains("no descriptor left")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.starts_with("tideover[") && line.contains("; to help: `ulimit -n"), "{line}");
    // A bad value: the default, and one line about it.
    let bad = full(&folder, b"full").env("TIDEOVER_LOG_FORMAT", "xml").output();
    bad.says("TIDEOVER_LOG_FORMAT=xml is not one of text, json; using text");
}

#[test]
fn a_name_that_is_no_utf8_gives_valid_json() {
    let folder = Scratch::new();
    let done = full(&folder, b"a\"\\\xff\x01\nb").output();
    let all = objects(&done.passes().stderr);
    assert!(!all.is_empty() && all.iter().all(|it| it["program"] == "a\"\\???b"), "{all:?}");
}

#[needs(mounts)]
#[test]
fn a_full_log_disk_is_told_with_its_error() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.join("a\"b.log");
    fs::write(&log, "one\n").unwrap();
    disk.fill();
    let script = format!("exec 2>>'{}'; printf '%6000s\\n' x >&2", log.display());
    let folder = Scratch::new();
    let messages: PathBuf = folder.join("messages");
    let run = Run::new("bash").args(["-c", &script]).preload(true).env("TIDEOVER_LOG_FORMAT", "json");
    run.env("TIDEOVER_LOG_FILE", &messages).output();
    let all = objects(&fs::read_to_string(&messages).unwrap());
    let told = all.iter().find(|it| it["kind"] == "degraded").unwrap_or_else(|| panic!("{all:?}"));
    assert_eq!((&told["errno"], &told["call"]), (&libc::ENOSPC.into(), &"write".into()));
    assert!(told["message"].as_str().unwrap().contains("a\"b.log") && told["used"].is_null(), "{told}");
}

/// The first message of a program whose standard error is a socket, as of a service of systemd; `is_journal`: JOURNAL_STREAM names that.
fn first_message(format: &str, is_journal: bool) -> String {
    let folder = Scratch::new();
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    // SAFETY: all zeroes is a valid stat.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the stat is ours.
    assert_eq!(unsafe { libc::fstat(theirs.as_raw_fd(), &mut status) }, 0);
    let stream = if is_journal { format!("{}:{}", status.st_dev, status.st_ino) } else { "1:1".to_string() };
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" <\"$1\""]).arg(fixture("ebb")).arg(folder.write("words", "fill\n"));
    command.stdout(Stdio::null()).stderr(OwnedFd::from(theirs)).env("JOURNAL_STREAM", stream);
    command.env("TIDEOVER_LOG_FORMAT", format).env("TIDEOVER_MAX_RETRIES", "0").env("LD_PRELOAD", library());
    assert!(command.env("TIDEOVER_PAGE_DIR", folder.path()).status().unwrap().success());
    let mut line = vec![0; 4096];
    ours.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let length = ours.recv(&mut line).unwrap();
    String::from_utf8(line[..length].to_vec()).unwrap()
}

#[test]
fn on_the_stream_of_the_journal_messages_begin_with_their_priority() {
    for (format, after) in [("text", "tideover["), ("json", "{\"time\":")] {
        let line = first_message(format, true);
        assert!(line.starts_with(&format!("<4>{after}")) && line.ends_with('\n'), "{line}");
        let line = first_message(format, false);
        assert!(line.starts_with(after) && line.ends_with('\n'), "{line}");
    }
}
