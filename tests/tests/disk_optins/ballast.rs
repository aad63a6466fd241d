//! `tideover ballast`: space that is kept for a full disk, and given up at the first write that finds it full.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, needs, tideover};

const NAME: &str = "tideover.ballast";
/// Bytes that are left of one that was given up.
const HEAD: u64 = 4096;

fn command(arguments: &[&str], folder: &Path) -> Outcome {
    Run::new(tideover()).arg("ballast").args(arguments).folder(folder).output()
}

/// Makes one of 64 KiB in the top folder of a disk.
#[track_caller]
fn made(disk: &Disk) -> PathBuf {
    command(&[".", "64K"], disk.path()).passes().says_on_stdout("64.0 KiB are kept");
    let path = disk.join(NAME);
    let status = fs::symlink_metadata(&path).expect("it is there");
    assert_eq!((status.len(), status.mode() & 0o7777), (64 << 10, 0o600));
    assert!(status.blocks() * 512 >= 64 << 10, "it takes blocks");
    path
}

trait Says {
    fn says_on_stdout(&self, text: &str) -> &Outcome;
}

impl Says for Outcome {
    #[track_caller]
    fn says_on_stdout(&self, text: &str) -> &Outcome {
        assert!(self.stdout.contains(text), "{text:?}: {self}");
        self
    }
}

/// Writes lines to a file in a folder of the disk by Python; ends with the errno of the first write that failed, or 0.
fn write(disk: &Disk, name: &str, lines: u32) -> Run {
    let text = format!(
        "import os\nfd = os.open({name:?}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\ntry:\n    \
         for n in range({lines}): os.write(fd, b'line %04d of this file\\n' % n)\n\
         except OSError as e: os._exit(e.errno)\nos._exit(0)"
    );
    python(&text).folder(disk.path())
}

fn lines(disk: &Disk, name: &str) -> Vec<String> {
    fs::read_to_string(disk.join(name)).unwrap().lines().map(str::to_string).collect()
}

fn expected(count: u32) -> Vec<String> {
    (0..count).map(|n| format!("line {n:04} of this file")).collect()
}

#[track_caller]
fn given_up_and_made_anew(kind: Kind) {
    let disk = Disk::new(kind);
    let ballast = made(&disk);
    let logs = disk.join("a/logs");
    fs::create_dir_all(&logs).unwrap();
    disk.fill();
    let plain = write(&disk, "a/logs/app.log", 500).output();
    assert_eq!(plain.code(), Some(libc::ENOSPC), "{plain}");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 64 << 10);
    fs::remove_file(logs.join("app.log")).unwrap();

    disk.fill();
    // The log can be created or not: data shows it, too, and nothing of it goes elsewhere.
    for (name, count) in [("a/logs/app.log", 500), ("a/data.bin", 500)] {
        let outcome = write(&disk, name, count).preload(true).output();
        assert_eq!(outcome.code(), Some(0), "{name}: {outcome}");
        assert_eq!(lines(&disk, name), expected(count), "{name}: all are in the file, and nothing else: {outcome}");
        let told = outcome.ours().iter().filter(|line| line.contains("tideover.ballast was given up")).count();
        assert_eq!(told, usize::from(name.ends_with("app.log")), "said once, by the first: {outcome}");
        assert_eq!(outcome.stdout, "", "nothing went elsewhere: {outcome}");
    }
    assert_eq!(fs::metadata(&ballast).unwrap().len(), HEAD);
    command(&["."], disk.path()).passes().says_on_stdout("was given up on a full disk");
    assert_eq!(command(&[".", "64K"], disk.path()).code(), Some(1), "there is no room for it");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), HEAD, "so it is as it was");
    disk.free();
    command(&[".", "64K"], disk.path()).passes();
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 64 << 10);
    command(&["--remove", "."], disk.path()).passes();
    assert!(!ballast.exists());
    command(&["."], disk.path()).fails().says("there is no ballast");
}

