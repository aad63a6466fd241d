//! TIDEOVER_ROTATE: a log of a program that can't reopen it is rotated, and no line is lost, doubled or cut.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tideover_tests::loggers::writer;
use tideover_tests::numbered::Account;
use tideover_tests::outage::{BACK, Fed, Logger};
use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, fixture, needs, tideover};

/// Lines of each thread.
const LINES: usize = 5000;
/// The limit of most tests, bytes.
const LIMIT: usize = 64 << 10;

/// The log and its old files in a folder, oldest first, as (name, text).
fn files(log: &Path) -> Vec<(String, String)> {
    let base = log.file_name().unwrap().to_str().unwrap();
    let mut found: Vec<(u64, String)> = fs::read_dir(log.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| match name.strip_prefix(base)? {
            "" => Some((0, name)),
            ending => Some((ending.strip_prefix('.')?.parse().ok()?, name)),
        })
        .collect();
    found.sort_by_key(|(number, _)| u64::MAX - number);
    let text = |name: String| (name.clone(), fs::read_to_string(log.with_file_name(name)).unwrap());
    found.into_iter().map(|(_, name)| text(name)).collect()
}

/// Runs fixtures/disk_rotate.c, which makes the log itself.
fn logger(how: &str, log: &Path, processes: usize, threads: usize) -> Run {
    let numbers = [processes, threads, LINES].map(|number| number.to_string());
    Run::new(fixture("disk_rotate")).arg(how).arg(log).args(numbers)
}

/// Every line of every thread is there once, whole, and those of a thread are in order.
#[track_caller]
fn all_lines(files: &[(String, String)], processes: usize, threads: usize) {
    let mut next: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for (name, text) in files {
        assert!(text.is_empty() || text.ends_with('\n'), "{name} ends in the middle of a line");
        for line in text.lines().filter(|line| *line != "the end") {
            let words: Vec<&str> = line.split(' ').collect();
            let [process, thread, number, rest] = words[..] else { panic!("{name} has a piece: {line:?}") };
            let number: usize = number.parse().unwrap();
            assert_eq!(rest.len(), 7 * number % 60, "{name} has a piece: {line:?}");
            let due = next.entry((process.parse().unwrap(), thread.parse().unwrap())).or_default();
            assert_eq!(number, *due, "{name}: a line of a thread is lost, doubled or late: {line:?}");
            *due += 1;
        }
    }
    assert_eq!((next.len(), next.values().sum::<usize>()), (processes * threads, processes * threads * LINES));
}

#[track_caller]
fn is_rotated(files: &[(String, String)], at_least: usize) {
    let sizes: Vec<(&str, usize)> = files.iter().map(|(name, text)| (name.as_str(), text.len())).collect();
    println!("{sizes:?}");
    assert!(files.len() >= at_least, "{sizes:?}");
}

#[test]
fn rotation_loses_no_line_of_three_processes_with_four_threads_each() {
    for how in ["shared", "own", "pieces", "printed"] {
        let scratch = Scratch::new();
        let log = scratch.join("app.log");
        logger(how, &log, 3, 4).output().passes();
        let plain = files(&log);
        assert_eq!(plain.len(), 1, "{how}: by itself it is one file");
        all_lines(&plain, 3, 4);

        fs::remove_file(&log).unwrap();
        let run = logger(how, &log, 3, 4).preload(true).env("TIDEOVER_ROTATE", "64K,900");
        let outcome = run.output();
        outcome.passes();
        let rotated = files(&log);
        println!("{how}:");
        is_rotated(&rotated, 8);
        all_lines(&rotated, 3, 4);
        assert!(
            rotated.last().unwrap().1.ends_with("the end\n"),
            "{how}: the first process, too, has gone on in the last file"
        );
        for (name, _) in &rotated {
            let mode = fs::metadata(scratch.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{how}: {name} has the log's mode");
        }
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), rotated.len(), "{how}: nothing else is left");
    }
}

