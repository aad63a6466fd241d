//! TIDEOVER_CLEANUP and TIDEOVER_TRUNCATE, both opt-in: space for a log whose disk is full, by removing its oldest rotated files or by
//! cutting the log itself.
#![forbid(unsafe_code)]

use core::ffi::{CStr, c_int};

use tideover_contract::settings::Id;

use super::opened::{Log, directory, link, names};
use crate::os::sys;
use crate::os::text::Text;
use crate::state::report::Printable;
use crate::state::settings::SETTINGS;
use crate::state::{page, process};

/// At most so many files are removed at a time.
const MOST_FILES: u32 = 64;
/// At most so many bytes of a log are kept when it is cut: they are copied while the program waits (docs/logs.md).
const MOST_KEPT: u64 = 1 << 30;
/// Descriptors below this number are looked at for a file that this process has open.
const DESCRIPTORS: i32 = 4096;
/// Bytes of the longest file name, with its NUL.
pub(super) const NAME: usize = 256;
/// Bytes that are copied at a time.
const COPY: usize = 2048;

/// Has the user asked for space to be freed, and may the library act in this process?
pub fn is_wanted() -> bool {
    (SETTINGS.get(Id::Cleanup) != 0 || SETTINGS.get(Id::Truncate) != 0) && process::may_act()
}

/// Frees space on the disk of this log. True if something was freed.
pub fn make_room(log: &Log<'_>) -> bool {
    let wanted = SETTINGS.get(Id::Cleanup);
    let cut = SETTINGS.get(Id::Truncate);
    let cleaned = wanted != 0 && remove_rotated(log, wanted);
    let truncated = cut != 0 && log.size() > cut && keep_the_end(log);
    cleaned || truncated
}

/// Removes rotated files of the log, oldest first, until so many bytes are free. True if one was removed.
fn remove_rotated(log: &Log<'_>, wanted: u64) -> bool {
    let Some(base) = log.path().rsplit(|&b| b == b'/').next() else { return false };
    let Some(folder) = folder_of(log, base) else { return false };
    let mut freed = 0u64;
    for _ in 0..MOST_FILES {
        if freed >= wanted || sys::filesystem(log.fd).is_ok_and(|fs| fs.available >= wanted) {
            break;
        }
        let Some((name, size)) = oldest_rotated(folder, base) else { break };
        if sys::unlink_in(folder, name.as_c_str()).is_err() {
            break;
        }
        freed += size;
        page::add(&page::counters().cleaned_files, 1);
        page::add(&page::counters().cleaned_bytes, size);
        log::warn!("{} beside {}: removed to make room, {size} bytes", Printable(name.as_bytes()), log.name());
    }
    sys::close(folder);
    freed > 0
}

/// A descriptor of the folder that the log is in. None if there may be another folder at its path by now: the log must be in it under its
/// name. None also if the folder is another user's, who could exchange what is in it at any time.
#[inline(never)]
pub(super) fn folder_of(log: &Log<'_>, base: &[u8]) -> Option<c_int> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let folder = sys::open(directory(log.path()).as_c_str(), flags, 0).ok()?;
    let mut name = Text::<NAME>::new();
    let is_in = name.push(base)
        && sys::stat_in(folder, name.as_c_str())
            .is_ok_and(|file| (file.st_dev, file.st_ino) == (log.status.st_dev, log.status.st_ino));
    let is_ours = sys::fstat(folder).is_ok_and(|status| status.st_uid == sys::geteuid() || status.st_uid == 0);
    if is_in && is_ours {
        return Some(folder);
    }
    sys::close(folder);
    None
}

