//! Logs and holds that are not as they were: removed, cut, on another disk, another user's, too large for their folder.

use super::*;
use std::os::unix::fs::chown;
use std::time::Instant;
use tideover_tests::Running;

/// A writer of lines `from` to `to`, killed, of which those from `full_at` on did not fit on the disk.
fn killed_after(log: &Path, disk: &Disk, pages: &Path, from: u32, full_at: u32, to: u32) {
    let mut fed = Fed::start(&writer(log).page_dir(pages));
    fed.log(from..=full_at - 1);
    disk.fill();
    fed.log(full_at..=to);
    fed.writer().signal(libc::SIGKILL);
    drop(fed.end());
}

#[needs(mounts)]
#[test]
fn a_log_that_was_removed_is_not_made_anew() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    killed_after(&log, &disk, pages.path(), 1, 50, 100);
    fs::remove_file(&log).expect("it is there");
    disk.free();
    let said = clean(pages.path());
    assert!(said.contains("gone"), "{said}");
    assert!(!log.exists() && holds(pages.path()).is_empty());
}

#[needs(mounts)]
#[test]
fn a_log_whose_disk_is_not_mounted_keeps_its_lines() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let folder = disk.join("logs");
    fs::create_dir(&folder).expect("there is space");
    let log = folder.join("app.log");
    killed_after(&log, &disk, pages.path(), 1, 50, 100);
    disk.free();
    let mount = |args: &[&std::ffi::OsStr]| {
        assert!(Command::new("mount").args(args).status().expect("mount runs").success());
    };
    // Another disk is where the log was, and has a file of its name.
    mount(&["-t".as_ref(), "tmpfs".as_ref(), "tmpfs".as_ref(), folder.as_os_str()]);
    fs::write(&log, "another's\n").expect("there is space");
    let said = clean(pages.path());
    assert!(said.contains("another filesystem"), "{said}");
    assert_eq!(text(&log), "another's\n");
    assert!(Command::new("umount").arg(&folder).status().expect("umount runs").success());
    clean(pages.path());
    Account::new(&text(&log), "").complete(1..=100, 0).file_is_whole(1..=100);
    assert!(holds(pages.path()).is_empty());
}

#[needs(mounts)]
#[test]
fn two_holds_of_one_log_are_put_back_the_older_one_first() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    killed_after(&log, &disk, pages.path(), 1, 50, 100);
    let first = holds(pages.path()).remove(0);
    // Where the next process does not see it.
    let hidden = pages.path().join("hidden");
    fs::rename(&first, &hidden).expect("it is there");
    killed_after(&log, &disk, pages.path(), 101, 101, 150);
    fs::rename(&hidden, &first).expect("it is there");
    assert_eq!(holds(pages.path()).len(), 2);
    disk.free();
    clean(pages.path());
    Account::new(&text(&log), "").complete(1..=150, 0).file_is_whole(1..=150);
    assert!(holds(pages.path()).is_empty());
}

#[needs(mounts)]
#[test]
fn a_log_that_was_cut_meanwhile_gets_whole_lines() {
    for keep in [0, 150, 3_333] {
        let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
        let log = disk.log();
        killed_after(&log, &disk, pages.path(), 1, 50, 150);
        let file = fs::OpenOptions::new().write(true).open(&log).expect("it is there");
        file.set_len(keep).expect("it can be cut");
        disk.free();
        clean(pages.path());
        let account = Account::new(&text(&log), "");
        let back: Vec<u32> = account.in_file.iter().copied().filter(|&n| n > 100).collect();
        assert_eq!(back, (101..=150).collect::<Vec<u32>>(), "{account}");
        assert!(account.doubled().is_empty(), "{account}");
        assert!(text(&log).lines().skip(keep as usize / 100 + 1).all(|l| l.len() == 99 || l.starts_with("tideover")));
    }
}

#[needs(mounts)]
#[test]
fn a_log_that_is_cut_under_a_running_writer_gets_whole_lines() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=50);
    disk.fill();
    fed.log(51..=150);
    // As logrotate's copytruncate has it.
    fs::OpenOptions::new().write(true).open(&log).and_then(|file| file.set_len(0)).expect("it can be cut");
    disk.free();
    thread::sleep(BACK);
    fed.log(151..=160);
    fed.end().passes();
    let account = Account::new(&text(&log), "");
    let first = *account.in_file.first().expect("there are lines");
    assert!((51..=92).contains(&first), "{account}");
    account.file_is_whole(first..=160);
}

