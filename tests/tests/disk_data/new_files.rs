//! Files that are made on a full disk, where that takes space.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Where nothing can be created: only a log that is opened to be appended to may seem to be. Everything else is refused.
fn new_files_on(kind: Kind) {
    let source = |disk: &Disk| {
        fs::write(disk.join("there.log"), "already there\n").expect("there is space");
        // Data is written while there is space; btrfs and xfs could not even take notice of it later.
        fs::write(disk.join("source.log"), "a line of text\n".repeat(3000)).expect("there is space");
    };
    let scripts = [
        "echo text > data.csv",
        "echo text >> data.csv",
        "echo text > new.log",
        "set -o noclobber; echo text > new.log",
        "cp source.log new.log",
        "cp --reflink=never source.log new.log",
        "dd if=source.log of=new.log bs=4k status=none",
        "dd if=source.log of=new.log bs=4k oflag=append status=none",
        "install source.log new.log",
        "tar -cf packed.tar source.log",
        "tar -cf new.log source.log",
        "touch new.log",
        "sqlite3 new.db 'create table t(x)' 2> /dev/null",
        "python3 -c 'open(\"new.log\", \"x\")' 2> /dev/null",
        "python3 -c 'open(\"new.log\", \"w\")' 2> /dev/null",
        // A name that a log has, but what is written is none: the error comes with the write rather than the open.
        "python3 -c 'f = open(\"new.log\", \"ab+\"); f.write(bytes(range(256))); f.flush()' 2> /dev/null",
        "python3 -c 'f = open(\"new.log\", \"ab\", 0); f.write(b\"From me@example.org\\n\")' 2> /dev/null",
        "python3 -c 'import os; f = open(\"new.log\", \"ab\"); f.write(b\"text\"); os.fsync(f); f.flush()' 2> /dev/null",
        "python3 -c 'f = open(\"new.log\", \"ab\", 0); f.truncate(100)' 2> /dev/null",
        "python3 -c 'import os; f = open(\"new.log\", \"ab\", 0); os.pwrite(f.fileno(), b\"text\", 0)' 2> /dev/null",
        "python3 -c 'import os; f = os.open(\"new.log\", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_SYNC)' 2> /dev/null",
        "python3 -c 'import os; f = os.open(\"new.log\", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL)' 2> /dev/null",
        "for name in appendonly.aof x-journal 000004.log mbox known_hosts .bash_history; do echo text >> $name; done",
        "mkdir folder",
        "ln -s there.log link.log",
        "mkfifo fifo.log",
    ];
    for script in scripts {
        let attempt = || {
            untouched(
                kind,
                0,
                source,
                bash(&format!("PATH=/usr/bin:/bin; {script}; echo \"exit $?\" >&2; ls -A | grep -v filler >&2")),
                |disk| {
                    let mut names: Vec<_> =
                        fs::read_dir(disk.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
                    names.sort();
                    format!("{names:?} {}", content("there.log")(disk))
                },
            )
        };
        // What a full btrfs still has room for is not the same from one to the next: there, one of 16 pairs has to be the same.
        let chances = if kind == Kind::Btrfs { 15 } else { 0 };
        let lucky = (0..chances).find_map(|_| catch_unwind(AssertUnwindSafe(attempt)).ok());
        let both = lucky.unwrap_or_else(attempt);
        let failed = !both.plain.stderr.contains("exit 0");
        println!("{kind:?}: {script:<60} {}", if failed { "refused" } else { "possible" });
    }
}

#[needs(images)]
#[test]
fn new_files_on_a_full_xfs() {
    new_files_on(Kind::Xfs);
}

#[needs(images)]
#[test]
fn new_files_on_a_full_btrfs() {
    new_files_on(Kind::Btrfs);
}

#[needs(images)]
#[test]
fn new_files_over_quota() {
    new_files_on(Kind::Quota);
}

/// A log that could not be created has a stand-in; whatever shows that it is no log, or more than one, gets the error that its
/// creation had: never success, and never the stand-in's own EPERM.
#[needs(images)]
#[test]
fn a_stand_in_takes_nothing_but_log_lines() {
    let kind = Kind::Xfs;
    let disk = Disk::new(kind);
    disk.fill();
    let mut wrong = vec![];
    for what in [
        "f.write(bytes(range(256)))",
        "f.write(b'From someone@example.org Mon Jan 1\\n')",
        "f.write(b'*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n$1\\r\\nb\\r\\n')",
        "f.write(b'text\\n'); os.fsync(f); f.write(b'more\\n')",
        "os.fdatasync(f); f.write(b'more\\n')",
        "f.truncate(100)",
        "os.pwrite(f.fileno(), b'text', 0)",
        "os.pwritev(f.fileno(), [b'text'], 0)",
        "os.posix_fallocate(f.fileno(), 0, 1000)",
    ] {
        let script = format!(
            "import os, sys\ntry:\n    f = open('new.log', 'ab', 0)\n    {what}\nexcept OSError as e: sys.exit(e.errno)"
        );
        let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", &script]);
        assert_eq!(run.output().code(), Some(libc::ENOSPC), "{what}");
        let outcome = run.preload(true).output();
        let seen = outcome.stdout.replace("text\n", "");
        if outcome.code() != Some(libc::ENOSPC) || !seen.is_empty() {
            wrong.push(format!("{what}: exit {:?}, {} bytes on standard output", outcome.code(), outcome.stdout.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
