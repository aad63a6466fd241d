//! The shared page of a program that a test runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tideover_contract::page::{self, View};

/// An event of the page, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `exhausted`, `recovered` ...
    pub kind: &'static str,
    /// `open64`, `pipe2` ...
    pub call: String,
    /// `raised`, `waited`, `hopeless` ...
    pub outcome: &'static str,
    /// errno of the first failure.
    pub errno: i32,
    /// Retries.
    pub tries: u32,
}

/// A copy of a page as it was at one moment.
#[derive(Clone, Debug)]
pub struct Page(Vec<u8>);

impl Page {
    /// Where the page of a process is, for pages kept under `dir`.
    pub fn path(dir: &Path, pid: u32) -> PathBuf {
        // SAFETY: geteuid(2) always succeeds and touches no memory.
        let uid = unsafe { libc::geteuid() };
        dir.join(format!("tideover.{uid}")).join(pid.to_string())
    }

    /// Puts a page with this content into the folder of a user's pages under `dir`, which is made if need be, and gives its path: the
    /// page, and its folder, are that user's, and every user may pass through `dir`.
    ///
    /// # Panics
    /// If that can't be done: only root may.
    pub fn put_as(user: u32, dir: &Path, pid: u32, bytes: &[u8]) -> PathBuf {
        let folder = dir.join(format!("tideover.{user}"));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let page = folder.join(pid.to_string());
        fs::write(&page, bytes).expect("there is space");
        for (path, mode) in [(&page, 0o600), (&folder, 0o700)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
            chown(path, Some(user), Some(user)).expect("root may");
        }
        fs::set_permissions(dir, fs::Permissions::from_mode(0o1777)).expect("it is ours");
        page
    }

    /// Reads the page of a process; None if it has none.
    pub fn read(dir: &Path, pid: u32) -> Option<Page> {
        let bytes = fs::read(Self::path(dir, pid)).ok()?;
        View::new(&bytes).ok()?;
        Some(Page(bytes))
    }

    /// The same of a guarded process that has had nothing to count: without counts.
    fn uncounted(pid: u32) -> Option<Page> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
        let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
        maps.contains("/libtideover.so").then(|| Page(page::uncounted(pid, 0, 0, 0, name.trim_ascii()).to_vec()))
    }

    /// Reads it, or finds that the process is guarded and has nothing to count, within 10 s.
    ///
    /// # Panics
    /// If it is neither.
    pub fn wait(dir: &Path, pid: u32) -> Page {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            match Self::read(dir, pid).or_else(|| Self::uncounted(pid)) {
                Some(page) => return page,
                None if Instant::now() > end => panic!("no page {} after 10 s", Self::path(dir, pid).display()),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The contract's view of it.
    pub fn view(&self) -> View<'_> {
        View::new(&self.0).expect("checked when it was read")
    }

    /// A counter of `exhaustion`, the section that these tests are about.
    pub fn exhaustion(&self, name: &str) -> u64 {
        self.counter("exhaustion", name)
    }

    /// Any counter.
    ///
    /// # Panics
    /// If there is none of that name.
    pub fn counter(&self, section: &str, name: &str) -> u64 {
        assert!(
            page::COUNTERS.iter().any(|c| c.section == section && c.name == name),
            "there is no counter {section}.{name}"
        );
        self.view().value(section, name)
    }

    /// The last events, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.view()
            .events()
            .map(|e| Event {
                kind: page::kind_name(e.kind),
                call: String::from_utf8_lossy(e.call).into_owned(),
                outcome: page::outcome_name(e.outcome),
                errno: e.errno,
                tries: e.tries,
            })
            .collect()
    }
}