#[needs(mounts)]
#[test]
fn a_full_tmpfs_gives_its_ballast_up_before_a_line_goes_elsewhere() {
    given_up_and_made_anew(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn a_full_ext4_gives_its_ballast_up_before_a_line_goes_elsewhere() {
    given_up_and_made_anew(Kind::Ext4);
}

/// Puts something at a path.
type Forge<'a> = &'a dyn Fn(&Path);

/// A user who may write to the folder can put anything there under that name.
#[needs(mounts, root)]
#[test]
fn what_only_looks_like_a_ballast_is_not_touched() {
    let disk = Disk::new(Kind::Tmpfs);
    let real = made(&disk);
    fs::create_dir(disk.join("kept")).unwrap();
    let kept = disk.join("kept").join(NAME);
    fs::rename(&real, &kept).unwrap();
    let text = fs::read(&kept).unwrap();
    let forgeries: [(&str, Forge<'_>); 6] = [
        ("a symbolic link", &|at| symlink(&kept, at).unwrap()),
        ("a second name", &|at| fs::hard_link(&kept, at).unwrap()),
        ("a copy", &|at| fs::write(at, &text).unwrap()),
        ("a file of the user's", &|at| fs::write(at, "tideover ballast\n".repeat(1000)).unwrap()),
        ("another user's", &|at| {
            fs::rename(&kept, at).unwrap();
            chown(at, Some(12345), None).unwrap();
        }),
        ("a FIFO", &|at| assert!(std::process::Command::new("mkfifo").arg(at).status().unwrap().success())),
    ];
    for (what, forge) in forgeries {
        let there = disk.join(NAME);
        forge(&there);
        let before = |path: &Path| fs::metadata(path).ok().map(|status| (status.len(), status.blocks()));
        let (was, original) = (before(&there), before(&kept));
        disk.fill();
        let outcome = write(&disk, "data.bin", 500).preload(true).output();
        assert_eq!(outcome.code(), Some(libc::ENOSPC), "{what}: {outcome}");
        outcome.does_not_say("given up");
        assert_eq!((before(&there), before(&kept)), (was, original), "{what}");
        if what == "another user's" {
            fs::rename(&there, &kept).unwrap();
            chown(&kept, Some(0), None).unwrap();
        } else {
            let shown = command(&["."], disk.path());
            assert_eq!(shown.code(), Some(1), "{what}: {shown}");
            shown.says("left alone");
            assert_eq!(command(&["--remove", "."], disk.path()).code(), Some(1), "{what}");
            assert_eq!(command(&[".", "64K"], disk.path()).code(), Some(1), "{what}");
            assert!(fs::symlink_metadata(&there).is_ok(), "{what} is still there");
            fs::remove_file(&there).unwrap();
        }
        disk.free();
        fs::remove_file(disk.join("data.bin")).unwrap();
    }
    fs::rename(&kept, disk.join(NAME)).unwrap();
    disk.fill();
    let outcome = write(&disk, "data.bin", 500).preload(true).output();
    assert_eq!(outcome.code(), Some(0), "the real one, in its place, is given up: {outcome}");
}

#[needs(mounts)]
#[test]
fn a_ballast_is_refused_where_it_would_leave_too_little() {
    let disk = Disk::new(Kind::Tmpfs);
    for size in ["250K", "1G"] {
        command(&[".", size], disk.path()).fails().says("too little space is free");
        assert!(!disk.join(NAME).exists(), "{size}: nothing is left");
    }
    let other = command(&["./spare", "64K"], disk.path());
    assert_eq!(other.code(), Some(2), "{other}");
    for bad in ["0", "1K", "x", "2T", "off"] {
        assert_eq!(command(&[".", bad], disk.path()).code(), Some(2), "{bad}");
    }
    // Killed before it was finished.
    fs::write(disk.join(NAME), vec![0; 40_000]).unwrap();
    command(&["."], disk.path()).fails().says("not finished");
    made(&disk);
    command(&[&format!("./{NAME}"), "128K"], disk.path()).passes();
    assert_eq!(fs::metadata(disk.join(NAME)).unwrap().len(), 128 << 10, "another size");
}

/// A size that the disk could not hold removed the ballast that was there.
#[needs(mounts)]
#[test]
fn a_ballast_of_another_size_is_kept_until_the_new_one_is_whole() {
    let disk = Disk::new(Kind::Tmpfs);
    let ballast = made(&disk);
    let status = || fs::symlink_metadata(&ballast).expect("it is there");
    let first = (status().ino(), status().len(), status().blocks());
    command(&[".", "1G"], disk.path()).fails().says("too little space is free");
    assert_eq!((status().ino(), status().len(), status().blocks()), first, "as it was");
    command(&["."], disk.path()).passes().says_on_stdout("64.0 KiB are kept");
    for (size, bytes) in [("128K", 128 << 10), ("64K", 64 << 10)] {
        command(&[".", size], disk.path()).passes().says_on_stdout("are kept");
        assert_eq!((status().ino(), status().len()), (first.0, bytes), "{size}");
        assert!(status().blocks() * 512 >= bytes, "{size} takes blocks");
    }
    // One that was given up is made anew with another size, too; where that does not go, it stays given up.
    disk.fill();
    let outcome = write(&disk, "data.bin", 500).preload(true).output();
    assert_eq!((outcome.code(), status().len()), (Some(0), HEAD), "{outcome}");
    command(&[".", "128K"], disk.path()).fails().says("too little space is free");
    command(&["."], disk.path()).passes().says_on_stdout("was given up on a full disk").says("65536");
    disk.free();
    command(&[".", "128K"], disk.path()).passes().says_on_stdout("128.0 KiB are kept");
    assert_eq!((status().ino(), status().len()), (first.0, 128 << 10));
    disk.fill();
    let outcome = write(&disk, "more.bin", 500).preload(true).output();
    assert_eq!((outcome.code(), status().len()), (Some(0), HEAD), "a guarded program gives it up: {outcome}");
}

#[needs(mounts)]
#[test]
fn watch_gives_the_ballast_up_and_makes_it_anew() {
    let disk = Disk::new(Kind::Tmpfs);
    let pages = Scratch::new();
    let run =
        Run::new(tideover()).args(["watch", "--interval", "50ms", "--calm", "0s", "--page-dir"]).arg(pages.path());
    let run = run.arg("--ballast").arg(disk.path()).timeout(Duration::from_secs(60));
    run.output().fails().says("there is no ballast");
    let ballast = made(&disk);
    let mut watch = run.start();
    watch.wait_for("watching");
    disk.fill();
    watch.wait_for("gave up");
    watch.wait_for("raised warning ballast");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), HEAD);
    fs::write(disk.join("short"), "a program that is not guarded goes on").unwrap();
    disk.free();
    watch.wait_for("anew");
    watch.wait_for("cleared");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 64 << 10);
    fs::remove_file(&ballast).unwrap();
    watch.wait_for("is no ballast any more");
    watch.signal(libc::SIGTERM);
}