#[test]
fn rotation_cuts_no_line_of_a_full_buffer_nor_one_that_is_written_in_two_parts() {
    for (how, threads) in [("stream", 4), ("halves", 1)] {
        let scratch = Scratch::new();
        let log = scratch.join("app.log");
        logger(how, &log, 1, threads).preload(true).env("TIDEOVER_ROTATE", "64K,900").output().passes();
        let rotated = files(&log);
        is_rotated(&rotated, 3);
        all_lines(&rotated, 1, threads);
        let largest = rotated.iter().map(|(_, text)| text.len()).max().unwrap();
        assert!(largest < 2 * LIMIT, "{how}: {largest}");
    }
}

/// After a rotation, standard error is another file than it was at the start.
#[test]
fn what_a_shell_has_opened_is_rotated_if_it_holds_messages_and_is_left_alone_if_it_is_a_result() {
    let scratch = Scratch::new();
    let program = fixture("disk_rotate");
    let shell = |redirection: &str| {
        let script = format!("exec {} given - 3 4 {LINES} {redirection}", program.display());
        let run = Run::new("/bin/sh").folder(scratch.path()).arg("-c").arg(script);
        run.preload(true).env("TIDEOVER_ROTATE", "64K,900").output()
    };
    shell("> app.log 2>&1").passes();
    let rotated = files(&scratch.join("app.log"));
    is_rotated(&rotated, 8);
    all_lines(&rotated, 3, 4);
    shell("2> errors").passes();
    let rotated = files(&scratch.join("errors"));
    is_rotated(&rotated, 8);
    all_lines(&rotated, 3, 4);
    let result = "i=0; while [ $i -lt 9000 ]; do echo line $i; i=$((i+1)); done > result.log";
    let run = Run::new("/bin/sh").folder(scratch.path()).args(["-c", result]).preload(true);
    run.env("TIDEOVER_ROTATE", "64K,900").output().passes();
    assert_eq!(files(&scratch.join("result.log")).len(), 1);
}

/// Runs a script of Python in a folder, where `put(file, n)` writes line n.
fn script(folder: &Path, text: &str) -> Run {
    let put = "import os, sys, time, fcntl\ndef put(fd, numbers):\n    for n in numbers: os.write(fd, b'line %06d of the log\\n' % n)\n\
               def log(name): return os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n";
    python(&format!("{put}{text}")).folder(folder).preload(true)
}

/// The numbers of the lines of [`script`] in all files together.
fn numbers(log: &Path) -> Vec<u32> {
    let text: String = files(log).into_iter().map(|(_, text)| text).collect();
    text.lines().map(|line| line.strip_prefix("line ").unwrap()[..6].parse().unwrap()).collect()
}

#[test]
fn data_is_not_rotated() {
    let scratch = Scratch::new();
    let text = "import mmap\n\
                for name in 'data.csv', 'app.db', 'trade.dat', '000003.log': put(log(name), range(3000))\n\
                fd = log('synced.log')\nfor n in range(3000):\n    put(fd, [n])\n    if n < 9: os.fsync(fd)\n\
                fd = os.open('result.log', os.O_WRONLY | os.O_CREAT)\nos.lseek(fd, 10, 0); put(fd, range(3000))\n\
                fd = log('locked.log'); fcntl.lockf(fd, fcntl.LOCK_EX); put(fd, range(3000))\n\
                put(log('app.log'), range(3000))";
    script(scratch.path(), text).env("TIDEOVER_ROTATE", "16K,9").output().passes();
    let mut found: Vec<String> =
        fs::read_dir(scratch.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    found.retain(|name| !name.starts_with("app.log"));
    assert_eq!(found, ["000003.log", "app.db", "data.csv", "locked.log", "result.log", "synced.log", "trade.dat"]);
    is_rotated(&files(&scratch.join("app.log")), 4);
}

#[test]
fn the_oldest_file_goes_and_the_rest_is_without_a_gap() {
    let scratch = Scratch::new();
    let log = scratch.join("app.log");
    script(scratch.path(), "put(log('app.log'), range(10000))").env("TIDEOVER_ROTATE", "16K,2").output().passes();
    let names: Vec<String> = files(&log).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["app.log.2", "app.log.1", "app.log"]);
    let kept = numbers(&log);
    assert!(kept.len() > 1000 && kept.len() < 2200, "{}", kept.len());
    assert_eq!(kept, (10_000 - kept.len() as u32..10_000).collect::<Vec<_>>());
}

