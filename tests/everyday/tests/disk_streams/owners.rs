//! Programs that have their own answer to a full disk keep it, and copies are no logs.

use std::fs;

use super::*;
use tideover_tests::programs::python;
use tideover_tests::{Scratch, needs};

/// A copy of the C writer under another program's name.
fn named(name: &str, folder: &Scratch, log: &Path) -> Run {
    let program = folder.join(name);
    fs::copy(&writer(log).command()[0], &program).expect("it can be copied");
    Run::new(program).arg("write").arg(log).stdin(text())
}

#[needs(mounts)]
#[test]
fn programs_that_keep_other_programs_logs_get_the_true_error() {
    let folder = Scratch::new();
    let (_disk, log) = full_disk();
    for name in ["svlogd", "s6-log", "multilog", "syslog-ng", "rsyslogd", "systemd-journald"] {
        let both = named(name, &folder, &log).both();
        assert_eq!((failed(&both.plain), failed(&both.preloaded)), (LINES, LINES), "{}", both.preloaded);
        assert_eq!(both.preloaded.stdout, "");
    }
    assert_eq!(failed(&named("app", &folder, &log).preload(true).output()), 0, "any other program");
}

#[needs(mounts)]
#[test]
fn whoever_listens_where_syslog_does_is_not_fed_by_itself() {
    // A syslog daemon of any name, with its socket; then a program whose socket is another one, and the test is the daemon.
    own_daemons();
    let script = "import os, socket, sys\nlistener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\nlistener.bind(sys.argv[3])\n\
         listener.settimeout(0.2)\nlog = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\nfailed = 0\n\
         for line in sys.stdin:\n    \
         try: os.write(log, line.encode())\n    \
         except OSError: failed += 1\n\
         try: got = len(listener.recv(9999))\n\
         except TimeoutError: got = 0\n\
         open(sys.argv[2], 'w').write(f'{failed} {got}')";
    let (_disk, log) = full_disk();
    let folder = Scratch::new();
    let said = folder.join("said.csv");
    let says_with_its_socket_at = |path: &Path| {
        let run = python(script).arg(&log).arg(&said).arg(path).stdin(text()).env("TIDEOVER_FALLBACK", "auto");
        let run = in_a_shell("exec \"$@\" > /dev/null 2> /dev/null", &run).env("TIDEOVER_HOLD", "off").preload(true);
        run.output().passes();
        fs::read_to_string(&said).expect("it was made")
    };
    assert_eq!(says_with_its_socket_at(Path::new("/dev/log")), "100 0", "the true error, and no message to itself");
    fs::remove_file("/dev/log").expect("it is gone with its program, its name is not");
    let daemon = daemons::daemon("/dev/log");
    // A daemon that does not get the processor for 4 ms has not read.
    let came = |n| daemons::meanwhile(&daemon, || says_with_its_socket_at(&folder.join(&format!("socket{n}"))));
    let mut tries = (0..20).map(came).map(|(said, messages)| (said, messages.len()));
    assert!(tries.any(|one| one == ("0 0".to_string(), LINES as usize)), "the daemon gets each line");
}

#[needs(mounts)]
#[test]
fn a_copy_is_known_by_what_its_writer_reads() {
    // No program of the list of those that copy.
    let folder = Scratch::new();
    let source = folder.write("source.log", &text());
    let copies = [
        "import shutil, sys; shutil.copyfileobj(open(sys.argv[1], 'rb'), open(sys.argv[2], 'wb'), 4096)",
        "import os, sys\nsource, copy = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)\n\
         while part := os.read(source, 1000): os.write(copy, part)",
    ];
    let (_disk, log) = full_disk();
    for copy in copies {
        let both = python(copy).arg(&source).arg(&log).both();
        both.plain.fails().says("No space left on device");
        both.preloaded.fails().says("No space left on device");
        assert_eq!(both.preloaded.stdout, "");
    }
    // Whoever reads a file and logs something else does not copy.
    let other = "import sys\nlog = open(sys.argv[2], 'a')\nfor line in open(sys.argv[1]): print('got a line:', line, end='', file=log, flush=True)";
    let outcome = python(other).arg(&source).arg(&log).preload(true).output();
    outcome.passes();
    assert_eq!(outcome.stdout.lines().count(), LINES as usize, "{outcome}");
}

