//! What is done about a full disk only when asked for: waiting for space, removing rotated logs, cutting the log itself.

mod ballast;
mod rotation;
mod waiting;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::loggers::writer;
use tideover_tests::numbered::Account;
use tideover_tests::outage::{BACK, Fed, Logger};
use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Outcome, Page, Run, Running, fixture, needs, program};

/// What it says when it begins to wait.
const WAITS: &str = "waiting for space";

/// Until this is so.
#[track_caller]
fn comes(running: &Running, what: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !what() {
        assert!(Instant::now() < end, "it never came: {}", running.stderr_so_far());
        thread::sleep(Duration::from_millis(5));
    }
}

/// A log with rotated siblings of 20 KiB, oldest with the highest number, and other things beside them.
fn with_siblings(disk: &Disk) -> PathBuf {
    let log = disk.log();
    let old = |name: &str, age_hours: u64| {
        let path = disk.join(name);
        fs::write(&path, "an old line\n".repeat(20 * 1024 / 12)).expect("there is space");
        let file = fs::File::options().write(true).open(path).expect("it is there");
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600 * age_hours)).expect("it is ours");
    };
    old("app.log.1", 1);
    old("app.log.2.gz", 2);
    old("app.log.3", 3);
    old("other.log.9", 90);
    old("app.logic", 91);
    old("myapp.log.9", 92);
    symlink(disk.join("other.log.9"), disk.join("app.log.4")).expect("there is space");
    fs::create_dir(disk.join("app.log.5")).expect("there is space");
    log
}

fn there(disk: &Disk, name: &str) -> bool {
    fs::symlink_metadata(disk.join(name)).is_ok()
}

#[needs(mounts)]
#[test]
fn cleanup_removes_the_oldest_rotated_siblings_and_nothing_else() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = with_siblings(&disk);
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_CLEANUP", "30K"));
    fed.log(1..=50);
    disk.fill();
    fed.log(51..=150);
    thread::sleep(BACK);
    fed.log(151..=250);
    let page = fed.writer().page();
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    println!("cleanup: {}", account.places());
    account.complete(1..=250, 2);
    assert!(account.in_file.ends_with(&(200..=250).collect::<Vec<u32>>()), "there was room again: {account}");
    assert!(!there(&disk, "app.log.3") && !there(&disk, "app.log.2.gz"), "the oldest two are 40 KiB: {outcome}");
    for name in ["app.log.1", "other.log.9", "app.logic", "myapp.log.9", "app.log.4", "app.log.5", "filler"] {
        assert!(there(&disk, name), "{name} stays: {outcome}");
    }
    assert_eq!(page.counter("logs", "cleaned_files"), 2);
    assert!(page.counter("logs", "cleaned_bytes") >= 40_000);
    for name in ["app.log.3", "app.log.2.gz"] {
        assert!(outcome.ours().iter().any(|l| l.contains(name)), "each removal is told: {outcome}");
    }
}

#[needs(mounts, root)]
#[test]
fn cleanup_leaves_what_belongs_to_others_or_is_open() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = with_siblings(&disk);
    std::os::unix::fs::chown(disk.join("app.log.3"), Some(12345), None).expect("root may");
    let text = "import os, sys\nkept = open('app.log.2.gz', 'rb')\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
                for line in sys.stdin:\n    \
                if line.startswith(':'): open(line[1:-1], 'w').close()\n    else: os.write(log, line.encode())";
    let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", text]).preload(true);
    let mut fed = Fed::start(&run.env("TIDEOVER_CLEANUP", "100K"));
    fed.log(1..=50);
    disk.fill();
    fed.log(51..=150);
    let outcome = fed.end();
    outcome.passes();
    assert!(there(&disk, "app.log.3"), "another user's: {outcome}");
    assert!(there(&disk, "app.log.2.gz"), "open here: {outcome}");
    assert!(!there(&disk, "app.log.1"), "ours, and not open: {outcome}");
    Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout).complete(1..=150, 2);
}

