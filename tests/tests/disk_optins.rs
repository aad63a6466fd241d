//! What is done about a full disk only when asked for: waiting for space, removing rotated logs, cutting the log itself.

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

// --- TIDEOVER_ON_FULL=wait

/// How long the disk stays full while it waits.
const PAUSE: Duration = Duration::from_millis(400);

fn sh(disk: &Disk, script: &str) -> Run {
    Run::new(program("bash", "bash")).folder(disk.path()).args(["-c", &format!("set -o pipefail; {script}")])
}

/// The folder `../source` of the mount point; of a subvolume, `../../source`.
fn beside(disk: &Disk) -> PathBuf {
    let up = disk.path().parent().expect("in a folder");
    let up = if disk.kind() == Kind::Quota { up.parent().expect("in a folder") } else { up };
    up.join("source")
}

/// Something to copy, beside the disk: 60 KB of bytes, 60 KB of text, a folder of both.
fn source(disk: &Disk) {
    let folder = beside(disk);
    fs::create_dir_all(&folder).expect("there is space");
    fs::write(folder.join("bytes"), vec![7; 60_000]).expect("there is space");
    fs::write(folder.join("text"), "a line of text\n".repeat(4000)).expect("there is space");
}

/// A job on a full disk: with the library the disk is freed [`PAUSE`] after it has said that it waits. How it ended.
fn paused(kind: Kind, preload: bool, prepare: &dyn Fn(&Disk), job: &dyn Fn(&Disk) -> Run) -> (Disk, Outcome) {
    let disk = Disk::new(kind);
    source(&disk);
    prepare(&disk);
    disk.fill();
    let running = job(&disk).preload(preload).env("TIDEOVER_ON_FULL", "wait").timeout(Duration::from_secs(60)).start();
    comes(&running, || running.ended() || running.stderr_so_far().contains(WAITS));
    if preload {
        thread::sleep(PAUSE);
        assert!(!running.ended(), "it waits: {}", running.stderr_so_far());
        disk.free();
    }
    (disk, running.finish())
}

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

/// Fails without the library, on a disk that stays full; waits and completes with it. `check` looks at what it made.
#[track_caller]
fn waits(kind: Kind, name: &str, prepare: &dyn Fn(&Disk), job: &dyn Fn(&Disk) -> Run, check: &dyn Fn(&Disk)) {
    let (_disk, plain) = paused(kind, false, prepare, job);
    plain.fails();
    assert!(!plain.timed_out, "it fails at once: {plain}");
    let (disk, preloaded) = paused(kind, true, prepare, job);
    println!("wait: {name:<44} {kind:<7?} plain {:?}", plain.code());
    preloaded.passes();
    let ours = preloaded.ours();
    assert!(ours.len() <= 4, "it does not chatter: {preloaded}");
    let theirs: Vec<&str> = preloaded.theirs();
    assert!(theirs.is_empty(), "the program notices nothing: {preloaded}");
    check(&disk);
}

fn nothing(_: &Disk) {}

fn script(kind: Kind, script: &str, made: &str, like: &str) {
    waits(kind, script, &nothing, &|disk| sh(disk, script), &|disk| {
        let expected = fs::read(beside(disk).join(like)).expect("it is there");
        let found = fs::read(disk.join(made)).expect("it was made");
        assert!(found == expected, "{script}: {} bytes of {}", found.len(), expected.len());
    });
}

#[needs(mounts)]
#[test]
fn dd_waits() {
    script(Kind::Tmpfs, "dd if=../source/bytes of=copy bs=4k status=none", "copy", "bytes");
}

#[needs(mounts)]
#[test]
fn dd_waits_on_ext4() {
    script(Kind::Ext4, "dd if=../source/bytes of=copy bs=1000 status=none", "copy", "bytes");
}

#[needs(mounts)]
#[test]
fn cp_waits() {
    script(Kind::Tmpfs, "cp ../source/bytes copy", "copy", "bytes");
}

#[needs(mounts)]
#[test]
fn cp_waits_on_ext4() {
    script(Kind::Ext4, "cp ../source/text copy", "copy", "text");
}

#[needs(mounts)]
#[test]
fn cat_into_a_file_waits() {
    script(Kind::Tmpfs, "cat ../source/text > copy.csv", "copy.csv", "text");
}

