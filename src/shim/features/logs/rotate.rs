//! TIDEOVER_ROTATE (opt-in): a log that would grow beyond a size is renamed, and a new file is opened onto the descriptor, for programs that
//! can't reopen their log. No line is lost or cut, with several threads and several processes.
//!
//! Before each write the size of the file is asked for. A write that would exceed the limit first rotates the log
//! ([`rotated_files`]), and then goes to the new file. Nobody waits for anybody: while another thread or
//! process rotates, lines go to the old file, which is still there under its new name.
//!
//! The other descriptors of the log, of this process and of others, follow by themselves, each before one of its next writes: /proc says
//! of a file in whose place another was renamed that it is "(deleted)". That is asked for every [`LOOK`], when the old file has no
//! name any more, and when it is full. So a process that shares a log must have the library, and the right to open the new file.
//!
//! Only the descriptor that is being written to is replaced: the program may close and use again any other at this moment. A program that
//! rotates its log by itself is not disturbed, since it reaches its own limit first, or opens a file that is small.
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use libc::{c_int, stat};
use tideover_contract::settings::{Id, SECOND, rotation};

use super::messages::MESSAGES;
use super::opened::{Log, PATH, directory};
use super::payload::{Buffers, Payload};
use super::rotated_files::{self, Failed};
use super::{cleanup, files, program};
use crate::os::lock::Lock;
use crate::os::sys::{self, Errno};
use crate::os::text::Text;
use crate::state::descriptors::{self, HISTORY, OTHER};
use crate::state::process::{self, Phase};
use crate::state::report::{ErrnoName, More};
use crate::state::settings::SETTINGS;
use crate::state::streams::{STDERR, STDOUT};
use crate::state::{control, page, thread};

/// Bytes of stack that it takes to judge a file and to rotate it.
const STACK: usize = 14 << 10;
/// Nanoseconds from one look at a descriptor whose file is not full to the next: has its file been rotated?
const LOOK: u64 = SECOND / 10;
/// Nanoseconds until it is tried again to rotate a file, or to follow one that was rotated.
const RETRY: u64 = SECOND;
/// Nanoseconds until a file that is no log is examined again.
const REFUSED: u64 = 5 * SECOND;
/// How many descriptors are remembered. Two that share a place are looked at more often.
const PLACES: usize = 64;
/// Marks that no log has.
const NO_LOG: u32 = OTHER | HISTORY | descriptors::COUNTED | descriptors::LISTENER | descriptors::EPOLL;
/// What /proc puts behind the path of a file that does not have it any more.
const DELETED: &[u8] = b" (deleted)";

/// Of a [`Look`]: until then nothing is done about the file, though it is full.
const IS_REFUSED: u64 = 0x100;
/// Of a [`Look`]: which of the descriptors with this place it is about.
const OWNER: u64 = 0xff;

/// When a descriptor is to be looked at next: nanoseconds of CLOCK_MONOTONIC, but for the lower bits, see [`IS_REFUSED`], [`OWNER`].
type Look = AtomicU64;

static LOOKS: [Look; PLACES] = [const { Look::new(0) }; PLACES];
/// One thread of the process rotates at a time. Others do not wait for it.
static ROTATING: Lock<()> = Lock::new(());
/// How often a descriptor was replaced.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// At load.
pub fn start() {
    if SETTINGS.get(Id::Rotate) != 0 {
        files::COUNT.fetch_or(files::EVERY_WRITE, Relaxed);
    }
}

/// In the child of a fork.
pub fn forked() {
    if files::any() && ROTATING.is_taken() {
        ROTATING.forked();
    }
}

/// How often a descriptor of this process was replaced by one of the new file.
pub fn count() -> u64 {
    COUNT.load(Relaxed)
}

/// Before the real write: rotates the log if the write would make it too large, and follows one that was rotated. Some: so many bytes of the
/// buffers, the end of a line whose beginning is in the old file, were written there; the others are still to be written. None: all are.
pub fn before_write(fd: c_int, buffers: Buffers<'_>) -> Option<usize> {
    let (limit, kept) = rotation(SETTINGS.get(Id::Rotate))?;
    let may_act = matches!(process::phase(), Phase::Active | Phase::Exiting) && !thread::is_in_vfork();
    if !may_act || control::look() || descriptors::marks(fd) & NO_LOG != 0 {
        return None;
    }
    let status = sys::fstat(fd).ok()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        descriptors::add(fd, OTHER);
        return None;
    }
    let size = status.st_size as u64;
    let is_full = size > 0 && size.saturating_add(buffers.len() as u64) > limit;
    let now = sys::now();
    let look = Next { place: &LOOKS[fd as usize % PLACES], owner: (fd as u64 / PLACES as u64) & OWNER, now };
    if look.is_due(is_full || status.st_nlink == 0) && program::may_rotate() && process::is_ours() {
        return look_at(&Log::without_path(fd, &status), buffers, is_full, kept, &look);
    }
    None
}

