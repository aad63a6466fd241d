//! The pages of containers: a process in another mount namespace keeps its page in a folder of its own root, which is reached
//! through /proc/PID/root, under the process id that it has in its own pid namespace.
//!
//! Whoever rules a container can put anything there. So paths are followed within that root alone (openat2(2)), a page speaks
//! for processes of that mount namespace only, and nothing is removed.
#![forbid(unsafe_code)]

use crate::pages::belief::Content;
use crate::pages::folder::{Page, number, read};
use crate::pages::lifetime::{self, Life};
use crate::processes::each;
use crate::processes::mappings::{self, Code};
use crate::processes::process::{self, Environment, alive, tick_ns};
use crate::processes::root;
use rustix::fd::OwnedFd;
use rustix::fs::{Dir, Mode, OFlags, fstat, openat};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use tideover_contract::page::View;
use tideover_contract::settings::{Id, SETTINGS};

/// At most so many folders are looked for in a namespace: each process may name one.
const FOLDERS: usize = 8;
/// At most so many pages are read in a folder.
const PAGES: usize = 10_000;

/// The processes of one mount namespace: those with the same /proc/PID/ns/mnt.
#[derive(Default)]
struct Namespace {
    pids: Vec<u32>,
}

/// Finds the pages of processes in other mount namespaces than that of this command, except those in `known`.
pub fn find(base: &Path, known: &BTreeSet<u32>) -> Vec<Page> {
    let Some(own) = namespace("self") else { return Vec::new() };
    let mut others: BTreeMap<OsString, Namespace> = BTreeMap::new();
    let other = |pid: u32| Some((namespace(&pid.to_string()).filter(|id| *id != own)?, pid));
    for (id, pid) in each::ask(&each::pids(), other) {
        others.entry(id).or_default().pids.push(pid);
    }
    let mut pages: Vec<Page> = others.values().flat_map(|namespace| namespace.pages(base)).collect();
    pages.retain(|page| !known.contains(&page.pid));
    pages
}

/// `mnt:[4026531841]`; None if there is no such process, or this user may not see it.
fn namespace(pid: &str) -> Option<OsString> {
    Some(fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?.into_os_string())
}

impl Namespace {
    fn pages(&self, base: &Path) -> Vec<Page> {
        // Every process of the namespace has the same mounts; the first whose root can be opened will do.
        let Some((root, first)) = self.pids.iter().find_map(|pid| Some((root::open(*pid)?, *pid))) else {
            return Vec::new();
        };
        let mut inside: Option<HashMap<u32, u32>> = None;
        let users = UidMap::of(first);
        let mut pages = Vec::new();
        for folder in self.folders(base) {
            for (user, folder) in of_users(&root, &folder, &users) {
                let pids = inside.get_or_insert_with(|| self.inside());
                pages.extend(walk(&folder, user, pids, &users));
            }
        }
        pages
    }

    /// The folders in which pages may lie: the one that this command was told of; if it was told of none, also those that the
    /// processes were told of.
    fn folders(&self, base: &Path) -> BTreeSet<PathBuf> {
        if base != Path::new(SETTINGS[Id::PageDir as usize].default) {
            return BTreeSet::from([base.to_path_buf()]);
        }
        let named = |pid: &u32| Environment::of(*pid)?.get(SETTINGS[Id::PageDir as usize].env).map(PathBuf::from);
        let named = self.pids.iter().filter_map(named).filter(|path| path.is_absolute());
        std::iter::once(base.to_path_buf()).chain(named).take(FOLDERS).collect()
    }

    /// The process ids that the processes have in their own pid namespace, with those that they have here.
    fn inside(&self) -> HashMap<u32, u32> {
        self.pids.iter().filter_map(|&pid| Some((process::innermost(pid)?, pid))).collect()
    }
}

/// The folders of pages in a folder below `root`, each with the user id that its owner has here.
fn of_users(root: &OwnedFd, base: &Path, users: &UidMap) -> Vec<(u32, OwnedFd)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(folder) = root::open_within(root, base, flags) else { return Vec::new() };
    let Ok(entries) = Dir::read_from(&folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Some(user) = entry.file_name().to_str().ok().and_then(|name| number(name.strip_prefix("tideover.")?))
        else {
            continue;
        };
        let Ok(own) = openat(&folder, entry.file_name(), flags | OFlags::NOFOLLOW, Mode::empty()) else { continue };
        // Its name has the number that the user has inside.
        if let Ok(stat) = fstat(&own)
            && users.outside(user) == Some(stat.st_uid)
        {
            found.push((stat.st_uid, own));
        }
    }
    found
}

fn walk(folder: &OwnedFd, user: u32, inside: &HashMap<u32, u32>, users: &UidMap) -> Vec<Page> {
    let Ok(entries) = Dir::read_from(folder) else { return Vec::new() };
    let of_root = users.outside(0) == Some(user);
    let mut pages = Vec::new();
    for entry in entries.flatten().take(PAGES) {
        let Some(own) = entry.file_name().to_str().ok().and_then(number) else { continue };
        let Some(&pid) = inside.get(&own) else { continue };
        if !of_root && process::user(pid) != Some(user) {
            continue;
        }
        let Some((stat, bytes)) = read(folder, entry.file_name(), user, pid) else { continue };
        let content = if stat.st_size == 0 { Content::Empty } else { Content::Written };
        let Ok(view) = View::new(&*bytes) else { continue };
        let expected = if content == Content::Empty { pid } else { own };
        let lives = view.pid() == expected && lifetime::compare(view, alive(pid), tick_ns()) == Life::Live;
        if lives && (content == Content::Written || mappings::library(pid) != Code::Absent) {
            pages.push(Page::new(pid, user, bytes));
        }
    }
    pages
}

/// /proc/PID/uid_map: which user ids of this command's namespace those of a process are.
struct UidMap(Vec<(u32, u32, u32)>);

impl UidMap {
    fn of(pid: u32) -> UidMap {
        UidMap::parse(&String::from_utf8_lossy(&process::file(pid, "uid_map").unwrap_or_default()))
    }

    /// Lines of the first id inside, the first outside, and their number.
    fn parse(text: &str) -> UidMap {
        let line = |line: &str| {
            let mut numbers = line.split_whitespace().map(|word| word.parse().ok());
            Some((numbers.next()??, numbers.next()??, numbers.next()??))
        };
        UidMap(text.lines().filter_map(line).collect())
    }

    /// The id outside of one inside.
    fn outside(&self, inside: u32) -> Option<u32> {
        let range = self.0.iter().find(|(first, _, count)| inside >= *first && inside - first < *count)?;
        range.1.checked_add(inside - range.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_translated_as_the_kernel_does() {
        let map = UidMap::parse("         0     100000      65536\n     70000          7          1\nodd line\n");
        assert_eq!(
            [map.outside(0), map.outside(33), map.outside(65_535)],
            [Some(100_000), Some(100_033), Some(165_535)]
        );
        assert_eq!([map.outside(65_536), map.outside(70_000), map.outside(70_001)], [None, Some(7), None]);
        assert_eq!(UidMap::of(std::process::id()).outside(0), Some(0).filter(|_| UidMap::of(1).outside(0).is_some()));
        assert_eq!(UidMap::parse("").outside(0), None);
    }

    #[test]
    fn this_namespace_is_none_of_the_others() {
        assert!(find(Path::new("/dev/shm"), &BTreeSet::new()).iter().all(|page| page.pid != std::process::id()));
        assert_eq!(namespace("no such process"), None);
    }
}
