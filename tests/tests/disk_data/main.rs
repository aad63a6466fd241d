//! What is not a log, on a full disk: the same errors with the library as without, not one byte anywhere else, and data that is
//! intact when there is space again.

mod databases;
mod downloads;
mod git;
mod new_files;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::outage::{Fed, Logger};
use tideover_tests::programs::{free_port, python};
use tideover_tests::{Both, Disk, Kind, Outcome, Run, Running, Scratch, fixture, needs, program};

/// What is compared: end, output, and what is on the disk afterwards; with the disk's own path taken out.
fn seen(disk: &Disk, outcome: &Outcome) -> (Option<i32>, bool, String, String) {
    let path = disk.path().display().to_string();
    let neutral = |text: &str| text.replace(&path, "DISK");
    let theirs: Vec<&str> = outcome.theirs();
    (outcome.code(), outcome.timed_out, neutral(&outcome.stdout), neutral(&theirs.join("\n")))
}

/// A program on a full disk, without the library and with it: no difference. `prepare` is done with space and without the
/// library, `room` is what the disk has left then, `after` (with all space again) gives what must be the same too.
#[track_caller]
fn untouched(
    kind: Kind,
    room: u64,
    prepare: impl Fn(&Disk),
    run: impl Fn(&Disk) -> Run,
    after: impl Fn(&Disk) -> String,
) -> Both {
    let once = |preload: bool| {
        let disk = Disk::new(kind);
        prepare(&disk);
        disk.fill();
        if room > 0 {
            disk.free_some(room);
        }
        let outcome = run(&disk).preload(preload).timeout(Duration::from_secs(60)).output();
        disk.free();
        let seen = seen(&disk, &outcome);
        (seen, after(&disk), outcome)
    };
    let (plain, preloaded) = (once(false), once(true));
    let both = Both { plain: plain.2, preloaded: preloaded.2 };
    let show = || format!("plain: {}\npreloaded: {}", both.plain, both.preloaded);
    assert_eq!(plain.0, preloaded.0, "the same end and output\n{}", show());
    assert_eq!(plain.1, preloaded.1, "the same on the disk afterwards\n{}", show());
    for line in both.preloaded.ours() {
        assert!(!line.contains("go to"), "nothing goes elsewhere: {}", both.preloaded);
    }
    let name = thread::current().name().unwrap_or_default().to_string();
    println!("{name:<46} exit {:?}: {}", both.plain.code(), both.plain.theirs().last().copied().unwrap_or(""));
    both
}

fn nothing(_: &Disk) {}

fn content(name: &'static str) -> impl Fn(&Disk) -> String {
    move |disk| format!("{:?}", fs::read(disk.join(name)).map(|bytes| (bytes.len(), sum(&bytes))).ok())
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, &b| sum.wrapping_mul(31).wrapping_add(b.into()))
}

fn sh(script: &str) -> impl Fn(&Disk) -> Run {
    let script = script.to_string();
    move |disk| Run::new(program("sh", "dash")).folder(disk.path()).args(["-c", &script])
}

fn bash(script: &str) -> impl Fn(&Disk) -> Run {
    let script = script.to_string();
    move |disk| Run::new(program("bash", "bash")).folder(disk.path()).args(["-c", &script])
}

fn history_on(kind: Kind) {
    let script = "HISTFILE=$PWD/.bash_history; set -o history; for i in {1..200}; do history -s \"command number $i\"; done; \
                  history -a; echo \"append $?\" >&2; history -w; echo \"write $?\" >&2";
    let before = |disk: &Disk| fs::write(disk.join(".bash_history"), "ls\n").expect("there is space");
    untouched(kind, 0, before, bash(script), content(".bash_history"));
}