#[test]
fn without_a_free_descriptor_the_log_is_rotated_later() {
    let scratch = Scratch::new();
    let text = "fd = log('app.log')\nheld = []\ntry:\n    while True: held.append(os.open('/dev/null', 0))\nexcept OSError: pass\n\
                put(fd, range(2000))\nbefore = os.path.exists('app.log.1')\nfor f in held[:9]: os.close(f)\n\
                time.sleep(1.1)\nput(fd, range(2000, 3000))\nos._exit(10 * before + os.path.exists('app.log.1'))";
    let run = script(scratch.path(), text).limit(40).env("TIDEOVER_ROTATE", "16K,9").env("TIDEOVER_MAX_RETRIES", "0");
    let outcome = run.output();
    assert_eq!(outcome.code(), Some(1), "not while there was none, and then: {outcome}");
    assert_eq!(numbers(&scratch.join("app.log")), (0..3000).collect::<Vec<_>>());
}

/// What is in the way of a rotation, and what the message says.
fn stays(scratch: &Scratch, outcome: &Outcome, says: &str) {
    outcome.passes();
    let ours = outcome.ours();
    assert_eq!(ours.iter().filter(|line| line.contains("app.log is not rotated")).count(), 1, "{outcome}");
    assert!(ours.iter().any(|line| line.contains(says)), "{says}: {outcome}");
    let text = fs::read_to_string(scratch.join("app.log")).unwrap();
    assert_eq!(text.lines().count(), 3000, "all are in the log");
    assert!(!fs::exists(scratch.join("app.log.tideover-new")).unwrap(), "nothing is left");
    assert!(!fs::exists(scratch.join("app.log.tideover-old")).unwrap(), "nothing is left");
}

#[needs(root)]
#[test]
fn a_rotation_that_fails_leaves_all_as_it_was_and_says_so_once() {
    let put = "put(log('app.log'), range(3000))";
    let scratch = Scratch::new();
    fs::create_dir(scratch.join("app.log.1")).unwrap();
    let rotated = |scratch: &Scratch| script(scratch.path(), put).env("TIDEOVER_ROTATE", "16K,9").output();
    stays(&scratch, &rotated(&scratch), "EEXIST");
    let scratch = Scratch::new();
    chown(scratch.path(), Some(12345), None).unwrap();
    stays(&scratch, &rotated(&scratch), "another user");
    assert_eq!(files(&scratch.join("app.log")).len(), 1);
}

#[test]
fn who_was_killed_in_the_middle_of_a_rotation_leaves_what_the_next_one_goes_on_from() {
    for (second, name) in [("app.log.tideover-old", "before the old file had its number"), ("app.log.1", "after that")]
    {
        let scratch = Scratch::new();
        let log = scratch.join("app.log");
        script(scratch.path(), "put(log('app.log'), range(600))").output().passes();
        fs::hard_link(&log, scratch.join(second)).unwrap();
        fs::write(scratch.join("app.log.tideover-new"), "").unwrap();
        let run = script(scratch.path(), "put(log('app.log'), range(600, 3000))").env("TIDEOVER_ROTATE", "16K,9");
        run.output().passes();
        assert_eq!(numbers(&log), (0..3000).collect::<Vec<_>>(), "{name}");
        let left = fs::read_dir(scratch.path()).unwrap().count();
        assert_eq!(left, files(&log).len(), "{name}");
    }
}

