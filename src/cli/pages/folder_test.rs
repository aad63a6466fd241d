//! Folders of pages as programs leave them, and as an attacker would lay them out.
#![forbid(unsafe_code)]

use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
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
    // The library writes what it has counted, then the header: first the magic number, at last the state.
    let written = |header: usize| {
        let mut bytes = forge(dead, state::NEW, MUCH_LATER);
        bytes[header..16].fill(0);
        bytes[SIZE / 2] = 1;
        bytes
    };
    let mine = folder.put(&me.to_string(), &written(0));
    for header in [0, 8, 16] {
        folder.put(&dead.to_string(), &written(header));
        let found = folder.walk();
        assert_eq!((pids(&found), found.removed), (vec![], vec![dead]), "{header} bytes of the header");
        assert!(mine.exists());
    }
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
    let mut child = of_user(12345);
    put_theirs(&folder, &child.id().to_string(), &forge(child.id(), state::LIVE, MUCH_LATER));
    assert_eq!(pids(&folder.walk()), [child.id()]);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A process of another user.
fn of_user(user: u32) -> std::process::Child {
    Command::new("sleep").arg("60").uid(user).spawn().unwrap()
}

/// A page that user 12345 puts into his folder.
fn put_theirs(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    let theirs = folder.base.path().join("tideover.12345");
    let path = theirs.join(name);
    fs::create_dir_all(&theirs).unwrap();
    fs::write(&path, bytes).unwrap();
    for path in [&path, &theirs] {
        chown(path, Some(12345), None).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    path
}

/// field/descriptors/forge_page.py: nobody told root that its cron had given up a million calls.
#[needs(root)]
#[test]
fn a_user_cannot_speak_for_the_process_of_another() {
    let (folder, me) = (Folder::new(), std::process::id());
    let forged = put_theirs(&folder, &me.to_string(), &forge(me, state::LIVE, MUCH_LATER));
    let empty = put_theirs(&folder, "1", b"");
    let found = folder.walk();
    assert!(found.pages.is_empty() && found.removed.is_empty() && found.kept.is_empty());
    assert!(forged.exists() && empty.exists(), "they are left alone");
    // Of his own process he may tell, and root may tell of anybody's.
    let mut child = of_user(12345);
    folder.put(&child.id().to_string(), &forge(child.id(), state::LIVE, MUCH_LATER));
    assert_eq!(pids(&folder.walk()), [child.id()]);
    let mut own = forge(child.id(), state::LIVE, MUCH_LATER);
    own[64..70].copy_from_slice(b"theirs");
    put_theirs(&folder, &child.id().to_string(), &own);
    let found = folder.walk();
    assert_eq!((found.pages.len(), found.pages[0].view().unwrap().program()), (1, &b"theirs"[..]), "its own user's");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_empty_file_needs_the_library_in_the_process() {
    let (folder, me) = (Folder::new(), std::process::id());
    let empty = folder.put(&me.to_string(), b"");
    assert!(folder.walk().pages.is_empty() && empty.exists());
}
