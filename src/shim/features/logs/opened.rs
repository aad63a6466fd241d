//! An open regular file as the kernel knows it: its path, its first bytes, its last byte, the names in its directory.
#![forbid(unsafe_code)]

use core::cell::OnceCell;
use std::io::IoSlice;

use libc::c_int;

use super::files::Key;
use super::payload::Payload;
use super::program;
use super::sink::{self, Place, Sink};
use super::syncs;
pub(super) use crate::os::links::{descriptor as link, working_directory};
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, SYNCED};
use crate::state::report::Printable;
use crate::state::settings::SETTINGS;
use crate::state::streams;
use tideover_contract::rule::{self, Facts, Refusal};

/// Bytes of the longest path, with its NUL; a file with a longer one is no log.
pub(super) const PATH: usize = 1024;
/// Most buffers of one write to the file.
const PIECES: usize = 64;
/// How many of the file's first bytes are looked at.
const HEAD: usize = 512;
/// How many bytes of what is written are compared with what may have been read.
const SAMPLE: usize = 64;
/// Fewer bytes may be the same by chance.
const SHORTEST_SAMPLE: usize = 16;
/// Descriptors below this number are looked at for a file that is copied.
const SOURCES: i32 = 64;

/// An open regular file.
pub(super) struct Log<'a> {
    /// The program's descriptor.
    pub(super) fd: c_int,
    /// What fstat(2) says of it.
    pub(super) status: &'a libc::stat,
    /// Its path as /proc says it; read when it is needed, which it is not for a diverted line of a known log.
    pub(super) path: OnceCell<Text<PATH>>,
    /// st_dev of the filesystem that is full.
    pub(super) device: u64,
    /// What the file is known by while it is diverted.
    pub(super) key: Key,
}

impl<'a> Log<'a> {
    /// A file whose path is not needed yet.
    pub(super) fn without_path(fd: c_int, status: &'a libc::stat) -> Log<'a> {
        Log { fd, status, path: OnceCell::new(), device: status.st_dev, key: Key::of_file(status) }
    }

    /// A file, and its path. None if the path is not known (there is no /proc) or too long.
    pub(super) fn with_path(fd: c_int, status: &'a libc::stat) -> Option<Log<'a>> {
        let log = Log::without_path(fd, status);
        (!log.path().is_empty()).then_some(log)
    }

    /// The path; empty if it is not known or too long.
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

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.status.st_size as u64
    }

    /// The path for messages.
    pub(super) fn name(&self) -> Printable<'_> {
        Printable(self.path())
    }

    /// Is this a log? `text` is the beginning of what is to be written.
    pub(super) fn judge(&self, text: &[u8]) -> Result<(), Refusal> {
        let mut head = [0u8; HEAD];
        let is_stderr = streams::STDERR.is_file(self.status);
        let flags = sys::status_flags(self.fd).unwrap_or(0);
        // Also where a shell has put a file there for one command.
        let is_stdout = self.fd == streams::STDOUT.number || streams::STDOUT.is_file(self.status);
        let has_stderr = || sys::fstat(streams::STDERR.number).is_ok_and(|other| Key::of_file(&other) == self.key);
        let is_result = is_stdout && !is_stderr && !has_stderr();
        let at_end = || sys::offset(self.fd) == Ok(self.size());
        let marks = descriptors::marks(self.fd);
        let facts = Facts {
            path: self.path(),
            flags,
            regular: true,
            standard: is_stderr && !program::is_filter(),
            at_end: flags & libc::O_APPEND == 0 && !is_result && at_end(),
            stderr: is_stderr,
            history: syncs::history(self.fd, marks),
            synced: marks & SYNCED != 0,
            positioned: false,
            payload: text,
            head: self.head(&mut head),
            include: SETTINGS.logs(),
            exclude: SETTINGS.logs_except(),
            copied: Some(&|| self.is_copied(text)),
        };
        rule::judge(&facts, || database_beside(self.path()))
    }