#[needs(mounts)]
#[test]
fn stdio_waits() {
    script(Kind::Tmpfs, "LC_ALL=C sort -s -k9 ../source/text > sorted.txt", "sorted.txt", "text");
    script(Kind::Tmpfs, "awk '{ print }' ../source/text > copy.txt", "copy.txt", "text");
}

fn tar_waits_on(kind: Kind) {
    waits(kind, "tar", &nothing, &|disk| sh(disk, "tar -cf packed.tar -C .. source"), &|disk| {
        let listed = sh(disk, "tar -tf packed.tar && tar -xf packed.tar && cmp source/text ../source/text").output();
        assert_eq!(listed.passes().stdout.lines().count(), 3, "{listed}");
    });
}

#[needs(mounts)]
#[test]
fn tar_waits() {
    tar_waits_on(Kind::Tmpfs);
}

#[needs(mounts)]
#[test]
fn tar_waits_on_an_ext4() {
    tar_waits_on(Kind::Ext4);
}

#[needs(mounts)]
#[test]
fn python_waits() {
    let text = "out = open('table.csv', 'w')\nfor i in range(3000): out.write(f'{i},{i * i}\\n')\nout.close()\n\
                assert len(open('table.csv').readlines()) == 3000";
    waits(
        Kind::Tmpfs,
        "python: open, write, close",
        &nothing,
        &|disk| Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", text]),
        &|disk| {
            let lines = fs::read_to_string(disk.join("table.csv")).expect("it was made");
            assert_eq!(lines.lines().count(), 3000);
        },
    );
}

#[needs(mounts)]
#[test]
fn sqlite_waits() {
    waits(
        Kind::Tmpfs,
        "sqlite: insert",
        &|disk| {
            sh(disk, "sqlite3 app.db 'create table t(x)'").output().passes();
        },
        &|disk| sh(disk, "sqlite3 app.db 'insert into t values(zeroblob(50000))'"),
        &|disk| {
            let count = sh(disk, "sqlite3 app.db 'pragma integrity_check; select count(*) from t'").output();
            assert_eq!(count.passes().stdout, "ok\n1\n");
        },
    );
}

#[needs(mounts)]
#[test]
fn calls_that_make_something_wait() {
    // On a full xfs nothing can be made at all.
    for (script, made) in [
        ("mkdir folder", "folder"),
        (": > new", "new"),
        ("ln -s somewhere link", "link"),
        ("python3 -c 'import os; os.mkfifo(\"fifo\")'", "fifo"),
        ("fallocate -l 100K reserved", "reserved"),
    ] {
        waits(Kind::Xfs, script, &nothing, &|disk| sh(disk, script), &|disk| {
            assert!(fs::symlink_metadata(disk.join(made)).is_ok(), "{script}");
        });
    }
}

#[needs(mounts)]
#[test]
fn fallocate_waits() {
    waits(Kind::Tmpfs, "fallocate on tmpfs", &nothing, &|disk| sh(disk, "fallocate -l 100K reserved"), &|disk| {
        assert_eq!(fs::metadata(disk.join("reserved")).expect("it was made").len(), 100 << 10);
    });
}

#[needs(mounts)]
#[test]
fn over_quota_it_waits_too() {
    script(Kind::Quota, "dd if=../../source/bytes of=copy bs=4k status=none", "copy", "bytes");
    script(Kind::Quota, "cp ../../source/bytes copy", "copy", "bytes");
}

#[needs(mounts)]
#[test]
fn a_wait_has_an_end() {
    let disk = Disk::new(Kind::Tmpfs);
    disk.fill();
    let run = sh(&disk, "printf 'some text\\n' > data.csv; echo \"exit $?\" >&2");
    let plain = run.output();
    let started = Instant::now();
    let preloaded = run.preload(true).env("TIDEOVER_ON_FULL", "wait").env("TIDEOVER_FULL_WAIT", "1s").output();
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1) && !preloaded.timed_out, "{took:?} {preloaded}");
    plain.says("exit 1");
    assert_eq!(plain.theirs(), preloaded.theirs(), "then the true error");
    assert_eq!(plain.stdout, preloaded.stdout);
}