/// When a descriptor is looked at.
struct Next {
    place: &'static Look,
    owner: u64,
    /// CLOCK_MONOTONIC nanoseconds.
    now: u64,
}

impl Next {
    /// Is it time? `is_urgent`: the file is full, or gone.
    fn is_due(&self, is_urgent: bool) -> bool {
        let known = self.place.load(Relaxed);
        known & OWNER != self.owner || self.now >= known || is_urgent && known & IS_REFUSED == 0
    }

    /// It is in so many nanoseconds.
    fn set(&self, after: u64, flag: u64) {
        self.place.store((self.now + after) & !(OWNER | IS_REFUSED) | self.owner | flag, Relaxed);
    }
}

/// See [`before_write`].
#[cold]
#[inline(never)]
fn look_at(log: &Log<'_>, buffers: Buffers<'_>, is_full: bool, kept: u64, next: &Next) -> Option<usize> {
    next.set(LOOK, 0);
    if !thread::has_stack(STACK) || log.path().is_empty() {
        return None;
    }
    let moved_from = path_before(log);
    if !is_full && moved_from.is_none() || files::find(log.key).is_some() {
        return None;
    }
    let payload = buffers.payload()?;
    // Another thread of this process may be rotating it, or have done so since: what is known of standard error changes meanwhile.
    let _rotating = ROTATING.try_enter()?;
    if !is_still(log) {
        return None;
    }
    // To judge a file it is opened once more, and a close gives up all locks of fcntl(2) that the process has on it.
    if sys::has_record_lock(log.fd) || is_locked(log.fd) || log.judge(payload.first()).is_err() {
        next.set(REFUSED, IS_REFUSED);
        return None;
    }
    let end = end_of_line(log, payload)?;
    let reached = if end > 0 { log.write(payload.upto(end)).0 } else { 0 };
    if reached == end {
        let done = match &moved_from {
            Some(path) => follow(log, path),
            None => rotate(log, kept),
        };
        match done {
            Ok(()) => {}
            Err(Failed { errno: 0, .. }) => next.set(LOOK, 0),
            Err(failed) => {
                next.set(RETRY, IS_REFUSED);
                if !failed.what.is_empty() {
                    tell(log, &failed);
                }
            }
        }
    }
    (reached > 0).then_some(reached)
}

/// Does /proc say that a process has a lock, of flock(2) or fcntl(2), by this open file? It would be gone with the descriptor that is replaced.
/// Also true where /proc does not answer.
fn is_locked(fd: c_int) -> bool {
    let mut path = Text::<40>::new();
    let _ = write!(path, "/proc/self/fdinfo/{fd}");
    let info = match sys::open(path.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC, 0) {
        Ok(info) => info,
        // To rotate takes a descriptor, too: it is tried again.
        Err(errno) => return errno != libc::EMFILE && errno != libc::ENFILE,
    };
    let mut bytes = [0; 1024];
    let has_one = sys::read_at(info, &mut bytes, 0).map_or(true, |text| text.windows(5).any(|part| part == b"lock:"));
    sys::close(info);
    has_one
}

/// The path that the log had before another file was renamed to it; None: it still has its path, or was only renamed.
fn path_before(log: &Log<'_>) -> Option<Text<PATH>> {
    let mut path = Text::<PATH>::new();
    path.set(log.path().strip_suffix(DELETED)?);
    let mut whole = Text::<PATH>::new();
    whole.set(log.path());
    let is_its_name = sys::stat(whole.as_c_str(), false).is_ok_and(|status| status.st_ino == log.status.st_ino);
    (!is_its_name).then_some(path)
}

/// Where the line ends that the file ends in the middle of: so many bytes of the payload still belong into this file. None: the line does not
/// end in this payload.
fn end_of_line(log: &Log<'_>, payload: Payload<'_>) -> Option<usize> {
    if log.ends_mid_line(false) { payload.line() } else { Some(0) }
}

