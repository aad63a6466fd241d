//! Several processes whose lines go back into one log.

use super::*;
use std::time::Instant;
use tideover_tests::Running;

/// A process that has the lock of all logs in a folder of pages, and is stopped.
fn stopped_with_the_lock(pages: &Path) -> Running {
    let folder = holds(pages)[0].parent().expect("a folder").to_path_buf();
    let script = "import fcntl, sys\nlock = open(sys.argv[1], 'w')\nfcntl.lockf(lock, fcntl.LOCK_EX)\n\
        print('locked', flush=True)\ninput()";
    let mut running = python(script).arg(folder.join("lock")).start();
    running.wait_for("locked");
    running.signal(libc::SIGSTOP);
    running
}

/// A writer with 100 lines in the file and 100 in its hold, another process that has the lock, and space.
fn outage_and_lock(disk: &Disk, pages: &Path) -> (std::path::PathBuf, Fed, Running) {
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    let other = stopped_with_the_lock(pages);
    disk.free();
    thread::sleep(BACK);
    (log, fed, other)
}

#[needs(mounts)]
#[test]
fn a_process_that_is_stopped_while_it_has_the_lock_delays_nobody() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let (log, mut fed, other) = outage_and_lock(&disk, pages.path());
    let begun = Instant::now();
    for n in 201..=230 {
        fed.log(n..=n);
        thread::sleep(Duration::from_millis(10));
    }
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let account = Account::new(&text(&log), "");
    assert!(account.in_file.len() <= 200 && account.markers.is_empty(), "{account}");
    assert_eq!(holds(pages.path()).len(), 1, "its lines stay kept");
    other.signal(libc::SIGKILL);
    drop(other.finish());
    thread::sleep(BACK);
    fed.log(231..=240);
    fed.end().passes();
    Account::new(&text(&log), "").complete(1..=240, 0).file_is_whole(1..=240);
    let user = fs::read_dir(pages.path()).expect("it is there").flatten().next().expect("a folder").path();
    assert!(!user.join("holds").exists(), "neither a hold nor the lock is left");
}

#[needs(mounts)]
#[test]
fn a_program_ends_and_clean_returns_while_another_process_has_the_lock() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let (log, fed, other) = outage_and_lock(&disk, pages.path());
    let begun = Instant::now();
    fed.end().passes();
    let said = clean(pages.path());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(said.contains("another process puts lines back"), "{said}");
    assert!(Account::new(&text(&log), "").markers.is_empty());
    other.signal(libc::SIGKILL);
    drop(other.finish());
    let said = clean(pages.path());
    assert!(said.contains("Put back"), "{said}");
    Account::new(&text(&log), "").complete(1..=200, 0).file_is_whole(1..=200);
    assert!(holds(pages.path()).is_empty());
}

#[needs(mounts)]
#[test]
fn six_processes_put_back_into_one_log_at_once() {
    const EACH: u32 = 10_000;
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let ways = ["write", "line", "writev", "write", "none", "write"];
    let start = |how: &&str| {
        let run = tideover_tests::loggers::c(how, &log).preload(true).page_dir(pages.path());
        Fed::start(&run.env("TIDEOVER_RECOVERY_INTERVAL", "1ms"))
    };
    let mut writers: Vec<Fed> = ways.iter().map(start).collect();
    let mut next = 1;
    for _ in 0..12 {
        for phase in 0..3 {
            match phase {
                1 => disk.fill(),
                2 => disk.free(),
                _ => {}
            }
            thread::scope(|scope| {
                for (k, fed) in writers.iter_mut().enumerate() {
                    let first = k as u32 * EACH + next;
                    scope.spawn(move || assert!(fed.log(first..=first + 3), "it lives"));
                }
            });
            next += 4;
        }
    }
    let mut elsewhere = String::new();
    for fed in writers {
        let outcome = fed.end();
        outcome.passes();
        elsewhere += &ended(&outcome.stdout);
    }
    clean(pages.path());
    let account = Account::new(&text(&log), &elsewhere);
    let all = (0..ways.len() as u32).flat_map(|k| k * EACH + 1..k * EACH + next);
    let lost: Vec<u32> = all.filter(|n| !account.in_file.contains(n)).collect();
    assert!(
        lost.is_empty() && account.doubled().is_empty(),
        "lost {lost:?}, doubled {:?}\n{account}",
        account.doubled()
    );
    assert!(account.pieces_of_no_line().is_empty() && account.is_put_back(), "{account}");
    for k in 0..ways.len() as u32 {
        let own: Vec<u32> = account.in_file.iter().copied().filter(|n| n / EACH == k).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
}
