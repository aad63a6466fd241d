//! The folders of pages: finding, reading and removing pages, in folders that any user may have made.
//!
//! Everybody may write to /dev/shm, so a folder counts only if its owner is the user in its name and it is no symbolic link;
//! all work in it goes through a descriptor of the folder. Pages are read by read(2), never mapped.
#![forbid(unsafe_code)]

use crate::before_exec::lease;
use crate::pages::belief::{Content, believed};
use crate::pages::containers;
use crate::pages::lifetime::{self, Life};
use crate::pages::without_page;
use crate::processes::process::{alive, boot_time_ns, tick_ns, user};
use crate::show::failure::{Failure, cause};
use crate::show::repeated;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, stat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::CStr;
use std::path::{Path, PathBuf};
use tideover_contract::page::{FIELDS, LAYOUT, NotAPage, SIZE, View, uncounted};
use tideover_contract::settings::{Id, SETTINGS};

/// The content of a page at the moment when it was read.
pub struct Page {
    /// Process id, which the name of the file and the page agree on.
    pub pid: u32,
    /// Owner of the folder that it lies in.
    user: u32,
    bytes: Box<[u8; SIZE]>,
}

impl Page {
    /// A page that was read.
    pub(super) fn new(pid: u32, user: u32, bytes: Box<[u8; SIZE]>) -> Page {
        Page { pid, user, bytes }
    }

    /// The content; None if it is not that of a page.
    pub fn view(&self) -> Option<View<'_>> {
        View::new(&*self.bytes).ok()
    }

    #[cfg(test)]
    pub fn forged(bytes: [u8; SIZE], pid: u32) -> Page {
        Page { pid, user: 0, bytes: Box::new(bytes) }
    }
}

/// What a walk through the folders has found and removed.
#[derive(Default)]
pub struct Found {
    /// Pages of guarded processes, by pid.
    pub pages: Vec<Page>,
    /// Process ids whose pages were removed.
    pub removed: Vec<u32>,
    /// Pages that should have been removed.
    pub kept: Vec<Unremoved>,
}

/// The page of a process that has ended, which could not be removed.
#[derive(Debug)]
pub struct Unremoved {
    /// Its process.
    pub pid: u32,
    /// Owner of the folder that it lies in.
    user: u32,
    error: Errno,
}

impl Unremoved {
    /// Which file it is, in a folder of folders of pages, why it is still there, and what helps.
    pub fn text(&self, base: &Path) -> String {
        unremoved(&base.join(format!("tideover.{}/{}", self.user, self.pid)), self.error)
    }
}

/// Says of a file why it could not be removed, and what helps.
pub(super) fn unremoved(file: &Path, error: Errno) -> String {
    let file = file.display();
    let remedy = match error {
        Errno::ROFS => format!("its filesystem is mounted read-only: findmnt -T {file}"),
        _ if !geteuid().is_root() => "sudo tideover clean".to_string(),
        _ => format!("lsattr -d {file} shows whether it is immutable (chattr -i), ls -ld whether its folder is"),
    };
    format!("{file}: {}; {remedy}", cause(&error.into()))
}

/// The folder that holds the folders of pages: that of the flag, else TIDEOVER_PAGE_DIR, else /dev/shm.
pub fn base(flag: Option<&PathBuf>) -> PathBuf {
    let setting = &SETTINGS[Id::PageDir as usize];
    let inherited = || std::env::var_os(setting.env).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    flag.cloned().or_else(inherited).unwrap_or_else(|| setting.default.into())
}

/// Reads all pages that this user may see (root sees those of all users), and removes those whose process has ended.
pub fn walk(base: &Path) -> Result<Found, Failure> {
    let me = geteuid().as_raw();
    let unreadable = |e: std::io::Error| {
        Failure::failed(format!(
            "cannot look for pages in {}: {}; name the folder with --page-dir",
            base.display(),
            cause(&e)
        ))
    };
    let users: Vec<u32> = if me == 0 {
        let entries = std::fs::read_dir(base).map_err(unreadable)?;
        entries
            .flatten()
            .filter_map(|e| e.file_name().to_str().and_then(|n| number(n.strip_prefix("tideover.")?)))
            .collect()
    } else {
        std::fs::metadata(base).map_err(unreadable)?;
        vec![me]
    };
    let mut found = Found::default();
    for user in users {
        if let Some(folder) = open_folder(base, user) {
            walk_folder(&folder, user, &mut found);
        }
    }
    let known = found.pages.iter().map(|page| page.pid).collect();
    for (pid, bytes) in without_page::find(base, &known) {
        found.pages.push(Page { pid, user: user(pid).unwrap_or(me), bytes: Box::new(bytes) });
    }
    let known = found.pages.iter().map(|page| page.pid).collect();
    found.pages.extend(containers::find(base, &known));
    one_of_each(&mut found.pages);
    Ok(found)
}