#[needs(mounts)]
#[test]
fn a_result_is_its_own_receipt() {
    // `command > x.log && rm source`, and results in a folder of logs.
    let (disk, log) = full_disk();
    let run = in_a_shell(
        &format!("cat > /dev/null; for i in 1 2 3 4 5 6 7 8 9; do echo $i || exit 3; done > '{}'", log.display()),
        &writer(&log),
    );
    let both = run.both();
    assert_eq!(both.plain.code(), both.preloaded.code(), "{}", both.preloaded);
    assert!(!both.preloaded.succeeded(), "{}", both.preloaded);
    disk.free();
    fs::create_dir(disk.join("logs")).expect("there is space");
    for (name, is_log) in [("run7.csv", false), ("metrics.jsonl", false), ("events.log.csv", true), ("app.txt", true)] {
        let path = disk.join("logs").join(name);
        fs::write(&path, "").expect("there is space");
        disk.fill();
        let outcome = writer(&path).preload(true).output();
        assert_eq!(failed(&outcome), if is_log { 0 } else { LINES }, "{name}: {outcome}");
        disk.free();
    }
}

#[needs(mounts)]
#[test]
fn a_log_that_is_written_at_its_end_needs_no_append() {
    let script = "import sys\nlog = open(sys.argv[1], 'r+' if sys.argv[2] == 'back' else 'w')\nfailed = 0\n\
         for line in sys.stdin:\n    \
         try: log.write(line); log.flush()\n    \
         except OSError: failed += 1\n    \
         if sys.argv[2] == 'back':\n        \
         try: log.seek(0)\n        \
         except OSError: pass\n\
         print(failed, 'failed, longest 0 us', file=sys.stderr, flush=True)\nimport os; os._exit(0)";
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    for name in ["log", "out"] {
        let path = log.with_extension(name);
        fs::write(&path, "").expect("there is space");
        disk.fill();
        let outcome = python(script).arg(&path).arg("end").stdin(text()).preload(true).output();
        // Python keeps what it could not write and tries again, so that each failure counts once at least.
        assert_eq!(failed(&outcome) == 0, name == "log", "{name}: {outcome}");
        disk.free();
    }
}

#[needs(mounts)]
#[test]
fn a_log_that_is_synced_now_and_then_is_still_a_log() {
    // As Erlang's logger does. A writer that syncs each line, or keeps records, gets the true error.
    let script = "import os, sys, time\nlog = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\npause = float(sys.argv[2])\nfailed = 0\n\
         for _ in range(3): os.write(log, b'a line\\n'); os.fsync(log); time.sleep(pause)\n\
         fill = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT)\n\
         for size in (4096, 1):\n    \
         try:\n        \
         while True: os.write(fill, b'x' * size)\n    \
         except OSError: pass\n\
         for line in sys.stdin:\n    \
         try: os.write(log, line.encode())\n    \
         except OSError: failed += 1\n\
         try: os.fsync(log); synced = 'synced'\n\
         except OSError as error: synced = error.strerror\n\
         print(failed, 'failed, longest 0 us', synced, file=sys.stderr)";
    for (name, pause, is_log) in
        [("app.log", "1.1", true), ("app.log", "0.01", false), ("transactions.log", "1.1", false)]
    {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.join(name);
        fs::write(&log, "").expect("there is space");
        let run = python(script).arg(&log).arg(pause).arg(disk.join("fill")).stdin(lines(1..=1000)).preload(true);
        let outcome = run.output();
        assert_eq!(failed(&outcome) == 0, is_log, "{name} {pause}: {outcome}");
        if is_log {
            // What is elsewhere is not on the disk.
            outcome.says("No space left on device");
        }
    }
}
