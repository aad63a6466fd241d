//! Diverted lines are kept until their log has space, and are put back then: after kill -9, in the middle of putting back, past the bound,
//! with files that are no holds, in programs that rotate by their own count.

mod burst;
mod killed;
mod left;
mod odd;
mod together;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tideover_tests::loggers::{python_that, writer};
use tideover_tests::numbered::{Account, OURS, line};
use tideover_tests::outage::{BACK, Fed, Logger, clean, ended, outage};
use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Run, Scratch, fixture, needs, tideover};

/// The holds in a folder of pages.
fn holds(pages: &Path) -> Vec<std::path::PathBuf> {
    let users = fs::read_dir(pages).into_iter().flatten().flatten();
    let entries = users.filter_map(|user| fs::read_dir(user.path().join("holds")).ok()).flatten().flatten();
    let is_hold = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b"hold.");
    entries.filter(is_hold).map(|entry| entry.path()).collect()
}

fn text(log: &Path) -> String {
    fs::read_to_string(log).expect("it is there")
}

#[needs(mounts)]
#[test]
fn nothing_is_made_while_the_disk_has_space_and_nothing_is_left_after_an_outage() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
    fed.log(1..=50);
    assert!(holds(pages.path()).is_empty());
    disk.fill();
    fed.log(51..=150);
    let [hold] = &holds(pages.path())[..] else { panic!("one hold") };
    let status = fs::metadata(hold).expect("it is there");
    assert_eq!(status.permissions().mode() & 0o777, 0o600);
    let page = fed.writer().page();
    assert!(page.counter("logs", "held_bytes") > 5000, "{}", page.counter("logs", "held_bytes"));
    disk.free();
    thread::sleep(BACK);
    fed.log(151..=200);
    assert!(holds(pages.path()).is_empty());
    let page = fed.writer().page();
    assert_eq!((page.counter("logs", "held_bytes"), page.counter("logs", "not_held_bytes")), (0, 0));
    assert!(page.counter("logs", "put_back_bytes") > 5000);
    fed.end().passes();
    Account::new(&text(&log), "").complete(1..=200, 0).file_is_whole(1..=200);
}

/// Outages of 10 ms, with `each` lines in each. Returns how many found the disk full.
fn outages_of_ten_milliseconds(kind: Kind, each: u32) -> u64 {
    let disk = Disk::new(kind);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_RECOVERY_INTERVAL", "1ms").timeout(Duration::from_secs(100)));
    let all = each + 4;
    for k in 0..200 {
        fed.log(k * all + 1..=k * all + 2);
        disk.fill();
        fed.log(k * all + 3..=k * all + 2 + each);
        thread::sleep(Duration::from_millis(10));
        disk.free();
        fed.log(k * all + 3 + each..=k * all + 4 + each);
    }
    thread::sleep(BACK);
    let last = 200 * all + 1;
    fed.log(last..=last);
    let recoveries = fed.writer().page().counter("logs", "recoveries");
    let outcome = fed.end();
    outcome.passes();
    Account::new(&text(&log), &outcome.stdout).complete(1..=last, 200).file_is_whole(1..=last);
    recoveries
}

#[needs(mounts)]
#[test]
fn two_hundred_outages_of_ten_milliseconds() {
    // Most lines fit into the last page of memory that the file has already.
    assert!(outages_of_ten_milliseconds(Kind::Tmpfs, 4) >= 20);
}

#[needs(images)]
#[test]
fn two_hundred_outages_of_ten_milliseconds_on_ext4() {
    assert!(outages_of_ten_milliseconds(Kind::Ext4, 12) >= 180);
}

#[needs(mounts)]
#[test]
fn past_its_bound_the_newest_lines_are_put_back_and_the_note_says_how_many() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = writer(&log).env("TIDEOVER_HOLD", "64K");
    let told = outage(&disk, &log, 750, Fed::start(&run));
    told.outcome.passes();
    let account = told.on_stdout();
    account.in_order();
    let missing = account.lost(told.all());
    assert!(missing.len() > 60 && missing.len() < 300, "{} lines\n{account}", missing.len());
    // What is missing is one piece, the oldest of the outage, and stands on standard output.
    assert_eq!(missing, (missing[0]..=missing[missing.len() - 1]).collect::<Vec<u32>>(), "{account}");
    assert!(missing.iter().all(|n| account.in_sink.contains(n) || account.rejoined.contains(n)), "{account}");
    let [note] = &account.markers[..] else { panic!("{account}") };
    let said = note.text.rsplit(", and ").next().and_then(|end| end.split(' ').next()?.parse().ok());
    assert_eq!(said, Some(note.lines - missing.len() as u64), "{}", note.text);
    assert!(told.logs("not_held_bytes") > 6_000);
}

#[needs(mounts)]
#[test]
fn off_is_off() {
    for off in ["off", "0"] {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.log();
        let told = outage(&disk, &log, 100, Fed::start(&writer(&log).env("TIDEOVER_HOLD", off)));
        told.outcome.passes();
        let account = told.on_stdout();
        account.complete(told.all(), 1).in_order().markers_tell_all();
        assert!(!account.is_put_back() && account.in_sink.len() > 50, "{account}");
    }
}

#[needs(mounts)]
#[test]
fn a_folder_without_space_for_a_hold_is_no_reason_to_lose_lines() {
    // Its folder is on the full disk itself.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&writer(&log).env("TIDEOVER_HOLD_DIR", disk.path())));
    told.outcome.passes();
    told.on_stdout().complete(told.all(), 1).file_is_whole(told.all());
    assert!(told.outcome.stderr.contains("in memory only"), "{}", told.outcome);
}