/// The page without counts of a process that has not the library: what a `tideover guard` has from outside is listed by it. None: it has
/// ended.
pub fn without_counts(pid: u32) -> Option<Page> {
    let bytes = Box::new(without_page::page(pid)?);
    Some(Page { pid, user: user(pid)?, bytes })
}

/// Sorts pages by process id and keeps one of each: that of the process's own user before the one that root has for it, which
/// was made before the process changed its user.
fn one_of_each(pages: &mut Vec<Page>) {
    pages.sort_by_key(|page| (page.pid, page.user == 0));
    pages.dedup_by_key(|page| page.pid);
}

/// What helps where there is no word to write yet.
const UNCOUNTED: &str = "the library makes one with the first events that it counts: say it again then; a program that is started \
                         with TIDEOVER_DISABLE=1 has everything passed through from its start";

/// Writes a word of `tideover control` into the page of a process, in which it is the only thing that readers write.
pub fn write_control(base: &Path, page: &Page, word: u32) -> Result<(), Failure> {
    let refused = |why: String| Failure::failed(format!("cannot tell process {} anything: {why}", page.pid));
    // A page without a version stands for one that the library has not made, or not filled in.
    if page.view().is_none_or(|view| view.version().is_empty()) {
        return Err(refused(format!("it has no page so far; {UNCOUNTED}")));
    }
    let folder = open_folder(base, page.user)
        .ok_or_else(|| refused("its page is not in this folder; say it inside of its container".to_string()))?;
    let name = page.pid.to_string();
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let pid = page.pid;
    let file = openat(&folder, &name, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT if alive(pid).is_none() => {
            refused("it has ended; `tideover ps` lists the guarded processes".into())
        }
        Errno::NOENT => refused("its page is gone; `tideover ps` lists the guarded processes".into()),
        Errno::ACCESS | Errno::PERM => refused(format!("{}; sudo tideover control {pid}", cause(&error.into()))),
        error => refused(cause(&error.into())),
    })?;
    let stat = fstat(&file).map_err(|error| refused(cause(&error.into())))?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || usize::try_from(stat.st_size) != Ok(SIZE) {
        return Err(refused(format!("it has no page so far; {UNCOUNTED}")));
    }
    let at = FIELDS.iter().find(|field| field.0 == "control").map_or(0, |field| field.1);
    let written =
        rustix::io::pwrite(&file, &word.to_ne_bytes(), at as u64).map_err(|error| refused(cause(&error.into())))?;
    if written == 4 { Ok(()) } else { Err(refused("its page is cut short".to_string())) }
}

fn open_folder(base: &Path, user: u32) -> Option<OwnedFd> {
    let path = base.join(format!("tideover.{user}"));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(CWD, &path, flags, Mode::empty()) {
        Ok(folder) if fstat(&folder).is_ok_and(|s| s.st_uid == user) => Some(folder),
        Ok(_) => {
            let text = format!(
                "{} does not belong to user {user} and is left alone; its owner may be up to something",
                path.display()
            );
            repeated::warn(&format!("folder {}", path.display()), "", &text);
            None
        }
        Err(Errno::NOENT) => None,
        Err(error) => {
            let text = format!("cannot read {}: {}", path.display(), cause(&error.into()));
            repeated::warn(&format!("folder {}", path.display()), "", &text);
            None
        }
    }
}

fn walk_folder(folder: &OwnedFd, user: u32, found: &mut Found) {
    let Ok(entries) = Dir::read_from(folder) else { return };
    let namespace = pid_namespace();
    for entry in entries.flatten() {
        let Some(pid) = entry.file_name().to_str().ok().and_then(number) else { continue };
        let Some((stat, bytes)) = read(folder, entry.file_name(), user, pid) else { continue };
        if View::new(&*bytes).is_ok_and(|view| is_other(view.pid_namespace(), namespace))
            && is_mapped(folder, entry.file_name())
        {
            log::info!("{pid} in the folder of user {user} is the page of a process in another pid namespace");
            continue;
        }
        let process = alive(pid);
        let life = match View::new(&*bytes) {
            // A page with another process id than its file's name is forged, or of another pid namespace.
            Ok(view) if view.pid() != pid => continue,
            Ok(view) => lifetime::compare(view, process, tick_ns()),
            // The page is not filled in yet, or of another version of the library: only the file's name can be believed.
            Err(NotAPage::New | NotAPage::Layout(_)) if process.is_none() => Life::Gone,
            Err(NotAPage::Layout(other)) => {
                let text = format!(
                    "process {pid} has a page of layout {other}, and this tideover reads layout {LAYOUT}; use the one of its version"
                );
                repeated::warn(&format!("page {pid} of {user}"), &stat.st_ino.to_string(), &text);
                continue;
            }
            Err(_) => continue,
        };
        match life {
            Life::Live if believed(user, pid, if stat.st_size == 0 { Content::Empty } else { Content::Written }) => {
                found.pages.push(Page { pid, user, bytes });
            }
            // Written by a user about a process of another, or an empty file without the library in the process.
            Life::Live => log::info!("the page of process {pid} in the folder of user {user} is not believed"),
            Life::Gone => match remove(folder, entry.file_name(), &stat) {
                Ok(true) => found.removed.push(pid),
                Ok(false) => {}
                Err(error) => found.kept.push(Unremoved { pid, user, error }),
            },
        }
    }
}