#[needs(mounts)]
#[test]
fn bash_history() {
    history_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn bash_history_on_ext4() {
    history_on(Kind::Ext4);
}

#[needs(mounts)]
#[test]
fn files_by_name_that_are_no_logs() {
    let names = [
        "data.csv",
        "notes.txt",
        "appendonly.aof",
        "app.db-wal",
        "app.db-journal",
        "000003.log",
        "log.0000000001",
        "mysqld-bin.000001",
        "known_hosts",
        "authorized_keys",
        "mbox",
        "dhcpd.leases",
        "wtmp",
        ".python_history",
        "access.log.gz",
        "Maildir/new/1700000000.log",
        "wal/segment.log",
        "pg_wal/x.log",
        ".git/logs/HEAD",
        ".hg/undo.log",
        "mail/root",
        "journal/system.log",
        "audit.log",
        "translog.sst",
    ];
    let script: String = names
        .iter()
        .map(|name| {
            format!("for i in {{1..30}}; do echo \"some text, line $i\" >> {name} || echo \"{name} $i\" >&2; done;")
        })
        .collect();
    let before = move |disk: &Disk| {
        for name in names {
            let path = disk.join(name);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("there is space");
            fs::write(path, "").expect("there is space");
        }
    };
    let both = untouched(Kind::Tmpfs, 0, before, bash(&script), nothing_after);
    for name in names {
        both.plain.says(&format!("{name} 30"));
    }
}

fn nothing_after(_: &Disk) -> String {
    String::new()
}

#[needs(mounts)]
#[test]
fn output_that_is_data() {
    // The shell opens the file, the program writes it: nothing says that it is a log.
    for script in [
        "seq 1 20000 > numbers.csv",
        "seq 1 20000 > numbers.txt",
        "seq 1 20000 > numbers",
        "seq 20000 -1 1 | sort -n > sorted.txt",
        "seq 20000 -1 1 | sort -n -o sorted.txt",
        "seq 1 20000 | tee copy.txt > /dev/null",
        "seq 1 20000 >> numbers.csv",
        "seq 1 20000 | awk '{ print $1, $1 * 2 }' > table.tsv",
        "sed s/a/bbbbbbbbbbbbbbbbbbbb/ letters.txt > more.txt",
        "printf 'some text\\n' > config.yaml.new && mv config.yaml.new config.yaml",
    ] {
        let before = |disk: &Disk| fs::write(disk.join("letters.txt"), "a\n".repeat(3000)).expect("there is space");
        let both = untouched(
            Kind::Tmpfs,
            0,
            before,
            bash(&format!("set -o pipefail; {script}; echo \"exit $?\" >&2")),
            content("numbers.csv"),
        );
        both.plain.does_not_say("exit 0");
    }
}

#[needs(mounts)]
#[test]
fn dd_cp_and_tar() {
    let source = |disk: &Disk| {
        let folder = disk.path().parent().expect("a disk is mounted in a folder").join("source");
        fs::create_dir_all(&folder).expect("it can be made");
        fs::write(folder.join("text.log"), "a line of text\n".repeat(20_000)).expect("there is space");
        fs::write(folder.join("bytes"), vec![7; 300_000]).expect("there is space");
        fs::write(disk.join("there.log"), "already there\n").expect("there is space");
    };
    for script in [
        "dd if=/dev/zero of=zero bs=4k count=100 status=none",
        "dd if=../source/bytes of=there.log bs=4k oflag=append conv=notrunc status=none",
        "dd if=../source/text.log of=copy.txt bs=1000 conv=fsync status=none",
        "cp ../source/text.log copy.log",
        "cp --sparse=always ../source/bytes copy",
        "cp -r ../source tree 2> ../said; ended=$?; sort ../said >&2; (exit $ended)",
        "tar -cf packed.tar -C .. source",
        "tar -C .. -cf - source > packed.tar",
        "tar -C .. -czf - source | cat > packed.tar.gz && tar -C .. -cf packed.tar source",
        "tar -C .. -cf ../source/ok.tar source/text.log; tar -xf ../source/ok.tar",
        "install ../source/text.log installed.log",
        "truncate -s 1M sparse; mkdir folder; ln -s x link; echo \"made $?\" >&2; cp ../source/bytes sparse",
    ] {
        let both =
            untouched(Kind::Tmpfs, 0, source, sh(&format!("{script}; echo \"exit $?\" >&2")), content("there.log"));
        both.plain.does_not_say("exit 0");
    }
}

/// Found by reading: the verdict "log" stood although the writer had asked for durability since.
#[needs(mounts)]
#[test]
fn a_log_whose_writer_asks_for_durability_gets_the_true_error_from_then_on() {
    let disk = Disk::new(Kind::Tmpfs);
    fs::write(disk.join("app.log"), "").expect("there is space");
    disk.fill();
    let script = "import os, sys\ntry:\n    f = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n    \
                  os.write(f, b'one\\n'); os.fsync(f); os.write(f, b'two\\n')\nexcept OSError as e: sys.exit(e.errno)";
    let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script]);
    let both = run.both();
    assert_eq!((both.plain.code(), both.plain.stdout.as_str()), (Some(libc::ENOSPC), ""), "{}", both.plain);
    let preloaded = &both.preloaded;
    assert_eq!((preloaded.code(), preloaded.stdout.as_str()), (Some(libc::ENOSPC), "one\n"), "{preloaded}");
}

/// Found by trying: the filter said that all was well, and the log was replaced by the part that there was space for.
#[needs(mounts)]
#[test]
fn a_filter_that_rewrites_a_log_says_that_its_disk_is_full() {
    for filter in ["grep -v DEBUG", "sed s/INFO/info/", "awk 1", "tac"] {
        let seen = [false, true].map(|preload| {
            let disk = Disk::new(Kind::Tmpfs);
            let line = |n: u32| format!("2026-01-01 INFO a line of a log of some length, number {n}\n");
            fs::write(disk.join("app.log"), (0..2500).map(line).collect::<String>()).expect("there is space");
            let script = format!("{filter} app.log > new.log && mv new.log app.log");
            let outcome = Run::new("sh").args(["-c", &script]).folder(disk.path()).preload(preload).output();
            (outcome.succeeded(), fs::read_to_string(disk.join("app.log")).expect("it is there").lines().count())
        });
        assert_eq!(seen, [(false, 2500); 2], "{filter}");
    }
}