/// An executed program has the number, and its own file must not be overwritten by the child of a fork either.
#[test]
fn a_fork_and_an_execve_go_on_in_the_new_file() {
    let scratch = Scratch::new();
    let text = "if len(sys.argv) > 1:\n    put(int(sys.argv[1]), range(2000, 3000))\n    os._exit(0)\n\
                fd = log('app.log'); os.set_inheritable(fd, True)\n\
                put(fd, range(1000))\n\
                if os.fork() == 0:\n    put(fd, range(1000, 2000))\n    os._exit(0)\n\
                os.wait()\n\
                os.execv(sys.executable, [sys.executable, '-c', open('/proc/self/cmdline').read().split('\\0')[2], str(fd)])";
    script(scratch.path(), text).env("TIDEOVER_ROTATE", "16K,9").output().passes();
    let log = scratch.join("app.log");
    is_rotated(&files(&log), 4);
    assert_eq!(numbers(&log), (0..3000).collect::<Vec<_>>());
}

/// Python's handler renames and opens the log itself.
#[test]
fn a_program_that_rotates_its_log_by_itself_is_not_disturbed() {
    let text = "import logging.handlers\n\
                handler = logging.handlers.RotatingFileHandler('app.log', maxBytes=20000, backupCount=40)\n\
                for n in range(3000): handler.emit(logging.makeLogRecord({'msg': 'line %06d of the log' % n}))";
    let own: Vec<(String, String)> = {
        let scratch = Scratch::new();
        script(scratch.path(), text).output().passes();
        files(&scratch.join("app.log"))
    };
    assert!(own.len() > 3);
    let with = |rotate: &str| {
        let scratch = Scratch::new();
        script(scratch.path(), text).env("TIDEOVER_ROTATE", rotate).output().passes();
        (files(&scratch.join("app.log")), numbers(&scratch.join("app.log")))
    };
    assert_eq!(with("100K,3").0, own, "its own limit comes first");
    let (smaller, numbers) = with("8K,40");
    is_rotated(&smaller, own.len() + 2);
    assert_eq!(numbers, (0..3000).collect::<Vec<_>>(), "ours comes first");
}

/// A disk that is full in between: held lines are put back into the file that they belong to, and that is rotated only afterwards.
#[needs(mounts)]
#[test]
fn lines_that_were_held_are_put_back_before_the_log_is_rotated() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_ROTATE", "8K,90"));
    let mut next = 1;
    for _ in 0..4 {
        fed.log(next..=next + 99);
        disk.fill();
        fed.log(next + 100..=next + 199);
        disk.free();
        std::thread::sleep(BACK);
        fed.log(next + 200..=next + 299);
        next += 300;
    }
    let outcome = fed.end();
    outcome.passes();
    let rotated = files(&log);
    is_rotated(&rotated, 8);
    let text: String = rotated.into_iter().map(|(_, text)| text).collect();
    let account = Account::new(&text, "");
    assert_eq!(account.markers.len(), 4, "no rotation comes into the middle of an outage: {account}");
    assert_eq!(account.in_file, (1..next).collect::<Vec<u32>>(), "{account}");
}

/// Lines of a page each: the disk is full between two of them, so that the end of a line is no reason to stay with the file.
#[needs(mounts)]
#[test]
fn while_lines_are_elsewhere_the_log_is_not_rotated() {
    let disk = Disk::new(Kind::Tmpfs);
    let text = "def pages(fd, numbers): os.write(fd, b''.join(b'line %06d' % n + b'x' * 4084 + b'\\n' for n in numbers))\n\
                fd = log('app.log')\nfor n in range(15): pages(fd, [n])\n\
                filler = os.open('filler', os.O_WRONLY | os.O_CREAT)\ntry:\n    while True: os.write(filler, b'x' * 4096)\n\
                except OSError: pass\n\
                pages(fd, [15])\nfor n in range(16, 28, 2): pages(fd, [n, n + 1])\n\
                there = os.path.exists('app.log.1')\nos.unlink('filler'); os.close(filler); time.sleep(0.2)\n\
                for n in range(28, 44): pages(fd, [n]); time.sleep(0.02)\n\
                os._exit(there)";
    let outcome = script(disk.path(), text).env("TIDEOVER_ROTATE", "64K,9").env("TIDEOVER_FALLBACK", "hold").output();
    outcome.passes();
    let files = files(&disk.join("app.log"));
    is_rotated(&files, 2);
    let text: String = files.into_iter().map(|(_, text)| text).collect();
    let numbers: Vec<u32> = text.lines().filter_map(|l| l.strip_prefix("line ")?.get(..6)?.parse().ok()).collect();
    assert_eq!(numbers, (0..44).collect::<Vec<_>>(), "{outcome}");
    assert_eq!(text.lines().filter(|line| line.starts_with("tideover: ")).count(), 1, "one outage, one note");
}