/// Number of this command's pid namespace; 0: /proc does not say.
fn pid_namespace() -> u64 {
    stat("/proc/self/ns/pid").map_or(0, |stat| stat.st_ino)
}

/// Are these the numbers of two pid namespaces? The same process id is then that of two processes.
fn is_other(page: u64, own: u64) -> bool {
    page != 0 && own != 0 && page != own
}

/// Has a process this page mapped? That is known across pid namespaces. True where the kernel does not say.
fn is_mapped(folder: &OwnedFd, name: &CStr) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).is_ok_and(|file| lease::is_written(&file).unwrap_or(true))
}

/// Reads a page by one read(2). None if the file can't be one: not regular, of a third user, or not of a page's size. `pid` is
/// the process id here, for an empty file.
pub(super) fn read(folder: &OwnedFd, name: &CStr, user: u32, pid: u32) -> Option<(Stat, Box<[u8; SIZE]>)> {
    // O_NONBLOCK: open(2) of a FIFO of that name would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(folder, name, flags, Mode::empty()).ok()?;
    let stat = fstat(&file).ok()?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular || (stat.st_uid != user && stat.st_uid != 0) {
        return None;
    }
    if stat.st_size == 0 {
        return Some((stat, Box::new(uncounted_page(pid, user, &stat))));
    }
    if usize::try_from(stat.st_size) != Ok(SIZE) {
        return None;
    }
    let mut bytes = Box::new([0u8; SIZE]);
    (rustix::io::read(&file, &mut bytes[..]) == Ok(SIZE)).then_some((stat, bytes))
}

/// The page that an empty file stands for: the process has made it, and had nothing to count yet.
fn uncounted_page(pid: u32, user: u32, stat: &Stat) -> [u8; SIZE] {
    let made = (stat.st_ctime as u64).saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec);
    uncounted(pid, user, made.saturating_sub(boot_time_ns()), made, crate::processes::process::name(pid).as_bytes())
}

/// Removes the file that was read, unless a new process of that number has put its own page there meanwhile.
fn remove(folder: &OwnedFd, name: &CStr, read: &Stat) -> rustix::io::Result<bool> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(now) if (now.st_dev, now.st_ino) == (read.st_dev, read.st_ino) => {}
        _ => return Ok(false),
    }
    match unlinkat(folder, name, AtFlags::empty()) {
        // Another reader has removed it.
        Err(Errno::NOENT) => Ok(false),
        done => done.map(|()| true),
    }
}

/// Reads a number as the library writes it into names: decimal digits without a sign or leading zeros.
pub(super) fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Makes the bytes of a page, for tests.
#[cfg(test)]
pub fn forge(pid: u32, page_state: u32, started_boot_ns: u64) -> [u8; SIZE] {
    use tideover_contract::page::MAGIC;
    let mut bytes = [0u8; SIZE];
    let mut put = |field: &str, value: &[u8]| {
        let at = FIELDS.iter().find(|(name, _)| *name == field).unwrap().1;
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    put("magic", &MAGIC.to_ne_bytes());
    put("layout", &LAYOUT.to_ne_bytes());
    put("size", &(SIZE as u32).to_ne_bytes());
    put("pid", &pid.to_ne_bytes());
    put("state", &page_state.to_ne_bytes());
    put("started_boot_ns", &started_boot_ns.to_ne_bytes());
    put("started_ns", &1_700_000_000_000_000_000u64.to_ne_bytes());
    put("version", b"0.1.0");
    put("program", b"forged");
    bytes
}

#[cfg(test)]
#[path = "folder_test.rs"]
mod tests;