/// Found by reading: its number was forgotten before the stream was flushed.
#[needs(mounts)]
#[test]
fn a_durable_files_last_records_get_the_true_error_when_it_is_closed() {
    for how in ["fclose", "freopen"] {
        let seen = [false, true].map(|preload| {
            let disk = Disk::new(Kind::Tmpfs);
            let run = Run::new(fixture("disk_last")).arg(how).arg(disk.join("app.log")).arg(disk.join("filler"));
            let outcome = run.preload(preload).output();
            outcome.passes();
            let said = outcome.stderr.lines().filter(|line| line.starts_with(how)).collect::<String>();
            (said, outcome.stdout, fs::read(disk.join("app.log")).expect("it is there").len())
        });
        assert_eq!(seen[0], seen[1]);
        assert!(how == "freopen" || seen[0].0 == "fclose: not, ENOSPC", "{seen:?}");
    }
}

#[needs(mounts)]
#[test]
fn a_log_that_was_synchronised_once_is_no_log_any_more() {
    // Whoever asks for durability gets the truth, whatever the name.
    let script = "import os, sys\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
         for call in sys.argv[1:]: eval(call)\n\
         failed = 0\nfor i in range(100):\n    \
         try: failed += os.write(log, b'a line of text, and more of it to fill a page\\n') != 46\n    \
         except OSError as e: failed += 1; last = e\n\
         print(failed, last, file=sys.stderr)";
    for call in [
        "os.fsync(log)",
        "os.fdatasync(log)",
        "os.posix_fallocate(log, 0, 10)",
        "os.pwrite(log, b'x', 0)",
        "os.ftruncate(log, 100)",
    ] {
        untouched(
            Kind::Tmpfs,
            0,
            |disk| fs::write(disk.join("app.log"), "a line\n").expect("there is space"),
            |disk| Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script, call]),
            content("app.log"),
        )
        .plain
        .says("No space left on device");
    }
    for flag in ["os.O_SYNC", "os.O_DSYNC"] {
        untouched(
            Kind::Tmpfs,
            0,
            |disk| fs::write(disk.join("app.log"), "a line\n").expect("there is space"),
            |disk| {
                let script = script.replace("os.O_APPEND", &format!("os.O_APPEND | {flag}"));
                Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", &script])
            },
            content("app.log"),
        );
    }
}

#[needs(mounts)]
#[test]
fn bytes_that_are_no_text_are_no_log_lines() {
    let script = "import os, sys\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
         try:\n    while True: os.write(log, sys.argv[1].encode('latin-1') * 100)\nexcept OSError as e: print(e, file=sys.stderr)";
    for payload in
        ["\u{0}\u{1}binary", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "From someone@example.org Mon Jan 1\n"]
    {
        let payload = payload.replace('\u{0}', "\u{7f}\u{2}");
        untouched(
            Kind::Tmpfs,
            0,
            |disk| fs::write(disk.join("app.log"), "").expect("there is space"),
            |disk| Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script, &payload]),
            content("app.log"),
        )
        .plain
        .says("No space left on device");
    }
}

#[needs(mounts)]
#[test]
fn a_writer_of_both_gets_the_truth_for_its_data() {
    // One process, one full disk: its log goes elsewhere, its table does not.
    let disk = Disk::new(Kind::Tmpfs);
    fs::write(disk.join("app.log"), "").expect("there is space");
    let script = "import os, sys\n\
         log = os.open('app.log', os.O_WRONLY | os.O_APPEND)\ndata = os.open('table.csv', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n\
         for line in sys.stdin:\n    \
         if line.startswith(':'): open(line[1:-1], 'w').close(); continue\n    \
         os.write(log, line.encode())\n    \
         try: os.write(data, line.encode())\n    except OSError as e: print('data', e, file=sys.stderr)\n";
    let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script]).preload(true);
    let mut fed = Fed::start(&run);
    fed.log(1..=10);
    disk.fill();
    fed.log(11..=110);
    let outcome = fed.end();
    outcome.passes();
    assert!(outcome.stderr.matches("data [Errno 28]").count() > 50, "{outcome}");
    let account = tideover_tests::numbered::Account::new(
        &fs::read_to_string(disk.join("app.log")).expect("it is there"),
        &outcome.stdout,
    );
    account.complete(1..=110, 1);
}

#[needs(mounts)]
#[test]
fn nothing_is_made_where_there_was_nothing() {
    untouched(Kind::Tmpfs, 0, nothing, sh("ls -A; echo hello"), |disk| {
        format!("{:?}", fs::read_dir(disk.path()).map(Iterator::count))
    });
}