/// A writer that counts what it writes, and rotates by its own count, as Node's and many others do.
const COUNTING: &str = "import os\n\
    state = {'out': os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 'size': 0}\n\
    def put(line):\n    data = (line + '\\n').encode()\n    \
    if state['size'] + len(data) > 4000:\n        os.close(state['out'])\n        \
    for k in range(30, 0, -1):\n            \
    old = log if k == 1 else log + '.%d' % (k - 1)\n            \
    if os.path.exists(old): os.rename(old, log + '.%d' % k)\n        \
    state['out'] = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT); state['size'] = 0\n    \
    state['size'] += os.write(state['out'], data)";

#[needs(mounts)]
#[test]
fn a_program_that_rotates_by_its_own_count_has_the_files_of_an_endless_disk() {
    let rotated = |full: bool| {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.log();
        let mut fed = Fed::start(&python_that(COUNTING, &log).preload(true));
        fed.log(1..=100);
        if full {
            disk.fill();
        }
        fed.log(101..=300);
        disk.free();
        thread::sleep(BACK);
        fed.log(301..=400);
        thread::sleep(BACK);
        fed.log(401..=401);
        fed.end().passes();
        let files = (0..=12).map(|k| if k == 0 { log.clone() } else { disk.join(&format!("app.log.{k}")) });
        let lines = |text: String| text.lines().filter(|l| !l.starts_with("tideover: ")).map(str::to_string).collect();
        files.map(|file| lines(fs::read_to_string(file).unwrap_or_default())).collect::<Vec<Vec<String>>>()
    };
    let (endless, outage) = (rotated(false), rotated(true));
    assert_eq!(endless, outage);
    assert_eq!(endless.iter().map(Vec::len).sum::<usize>(), 401);
}

/// Two lines of each log and a part of a third fit into the blocks that it has; the others are kept.
#[needs(images)]
#[test]
fn a_hundred_logs_at_once() {
    let disk = Disk::new(Kind::Ext4);
    let script = "import os, sys, time\n\
        outs = [os.open(sys.argv[1] + '/app%d.log' % k, os.O_WRONLY | os.O_APPEND | os.O_CREAT) for k in range(100)]\n\
        def put(n):\n    for out in outs: assert os.write(out, b'line %05d of a log %s\\n' % (n, b'.' * 179)) == 200\n\
        for n in range(10): put(n)\nprint('full', flush=True); input()\nfor n in range(10, 20): put(n)\n\
        print('free', flush=True); input()\nfor n in range(20, 30): put(n); time.sleep(0.02)";
    let mut running = python(script).arg(disk.path()).preload(true).start();
    running.wait_for("full");
    disk.fill();
    running.say("");
    running.wait_for("free");
    let diverted = running.page().counter("logs", "diverted_lines");
    assert!((700..=1000).contains(&diverted), "most lines of the outage find no space: {diverted} of 1000");
    disk.free();
    thread::sleep(BACK);
    running.say("");
    running.finish().passes();
    for k in 0..100 {
        let text = text(&disk.join(&format!("app{k}.log")));
        let numbers: Vec<u32> = text.lines().filter_map(|l| l.strip_prefix("line ")?.get(..5)?.parse().ok()).collect();
        assert_eq!(numbers, (0..30).collect::<Vec<u32>>(), "{k}.log: {text}");
        let notes = text.lines().filter(|line| line.starts_with(OURS) && line.contains("put back")).count();
        assert_eq!(notes, 1, "{k}.log was full, and says so: {text}");
        let torn = text.lines().filter(|line| line.len() != 199 && !line.starts_with(OURS)).count();
        assert_eq!(torn, 0, "{k}.log: {text}");
    }
}

#[needs(mounts)]
#[test]
fn lines_of_each_thread_stay_in_their_order() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = Run::new(fixture("disk_threads")).arg("shared").arg(&log);
    let told = outage(&disk, &log, 400, Fed::start(&run.preload(true)));
    told.outcome.passes();
    let account = told.on_stdout();
    account.complete(told.all(), 16);
    for thread in 0..16 {
        let own: Vec<u32> = account.in_file.iter().copied().filter(|n| (n - 1) % 16 == thread).collect();
        assert!(own.is_sorted() && own.len() == 75, "{own:?}");
    }
}

#[needs(mounts)]
#[test]
fn a_process_that_idles_is_no_longer_degraded_when_there_is_space() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
    fed.log(1..=50);
    disk.fill();
    fed.log(51..=100);
    let degraded = || {
        let output = Command::new(tideover())
            .args(["stat", &fed.writer().pid().to_string(), "--json", "--page-dir"])
            .arg(pages.path())
            .output()
            .expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let after = text.split_once("\"degraded\":").unwrap_or_else(|| panic!("{output:?}")).1;
        after.trim_start().starts_with("true")
    };
    assert!(degraded());
    disk.free();
    assert!(!degraded(), "its disk has space");
    fed.end().passes();
    // It has put its lines back when it ended.
    assert!(holds(pages.path()).is_empty());
    Account::new(&text(&log), "").complete(1..=100, 0).file_is_whole(1..=100);
}

#[test]
fn lines_that_are_numbered_are_longer_than_their_numbers() {
    assert_eq!(ended(&line(7)).len(), 100);
}
