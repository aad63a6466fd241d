//! Waits end also where a clock stands still, and a process that was stopped for long goes on as if it had not been.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tideover_tests::numbered::Account;
use tideover_tests::outage::{BACK, Fed, Logger, outage};
use tideover_tests::{Disk, Kind, Run, Scratch, fixture, needs};

use crate::{Timed, number};

fn on_a_still_clock(words: &[&str], limit: u64) -> Run {
    Run::new(fixture("still_clock")).arg(fixture(words[0])).args(&words[1..]).limit(limit)
}

/// Found by this test: a call that waited by a clock that stood still waited for ever.
#[needs(ptrace)]
#[test]
fn a_wait_in_vain_ends_although_the_clock_stands_still() {
    for what in [&["evidence_waits", "idle", "120"][..], &["evidence_waits", "readers"]] {
        Timed::of(&on_a_still_clock(what, 64)).as_fast().as_printed();
    }
    let timed = Timed::of(&on_a_still_clock(&["evidence_waits", "pairs", "31"], 34));
    timed.as_fast();
    let (plain, preloaded) = (number(&timed.plain, "worked"), number(&timed.preloaded, "worked"));
    assert!(10 * preloaded >= 8 * plain, "{preloaded} worked, {plain} without the library: {}", timed.preloaded);
}

#[needs(ptrace)]
#[test]
fn threads_that_share_descriptors_wait_for_one_another_although_the_clock_stands_still() {
    let both = on_a_still_clock(&["threads", "/etc/passwd", "10"], 64).both();
    both.rescued("Too many open files");
}

/// A writer of one line after the other, its log's disk full from the 31st to the 90th line, on odd clocks.
fn full_for_a_while(clock: &[&str], log: &Path, disk: &Disk, meanwhile: impl FnOnce()) -> Fed {
    let run = Run::new(fixture("still_clock")).args(clock).arg(fixture("disk_append")).arg("write").arg(log);
    let mut fed = Fed::start(&run.preload(true).env("TIDEOVER_FALLBACK", "stdout"));
    fed.log(1..=30);
    disk.fill();
    fed.log(31..=90);
    meanwhile();
    disk.free();
    thread::sleep(BACK);
    fed.log(91..=120);
    fed
}

/// A process that is moved to another machine sees the clock of that one.
#[needs(mounts, ptrace)]
#[test]
fn lines_are_back_in_their_log_although_the_clocks_were_set_back_by_an_hour_meanwhile() {
    let (disk, folder) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let (log, back) = (disk.log(), folder.join("back"));
    let clock = ["back", back.to_str().expect("UTF-8")];
    let fed = full_for_a_while(&clock, &log, &disk, || fs::write(&back, "").expect("there is space"));
    Account::new(&fs::read_to_string(&log).expect("it is there"), "").complete(1..=120, 1).file_is_whole(1..=120);
    let outcome = fed.end();
    outcome.passes();
    assert_eq!(fs::read_to_string(&log).expect("it is there").lines().count(), 121, "{outcome}");
}

/// No look at the disk is due while the program runs: when it ends, at the latest, all lines are in the file.
#[needs(mounts, ptrace)]
#[test]
fn lines_are_back_in_their_log_when_the_program_ends_although_the_clock_stood_still() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let outcome = full_for_a_while(&[], &log, &disk, || ()).end();
    outcome.passes();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=120, 1).file_is_whole(1..=120);
}

/// Stops a process five times, each time longer than any of the library's locks and turns is believed in.
fn stop_now_and_then(signal: impl Fn(libc::c_int)) {
    for pause in [31, 170, 83, 7, 240] {
        thread::sleep(Duration::from_millis(pause));
        signal(libc::SIGSTOP);
        thread::sleep(Duration::from_millis(2500));
        signal(libc::SIGCONT);
    }
}

#[test]
fn threads_that_wait_when_their_process_is_stopped_all_get_their_descriptor() {
    let run = Run::new(fixture("threads")).args(["/etc/passwd", "1500"]).limit(64).timeout(Duration::from_secs(60));
    run.output().fails().says("Too many open files");
    let running = run.preload(true).start();
    stop_now_and_then(|signal| running.signal(signal));
    running.finish().passes().says(" 0 refused");
}

/// Sixteen threads divert lines and put them back, and are stopped while one of them holds the lock of the held lines.
#[needs(mounts)]
#[test]
fn threads_that_divert_lines_when_their_process_is_stopped_lose_none() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let fed = Fed::start(&Run::new(fixture("disk_threads")).arg("shared").arg(&log).preload(true));
    // SAFETY: takes numbers. The descriptor means this process even when another one has its number.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, fed.writer().pid(), 0) };
    assert!(process >= 0, "Linux 5.3 has pidfd_open(2)");
    // SAFETY: takes numbers, and NULL for what kill(2) would send.
    let tell = move |signal: i32| unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process, signal, 0, 0) };
    let stops = thread::spawn(move || {
        for pause in [3, 1, 8, 2, 5, 1, 13, 4] {
            thread::sleep(Duration::from_millis(pause));
            tell(libc::SIGSTOP);
            thread::sleep(Duration::from_millis(700));
            tell(libc::SIGCONT);
        }
    });
    let told = outage(&disk, &log, 500, fed);
    stops.join().expect("it only sends signals");
    told.outcome.passes();
    let account = told.on_stdout();
    account.complete(told.all(), 16);
    assert!(account.is_put_back(), "{account}");
}