#[needs(mounts)]
#[test]
fn a_disk_that_fills_again_while_lines_are_put_back_gets_the_rest_later() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
    disk.fill();
    fed.log(1..=1800);
    for round in 0..3 {
        disk.free();
        let other = disk.join("other");
        fs::write(&other, vec![b'x'; (200 - round * 40) << 10]).expect("there is space");
        thread::sleep(BACK);
        let next = 1801 + round as u32 * 10;
        fed.log(next..=next + 9);
        assert_eq!(holds(pages.path()).len(), 1, "not all fits");
        disk.fill();
        fs::remove_file(&other).expect("it is there");
        disk.fill();
    }
    disk.free();
    thread::sleep(BACK);
    fed.log(1831..=1840);
    fed.end().passes();
    Account::new(&text(&log), "").complete(1..=1840, 0).file_is_whole(1..=1840);
    assert!(holds(pages.path()).is_empty());
}

#[needs(mounts)]
#[test]
fn a_hold_grows_to_its_bound_although_parts_of_it_are_put_back_meanwhile() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()).env("TIDEOVER_RECOVERY_FREE", "4K"));
    disk.fill();
    fed.log(1..=150);
    let filler = fs::OpenOptions::new().write(true).open(disk.join("filler")).expect("it is there");
    for round in 0..5 {
        // Two pages: some 80 lines.
        let left = filler.metadata().expect("it is open").len() - 8192;
        filler.set_len(left).expect("it can be cut");
        thread::sleep(BACK);
        let next = 151 + round * 120;
        fed.log(next..=next + 119);
        assert_eq!(holds(pages.path()).len(), 1, "not all fits");
    }
    assert_eq!(fed.writer().page().counter("logs", "not_held_bytes"), 0);
    disk.free();
    thread::sleep(BACK);
    fed.log(751..=760);
    fed.end().passes();
    Account::new(&text(&log), "").complete(1..=760, 0).file_is_whole(1..=760);
}

#[needs(mounts)]
#[test]
fn a_hold_that_may_be_larger_than_its_folder_keeps_what_fits() {
    // The folder's disk has 256 KiB; all lines together have twice as much.
    let (disk, small) = (Disk::new(Kind::Tmpfs), Disk::new(Kind::Tmpfs));
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_HOLD_DIR", small.path()).env("TIDEOVER_HOLD", "16M"));
    disk.fill();
    fed.log(1..=5000);
    let others = fed.writer().page().counter("logs", "not_held_bytes");
    disk.free();
    thread::sleep(BACK);
    fed.log(5001..=5010);
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&text(&log), &outcome.stdout);
    let first = *account.in_file.first().expect("there are lines");
    assert!((3000..=4900).contains(&first), "{first}: {account}");
    account.file_is_whole(first..=5010);
    // But for what the reader did not take in time.
    let sent = account.in_sink.iter().filter(|&&n| n < first).count();
    assert!(sent as u32 > first * 9 / 10, "the oldest are on standard output: {account}");
    assert!(others >= 300_000, "{others}");
    assert!(fs::read_dir(small.path()).expect("it is there").count() <= 1, "no hold is left");
}

#[needs(mounts)]
#[test]
fn a_hold_whose_folder_fills_meanwhile_keeps_what_it_has() {
    let (disk, small) = (Disk::new(Kind::Tmpfs), Disk::new(Kind::Tmpfs));
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_HOLD_DIR", small.path()));
    disk.fill();
    fed.log(1..=60);
    small.fill();
    fed.log(61..=1000);
    disk.free();
    thread::sleep(BACK);
    fed.log(1001..=1010);
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&text(&log), &outcome.stdout);
    let first = *account.in_file.first().expect("there are lines");
    account.file_is_whole(first..=1010);
    let sent = account.in_sink.iter().filter(|&&n| n < first).count();
    assert!(first > 1 && sent as u32 > first * 9 / 10, "{first}: {account}");
}

