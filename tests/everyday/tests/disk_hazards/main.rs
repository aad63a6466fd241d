//! Outages that do not keep to the script: rotation, space that comes and goes, threads, kill -9, fork, exec and dup.

mod inherited;
mod rotation;
mod space;

use std::fs::{self, OpenOptions};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::loggers::{bash_that, python_that, writer};
use tideover_tests::numbered::{Account, Marker};
use tideover_tests::outage::{BACK, Fed, Logger, clean, ended, log_with_siblings, nothing_lost, outage};
use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, fixture, needs, program};

fn preloaded_python(put: &str, log: &Path) -> Run {
    python_that(put, log).preload(true)
}

/// Found by reading: it took up to 12 KiB.
#[needs(mounts)]
#[test]
fn a_small_stack_is_enough_for_a_line_or_for_the_true_error() {
    let disk = Disk::new(Kind::Tmpfs);
    let (log, elsewhere) = (disk.log(), Scratch::new());
    disk.fill();
    let other =
        || OpenOptions::new().append(true).create(true).open(elsewhere.join("other.log")).expect("there is space");
    let run = || Run::new(fixture("disk_small")).arg(&log);
    let plain = run().preload(false).output();
    assert_eq!(plain.passes().stderr.matches("an error").count(), 3, "{plain}");
    for run in [run().preload(true), run().preload(true).stdout(other())] {
        let outcome = run.output();
        outcome.passes();
        let said = |what: &str| outcome.theirs().iter().filter(|line| **line == what).count();
        assert_eq!(said("an error") + said("taken"), 3, "{outcome}");
        assert_eq!(outcome.theirs().last(), Some(&"taken"), "the main thread's: {outcome}");
    }
}

/// Found by reading: /proc/self/fd is the first thread's.
#[needs(mounts)]
#[test]
fn a_thread_with_descriptors_of_its_own() {
    let disk = Disk::new(Kind::Tmpfs);
    let (log, data) = (disk.log(), disk.join("table.csv"));
    fs::write(&data, "").expect("there is space");
    disk.fill();
    Run::new(fixture("disk_own_table")).arg(&log).arg(&data).both().same().preloaded.says("data: ENOSPC");
}

/// Found by trying: there a thread's number is another than in /proc.
#[needs(mounts)]
#[test]
fn in_a_pid_namespace_that_sees_the_outer_proc() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    let put = "import os, sys; os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), b'a line\\n')";
    let outcome = Run::new("unshare").args(["--pid", "--fork", "python3", "-c", put]).arg(&log).preload(true).output();
    outcome.passes().says("a line");
}

/// Found by reading: on btrfs a store into a mapped file can find no space, and that is SIGBUS.
#[needs(images)]
#[test]
fn no_page_where_the_disk_can_take_it_away() {
    let disk = Disk::new(Kind::Btrfs);
    let pages = disk.join("pages");
    fs::create_dir(&pages).expect("there is space");
    let script = "import os; print([os.open('/dev/null', 0) for _ in range(20)][-1] > 0)";
    let run = python(script).page_dir(&pages).preload(true);
    run.output().passes().says("True").says("no shared page");
}

#[needs(mounts)]
#[test]
fn no_descriptor_is_needed() {
    // Every number is taken, and the limit can't be raised.
    let put = "import os\nout = os.open(log, os.O_WRONLY | os.O_APPEND)\ntaken = []\n\
               def put(line): os.write(out, (line + '\\n').encode())\n\
               def take():\n    \
               try:\n        while True: taken.append(os.dup(0))\n    except OSError: pass\n\
               take()\n\
               for line in sys.stdin:\n    line = line.rstrip('\\n')\n    \
               if line.startswith(':'): os.close(taken.pop()); open(line[1:], 'w').close(); take()\n    else: put(line)";
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&preloaded_python(put, &log).limit(40)));
    told.outcome.passes();
    nothing_lost(&told, &told.on_stdout());
}

#[needs(mounts)]
#[test]
fn a_signal_handler_that_logs() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = Run::new(fixture("disk_signals")).arg(&log).preload(true).timeout(Duration::from_secs(20));
    let mut fed = Fed::start(&run);
    fed.log(1..=50);
    disk.fill();
    for k in 0..50 {
        fed.log(51 + k * 10..=60 + k * 10);
        thread::sleep(Duration::from_millis(2));
    }
    disk.free();
    thread::sleep(BACK);
    fed.log(551..=600);
    let outcome = fed.end();
    outcome.passes();
    let text = fs::read_to_string(&log).expect("it is there");
    // The handler's lines may come between the head of a line that is cut and its rest.
    let account = Account::new(&text, &outcome.stdout);
    println!("signals: {}; {}", account.places(), outcome.stderr.lines().last().unwrap_or_default());
    assert!(account.doubled().is_empty() && account.lost(1..=600).is_empty(), "{account}");
    let handled: usize =
        outcome.stderr.split(" handled").next().and_then(|s| s.rsplit(' ').next()?.parse().ok()).expect("a count");
    let whole = |text: &str| text.matches("signal ").count();
    assert_eq!(whole(&text), handled, "each line of the handler's is in the file");
}

