//! Logs that are rotated or removed while their disk is full.

use super::*;

/// A handler that opens its log anew when another file is in its place, as logrotate expects it.
const WATCHED: &str = "import logging, logging.handlers\n\
     logging.basicConfig(handlers=[logging.handlers.WatchedFileHandler(log)], level='INFO', format='%(message)s')\n\
     put = logging.info";

fn logrotate(folder: &Scratch, log: &Path, how: &str) -> String {
    let configuration = folder.write("rotate.conf", &format!("{} {{\n rotate 5\n {how}\n}}\n", log.display()));
    fs::set_permissions(&configuration, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("it is ours");
    let output = Command::new(program("logrotate", "logrotate"))
        .args(["-f", "-v", "-s"])
        .arg(folder.join("state"))
        .arg(&configuration)
        .output()
        .expect("logrotate runs");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A log that watches for its rotation, as Python's WatchedFileHandler does, on a disk that is full since its line 100.
struct Watched {
    disk: Disk,
    folder: Scratch,
    log: PathBuf,
    fed: Fed,
    rotations: u32,
}

impl Watched {
    fn filled(kind: Kind) -> Watched {
        let (disk, folder) = (Disk::new(kind), Scratch::new());
        let log = disk.log();
        let mut fed = Fed::start(&preloaded_python(WATCHED, &log));
        fed.log(1..=100);
        disk.fill();
        fed.log(101..=200);
        Watched { disk, folder, log, fed, rotations: 0 }
    }

    fn rotate(&mut self) {
        let said = logrotate(&self.folder, &self.log, "create\n nodateext");
        self.rotations += 1;
        assert!(self.disk.join(&format!("app.log.{}", self.rotations)).exists(), "{said}");
    }

    /// There is space again, and time to notice it.
    fn free(&self) {
        self.disk.free();
        thread::sleep(BACK);
    }

    /// After line 400: each line is in the file that it was written to. The oldest `full` files were written to while the disk was full:
    /// they have one note each, the others none. These lines follow the last note.
    fn ends(self, back: RangeInclusive<u32>, full: usize) {
        let outcome = self.fed.end();
        outcome.passes();
        let account = Account::new(&log_with_siblings(&self.log), &outcome.stdout);
        account.complete(1..=400, 1).in_order().file_is_whole(1..=400).back_in_the_file(back).markers_tell_all();
        assert_eq!(account.markers.len(), full, "{account}");
        let notes = |age: u32| {
            let name = if age == 0 { "app.log".to_string() } else { format!("app.log.{age}") };
            let text = fs::read_to_string(self.disk.join(&name)).expect("it is there");
            text.lines().filter(|line| Marker::parse(line).is_some()).count()
        };
        let expected = (0..=self.rotations).map(|age| usize::from(self.rotations - age < full as u32));
        assert_eq!((0..=self.rotations).map(notes).collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{account}");
    }
}

fn logrotate_renames_on(kind: Kind) {
    let mut log = Watched::filled(kind);
    log.rotate();
    log.fed.log(201..=300);
    log.free();
    log.fed.log(301..=400);
    log.ends(301..=400, 2);
}

#[needs(mounts)]
#[test]
fn logrotate_renames_the_log_while_the_disk_is_full() {
    logrotate_renames_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn logrotate_renames_the_log_while_an_ext4_is_full() {
    logrotate_renames_on(Kind::Ext4);
}

#[needs(mounts)]
#[test]
fn a_log_that_is_rotated_and_finds_space_again_is_no_longer_degraded() {
    let mut log = Watched::filled(Kind::Tmpfs);
    log.rotate();
    log.free();
    log.fed.log(201..=300);
    // The first write opened the new log; one of the next finds that it is the successor.
    thread::sleep(BACK);
    log.fed.log(301..=400);
    assert_eq!(log.fed.writer().page().counter("logs", "degraded"), 0);
    log.ends(201..=400, 1);
}

#[needs(mounts)]
#[test]
fn two_rotations_while_the_disk_is_full_end_in_a_note_in_each_file() {
    let mut log = Watched::filled(Kind::Tmpfs);
    log.rotate();
    log.fed.log(201..=300);
    log.rotate();
    log.fed.log(301..=350);
    log.free();
    log.fed.log(351..=400);
    log.ends(351..=400, 3);
}

#[needs(mounts)]
#[test]
fn logrotate_copies_and_truncates_the_log_while_the_disk_is_full() {
    // The copy goes to another disk; cutting the log makes room for the next lines.
    let (disk, folder) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=200);
    disk.fill();
    fed.log(201..=300);
    let old = folder.join("old");
    fs::create_dir(&old).expect("it can be made");
    let said = logrotate(&folder, &log, &format!("copytruncate\n nodateext\n olddir {}", old.display()));
    assert!(old.join("app.log.1").exists(), "{said}");
    thread::sleep(BACK);
    fed.log(301..=400);
    let outcome = fed.end();
    outcome.passes();
    let text = ended(&fs::read_to_string(old.join("app.log.1")).expect("it is there"))
        + &fs::read_to_string(&log).expect("it is there");
    let account = Account::new(&text, &outcome.stdout);
    println!("copytruncate elsewhere while full: {}", account.places());
    account.complete(1..=400, 1).in_order().back_in_the_file(301..=400).markers_tell_all();
}

#[needs(mounts)]
#[test]
fn logrotate_that_fails_to_copy_on_the_full_disk_changes_nothing() {
    let (disk, folder) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=200);
    disk.fill();
    fed.log(201..=300);
    let said = logrotate(&folder, &log, "copytruncate\n nodateext");
    assert!(said.contains("error"), "there is no space for the copy: {said}");
    let _ = fs::remove_file(disk.join("app.log.1"));
    fed.log(301..=350);
    disk.free();
    thread::sleep(BACK);
    fed.log(351..=400);
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=400, 2).in_order().markers_tell_all();
}

#[needs(mounts)]
#[test]
fn a_log_that_is_removed_while_the_disk_is_full() {
    // As after `rm app.log` in a hurry: the program goes on, its lines are elsewhere until it opens the log anew.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&preloaded_python(WATCHED, &log));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    let before = fs::read_to_string(&log).expect("it is there");
    fs::remove_file(&log).expect("it is there");
    fed.log(201..=210);
    disk.free();
    thread::sleep(BACK);
    fed.log(211..=300);
    let outcome = fed.end();
    outcome.passes();
    let now = fs::read_to_string(&log).expect("it was made anew");
    let account = Account::new(&(ended(&before) + &now), &outcome.stdout);
    account.complete(1..=300, 1).in_order();
}
