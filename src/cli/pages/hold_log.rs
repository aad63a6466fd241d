//! A log into which the lines of a hold are put back, opened by the path that the hold names, which is not to be trusted.
#![forbid(unsafe_code)]

use crate::show::failure::cause;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatVfs, StatxFlags, fstat, fstatvfs, openat, statx};
use rustix::process::geteuid;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use tideover_contract::hold::{PIECE, Target};

/// What the library takes for st_dev of a log that could not be created.
const UNCREATED: u64 = u64::MAX;
/// Bytes that are enough free on a filesystem of any size, and what part of a filesystem is: as the library has it.
const ENOUGH: u64 = 100 << 20;
const PART: u64 = 20;

/// Why the lines of a removed log can't be put back.
pub const GONE: &str = "it is gone";
/// Why those of a log can't be put back whose filesystem is not mounted.
pub const ELSEWHERE: &str = "another filesystem is mounted where it was";
/// Why those of a hold that was damaged can't be.
pub const NOT_ABSOLUTE: &str = "its path is not absolute";

/// An open log.
pub struct HoldLog<'a> {
    file: File,
    /// The same file for reading, if it may be read.
    reader: Option<File>,
    /// The bytes of the hold.
    hold: &'a RefCell<Vec<u8>>,
}

impl<'a> HoldLog<'a> {
    /// Opens the log of this identity (st_dev, st_ino) that was made then, called `path` or by now something else in its folder, for lines that `user` has kept
    /// in `hold`. The error says why not.
    pub fn open(
        path: &[u8],
        (identity, born): ((u64, u64), u64),
        user: u32,
        mode: u32,
        hold: &'a RefCell<Vec<u8>>,
    ) -> Result<HoldLog<'a>, String> {
        let path = Path::new(OsStr::from_bytes(path));
        if !path.is_absolute() {
            return Err(NOT_ABSOLUTE.into());
        }
        let create = identity.0 == UNCREATED;
        if create && user != geteuid().as_raw() {
            return Err("it was never created, and only its user may do that".into());
        }
        let path = if create { path.to_path_buf() } else { present_path(path, identity)? };
        let flags =
            OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let more = if create { OFlags::CREATE } else { OFlags::empty() };
        let opened = openat(CWD, &path, flags | more, Mode::from_raw_mode(mode & 0o666));
        let file = File::from(opened.map_err(|error| format!("it can't be opened: {}", cause(&error.into())))?);
        let status = fstat(&file).map_err(|error| cause(&error.into()))?;
        if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
            return Err("it is no regular file".into());
        }
        if !create && ((status.st_dev, status.st_ino) != identity || birth(&file) != born) {
            return Err(GONE.into());
        }
        // Whoever wrote the hold chose the path: root must not write for him what he could not write himself.
        if status.st_uid != user && user != 0 && geteuid().is_root() {
            return Err(format!("it belongs to user {}, and its lines were kept by user {user}", status.st_uid));
        }
        if status.st_nlink > 1 && geteuid().is_root() && user != 0 {
            return Err("it has a second name".into());
        }
        Ok(HoldLog { file, reader: File::open(&path).ok(), hold })
    }

    /// Has its filesystem as much room as the library wants before it writes to a log again, and for `more` bytes?
    pub fn has_room(&self, more: u64) -> bool {
        fstatvfs(&self.file).is_ok_and(|fs| is_room(&fs, more))
    }

    /// st_dev and st_ino.
    pub fn identity(&self) -> (u64, u64) {
        self.file.metadata().map_or((0, 0), |status| (status.dev(), status.ino()))
    }

    /// Appends a line of ours.
    pub fn note(&self, text: &str) -> bool {
        let newline = if self.ends_mid_line() { "\n" } else { "" };
        (&self.file).write_all(format!("{newline}{text}\n").as_bytes()).is_ok()
    }

    fn len(&self) -> u64 {
        self.file.metadata().map_or(0, |status| status.len())
    }
}