/// Found by reading: of several buffers, the first was written to the file and then sent elsewhere once more.
#[needs(mounts)]
#[test]
fn several_buffers_are_written_once_when_cleanup_has_made_room() {
    let disk = Disk::new(Kind::Tmpfs);
    with_siblings(&disk);
    disk.fill();
    let script = "import os\nf = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
                  os._exit(os.writev(f, [b'one\\n', b'two\\n', b'three\\n']))";
    let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script]);
    run.output().fails().says("No space left on device");
    let outcome = run.preload(true).env("TIDEOVER_CLEANUP", "30K").output();
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(14), ""), "{outcome}");
    assert_eq!(fs::read_to_string(disk.join("app.log")).expect("it is there"), "one\ntwo\nthree\n", "{outcome}");
}

#[needs(mounts)]
#[test]
fn without_cleanup_nothing_is_removed() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = with_siblings(&disk);
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=50);
    disk.fill();
    fed.log(51..=150);
    fed.end().passes();
    for name in ["app.log.1", "app.log.2.gz", "app.log.3", "app.log.4", "app.log.5"] {
        assert!(there(&disk, name), "{name} stays");
    }
}

#[needs(mounts)]
#[test]
fn truncate_cuts_a_big_log_to_its_end_at_a_line() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_TRUNCATE", "20K"));
    fed.log(1..=500);
    disk.fill();
    fed.log(501..=600);
    thread::sleep(BACK);
    fed.log(601..=700);
    let outcome = fed.end();
    outcome.passes();
    let text = fs::read_to_string(&log).expect("it is there");
    let account = Account::new(&text, &outcome.stdout);
    println!("truncate: {}", account.places());
    let first = account.in_file.first().copied().expect("lines are kept");
    assert!((440..=500).contains(&first), "the last tenth of some 500 lines is kept: {first}\n{account}");
    account.complete(first..=700, 2);
    assert!(account.in_file.contains(&700), "there was room again: {account}");
    let start = text.lines().find(|l| !l.starts_with("tideover")).expect("lines are kept");
    assert!(start.starts_with("INFO app: request ~"), "it begins with a whole line: {start:?}");
    assert!(!text.contains('\0'), "no hole");
    assert!(
        outcome.ours().iter().any(|l| l.contains("app.log") && (l.contains("cut") || l.contains("trunc"))),
        "{outcome}"
    );
}

/// Found by reading: a writer without O_APPEND goes on where it was, beyond the end, and what is before is zeros.
#[needs(mounts)]
#[test]
fn truncate_leaves_a_log_that_is_not_appended_to() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.join("app.log");
    let put =
        "import os\nfor i in range(1500): os.write(2, b'INFO app: a line of a log of some length, as they are\\n')";
    let script = format!("exec python3 -c \"$0\" 2> '{}'", log.display());
    fs::write(disk.join("filler"), vec![0; 200 << 10]).expect("there is space");
    let run = Run::new("sh").args(["-c", &script, put]).env("TIDEOVER_TRUNCATE", "16K").preload(true);
    run.output().passes();
    let text = fs::read(&log).expect("it is there");
    assert!(text.len() > 20_000 && !text.contains(&0), "{} bytes", text.len());
}

/// Found by reading: nothing was freed by that.
#[needs(mounts)]
#[test]
fn cleanup_leaves_files_with_a_second_name() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    for name in ["app.log.1", "app.log.2"] {
        fs::write(disk.join(name), vec![b'x'; 8192]).expect("there is space");
        fs::hard_link(disk.join(name), disk.join(&format!("kept-{name}"))).expect("there is space");
    }
    disk.fill();
    let put = "import os, sys\nos.write(os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), b'a line\\n')";
    let run = python(put).arg(&log).env("TIDEOVER_CLEANUP", "16K");
    run.preload(true).output().passes().says("a line");
    assert!(there(&disk, "app.log.1") && there(&disk, "app.log.2"), "they stay");
}

#[needs(mounts)]
#[test]
fn truncate_leaves_a_small_log() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = writer(&log).env("TIDEOVER_TRUNCATE", "100K");
    let told = tideover_tests::outage::outage(&disk, &log, 100, Fed::start(&run));
    tideover_tests::outage::nothing_lost(&told, &told.on_stdout());
}