#[needs(mounts)]
#[test]
fn a_hold_of_another_user_is_not_used_and_writes_to_nobody_elses_log() {
    const NOBODY: u32 = 65534;
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    killed_after(&log, &disk, pages.path(), 1, 50, 100);
    disk.free();
    let before = text(&log);
    let [hold] = &holds(pages.path())[..] else { panic!("one hold") };
    // In root's folder, but not root's own.
    chown(hold, Some(NOBODY), None).expect("root may");
    assert!(!clean(pages.path()).contains("ut back"), "it is nobody's");
    assert_eq!(text(&log), before);
    // In that user's folder, of a log that is root's.
    let folder = hold.parent().and_then(Path::parent).expect("a folder");
    let theirs = pages.path().join(format!("tideover.{NOBODY}"));
    fs::rename(folder, &theirs).expect("it is there");
    for path in [&theirs, &theirs.join("holds")] {
        chown(path, Some(NOBODY), None).expect("root may");
    }
    let output = Command::new(tideover()).args(["clean", "--page-dir"]).arg(pages.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && said.contains("belongs to user 0"), "{said}");
    assert_eq!(text(&log), before);
    // Once it is that user's, root puts back for him.
    chown(&log, Some(NOBODY), None).expect("root may");
    clean(pages.path());
    Account::new(&text(&log), "").complete(1..=100, 0).file_is_whole(1..=100);
}

#[needs(mounts)]
#[test]
fn what_stands_where_the_lock_should_be_is_left_alone() {
    use std::os::unix::fs::symlink;
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let victim = disk.join("victim");
    fs::write(&victim, "mine\n").expect("there is space");
    let make: [&dyn Fn(&Path); 3] = [
        &|lock| symlink(&victim, lock).expect("a link can be made"),
        &|lock| fs::create_dir(lock).expect("there is space"),
        &|lock| assert!(Command::new("mkfifo").arg(lock).status().expect("it runs").success()),
    ];
    for (round, make) in make.iter().enumerate() {
        let first = round as u32 * 200 + 1;
        killed_after(&log, &disk, pages.path(), first, first + 50, first + 99);
        let folder = holds(pages.path())[0].parent().expect("a folder").to_path_buf();
        make(&folder.join("lock"));
        disk.free();
        clean(pages.path());
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        disk.fill();
        fed.log(first + 100..=first + 149);
        disk.free();
        thread::sleep(BACK);
        fed.log(first + 150..=first + 199);
        fed.end().passes();
        let _ = fs::remove_dir(folder.join("lock")).or_else(|_| fs::remove_file(folder.join("lock")));
    }
    assert_eq!(text(&victim), "mine\n");
    Account::new(&text(&log), "").complete(1..=600, 0).file_is_whole(1..=600);
}

#[test]
fn watch_says_once_that_a_hold_is_damaged_and_again_when_it_has_changed() {
    let pages = Scratch::new();
    // SAFETY: it only asks for a number.
    let me = unsafe { libc::geteuid() };
    let folder = pages.join(&format!("tideover.{me}/holds"));
    fs::create_dir_all(&folder).expect("it is made");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("they are its user's");
    let hold = folder.join("hold.4194305.1");
    let damage = |text: &str| {
        fs::write(&hold, text.repeat(4096)).expect("it is written");
        fs::set_permissions(&hold, fs::Permissions::from_mode(0o600)).expect("they are its user's");
    };
    damage("no hold ");
    let words = ["watch", "--interval", "20ms", "--only", "nothing", "--page-dir"];
    let mut watch = Run::new(tideover()).args(words).arg(pages.path()).start();
    watch.wait_for("watching");
    let count = |watch: &Running| watch.stderr_so_far().matches("hold.4194305.1 of user").count();
    let until = |watch: &Running, wanted: usize| {
        let end = Instant::now() + Duration::from_secs(30);
        while count(watch) < wanted {
            assert!(Instant::now() < end, "{}", watch.stderr_so_far());
            thread::sleep(Duration::from_millis(20));
        }
        // Many looks later.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(count(watch), wanted, "{}", watch.stderr_so_far());
    };
    until(&watch, 1);
    damage("another ");
    until(&watch, 2);
    watch.signal(libc::SIGTERM);
    watch.finish();
    assert!(hold.exists(), "it is left alone");
}
