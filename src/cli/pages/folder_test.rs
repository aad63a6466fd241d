//! Folders of pages as programs leave them, and as an attacker would lay them out.
#![forbid(unsafe_code)]

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;
use tideover_contract::page::state;
use tideover_tests::needs;

struct Folder {
    base: tempfile::TempDir,
    user: u32,
}

impl Folder {
    fn new() -> Folder {
        let folder = Folder { base: tempfile::tempdir().unwrap(), user: geteuid().as_raw() };
        fs::create_dir(folder.path()).unwrap();
        folder
    }

    fn path(&self) -> PathBuf {
        self.base.path().join(format!("tideover.{}", self.user))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn walk(&self) -> Found {
        walk(self.base.path()).unwrap()
    }
}

fn gone() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

fn pids(found: &Found) -> Vec<u32> {
    found.pages.iter().map(|page| page.pid).collect()
}

const MUCH_LATER: u64 = u64::MAX / 2;

#[test]
fn pages_of_the_living_are_listed_and_of_the_dead_removed() {
    let (folder, me, dead) = (Folder::new(), std::process::id(), gone());
    folder.put(&me.to_string(), &forge(me, state::LIVE, MUCH_LATER));
    let stale = folder.put(&dead.to_string(), &forge(dead, state::LIVE, MUCH_LATER));
    let found = folder.walk();
    assert_eq!(pids(&found), [me]);
    assert_eq!(found.pages[0].view().unwrap().program(), b"forged");
    assert_eq!(found.removed, [dead]);
    assert!(!stale.exists());
}

#[test]
fn a_reused_number_does_not_inherit_the_page() {
    let (folder, me) = (Folder::new(), std::process::id());
    // Made long before this process started.
    let path = folder.put(&me.to_string(), &forge(me, state::LIVE, 1));
    assert_eq!(folder.walk().removed, [me]);
    assert!(!path.exists());
}

#[test]
fn a_zombies_page_is_stale() {
    let folder = Folder::new();
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    folder.put(&pid.to_string(), &forge(pid, state::LIVE, MUCH_LATER));
    while alive(pid).is_some() {
        std::thread::yield_now();
    }
    assert_eq!(folder.walk().removed, [pid]);
    child.wait().unwrap();
}

#[test]
fn what_is_not_a_page_is_neither_read_nor_removed() {
    let (folder, me, dead) = (Folder::new(), std::process::id(), gone());
    let page = forge(dead, state::LIVE, MUCH_LATER);
    let name = dead.to_string();
    let mut kept = vec![
        folder.put(&format!("{name}.tmp"), &page),
        folder.put(&format!("0{name}"), &page),
        folder.put("notes", b"mine"),
        folder.put("4294967296", &page),
    ];
    let other = folder.put("99999999", &[7; SIZE]);
    let short = folder.put("99999998", &page[..SIZE - 1]);
    let long = folder.put("99999997", &[&page[..], b"x"].concat());
    let elsewhere = folder.base.path().join("elsewhere");
    fs::write(&elsewhere, page).unwrap();
    symlink(&elsewhere, folder.path().join(&name)).unwrap();
    fs::create_dir(folder.path().join("99999996")).unwrap();
    // A page with the id of another process.
    let liar = folder.put("99999995", &forge(me, state::LIVE, MUCH_LATER));
    kept.extend([other, short, long, elsewhere, folder.path().join(&name), folder.path().join("99999996"), liar]);
    let found = folder.walk();
    assert!(found.pages.is_empty() && found.removed.is_empty() && found.kept.is_empty());
    for path in kept {
        assert!(path.symlink_metadata().is_ok(), "{}", path.display());
    }
}

#[test]
fn an_unfinished_page_goes_with_its_process() {
    let (folder, me, dead) = (Folder::new(), std::process::id(), gone());
    let mine = folder.put(&me.to_string(), &[0; SIZE]);
    folder.put(&dead.to_string(), &[0; SIZE]);
    let found = folder.walk();
    assert_eq!((pids(&found), found.removed), (vec![], vec![dead]));
    assert!(mine.exists());
}

#[test]
fn a_folder_that_is_a_link_or_somebody_elses_is_left_alone() {
    let (folder, dead) = (Folder::new(), gone());
    let page = forge(dead, state::LIVE, MUCH_LATER);
    let bait = folder.put(&dead.to_string(), &page);
    let moved = folder.base.path().join("moved");
    fs::rename(folder.path(), &moved).unwrap();
    symlink(&moved, folder.path()).unwrap();
    assert!(folder.walk().removed.is_empty());
    fs::remove_file(folder.path()).unwrap();
    fs::rename(&moved, folder.path()).unwrap();
    if folder.user == 0 {
        chown(folder.path(), Some(12345), None).unwrap();
        assert!(folder.walk().removed.is_empty());
        chown(folder.path(), Some(0), None).unwrap();
        chown(&bait, Some(12345), None).unwrap();
        assert!(folder.walk().removed.is_empty(), "a page that another user put there");
    }
    assert!(bait.exists());
}

#[test]
fn a_missing_folder_is_said() {
    assert!(walk(Path::new("/nonexistent")).err().unwrap().text.contains("--page-dir"));
}

#[needs(root)]
#[test]
fn root_sees_all_users() {
    let folder = Folder::new();
    let me = std::process::id();
    let theirs = folder.base.path().join("tideover.12345");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join(me.to_string()), forge(me, state::LIVE, MUCH_LATER)).unwrap();
    for path in [theirs.join(me.to_string()), theirs.clone()] {
        chown(&path, Some(12345), None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(pids(&folder.walk()), [me]);
}
