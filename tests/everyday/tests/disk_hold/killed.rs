//! The hold outlives a process that is killed.

use super::*;

/// A writer that is killed after its line 200, of which 101 to 200 did not fit on the disk.
fn killed(disk: &Disk, pages: &Path) -> (std::path::PathBuf, String) {
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    fed.writer().signal(libc::SIGKILL);
    let sent = fed.end().stdout;
    assert_eq!(holds(pages).len(), 1);
    (log, sent)
}

#[needs(mounts)]
#[test]
fn clean_puts_back_what_a_killed_process_has_left_once_there_is_space() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let (log, sent) = killed(&disk, pages.path());
    assert!(clean(pages.path()).contains("stay kept: its disk is full"), "{}", clean(pages.path()));
    disk.free();
    let said = clean(pages.path());
    assert!(said.contains("Put back") && said.contains("app.log"), "{said}");
    let account = Account::new(&text(&log), &sent);
    account.complete(1..=200, 1).file_is_whole(1..=200);
    assert!(account.is_put_back(), "{account}");
    assert!(!clean(pages.path()).contains("Put back"), "once");
    assert!(holds(pages.path()).is_empty());
    assert_eq!(text(&log).lines().count(), 201);
}

#[needs(images)]
#[test]
fn clean_puts_back_on_other_filesystems() {
    for kind in [Kind::Ext4, Kind::Xfs, Kind::Btrfs] {
        let (disk, pages) = (Disk::new(kind), Scratch::new());
        let (log, sent) = killed(&disk, pages.path());
        disk.free();
        clean(pages.path());
        Account::new(&text(&log), &sent).complete(1..=200, 1).file_is_whole(1..=200);
    }
}

#[needs(mounts)]
#[test]
fn the_next_process_of_the_log_puts_back_first_what_a_killed_one_has_left() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let (log, _) = killed(&disk, pages.path());
    // The disk is still full: it goes on where the other has stopped.
    let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
    fed.log(201..=300);
    assert_eq!(holds(pages.path()).len(), 1, "it has taken the hold over");
    disk.free();
    thread::sleep(BACK);
    fed.log(301..=310);
    fed.end().passes();
    Account::new(&text(&log), "").complete(1..=310, 0).file_is_whole(1..=310);
}

#[needs(mounts)]
#[test]
fn any_next_program_that_opens_files_puts_back_what_a_killed_one_has_left() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let (log, _) = killed(&disk, pages.path());
    disk.free();
    let script = "import os\nfds = [os.open('/dev/null', 0) for _ in range(30)]";
    python(script).preload(true).page_dir(pages.path()).output().passes();
    Account::new(&text(&log), "").complete(1..=200, 0).file_is_whole(1..=200);
    assert!(holds(pages.path()).is_empty());
}

#[needs(mounts)]
#[test]
fn killed_at_any_moment_while_it_puts_back() {
    let mut partly = 0;
    for round in 0..40u32 {
        let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
        let log = disk.log();
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        disk.fill();
        fed.log(1..=1800);
        disk.free();
        thread::sleep(BACK);
        fed.say(&line(1801));
        thread::sleep(Duration::from_micros(u64::from(round) * 15));
        fed.writer().signal(libc::SIGKILL);
        drop(fed.end());
        let before = text(&log).len();
        partly += u32::from(before > 0 && before < 180_000);
        clean(pages.path());
        let account = Account::new(&text(&log), "");
        // Whether the last line came to the program at all, nobody knows.
        let last = *account.in_file.last().expect("there are lines");
        assert!(last == 1800 || last == 1801, "round {round}: {account}");
        account.file_is_whole(1..=last);
        assert!(holds(pages.path()).is_empty());
    }
    println!("killed in the middle of putting back: {partly} of 40");
}

/// A cron job is a process or two each time, which end before anything else would put lines back.
#[needs(mounts)]
#[test]
fn the_next_short_program_whose_output_is_the_log_puts_back_what_is_left_before_its_own_line() {
    for preload in [true, false] {
        let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
        let log = disk.log();
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        disk.fill();
        fed.log(1..=100);
        fed.writer().signal(libc::SIGKILL);
        drop(fed.end());
        disk.free();
        let output = fs::OpenOptions::new().append(true).open(&log).expect("it is there");
        let next = Run::new("/bin/echo").arg("the next job").stdout(output);
        next.page_dir(pages.path()).preload(preload).output().passes();
        let text = text(&log);
        if preload {
            Account::new(&text, "").complete(1..=100, 0).file_is_whole(1..=100);
        }
        assert_eq!(text.lines().position(|line| line == "the next job") == Some(0), !preload, "{text}");
    }
}
