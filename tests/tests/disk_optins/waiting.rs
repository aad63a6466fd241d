//! TIDEOVER_ON_FULL=wait: what is no log waits for space.

use super::*;

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

#[needs(images)]
#[test]
fn dd_waits_on_ext4() {
    script(Kind::Ext4, "dd if=../source/bytes of=copy bs=1000 status=none", "copy", "bytes");
}

#[needs(mounts)]
#[test]
fn cp_waits() {
    script(Kind::Tmpfs, "cp ../source/bytes copy", "copy", "bytes");
}

#[needs(images)]
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

#[needs(images)]
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

#[needs(images)]
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

#[needs(images)]
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

/// Reserves space by fallocate(2), or with `posix` by posix_fallocate(3), whose error fallocate(1) does not notice.
fn fallocate(disk: &Disk, how: &str, bytes: u64) -> Run {
    let run = match how {
        "posix" => {
            python(&format!("import os; os.posix_fallocate(os.open('data', os.O_RDWR | os.O_CREAT), 0, {bytes})"))
        }
        _ => Run::new(program("fallocate", "util-linux")).args([how, "-l", &bytes.to_string(), "data"]),
    };
    run.folder(disk.path()).env("TIDEOVER_ON_FULL", "wait")
}

#[needs(mounts)]
#[test]
fn space_that_is_reserved_is_waited_for() {
    for how in ["-v", "posix"] {
        waits(Kind::Tmpfs, &format!("fallocate, {how}"), &nothing, &|disk| fallocate(disk, how, 60_000), &|disk| {
            assert_eq!(fs::metadata(disk.join("data")).expect("it was made").len(), 60_000)
        });
    }
}

/// Found by reading: the job waited for an hour (TIDEOVER_FULL_WAIT) for what no wait can bring.
#[needs(mounts)]
#[test]
fn more_than_the_disk_holds_is_refused_at_once() {
    for (how, bytes) in [("-v", 1 << 20), ("posix", 1 << 20), ("-v", 200 << 20)] {
        let disk = Disk::new(Kind::Tmpfs);
        let run = fallocate(&disk, how, bytes).timeout(Duration::from_secs(5));
        let both = run.both();
        both.plain.fails().says("No space left on device");
        both.same();
    }
    // A file that has most of it already needs only the rest, which may become free.
    let disk = Disk::new(Kind::Tmpfs);
    fs::write(disk.join("data"), vec![1; 200 << 10]).expect("there is space");
    let running = fallocate(&disk, "-v", 260 << 10).preload(true).start();
    comes(&running, || running.ended() || running.stderr_so_far().contains(WAITS));
    assert!(!running.ended(), "it waits: {}", running.stderr_so_far());
    running.signal(libc::SIGKILL);
    running.finish();
}