    /// Does `text`, which is to be written next, stand in another file that this process reads: where this file is now, or where the last
    /// read ended that was as long as the text? Then its writer reads and writes in step: it copies.
    fn is_copied(&self, text: &[u8]) -> bool {
        let sample = text.get(..SAMPLE).unwrap_or(text);
        let here = sys::offset(self.fd).unwrap_or(u64::MAX);
        let mut bytes = [0u8; SAMPLE];
        sample.len() >= SHORTEST_SAMPLE
            && (0..SOURCES).filter(|&fd| fd != self.fd).any(|fd| {
                let is_read = sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_WRONLY);
                let is_other = |status: &libc::stat| {
                    status.st_mode & libc::S_IFMT == libc::S_IFREG && Key::of_file(status) != self.key
                };
                is_read
                    && sys::fstat(fd).is_ok_and(|status| is_other(&status))
                    && sys::offset(fd).is_ok_and(|read| {
                        [here, read.wrapping_sub(text.len() as u64)]
                            .into_iter()
                            .filter(|&at| at < read)
                            .any(|at| sys::read_at(fd, &mut bytes, at).is_ok_and(|found| found.starts_with(sample)))
                    })
            })
    }

    /// The file's first bytes; empty if it can't be read.
    fn head<'b>(&self, to: &'b mut [u8]) -> &'b [u8] {
        let Some(fd) = self.reopen() else { return &[] };
        let length = sys::read_at(fd, to, 0).map_or(0, <[u8]>::len);
        sys::close(fd);
        to.get(..length).unwrap_or(&[])
    }

    fn reopen(&self) -> Option<c_int> {
        reopen(self.fd)
    }

    /// Writes as much to the file as it takes. Returns how many bytes that was, and the errno that ended it, or 0 if it was all. In one write:
    /// nobody else can write between the buffers of a writev(2).
    pub(super) fn write(&self, payload: Payload<'_>) -> (usize, c_int) {
        let mut written = 0;
        while written < payload.len() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (to, piece) in pieces.iter_mut().zip(payload.after(written).pieces()) {
                *to = IoSlice::new(piece);
                count += 1;
            }
            match sys::write_pieces(self.fd, pieces.get(..count).unwrap_or(&[])) {
                Ok(0) => return (written, libc::ENOSPC),
                Ok(more) => written += more,
                Err(errno) => return (written, errno),
            }
        }
        (written, 0)
    }

    /// Does the file end in the middle of a line? `known` is the answer if the file can't be opened for reading.
    pub(super) fn ends_mid_line(&self, known: bool) -> bool {
        ends_mid_line(self.fd).unwrap_or(known)
    }

    /// Where lines of this log can go now, after the place that has just failed.
    pub(super) fn sink(&self, after: Option<Place>) -> Option<Sink> {
        let is_log =
            |fd: c_int, status: &libc::stat| Log::with_path(fd, status).is_some_and(|log| log.judge(b"\n").is_ok());
        sink::choose(self.device, &is_log, after)
    }
}

/// Opens the file of a descriptor once more, for reading: the program's descriptor is open for writing only. Not a file with a lock of
/// fcntl(2): that of this process would be gone when any descriptor of the file is closed.
pub(super) fn reopen(fd: c_int) -> Option<c_int> {
    if sys::has_record_lock(fd) {
        return None;
    }
    sys::open(link(fd).as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY, 0).ok()
}

/// Does the file of this descriptor end in the middle of a line? None: it can't be opened for reading.
pub(super) fn ends_mid_line(of: c_int) -> Option<bool> {
    let fd = reopen(of)?;
    let size = sys::fstat(fd).map_or(0, |status| status.st_size as u64);
    let mut last = [b'\n'];
    let mid_line = size > 0 && sys::read_at(fd, &mut last, size - 1).is_ok_and(|byte| byte != b"\n");
    sys::close(fd);
    Some(mid_line)
}

/// The directory of a file, by its absolute path.
pub(super) fn directory(path: &[u8]) -> Text<PATH> {
    let length = path.iter().rposition(|&b| b == b'/').unwrap_or(0).max(1);
    let mut directory = Text::new();
    directory.set(path.get(..length).unwrap_or(b"/"));
    directory
}

/// The path of the file of this inode number in a folder, in `to`; empty if there is none.
pub(super) fn name_of(folder: &core::ffi::CStr, inode: u64, to: &mut Text<PATH>) {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let Ok(fd) = sys::open(folder, flags, 0) else { return };
    let mut bytes = [0u8; 1024];
    // A folder of a million files is not read to its end.
    for _ in 0..4096 {
        let Ok(mut entries @ [_, ..]) = sys::read_directory(fd, &mut bytes) else { break };
        while let Some((found, name, rest)) = first_entry(entries) {
            entries = rest;
            if found == inode {
                to.set(folder.to_bytes());
                let _ = to.push(b"/") && to.push(name);
            }
        }
        if !to.as_bytes().is_empty() {
            break;
        }
    }
    sys::close(fd);
}

/// Are there files of a database in the directory of this file?
pub(super) fn database_beside(path: &[u8]) -> bool {
    let directory = directory(path);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // A directory that can't be listed is no sign of a database: its log could be opened all the same.
    let Ok(fd) = sys::open(directory.as_c_str(), flags, 0) else { return false };
    let mut found = false;
    let mut entries = [0u8; 1024];
    // A directory of a million logs is not read to its end: of a database's files there are dozens, so some come early.
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
    core::iter::from_fn(move || {
        let (_, name, rest) = first_entry(entries)?;
        entries = rest;
        Some(name)
    })
}

/// Inode number and name in the first of the entries that getdents64(2) returned, and the entries behind it.
fn first_entry(entries: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    /// Offset of d_reclen in struct linux_dirent64.
    const LENGTH: usize = 16;
    /// Offset of d_name.
    const NAME: usize = 19;
    let inode = u64::from_ne_bytes(entries.get(..8)?.try_into().ok()?);
    let length = u16::from_ne_bytes(entries.get(LENGTH..LENGTH + 2)?.try_into().ok()?) as usize;
    let name = entries.get(NAME..length)?.split(|&b| b == 0).next()?;
    Some((inode, name, entries.get(length..)?))
}
