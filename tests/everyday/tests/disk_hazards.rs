//! Outages that do not keep to the script: rotation, space that comes and goes, threads, kill -9, fork, exec and dup.

use std::fs::{self, OpenOptions};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::loggers::{bash_that, python_that, writer};
use tideover_tests::numbered::Account;
use tideover_tests::outage::{BACK, Fed, Logger, ended, log_with_siblings, nothing_lost, outage};
use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, fixture, needs, program};

fn preloaded_python(put: &str, log: &Path) -> Run {
    python_that(put, log).preload(true)
}

/// A handler that opens its log anew when another file is in its place, as logrotate expects it.
const WATCHED: &str = "import logging, logging.handlers\n\
     logging.basicConfig(handlers=[logging.handlers.WatchedFileHandler(log)], level='INFO', format='%(message)s')\n\
     put = logging.info";

fn logrotate(folder: &Scratch, log: &Path, how: &str) -> String {
    let configuration = folder.write("rotate.conf", &format!("{} {{\n rotate 5\n {how}\n}}\n", log.display()));
    fs::set_permissions(&configuration, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("it is ours");
    let output = Command::new(program("logrotate", "logrotate"))
        .args(["-f", "-v", "-s"])
        .arg(folder.join("state"))
        .arg(&configuration)
        .output()
        .expect("logrotate runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A log that watches for its rotation, as Python's WatchedFileHandler does, on a disk that is full since its line 100.
struct Watched {
    disk: Disk,
    folder: Scratch,
    log: PathBuf,
    fed: Fed,
    rotations: u32,
}

impl Watched {
    fn filled(kind: Kind) -> Watched {
        let (disk, folder) = (Disk::new(kind), Scratch::new());
        let log = disk.log();
        let mut fed = Fed::start(&preloaded_python(WATCHED, &log));
        fed.log(1..=100);
        disk.fill();
        fed.log(101..=200);
        Watched { disk, folder, log, fed, rotations: 0 }
    }

    fn rotate(&mut self) {
        let said = logrotate(&self.folder, &self.log, "create\n nodateext");
        self.rotations += 1;
        assert!(self.disk.join(&format!("app.log.{}", self.rotations)).exists(), "{said}");
    }

    /// There is space again, and time to notice it.
    fn free(&self) {
        self.disk.free();
        thread::sleep(BACK);
    }

    /// After line 400: all lines are somewhere, these in the file again, with one note.
    fn ends(self, back: RangeInclusive<u32>) {
        let outcome = self.fed.end();
        outcome.passes();
        let account = Account::new(&log_with_siblings(&self.log), &outcome.stdout);
        account.complete(1..=400, 1).in_order().back_in_the_file(back).markers_tell_all();
        assert_eq!(account.markers.len(), 1, "{account}");
    }
}

fn logrotate_renames_on(kind: Kind) {
    let mut log = Watched::filled(kind);
    log.rotate();
    log.fed.log(201..=300);
    log.free();
    log.fed.log(301..=400);
    log.ends(301..=400);
}

#[needs(mounts)]
#[test]
fn logrotate_renames_the_log_while_the_disk_is_full() {
    logrotate_renames_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn logrotate_renames_the_log_while_an_ext4_is_full() {
    logrotate_renames_on(Kind::Ext4);
}

#[needs(mounts)]
#[test]
fn a_log_that_is_rotated_and_finds_space_again_is_no_longer_degraded() {
    let mut log = Watched::filled(Kind::Tmpfs);
    log.rotate();
    log.free();
    log.fed.log(201..=300);
    // The first write opened the new log; one of the next finds that it is the successor.
    thread::sleep(BACK);
    log.fed.log(301..=400);
    assert_eq!(log.fed.writer().page().counter("logs", "degraded"), 0);
    log.ends(201..=400);
}

#[needs(mounts)]
#[test]
fn two_rotations_while_the_disk_is_full_end_in_one_note() {
    let mut log = Watched::filled(Kind::Tmpfs);
    log.rotate();
    log.fed.log(201..=300);
    log.rotate();
    log.fed.log(301..=350);
    log.free();
    log.fed.log(351..=400);
    log.ends(351..=400);
}

#[needs(mounts)]
#[test]
fn logrotate_copies_and_truncates_the_log_while_the_disk_is_full() {
    // The copy goes to another disk; cutting the log makes room for the next lines.
    let (disk, folder) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=200);
    disk.fill();
    fed.log(201..=300);
    let old = folder.join("old");
    fs::create_dir(&old).expect("it can be made");
    let said = logrotate(&folder, &log, &format!("copytruncate\n nodateext\n olddir {}", old.display()));
    assert!(old.join("app.log.1").exists(), "{said}");
    thread::sleep(BACK);
    fed.log(301..=400);
    let outcome = fed.end();
    outcome.passes();
    let text = ended(&fs::read_to_string(old.join("app.log.1")).expect("it is there"))
        + &fs::read_to_string(&log).expect("it is there");
    let account = Account::new(&text, &outcome.stdout);
    println!("copytruncate elsewhere while full: {}", account.places());
    account.complete(1..=400, 1).in_order().back_in_the_file(301..=400).markers_tell_all();
}

#[needs(mounts)]
#[test]
fn logrotate_that_fails_to_copy_on_the_full_disk_changes_nothing() {
    let (disk, folder) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=200);
    disk.fill();
    fed.log(201..=300);
    let said = logrotate(&folder, &log, "copytruncate\n nodateext");
    assert!(said.contains("error"), "there is no space for the copy: {said}");
    let _ = fs::remove_file(disk.join("app.log.1"));
    fed.log(301..=350);
    disk.free();
    thread::sleep(BACK);
    fed.log(351..=400);
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=400, 2).in_order().markers_tell_all();
}

#[needs(mounts)]
#[test]
fn a_log_that_is_removed_while_the_disk_is_full() {
    // As after `rm app.log` in a hurry: the program goes on, its lines are elsewhere until it opens the log anew.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&preloaded_python(WATCHED, &log));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    let before = fs::read_to_string(&log).expect("it is there");
    fs::remove_file(&log).expect("it is there");
    fed.log(201..=210);
    disk.free();
    thread::sleep(BACK);
    fed.log(211..=300);
    let outcome = fed.end();
    outcome.passes();
    let now = fs::read_to_string(&log).expect("it was made anew");
    let account = Account::new(&(ended(&before) + &now), &outcome.stdout);
    account.complete(1..=300, 1).in_order();
}

#[needs(mounts)]
#[test]
fn space_that_comes_and_goes_each_second() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).timeout(Duration::from_secs(60)));
    let mut next = 1;
    let mut feed_for = |fed: &mut Fed, time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert!(fed.log(next..=next + 1), "it lives");
            next += 2;
            thread::sleep(Duration::from_millis(10));
        }
    };
    for _ in 0..10 {
        disk.fill();
        feed_for(&mut fed, Duration::from_millis(500));
        disk.free();
        feed_for(&mut fed, Duration::from_millis(500));
    }
    let page = fed.writer().page();
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    println!("1 Hz: {} lines, {}, {} recoveries", next - 1, account.places(), page.counter("logs", "recoveries"));
    account.complete(1..=next - 1, 10).in_order().markers_tell_all();
    // Not more than one for each time that space came; fewer on a machine so busy that an outage passed unnoticed.
    let recoveries = page.counter("logs", "recoveries");
    assert!((7..=10).contains(&recoveries), "{recoveries}");
    assert_eq!(account.markers.len() as u64, recoveries);
    assert!(outcome.ours().len() <= 4, "it does not chatter: {outcome}");
}