/// See [`HoldLog::has_room`].
pub fn is_room(fs: &StatVfs, more: u64) -> bool {
    let total = fs.f_blocks.saturating_mul(fs.f_frsize);
    // btrfs tells users of no space while its metadata is nearly full, also long after data was removed; it has no inodes to count.
    let blocks = if fs.f_files == 0 { fs.f_bfree } else { fs.f_bavail };
    blocks.saturating_mul(fs.f_frsize) >= (total / PART).clamp(1, ENOUGH).max(more.saturating_add(4096))
}

/// When a file was made, nanoseconds of CLOCK_REALTIME; 0: its filesystem does not say.
fn birth(file: &File) -> u64 {
    match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME) {
        Ok(status) if status.stx_mask & StatxFlags::BTIME.bits() != 0 => {
            (status.stx_btime.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(status.stx_btime.tv_nsec.into())
        }
        _ => 0,
    }
}

/// Where the file of this identity is: at its path, or elsewhere in its folder.
fn present_path(path: &Path, identity: (u64, u64)) -> Result<PathBuf, String> {
    let is_it = |path: &Path| path.symlink_metadata().is_ok_and(|status| (status.dev(), status.ino()) == identity);
    if is_it(path) {
        return Ok(path.to_path_buf());
    }
    let folder = path.parent().ok_or("it has no folder")?;
    let entries = std::fs::read_dir(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound => GONE.to_string(),
        _ => format!("its folder can't be read: {}", cause(&error)),
    })?;
    // The files of an overlay have other devices than its folders.
    let mut is_mounted = folder.metadata().is_ok_and(|status| status.dev() == identity.0);
    for path in entries.flatten().map(|entry| entry.path()) {
        if is_it(&path) {
            return Ok(path);
        }
        is_mounted |= path.symlink_metadata().is_ok_and(|status| status.dev() == identity.0);
    }
    Err(if is_mounted { GONE } else { ELSEWHERE }.into())
}

impl Target for HoldLog<'_> {
    fn size(&self) -> Option<u64> {
        self.file.metadata().ok().map(|status| status.len())
    }

    fn append(&self, offset: usize, length: usize) -> Result<usize, i32> {
        let hold = self.hold.borrow();
        let text = hold.get(offset..offset.saturating_add(length)).unwrap_or(&[]);
        let whole = if text.len() < PIECE { None } else { text.iter().rposition(|&byte| byte == b'\n') };
        let text = &text[..whole.map_or(text.len(), |at| at + 1)];
        (&self.file).write(text).map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    fn end_line(&self) -> Result<(), i32> {
        (&self.file).write_all(b"\n").map_err(|error| error.raw_os_error().unwrap_or(libc::EIO))
    }

    fn ends_mid_line(&self) -> bool {
        let mut last = [b'\n'];
        let Some(at) = self.len().checked_sub(1) else { return false };
        self.reader.as_ref().is_some_and(|reader| reader.read_exact_at(&mut last, at).is_ok() && last != *b"\n")
    }

    fn holds(&self, at: u64, offset: usize, length: usize) -> usize {
        let hold = self.hold.borrow();
        let text = hold.get(offset..offset.saturating_add(length)).unwrap_or(&[]);
        let mut there = vec![0; text.len()];
        let read = self.reader.as_ref().and_then(|reader| reader.read_at(&mut there, at).ok()).unwrap_or(0);
        there[..read].iter().zip(text).take_while(|(a, b)| a == b).count()
    }

    fn stands(&self, at: u64, offset: usize, length: usize) -> bool {
        self.reader.is_none() || self.holds(at, offset, length) == length
    }

    fn line_start(&self, offset: usize, upto: usize) -> usize {
        let hold = self.hold.borrow();
        let before = hold.get(offset..offset.saturating_add(upto)).unwrap_or(&[]);
        before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
    }

    fn line_length(&self, offset: usize, length: usize) -> usize {
        let hold = self.hold.borrow();
        let text = hold.get(offset..offset.saturating_add(length)).unwrap_or(&[]);
        text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1)
    }
}