#[needs(mounts)]
#[test]
fn a_page_that_has_no_room() {
    // prometheus#16785: /dev/shm is full before the program starts, or becomes so.
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Disk::new(Kind::Tmpfs));
    let log = disk.log();
    for early in [true, false] {
        if early {
            pages.fill();
        }
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        fed.log(1..=10);
        if !early {
            pages.fill();
        }
        disk.fill();
        fed.log(11..=110);
        let outcome = fed.end();
        outcome.passes();
        let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
        account.complete(1..=110, 1);
        disk.free();
        pages.free();
        fs::write(&log, "").expect("there is space");
    }
}

#[needs(mounts)]
#[test]
fn a_limit_on_the_size_of_files_stays_what_it_is() {
    // What stops the write is the limit, not the disk: natively a short write, then EFBIG.
    let disk = Disk::new(Kind::Tmpfs);
    let script = "import os, resource, signal, sys\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n\
         resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
         for i in range(20):\n    \
         try: print(os.write(log, b'x' * 89 + b'\\n'), file=sys.stderr)\n    except OSError as e: print(e, file=sys.stderr)";
    let once = |preload| {
        disk.log();
        Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script]).preload(preload).output()
    };
    let both = tideover_tests::Both { plain: once(false), preloaded: once(true) };
    both.same().plain.says("File too large").says("10\n");
}

#[needs(mounts)]
#[test]
fn a_limit_on_the_size_of_files_that_is_far_away_changes_nothing() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let shell = Run::new(program("sh", "dash")).args(["-c", "ulimit -f 20000; exec \"$@\"", "sh"]);
    let told = outage(&disk, &log, 100, Fed::start(&shell.args(writer(&log).command()).preload(true)));
    told.outcome.passes();
    nothing_lost(&told, &told.on_stdout());
}

#[needs(mounts)]
#[test]
fn the_rule_holds_with_a_log_that_is_never_full() {
    let told = {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.log();
        let mut fed = Fed::start(&writer(&log));
        fed.log(1..=300);
        let outcome = fed.end();
        (fs::read_to_string(&log).expect("it is there"), outcome)
    };
    assert!(told.1.ours().is_empty() && told.1.stdout.is_empty(), "{}", told.1);
    Account::new(&told.0, "").complete(1..=300, 0).byte_for_byte(1..=300);
}

#[test]
fn a_marker_is_parsed() {
    let marker = tideover_tests::numbered::Marker::parse(
        "tideover: 1,204 lines (123,456 bytes) of this log went to stdout between 10:00:00 and 10:01:46",
    );
    assert_eq!(marker.map(|m| (m.lines, m.bytes)), Some((1204, 123_456)));
}

#[needs(mounts)]
#[test]
fn nothing_lost_notices_loss() {
    // The oracle itself, on what a program without the library leaves behind.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&writer(&log).preload(false)));
    let account = told.on_stdout();
    assert!(account.lost(told.all()).len() > 50, "{account}");
    let notices = std::panic::catch_unwind(|| nothing_lost(&told, &told.on_stdout()));
    assert!(notices.is_err());
}

/// A program that has locked its log by fcntl(2) has it locked still when its lines were diverted: closing any descriptor of the file would
/// give the lock up.
#[needs(mounts)]
#[test]
fn a_lock_that_the_program_has_on_its_log_stays() {
    const SCRIPT: &str = "import fcntl, os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
fcntl.lockf(log, fcntl.LOCK_EX)
for i in range(5):
    try: os.write(log, b'INFO app: a line of a log\\n')
    except OSError: pass
sys.stdout.flush()
if os.fork() == 0:
    try: fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError: os.write(2, b'locked still\\n')
    os._exit(0)
os.wait()
";
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    for preload in [false, true] {
        let run = python(SCRIPT).arg(&log).preload(preload);
        let outcome = run.env("TIDEOVER_FALLBACK", "stdout").output();
        outcome.passes();
        assert!(outcome.stderr.contains("locked still"), "{outcome}");
        // The control: the lines are diverted.
        assert_eq!(outcome.stdout.contains("a line of a log"), preload, "{outcome}");
    }
}