#[needs(mounts)]
#[test]
fn a_little_space_is_no_space() {
    // 4 KiB on a disk of 256 KiB is below the mark: going back for 40 lines would tear another one.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    for k in 0..10 {
        if k % 2 == 0 {
            disk.free_some(4096)
        } else {
            disk.fill()
        }
        thread::sleep(BACK);
        fed.log(201 + k * 10..=210 + k * 10);
    }
    let page = fed.writer().page();
    assert_eq!(page.counter("logs", "recoveries"), 0, "it stays where it is");
    disk.free();
    thread::sleep(BACK);
    fed.log(301..=400);
    let outcome = fed.end();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=400, 1).in_order().back_in_the_file(301..=400).markers_tell_all();
}

#[needs(mounts)]
#[test]
fn the_mark_can_be_set() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_RECOVERY_FREE", "4K"));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    disk.free_some(8192);
    thread::sleep(BACK);
    fed.log(201..=210);
    let page = fed.writer().page();
    assert_eq!(page.counter("logs", "recoveries"), 1, "8 KiB are enough");
    let outcome = fed.end();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=210, 1).back_in_the_file(201..=210);
}

#[needs(mounts)]
#[test]
fn sixteen_threads_write_one_log() {
    for how in ["shared", "own", "stdio"] {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.log();
        let run = Run::new(fixture("disk_threads")).arg(how).arg(&log);
        let told = outage(&disk, &log, 400, Fed::start(&run.preload(true)));
        let account = told.on_stdout();
        println!("16 threads, {how}: {}", account.places());
        told.outcome.passes();
        account.complete(told.all(), 1).markers_tell_all();
        let late: Vec<&u32> = account.in_sink.iter().filter(|&&n| n > 800).collect();
        assert!(late.is_empty(), "after the outage all are in the file: {late:?}");
    }
}