#[test]
fn the_setting_is_shown_and_a_bad_value_is_refused() {
    let shown = Run::new(tideover()).arg("config").env("TIDEOVER_ROTATE", "100M,5").output();
    shown.passes();
    assert!(
        shown.stdout.lines().any(|line| line.split_whitespace().eq(["rotate", "100M,5", "environment"])),
        "{shown}"
    );
    for bad in ["5", "100M", "1K,5", "100M,0", "100M,2000"] {
        let refused = Run::new(tideover()).args(["run", "--rotate", bad, "true"]).output();
        assert_eq!(refused.code(), Some(2), "{refused}");
        refused.says("off, or a size and how many old files are kept, such as 100M,5, from 4K,1 to 1024G,1000");
    }
    let scratch = Scratch::new();
    let run = script(scratch.path(), "put(log('app.log'), range(3000))").env("TIDEOVER_ROTATE", "16K");
    let outcome = run.output();
    outcome.passes();
    assert!(outcome.ours().iter().any(|line| line.contains("TIDEOVER_ROTATE=16K is not off, or a size")), "{outcome}");
    assert_eq!(files(&scratch.join("app.log")).len(), 1);
}

/// A lock of flock(2) is the open file's, which a rotation would close: a program that locks its log so that it runs only once keeps it.
#[test]
fn a_log_that_is_locked_by_flock_is_not_rotated() {
    let scratch = Scratch::new();
    let text = "import fcntl\nfd = log('app.log')\nfcntl.flock(fd, fcntl.LOCK_EX)\nput(fd, range(3000))\n\
                other = os.open('app.log', os.O_RDWR)\n\
                try:\n    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)\nexcept BlockingIOError: os._exit(3)\nos._exit(4)";
    for rotate in ["off", "16K,9"] {
        let outcome = script(scratch.path(), text).env("TIDEOVER_ROTATE", rotate).output();
        assert_eq!(outcome.code(), Some(3), "{rotate}: it is locked still: {outcome}");
        assert!(!scratch.join("app.log.1").exists(), "{rotate}: {outcome}");
    }
}

/// Told `off`, the library passes everything through.
#[test]
fn a_process_that_is_told_off_rotates_nothing() {
    let (scratch, pages) = (Scratch::new(), Scratch::new());
    let text = "fd = log('app.log')\nheld = [os.open('/dev/null', 0) for i in range(30)]\nput(fd, range(3000))\n\
                print('now', flush=True)\ninput()\nbefore = len(os.listdir('.'))\nput(fd, range(3000, 6000))\n\
                os._exit(len(os.listdir('.')) - before)";
    for (word, more) in [("on", true), ("off", false)] {
        let run = script(scratch.path(), text).env("TIDEOVER_ROTATE", "16K,99").page_dir(pages.path());
        let mut running = run.start();
        running.wait_for("now");
        let pid = running.pid().to_string();
        Run::new(tideover()).args(["control", &pid, word, "--page-dir"]).arg(pages.path()).output().passes();
        running.say("");
        let outcome = running.finish();
        assert_eq!(outcome.code() > Some(0), more, "{word}: {outcome}");
    }
}
