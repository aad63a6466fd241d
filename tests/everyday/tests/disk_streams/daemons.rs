//! No standard stream carries messages: lines go to the journal or to a syslog daemon, if there is one. Both are played by sockets.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use tideover_tests::needs;

/// A daemon that listens at this path.
pub fn daemon(path: &str) -> UnixDatagram {
    fs::create_dir_all(Path::new(path).parent().expect("it is in a folder")).expect("the test's own /run");
    let socket = UnixDatagram::bind(path).expect("nobody listens there");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket has a timeout");
    socket
}

/// What this gives, and all messages that have come to a daemon meanwhile: its queue is short, so they are read while they come.
pub fn meanwhile<T>(daemon: &UnixDatagram, what: impl FnOnce() -> T) -> (T, Vec<String>) {
    let over = AtomicBool::new(false);
    let read = || {
        let (mut all, mut message) = (vec![], vec![0; 64 << 10]);
        loop {
            let last = over.load(Ordering::Acquire);
            match daemon.recv(&mut message) {
                Ok(length) => all.push(String::from_utf8(message[..length].to_vec()).expect("text")),
                Err(_) if last => break all,
                Err(_) => {}
            }
        }
    };
    std::thread::scope(|threads| {
        let reader = threads.spawn(read);
        let given = what();
        over.store(true, Ordering::Release);
        (given, reader.join().expect("it reads"))
    })
}

/// A program whose standard streams lead nowhere, as a daemon's do, and all messages that came to `path` meanwhile.
fn of_a_daemon(name: &str, path: &str, fallback: &str) -> (Outcome, Vec<String>) {
    let (disk, log) = full_disk();
    let program = disk.path().parent().expect("in a folder").join(name);
    fs::copy(&writer(&log).command()[0], &program).expect("it can be copied");
    let socket = daemon(path);
    let run = Run::new(&program).args(["write"]).arg(&log);
    let script = "\"$@\" > /dev/null 2> \"$OUTPUT\"; status=$?; cat \"$OUTPUT\" >&2; exit $status";
    let output = disk.path().parent().expect("in a folder").join("output.csv");
    let run = in_a_shell(script, &run).env("OUTPUT", &output).env("TIDEOVER_FALLBACK", fallback);
    meanwhile(&socket, || run.preload(true).output())
}

/// The lines of messages that all begin with `head` and end with `tail`.
#[track_caller]
fn lines_of(messages: &[String], head: &str, tail: &str) -> String {
    let line = |message: &String| {
        let line = message.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
        format!("{}\n", line.unwrap_or_else(|| panic!("not {head:?} ... {tail:?}: {message:?}")).trim_end())
    };
    messages.iter().map(line).collect()
}

const JOURNAL: &str = "/run/systemd/journal/socket";

/// A socket's queue holds as many messages as it does under systemd (sysctl.d/50-default.conf), not 10, the kernel's own number: a daemon
/// that gets no processor for a moment loses none.
fn long_queues() {
    tideover_tests::network::own_network();
    fs::write("/proc/sys/net/unix/max_dgram_qlen", "512").expect("the namespace is ours");
}

#[needs(mounts, netns)]
#[test]
fn the_journal_gets_each_line_as_a_message() {
    own_daemons();
    long_queues();
    for fallback in ["auto", "journal"] {
        let (outcome, messages) = of_a_daemon("served", JOURNAL, fallback);
        outcome.passes();
        assert_eq!(failed(&outcome), 0, "{outcome}");
        let first = messages.first().expect("it got messages");
        let (fields, _) = first.split_once("MESSAGE=").expect("it has a text");
        assert!(
            fields.starts_with("PRIORITY=6\nSYSLOG_IDENTIFIER=served\nTIDEOVER_LOG=/") && fields.ends_with("app.log\n")
        );
        all_in(&lines_of(&messages, &format!("{fields}MESSAGE="), "\n"));
        fs::remove_file(JOURNAL).expect("it is ours");
    }
}

#[needs(mounts, netns)]
#[test]
fn a_syslog_daemon_gets_each_line_as_a_message() {
    own_daemons();
    long_queues();
    for fallback in ["auto", "syslog"] {
        let (outcome, messages) = of_a_daemon("served", "/dev/log", fallback);
        outcome.passes();
        let first = messages.first().expect("it got messages");
        let (head, _) = first.split_once("INFO").expect("it has a text");
        assert!(head.starts_with("<14>served[") && head.ends_with("]: "), "{head}");
        all_in(&lines_of(&messages, head, "\n"));
        fs::remove_file("/dev/log").expect("it is ours");
    }
}

#[needs(mounts, netns)]
#[test]
fn a_journal_that_is_gone_is_no_sink() {
    own_daemons();
    long_queues();
    // Its socket is there, and nobody listens.
    drop(daemon(JOURNAL));
    let (outcome, messages) = of_a_daemon("served", "/dev/log", "auto");
    assert_eq!((failed(&outcome), messages.len()), (0, LINES as usize), "{outcome}");
}

#[needs(mounts)]
#[test]
fn a_journal_that_does_not_read_delays_nobody() {
    own_daemons();
    let (_disk, log) = full_disk();
    let socket = daemon(JOURNAL);
    let run = Run::new(tideover_tests::fixture("disk_storm")).arg(&log).args(["2", "2000", "200"]);
    let outcome = run.env("TIDEOVER_FALLBACK", "journal").preload(true).output();
    outcome.passes();
    assert!(longest(&outcome) < Duration::from_millis(500), "{outcome}");
    assert!(!meanwhile(&socket, || ()).1.is_empty(), "it has the first lines");
}