#[needs(mounts)]
#[test]
fn killed_in_the_middle() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    fed.writer().signal(libc::SIGKILL);
    let first = fed.end();
    disk.free();
    let mut fed = Fed::start(&writer(&log));
    fed.log(201..=300);
    let second = fed.end();
    second.passes();
    let text = fs::read_to_string(&log).expect("it is there");
    let account = Account::new(&text, &format!("{}{}", first.stdout, second.stdout));
    let lost = account.lost(1..=300);
    // Nobody was there to end the torn line, so the next process's first line follows it on the same line.
    assert!(lost.len() <= 1, "lost {lost:?}\n{account}");
    assert!(account.doubled().is_empty() && second.stdout.is_empty(), "{account}");
}

/// Standard error without the library's messages.
fn theirs(outcome: &Outcome) -> String {
    outcome.theirs().iter().map(|l| format!("{l}\n")).collect()
}

/// A shell opens the log once, and everything else inherits it: forks, programs that it executes, other numbers.
const INHERITED: &str = r#"
exec 5>>"$1"
exec 6>&5
n=0
while IFS= read -r line; do
    case $line in
    :*) : > "${line#:}"; continue ;;
    esac
    n=$((n + 1))
    case $((n % 5)) in
    0) echo "$line" >&5 ;;
    1) (echo "$line" >&6) ;;
    2) /bin/echo "$line" >&5 ;;
    3) sh -c 'echo "$0" >&6' "$line" ;;
    4) /usr/bin/printf '%s\n' "$line" >&6 ;;
    esac
done
exit 0"#;

fn log_inherited_on(kind: Kind) {
    let disk = Disk::new(kind);
    let log = disk.log();
    let run = bash_that(INHERITED, &log).preload(true);
    let told = outage(&disk, &log, 60, Fed::start(&run));
    // What /bin/echo's own output was at its start is the log, so its lines are on standard error.
    let account = told.account(&(told.outcome.stdout.clone() + &theirs(&told.outcome)));
    println!("inherited: {}", account.places());
    told.outcome.passes();
    account.complete(told.all(), 1);
    assert!(account.in_file.is_sorted(), "{account}");
}