/// Rotates the log.
fn rotate(log: &Log<'_>, kept: u64) -> Result<(), Failed> {
    let base = log.path().rsplit(|&byte| byte == b'/').next().unwrap_or(b"");
    let folder = match cleanup::folder_of(log, base) {
        Some(folder) => folder,
        // Another process has rotated it.
        None if path_before(&Log::without_path(log.fd, log.status)).is_some() => return Err(Failed::NOT_NOW),
        None => return Err(Failed { what: "open its folder, or that belongs to another user", errno: libc::EACCES }),
    };
    let done = match sys::lock(folder) {
        Ok(()) => {
            let done = rotated_files::rotate(log, folder, base, kept, open_flags(log.fd));
            sys::unlock(folder);
            done
        }
        Err(libc::EAGAIN) => Err(Failed::NOT_NOW),
        Err(errno) => Err(Failed { what: "lock its folder", errno }),
    };
    sys::close(folder);
    let new = done?;
    let replaced = replace(log, new);
    page::ensure();
    page::add(&page::counters().rotated, 1);
    log::info!("{}: rotated at {} bytes, {kept} old files are kept", log.name(), log.size());
    replaced
}

/// The log was rotated by another process or through another descriptor: opens the file that has its path now.
fn follow(log: &Log<'_>, path: &Text<PATH>) -> Result<(), Failed> {
    // A name such as app.log.1 is that of an old file, to which somebody else has renamed it.
    let ending = path.as_bytes().rsplit(|&byte| byte == b'.').next().unwrap_or(b"");
    if !ending.is_empty() && ending.iter().all(u8::is_ascii_digit) {
        return Err(Failed::SILENTLY);
    }
    let folder = sys::stat(directory(path.as_bytes()).as_c_str(), true);
    if !folder.is_ok_and(|folder| folder.st_uid == 0 || folder.st_uid == sys::geteuid()) {
        return Err(Failed::SILENTLY);
    }
    // Asked before it is opened: to open a FIFO or a device has effects.
    is_successor(log, sys::stat(path.as_c_str(), false))?;
    let failed = |errno| Failed { what: "open the file that has its path now", errno };
    let new = sys::open(path.as_c_str(), open_flags(log.fd) | libc::O_NOFOLLOW, 0).map_err(failed)?;
    match is_successor(log, sys::fstat(new)) {
        Ok(()) => replace(log, new),
        Err(failed) => {
            sys::close(new);
            Err(failed)
        }
    }
}

/// May this file be what the log was replaced by? A log that was removed has no successor, and is left as it is.
fn is_successor(log: &Log<'_>, status: Result<stat, Errno>) -> Result<(), Failed> {
    let alike = |status: &stat| {
        let is_file = status.st_mode & libc::S_IFMT == libc::S_IFREG;
        is_file && status.st_dev == log.status.st_dev && status.st_uid == log.status.st_uid
    };
    match status {
        Ok(status) if alike(&status) && status.st_nlink == 1 => Ok(()),
        // It is being rotated itself. No other file with two names is written to.
        Ok(status) if alike(&status) => Err(Failed::NOT_NOW),
        _ => Err(Failed::SILENTLY),
    }
}

/// How a file is opened that takes the place of this descriptor's. To append in any case: processes that have shared an offset would overwrite
/// each other's lines.
fn open_flags(fd: c_int) -> c_int {
    let kept = libc::O_ACCMODE | libc::O_NONBLOCK | libc::O_SYNC | libc::O_DSYNC;
    sys::status_flags(fd).unwrap_or(libc::O_WRONLY) & kept | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY
}

/// Puts a descriptor of the new file in the place of the log's, and closes it.
fn replace(log: &Log<'_>, new: c_int) -> Result<(), Failed> {
    let done = replaced(log, new).map_err(|errno| Failed { what: "replace its descriptor", errno });
    sys::close(new);
    done
}

fn replaced(log: &Log<'_>, new: c_int) -> Result<(), Errno> {
    let close_on_exec = sys::descriptor_flags(log.fd)? & libc::FD_CLOEXEC != 0;
    let status = sys::fstat(new)?;
    // The program must not close what it writes to at this moment. If it has done so all the same, its number may be another file's.
    if !is_still(log) {
        return Err(0);
    }
    sys::duplicate_onto(new, log.fd, close_on_exec)?;
    descriptors::set_file(log.fd, 0);
    for stream in [&STDOUT, &STDERR] {
        stream.moved(log.status, &status);
    }
    COUNT.fetch_add(1, Relaxed);
    // Other descriptors of this process may be open on the old file.
    for look in &LOOKS {
        look.store(0, Relaxed);
    }
    Ok(())
}

/// Is the descriptor still open on that file?
fn is_still(log: &Log<'_>) -> bool {
    sys::fstat(log.fd).is_ok_and(|now| (now.st_dev, now.st_ino) == (log.status.st_dev, log.status.st_ino))
}

fn tell(log: &Log<'_>, failed: &Failed) {
    if let Some(more) = MESSAGES.not_rotated.due() {
        let (what, errno) = (failed.what, ErrnoName(failed.errno));
        log::warn!("{} is not rotated (TIDEOVER_ROTATE): can't {what}: {errno}{}", log.name(), More(more));
    }
}