#[needs(mounts)]
#[test]
fn a_long_wait_is_said_again_after_half_a_minute() {
    let disk = Disk::new(Kind::Tmpfs);
    disk.fill();
    let run = Run::new(program("dd", "coreutils")).folder(disk.path());
    let run = run.args(["if=/dev/zero", "of=copy", "bs=4k", "count=10", "status=none"]).preload(true);
    let running = run.env("TIDEOVER_ON_FULL", "wait").timeout(Duration::from_secs(120)).start();
    comes(&running, || running.stderr_so_far().contains(WAITS));
    comes(&running, || running.stderr_so_far().contains("still waiting for space, since 3"));
    disk.free();
    running.finish().passes();
    assert_eq!(fs::metadata(disk.join("copy")).expect("it was made").len(), 40960);
}

#[needs(mounts)]
#[test]
fn a_program_that_waits_can_be_ended() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let disk = Disk::new(Kind::Tmpfs);
        disk.fill();
        let running = Run::new(program("dd", "coreutils"))
            .folder(disk.path())
            .args(["if=/dev/zero", "of=copy", "bs=4k", "count=10", "status=none"])
            .preload(true)
            .env("TIDEOVER_ON_FULL", "wait")
            .start();
        comes(&running, || running.stderr_so_far().contains(WAITS));
        let page = Page::read(running.page_dir(), running.pid()).expect("it has a page");
        assert_eq!(page.counter("logs", "full_waits"), 1);
        running.signal(signal);
        let outcome = running.finish();
        assert!(!outcome.timed_out && !outcome.succeeded(), "{outcome}");
    }
}

#[needs(mounts)]
#[test]
fn a_handler_for_one_signal_ends_the_wait() {
    // It is gone when it has run: who asks only then finds none.
    let disk = Disk::new(Kind::Tmpfs);
    disk.fill();
    let script = "use POSIX; sigaction(SIGUSR1, POSIX::SigAction->new(sub { print STDERR \"handled\\n\" }, POSIX::SigSet->new, SA_RESETHAND)); \
                  open my $f, '>', 'data.csv' or die; print STDERR defined syswrite($f, 'a row') ? 'written' : \"failed: $!\\n\"";
    let running = Run::new(program("perl", "perl"))
        .folder(disk.path())
        .args(["-e", script])
        .preload(true)
        .env("TIDEOVER_ON_FULL", "wait")
        .start();
    comes(&running, || running.stderr_so_far().contains(WAITS));
    running.signal(libc::SIGUSR1);
    let outcome = running.finish();
    assert!(!outcome.timed_out, "{outcome}");
    outcome.passes().says("handled").says("failed: Interrupted system call");
}

#[needs(mounts)]
#[test]
fn signals_that_are_handled_do_not_end_the_wait() {
    // SIGCHLD, SIGWINCH, a profiler's timer: the job has nothing to do with them.
    for how in ["write", "stdio"] {
        waits(
            Kind::Tmpfs,
            &format!("{how}, a signal every 20 ms"),
            &nothing,
            &|disk| Run::new(fixture("disk_alarm")).folder(disk.path()).args([how, "data.csv"]),
            &|disk| assert_eq!(fs::read(disk.join("data.csv")).expect("it was made"), b"a row of data\n"),
        );
    }
}

#[needs(mounts)]
#[test]
fn a_log_does_not_wait() {
    // Waiting is for what can't go elsewhere.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = Run::new(fixture("disk_append")).arg("write").arg(&log).preload(true).env("TIDEOVER_ON_FULL", "wait");
    let told = tideover_tests::outage::outage(&disk, &log, 100, Fed::start(&run));
    tideover_tests::outage::nothing_lost(&told, &told.on_stdout());
    assert_eq!(told.logs("full_waits"), 0);
}

#[needs(mounts)]
#[test]
fn a_non_blocking_pipe_and_dev_full_do_not_wait() {
    let disk = Disk::new(Kind::Tmpfs);
    let started = Instant::now();
    let run = sh(&disk, "echo text > /dev/full; echo \"exit $?\" >&2").preload(true).env("TIDEOVER_ON_FULL", "wait");
    let outcome = run.timeout(Duration::from_secs(5)).output();
    outcome.says("exit 1");
    assert!(started.elapsed() < Duration::from_secs(2), "a device that is always full: {outcome}");
}

// --- TIDEOVER_CLEANUP

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

// --- TIDEOVER_TRUNCATE

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