#[needs(mounts)]
#[test]
fn a_log_inherited_over_dup_fork_and_exec() {
    log_inherited_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn a_log_on_ext4_inherited_over_dup_fork_and_exec() {
    log_inherited_on(Kind::Ext4);
}

fn stand_in_inherited_on(kind: Kind) {
    // Not on btrfs, which may not make a file for anybody, long after its space is free again.
    let disk = Disk::new(kind);
    disk.fill();
    let log = disk.join("new.log");
    let run = bash_that(INHERITED, &log).preload(true);
    let mut fed = Fed::start(&run);
    fed.log(1..=50);
    disk.free();
    thread::sleep(BACK);
    fed.log(51..=100);
    let outcome = fed.end();
    outcome.passes();
    let text = fs::read_to_string(&log).expect("it was made");
    let account = Account::new(&text, &(outcome.stdout.clone() + &theirs(&outcome)));
    println!("stand-in inherited, {kind:?}: {}", account.places());
    account.complete(1..=100, 0);
    assert!(account.in_file.ends_with(&(52..=100).collect::<Vec<u32>>()), "{account}");
}

#[needs(images)]
#[test]
fn a_stand_in_on_xfs_inherited_over_dup_fork_and_exec() {
    stand_in_inherited_on(Kind::Xfs);
}

#[needs(images)]
#[test]
fn a_stand_in_over_quota_inherited_over_dup_fork_and_exec() {
    stand_in_inherited_on(Kind::Quota);
}

#[needs(mounts)]
#[test]
fn two_processes_write_one_log() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let (mut one, mut two) = (Fed::start(&writer(&log)), Fed::start(&writer(&log)));
    let mut next = 1;
    let mut turns = |one: &mut Fed, two: &mut Fed, count: u32| {
        for _ in 0..count {
            one.log(next..=next);
            two.log(next + 1..=next + 1);
            next += 2;
        }
    };
    turns(&mut one, &mut two, 50);
    disk.fill();
    turns(&mut one, &mut two, 50);
    disk.free();
    thread::sleep(BACK);
    turns(&mut one, &mut two, 50);
    let (one, two) = (one.end(), two.end());
    one.passes();
    two.passes();
    let text = fs::read_to_string(&log).expect("it is there");
    let account = Account::new(&text, &format!("{}{}", one.stdout, two.stdout));
    // The second's torn line, if any, follows the first's: each cuts at most one.
    account.complete(1..=300, 2).markers_tell_all();
    assert!(account.in_file.is_sorted(), "{account}");
}

#[needs(mounts)]
#[test]
fn each_outage_tears_at_most_a_line() {
    outages_tear_a_line_each_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn each_outage_tears_at_most_a_line_on_ext4() {
    outages_tear_a_line_each_on(Kind::Ext4);
}

fn outages_tear_a_line_each_on(kind: Kind) {
    let disk = Disk::new(kind);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    for k in 0..3 {
        fed.log(k * 200 + 1..=k * 200 + 100);
        disk.fill();
        fed.log(k * 200 + 101..=k * 200 + 200);
        disk.free();
        thread::sleep(BACK);
    }
    fed.log(601..=700);
    let outcome = fed.end();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=700, 3).in_order().byte_for_byte(1..=700).back_in_the_file(601..=700).markers_tell_all();
    assert_eq!(account.markers.len(), 3);
}

#[needs(mounts)]
#[test]
fn json_lines_parse_after_an_outage() {
    // moby#29511: a log of JSON lines with half a line in it is unreadable to its reader.
    let put = "import json\nout = open(log, 'a', buffering=1)\n\
               def put(line): out.write(json.dumps({'message': line, 'level': 'info'}) + '\\n')";
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&preloaded_python(put, &log)));
    told.outcome.passes();
    let account = told.on_stdout();
    account.complete(told.all(), 1).in_order().markers_tell_all();
    let whole = told.file.lines().filter(|l| l.starts_with("{\"message\"") && l.ends_with('}')).count();
    let odd = told.file.lines().count() - whole;
    assert!(odd <= 2, "the torn line and ours: {account}");
    assert!(account.markers.iter().all(|m| m.text.starts_with('{') && m.text.ends_with('}')), "{account}");
}

fn blocks_of_lines_on(kind: Kind) {
    // One write for all lines since the last pause, 10 KB each: longer than a pipe takes at once.
    let put = "import os\nout = os.open(log, os.O_WRONLY | os.O_APPEND)\nlines = []\nput = lines.append\n\
               def flush():\n    data = ''.join(l + '\\n' for l in lines).encode()\n    lines.clear()\n    \
               while data: data = data[os.write(out, data):]\n\
               for line in sys.stdin:\n    line = line.rstrip('\\n')\n    \
               if line.startswith(':'): flush(); open(line[1:], 'w').close()\n    else: put(line)";
    let disk = Disk::new(kind);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&preloaded_python(put, &log)));
    told.outcome.passes();
    let account = told.on_stdout();
    nothing_lost(&told, &account);
    account.markers_tell_all();
}

