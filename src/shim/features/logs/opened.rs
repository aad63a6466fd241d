//! An open regular file as the kernel knows it: its path, its beginning, its end, its folder.

use core::cell::OnceCell;
use core::fmt::Write;

use libc::{c_int, iovec};

use super::files::Key;
use super::payload::Payload;
use super::rule::{self, Facts, History, Refusal};
use super::sink::{self, Sink};
use super::streams;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors;
use crate::state::report::Printable;
use crate::state::settings::SETTINGS;

/// Longest path that is looked at; a longer one is no log.
pub(super) const PATH: usize = 1024;
/// How much of the file's beginning is looked at.
const HEAD: usize = 512;

/// An open regular file, with what /proc knows of it.
pub(super) struct Log<'a> {
    pub(super) fd: c_int,
    pub(super) status: &'a libc::stat,
    /// Looked up when it is needed: a diverted line of a known log does without.
    pub(super) path: OnceCell<Text<PATH>>,
    /// The filesystem that is full.
    pub(super) device: u64,
    /// What the file is known by while it is diverted.
    pub(super) key: Key,
}

impl<'a> Log<'a> {
    /// A file whose path is not needed yet.
    pub(super) fn known(fd: c_int, status: &'a libc::stat) -> Log<'a> {
        Log { fd, status, path: OnceCell::new(), device: status.st_dev, key: Key::of_file(status) }
    }

    /// None if it has no path to be judged by: no /proc, or one that is too long.
    pub(super) fn look(fd: c_int, status: &'a libc::stat) -> Option<Log<'a>> {
        let log = Log::known(fd, status);
        (!log.path().is_empty()).then_some(log)
    }

    /// The path, or nothing.
    pub(super) fn path(&self) -> &[u8] {
        let path = self.path.get_or_init(|| {
            let mut bytes = [0u8; PATH];
            let mut path = Text::new();
            match sys::read_link(link(self.fd).as_c_str(), &mut bytes) {
                Ok(found) if found.len() < PATH - 1 && found.first() == Some(&b'/') => path.set(found),
                _ => {}
            }
            path
        });
        path.as_bytes()
    }

    pub(super) fn size(&self) -> u64 {
        self.status.st_size as u64
    }

    pub(super) fn name(&self) -> Printable<'_> {
        Printable(self.path())
    }

    pub(super) fn judge(&self, payload: Payload<'_>) -> Result<(), Refusal> {
        let mut head = [0u8; HEAD];
        let facts = Facts {
            path: self.path(),
            flags: sys::status_flags(self.fd).unwrap_or(0),
            regular: true,
            standard: streams::is_either(self.status) && !super::is_filter(),
            stderr: streams::STDERR.is_file(self.status),
            history: History::from_bits(descriptors::marks(self.fd) as u8),
            positioned: false,
            payload: payload.first(),
            head: self.head(&mut head),
            include: SETTINGS.logs(),
            exclude: SETTINGS.logs_except(),
        };
        rule::judge(&facts, || database_beside(self.path()))
    }

    /// The file's first bytes; empty if it can't be read.
    fn head<'b>(&self, to: &'b mut [u8]) -> &'b [u8] {
        let Some(fd) = self.reopen() else { return &[] };
        let length = sys::read_at(fd, to, 0).map_or(0, <[u8]>::len);
        sys::close(fd);
        to.get(..length).unwrap_or(&[])
    }

    /// The file once more, for reading: logs are open for writing only.
    fn reopen(&self) -> Option<c_int> {
        sys::open(link(self.fd).as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
            .ok()
    }

    /// Writes as much as goes: how many bytes that was, and the errno that ended it, or 0 if it was all.
    pub(super) fn write(&self, payload: Payload<'_>) -> (usize, c_int) {
        let mut written = 0;
        while written < payload.len() {
            match sys::write(self.fd, payload.after(written).first()) {
                Ok(0) => return (written, libc::ENOSPC),
                Ok(more) => written += more,
                Err(wrong) => return (written, wrong),
            }
        }
        (written, 0)
    }

    /// Does the file end in the middle of a line? `known`: what is known without a descriptor to look.
    pub(super) fn is_torn(&self, known: bool) -> bool {
        let Some(fd) = self.reopen() else { return known };
        let size = sys::fstat(fd).map_or(0, |status| status.st_size as u64);
        let mut last = [b'\n'];
        let torn = size > 0 && sys::read_at(fd, &mut last, size - 1).is_ok_and(|byte| byte != b"\n");
        sys::close(fd);
        torn
    }

    pub(super) fn sink(&self) -> Option<Sink> {
        let is_log = |fd: c_int, status: &libc::stat| {
            Log::look(fd, status).is_some_and(|log| {
                let text = [iovec { iov_base: c"\n".as_ptr().cast_mut().cast(), iov_len: 1 }];
                // SAFETY: static text.
                log.judge(unsafe { Payload::new(&text) }).is_ok()
            })
        };
        sink::choose(self.device, &is_log)
    }
}

/// What /proc has of this thread's descriptor: a thread may have descriptors of its own (unshare(2)), and /proc/self has the first one's.
pub(super) fn link(fd: c_int) -> Text<64> {
    of_thread(format_args!("fd/{fd}"))
}

/// The same of its working folder.
pub(super) fn working_folder() -> Text<64> {
    of_thread(format_args!("cwd"))
}

fn of_thread(what: core::fmt::Arguments<'_>) -> Text<64> {
    // Linux 3.17. Not by its number, which is another in another namespace.
    let whose = if sys::stat(c"/proc/thread-self", false).is_ok() { "thread-self" } else { "self" };
    let mut path = Text::new();
    let _ = write!(path, "/proc/{whose}/{what}");
    path
}

/// The folder that an absolute path lies in.
pub(super) fn folder(path: &[u8]) -> Text<PATH> {
    let length = path.iter().rposition(|&b| b == b'/').unwrap_or(0).max(1);
    let mut folder = Text::new();
    folder.set(path.get(..length).unwrap_or(b"/"));
    folder
}

/// Does the folder of this file hold a database's files?
pub(super) fn database_beside(path: &[u8]) -> bool {
    let folder = folder(path);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // A folder that can't be listed is no sign of a database; its log could be opened all the same.
    let Ok(fd) = sys::open(folder.as_c_str(), flags, 0) else { return false };
    let mut found = false;
    let mut entries = [0u8; 1024];
    // A log folder of a million files is not read to its end: databases have theirs early, and by the dozen.
    for _ in 0..64 {
        match sys::read_directory(fd, &mut entries) {
            Ok(&[]) | Err(_) => break,
            Ok(part) => found = names(part).any(rule::is_database_file),
        }
        if found {
            break;
        }
    }
    sys::close(fd);
    found
}

/// The names in what getdents64(2) returned.
pub(super) fn names(mut entries: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    core::iter::from_fn(move || {
        let length = u16::from_ne_bytes(entries.get(LENGTH..LENGTH + 2)?.try_into().ok()?) as usize;
        let name = entries.get(NAME..length)?.split(|&b| b == 0).next()?;
        entries = entries.get(length..)?;
        Some(name)
    })
}
