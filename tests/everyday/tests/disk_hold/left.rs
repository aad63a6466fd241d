//! What is left in the folder of holds, and is none, or none that may be put back.

use super::*;
use std::os::unix::fs::symlink;

/// A writer that was killed after its line 100, of which none fits on the disk; the folder that its hold is in.
fn killed(disk: &Disk, pages: &Path) -> std::path::PathBuf {
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).page_dir(pages));
    disk.fill();
    fed.log(1..=100);
    fed.writer().signal(libc::SIGKILL);
    drop(fed.end());
    disk.free();
    log
}

#[needs(mounts)]
#[test]
fn a_log_that_was_replaced_by_a_link_gets_nothing() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = killed(&disk, pages.path());
    let victim = disk.join("victim");
    fs::write(&victim, "mine\n").expect("there is space");
    fs::remove_file(&log).expect("it is there");
    symlink(&victim, &log).expect("a link can be made");
    let said = clean(pages.path());
    assert!(said.contains("gone"), "{said}");
    assert_eq!(text(&victim), "mine\n");
}

#[needs(images)]
#[test]
fn a_file_that_has_the_inode_number_of_the_removed_log_gets_nothing() {
    use std::os::unix::fs::MetadataExt;
    let (disk, pages) = (Disk::new(Kind::Ext4), Scratch::new());
    let log = killed(&disk, pages.path());
    let number = fs::metadata(&log).expect("it is there").ino();
    fs::remove_file(&log).expect("it is there");
    let others: Vec<_> = ["app.log", "data", "more"].iter().map(|name| disk.join(name)).collect();
    others.iter().for_each(|other| fs::write(other, "mine\n").expect("there is space"));
    assert!(
        others.iter().any(|other| fs::metadata(other).expect("it is there").ino() == number),
        "ext4 gives it again"
    );
    let said = clean(pages.path());
    assert!(said.contains("gone"), "{said}");
    python("import os\nfds = [os.open('/dev/null', 0) for _ in range(30)]")
        .preload(true)
        .page_dir(pages.path())
        .output()
        .passes();
    others.iter().for_each(|other| assert_eq!(text(other), "mine\n"));
}

#[needs(mounts)]
#[test]
fn another_file_of_the_logs_name_gets_nothing_and_the_renamed_log_gets_its_lines() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = killed(&disk, pages.path());
    fs::rename(&log, disk.join("app.log.1")).expect("it is there");
    fs::write(&log, "new\n").expect("there is space");
    clean(pages.path());
    assert_eq!(text(&log), "new\n");
    Account::new(&text(&disk.join("app.log.1")), "").complete(1..=100, 0).file_is_whole(1..=100);
}

/// Of a hundred such holds each program that started looked at, an `ls` took a millisecond more.
#[needs(mounts)]
#[test]
fn a_hold_of_a_log_that_is_gone_is_looked_at_by_one_start_and_then_by_clean_and_the_next_outage() {
    for is_cleaned in [true, false] {
        let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
        let log = killed(&disk, pages.path());
        fs::rename(&log, disk.join("elsewhere")).expect("it is there");
        let start = || {
            let opens = python("import os\nfds = [os.open('/dev/null', 0) for _ in range(30)]");
            opens.preload(true).page_dir(pages.path()).output().passes();
        };
        start();
        let [gone] = &holds(pages.path())[..] else { panic!("one hold") };
        assert_eq!(gone.extension(), Some("gone".as_ref()), "{}", gone.display());
        fs::rename(disk.join("elsewhere"), &log).expect("it is there");
        start();
        assert_eq!((text(&log).as_str(), gone.exists()), ("", true));
        if is_cleaned {
            let said = clean(pages.path());
            assert!(said.contains("Put back"), "{said}");
            Account::new(&text(&log), "").complete(1..=100, 0).file_is_whole(1..=100);
            continue;
        }
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        disk.fill();
        fed.log(101..=200);
        disk.free();
        thread::sleep(BACK);
        fed.log(201..=210);
        fed.end().passes();
        Account::new(&text(&log), "").file_is_whole(1..=210);
        assert!(holds(pages.path()).is_empty());
    }
}

#[needs(mounts)]
#[test]
fn a_hold_that_was_cut_or_scribbled_on_harms_nobody() {
    for damage in 0..60usize {
        let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
        let log = killed(&disk, pages.path());
        let [hold] = &holds(pages.path())[..] else { panic!("one hold") };
        let mut bytes = fs::read(hold).expect("it is ours");
        let ring = bytes.len() - 16384;
        match damage % 4 {
            0 => bytes.truncate(damage * 20_000),
            1 => bytes[damage * 2..damage * 2 + 8].fill(0xff),
            2 => bytes[4096 + damage * 3..4096 + damage * 3 + 8].fill(damage as u8),
            _ => bytes[ring + damage..ring + damage + 16].fill(0xee),
        }
        fs::write(hold, bytes).expect("it is ours");
        drop(clean(pages.path()));
        // Whatever is in it: a new process finds it, and logs as ever.
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        disk.fill();
        fed.log(201..=300);
        disk.free();
        thread::sleep(BACK);
        fed.log(301..=310);
        fed.end().passes();
        let text = String::from_utf8_lossy(&fs::read(&log).expect("it is there")).into_owned();
        let account = Account::new(&text, "");
        let ours: Vec<u32> = account.in_file.iter().copied().filter(|&n| n > 200).collect();
        assert_eq!(ours, (201..=310).collect::<Vec<u32>>(), "damage {damage}: {account}");
    }
}

#[needs(mounts)]
#[test]
fn what_is_no_hold_is_left_alone() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = killed(&disk, pages.path());
    let hold = holds(pages.path()).remove(0);
    let folder = hold.parent().expect("a folder").to_path_buf();
    symlink("/etc/passwd", folder.join("hold.1.1")).expect("a link can be made");
    fs::write(folder.join("hold.2.2"), "TIDEHOLD").expect("there is space");
    fs::create_dir(folder.join("hold.3.3")).expect("there is space");
    fs::write(folder.join("notes"), "mine").expect("there is space");
    let linked = folder.join("hold.4.4");
    fs::hard_link(&hold, &linked).expect("a link can be made");
    clean(pages.path());
    assert_eq!(text(&log), "", "a hold with two names is nobody's");
    fs::remove_file(&linked).expect("it is there");
    clean(pages.path());
    Account::new(&text(&log), "").complete(1..=100, 0).file_is_whole(1..=100);
    for name in ["hold.1.1", "hold.2.2", "hold.3.3", "notes"] {
        assert!(fs::symlink_metadata(folder.join(name)).is_ok(), "{name}");
    }
}