#[needs(mounts)]
#[test]
fn blocks_of_lines_are_cut_at_most_once() {
    blocks_of_lines_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn blocks_of_lines_are_cut_at_most_once_on_ext4() {
    blocks_of_lines_on(Kind::Ext4);
}

#[needs(mounts)]
#[test]
fn a_number_that_was_a_log_and_is_data_now_gets_the_true_error() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    fs::write(disk.join("table.csv"), "").expect("there is space");
    for change in [
        "os.close(log); data = os.open('table.csv', os.O_WRONLY | os.O_APPEND)",
        "data = os.open('table.csv', os.O_WRONLY | os.O_APPEND); os.dup2(data, log); data = log",
        "data = os.open('table.csv', os.O_WRONLY | os.O_APPEND); os.closerange(log, log + 1); data = fcntl.fcntl(data, fcntl.F_DUPFD, log)",
    ] {
        let script = format!(
            "import os, sys, fcntl\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\nwas = log\n\
             for i in range(100): assert os.write(log, b'a line of a log, of some length, as lines of logs are\\n') == 54\n\
             {change}\nassert data == was, (data, was)\nfailed = 0\n\
             for i in range(100):\n    \
             try: os.write(data, b'a row of data, which is no line of a log\\n')\n    \
             except OSError as e: failed += e.errno == 28\n\
             print(failed, 'refused', file=sys.stderr)"
        );
        if !disk.join("filler").exists() {
            disk.fill();
        }
        let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", &script]).preload(true);
        let outcome = run.output();
        outcome.passes().says("100 refused");
        assert!(!outcome.stdout.contains("row of data"), "{outcome}");
        assert!(outcome.stdout.contains("a line of a log"), "{outcome}");
        assert_eq!(fs::read(&log).map(|text| text.len()).ok(), Some(0));
    }
}

#[needs(mounts)]
#[test]
fn what_a_program_puts_at_a_number_unseen_gets_what_is_its_own() {
    // Go's runtime, io_uring, and a program's own assembly change descriptors where no hook is.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    let elsewhere = Scratch::new();
    let after = |how: &str, data: &Path| {
        let outcome = Run::new(fixture("disk_unseen")).arg(how).arg(&log).arg(data).preload(true).output();
        outcome.passes();
        outcome
    };
    let data = elsewhere.join("table.csv");
    fs::write(&data, "").expect("there is space");
    let outcome = after("log", &data);
    let rows = fs::read_to_string(&data).expect("it is there").matches("a row of data").count();
    assert_eq!((outcome.stdout.matches("a line of a log").count(), rows), (500, 100), "{outcome}");
    assert!(!outcome.stdout.contains("a row"), "{outcome}");
    for how in ["stdout", "seen"] {
        let outcome = after(how, &data);
        outcome.says("came to the other pipe: -1");
        assert!(outcome.stdout.matches("a line of a log").count() >= 500, "{how}: {outcome}");
    }
}

/// Found by reading: the log's number was taken for no file in the parent, too, and its lines were no longer looked after.
#[needs(mounts)]
#[test]
fn the_child_of_a_vfork_writes_to_something_else_at_the_logs_number() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let outcome = Run::new(fixture("disk_vfork")).arg(&log).arg(disk.join("filler")).preload(true).output();
    outcome.passes().says("full 0").says("recovered");
    let text = fs::read_to_string(&log).expect("it is there");
    assert!(text.starts_with("tideover: disk full") && text.ends_with("after 19\n"), "{outcome}{text}");
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
    assert_eq!(whole(&text) + whole(&outcome.stdout), handled, "each line of the handler's is somewhere");
}

#[needs(mounts)]
#[test]
fn children_forked_while_threads_log() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    let run = Run::new(fixture("disk_forks")).arg(&log).timeout(Duration::from_secs(60));
    let outcome = run.preload(true).env("TIDEOVER_FALLBACK_LIMIT", "10G/min").output();
    outcome.passes().says("200 children logged");
    assert_eq!(fs::metadata(&log).expect("it is there").len(), 0);
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