/// The name of the rotated file in this folder that was last written longest ago, and the bytes that it takes on the disk.
fn oldest_rotated(folder: c_int, base: &[u8]) -> Option<(Text<NAME>, u64)> {
    // Another open file of the folder, since each has an offset of its own in the list of names.
    let list = sys::open(link(folder).as_c_str(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0).ok()?;
    let mut oldest: Option<(Text<NAME>, u64, i64)> = None;
    let mut entries = [0u8; 1024];
    while let Ok(part @ [_, ..]) = sys::read_directory(list, &mut entries) {
        for entry in names(part).filter(|name| is_rotated(base, name)) {
            let mut name = Text::<NAME>::new();
            let whole = name.push(entry);
            let Some(status) = removable(folder, name.as_c_str()).filter(|_| whole) else { continue };
            if oldest.as_ref().is_none_or(|&(_, _, age)| status.st_mtime < age) {
                oldest = Some((name, status.st_blocks as u64 * 512, status.st_mtime));
            }
        }
    }
    sys::close(list);
    oldest.map(|(name, size, _)| (name, size))
}

/// The status of a file that may be removed: a regular file of this user's that this process does not have open.
fn removable(folder: c_int, name: &CStr) -> Option<libc::stat> {
    let status = sys::stat_in(folder, name).ok()?;
    // With a second name, nothing would be freed.
    let owned =
        status.st_mode & libc::S_IFMT == libc::S_IFREG && status.st_uid == sys::geteuid() && status.st_nlink == 1;
    let is_open_as = |fd| sys::fstat(fd).is_ok_and(|open| (open.st_dev, open.st_ino) == (status.st_dev, status.st_ino));
    let end = i32::try_from(page::high_water()).unwrap_or(DESCRIPTORS).clamp(256, DESCRIPTORS);
    (owned && !(0..end).any(is_open_as)).then_some(status)
}

/// Is this name that of a rotated file of the log `base`, as logrotate, log4j, spdlog, winston and their kin name them? With `app.log`:
/// `app.log.1`, `app.log.2.gz`, `app.log-20260101`, `app.log.2026-01-01.xz`, `app.log.old`; `app.1.log`, `app1.log`, `app-2026-01-01.log`,
/// `20260101-app.log`.
fn is_rotated(base: &[u8], name: &[u8]) -> bool {
    let packed: [&[u8]; 4] = [b".gz", b".xz", b".bz2", b".zst"];
    let name = packed.iter().find_map(|&end| name.strip_suffix(end)).unwrap_or(name);
    if let Some(rest) = name.strip_prefix(base) {
        return rest == b".old" || matches!(rest.split_first(), Some((b'.' | b'-', number)) if is_number(number));
    }
    if let Some(date) = name.strip_suffix(base) {
        return matches!(date.split_last(), Some((b'.' | b'-' | b'_', date)) if is_number(date) && date.len() >= DATE);
    }
    let Some(dot) = base.iter().rposition(|&b| b == b'.').filter(|&dot| dot > 0) else { return false };
    let (stem, end) = base.split_at(dot);
    let Some(between) = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(end)) else { return false };
    match between.split_first() {
        Some((b'.' | b'-' | b'_', number)) => is_number(number),
        // In `app2026.log` it may be a part of the name: only a short one is a count.
        _ => is_number(between) && between.len() <= 3 && between.iter().all(u8::is_ascii_digit),
    }
}

/// Bytes of the shortest date: 20260101.
const DATE: usize = 8;

/// Is this a count, a date or a time?
fn is_number(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
        && text.iter().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'T' | b':'))
}

/// Cuts the log to its last tenth, from the beginning of a line on: the end is copied to the beginning of the file, which is then
/// truncated. True if it was cut.
fn keep_the_end(log: &Log<'_>) -> bool {
    // Without O_APPEND, the program's next write would be at its old offset, beyond the new end.
    if !sys::status_flags(log.fd).is_ok_and(|flags| flags & libc::O_APPEND != 0) {
        return false;
    }
    let Ok(fd) = sys::open(link(log.fd).as_c_str(), libc::O_RDWR | libc::O_CLOEXEC | libc::O_NOCTTY, 0) else {
        return false;
    };
    let size = log.size();
    let from = line_start(fd, size - (size / 10).min(MOST_KEPT), size);
    let kept = from.and_then(|from| move_down(fd, from, size));
    let cut = kept.is_some_and(|kept| sys::truncate(fd, kept).is_ok());
    sys::close(fd);
    if let Some(kept) = kept.filter(|_| cut) {
        log::warn!("{}: cut from {size} to its last {kept} bytes, to make room", log.name());
    }
    cut
}

/// The offset of the first line that begins after `at`.
fn line_start(fd: i32, mut at: u64, size: u64) -> Option<u64> {
    let mut bytes = [0u8; COPY];
    while at < size {
        let part = sys::read_at(fd, &mut bytes, at).ok().filter(|part| !part.is_empty())?;
        if let Some(newline) = part.iter().position(|&b| b == b'\n') {
            return Some(at + newline as u64 + 1);
        }
        at += part.len() as u64;
    }
    None
}

/// Copies the bytes from `from` to `size` to the beginning of the file. Returns how many they are.
fn move_down(fd: i32, from: u64, size: u64) -> Option<u64> {
    let mut bytes = [0u8; COPY];
    let mut done = 0;
    while from + done < size {
        let part = sys::read_at(fd, &mut bytes, from + done).ok().filter(|part| !part.is_empty())?;
        let length = sys::write_at(fd, part, done).ok().filter(|&length| length > 0)?;
        done += length as u64;
    }
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_suffix_of_rotation_are_rotated_files() {
        for name in ["app.log.1", "app.log.12.gz", "app.log-20260101", "app.log.2026-01-01.xz", "app.log.old"] {
            assert!(is_rotated(b"app.log", name.as_bytes()), "{name}");
        }
        for name in ["app.1.log", "app1.log", "app-2026-11-28.log", "app_2026-11-28.log.gz", "20261128-app.log"] {
            assert!(is_rotated(b"app.log", name.as_bytes()), "{name}");
        }
        for name in ["app-worker.log", "app2026.log", "app-.log", "7-app.log", "my-app.log", "app.1x.log", "app.1.txt"]
        {
            assert!(!is_rotated(b"app.log", name.as_bytes()), "{name}");
        }
        assert!(!is_rotated(b"messages", b"messages1") && is_rotated(b"messages", b"messages-20261128"));
        for name in ["app.log", "app.log.gz", "app.logic", "app.log.bak", "myapp.log.1", "app.log.1.txt", "app.log."] {
            assert!(!is_rotated(b"app.log", name.as_bytes()), "{name}");
        }
    }
}
