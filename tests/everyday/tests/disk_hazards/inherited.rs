//! Several writers of a log: threads, processes, children, and whoever inherits its number.

use super::*;

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
    // What was kept, and had not come to standard output yet, is put back.
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    fed.writer().signal(libc::SIGKILL);
    let first = fed.end();
    disk.free();
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
    fed.log(201..=300);
    let second = fed.end();
    second.passes();
    clean(pages.path());
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
    // Each line is of another process; those of the shell itself are in order.
    let own: Vec<u32> = account.in_file.iter().copied().filter(|n| n % 5 == 0).collect();
    assert!(own.is_sorted(), "{account}");
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
    let mut all = account.in_file.clone();
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<u32>>(), "{account}");
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
    for parity in [0, 1] {
        let of_one = account.in_file.iter().filter(|&n| n % 2 == parity);
        assert!(of_one.is_sorted(), "{account}");
    }
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
    let (elsewhere, pages) = (Scratch::new(), Scratch::new());
    let after = |how: &str, data: &Path| {
        let run = Run::new(fixture("disk_unseen")).arg(how).arg(&log).arg(data);
        let outcome = run.preload(true).page_dir(pages.path()).output();
        outcome.passes();
        outcome
    };
    let data = elsewhere.join("table.csv");
    fs::write(&data, "").expect("there is space");
    let outcome = after("log", &data);
    let rows = fs::read_to_string(&data).expect("it is there").matches("a row of data").count();
    assert_eq!((outcome.stdout.matches("a line of a log").count(), rows), (500, 100), "{outcome}");
    assert!(!outcome.stdout.contains("a row"), "{outcome}");
    // Lines that come fast are sent together, at most 4 KiB of them: those that were not sent yet when the pipe went unseen are kept alone.
    for (how, least) in [("stdout", 500 - 4096 / 54), ("seen", 500)] {
        let outcome = after(how, &data);
        outcome.says("came to the other pipe: -1");
        assert!(outcome.stdout.matches("a line of a log").count() >= least, "{how}: {outcome}");
    }
    disk.free();
    clean(pages.path());
    let text = fs::read_to_string(&log).expect("it is there");
    assert_eq!(text.matches("a line of a log, of some length, as lines of logs are\n").count(), 500 + 600 + 600);
    assert!(!text.contains("a row"), "{text}");
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
    assert!(text.starts_with("full 0\nfull 1\nfull 2\n") && text.ends_with("after 19\n"), "{outcome}{text}");
    assert!(text.contains("\ntideover: disk full") && !text.contains("child"), "{outcome}{text}");
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
