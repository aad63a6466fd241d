//! A placeholder for a log that can't even be created: on full xfs and btrfs, and where there are no inodes left, open(2) with O_CREAT
//! fails with ENOSPC. The program gets the descriptor of a memory file that is named after the log and sealed against writes. Each
//! write to it fails with EPERM; then the library tries to create the real file, which replaces the placeholder, and diverts the lines
//! if it can't.
//!
//! All that is needed for this later is in the placeholder's inode (its name and its mode), so that it survives dup(2), fork(2) and
//! execve(2).
#![forbid(unsafe_code)]

use core::ffi::CStr;

use libc::c_int;

use super::messages::MESSAGES;
use super::opened::{PATH, database_beside, link, working_directory};
use super::program;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::process;
use crate::state::report::{ErrnoName, More, Printable};
use crate::state::settings::SETTINGS;
use tideover_contract::rule::{self, Facts, History};

/// What a memory file is called is this and the log's path.
const NAME: &[u8] = b"tideover:";
/// What /proc/self/fd/N says of it begins so.
const LINK: &[u8] = b"/memfd:tideover:";
/// Bytes of the longest path: the kernel takes no longer names for memory files.
const LONGEST: usize = 249 - NAME.len();

/// Could a file that open(2) with these flags failed to open, with this errno, be a log that can't be created?
pub fn is_wanted(errno: c_int, flags: c_int) -> bool {
    let wanted = libc::O_CREAT | libc::O_APPEND;
    let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
    matches!(errno, libc::ENOSPC | libc::EDQUOT) && flags & wanted == wanted && flags & libc::O_EXCL == 0 && !reads
}

/// Makes a placeholder for the file, if it would be a log, and returns its descriptor. The arguments are those of openat(2); `errno` is
/// what that failed with.
pub fn make(at: c_int, path: &CStr, flags: c_int, mode: u32, errno: c_int) -> Option<c_int> {
    if !process::may_act() || !program::may_divert() {
        return None;
    }
    let path = absolute(at, path)?;
    let facts = Facts {
        path: path.as_bytes(),
        flags,
        regular: true,
        standard: false,
        at_end: false,
        stderr: false,
        history: History::default(),
        synced: false,
        positioned: false,
        payload: b"\n",
        head: b"",
        include: SETTINGS.logs(),
        exclude: SETTINGS.logs_except(),
        copied: None,
    };
    rule::judge(&facts, || database_beside(path.as_bytes())).ok()?;
    if path.as_bytes().len() > LONGEST {
        return None;
    }
    let mut name = Text::<256>::new();
    let _ = name.push(NAME);
    let _ = name.push(path.as_bytes());
    let fd = sys::memory_file(name.as_c_str(), flags & libc::O_CLOEXEC != 0).ok()?;
    // The mode that the file would have is kept in the placeholder's inode until the file can be created.
    let prepared = sys::change_mode(fd, mode & 0o7777).is_ok()
        && sys::seal(fd).is_ok()
        && sys::set_status_flags(fd, flags & (libc::O_APPEND | libc::O_NONBLOCK)).is_ok();
    if !prepared {
        sys::close(fd);
        return None;
    }
    if let Some(more) = MESSAGES.cant_be_created.due() {
        log::warn!(
            "{}: can't be created ({}), its lines go elsewhere until it can{}",
            Printable(path.as_bytes()),
            ErrnoName(errno),
            More(more)
        );
    }
    Some(fd)
}

/// The absolute path, as it was given: symbolic links are not resolved, for it is to be opened again.
fn absolute(at: c_int, path: &CStr) -> Option<Text<PATH>> {
    let mut whole = Text::<PATH>::new();
    if path.to_bytes().first() != Some(&b'/') {
        let directory = if at == libc::AT_FDCWD { working_directory() } else { link(at) };
        let mut bytes = [0u8; PATH];
        whole.set(sys::read_link(directory.as_c_str(), &mut bytes).ok()?);
        let _ = whole.push(b"/");
    }
    whole.push(path.to_bytes()).then_some(whole)
}

/// The path of the log, if the link /proc/self/fd/N of a descriptor is that of a placeholder.
pub fn original(link: &[u8]) -> Option<&[u8]> {
    let path = link.strip_prefix(LINK)?;
    Some(path.strip_suffix(b" (deleted)").unwrap_or(path))
}

/// The errno for the program after a call on this descriptor has failed with `errno`: the EPERM of a placeholder means ENOSPC.
#[cold]
#[inline(never)]
pub extern "C" fn true_error(fd: c_int, errno: c_int) -> c_int {
    barrier(errno, || {
        if errno != libc::EPERM || !process::may_note() {
            return errno;
        }
        let saved = sys::errno();
        let mut bytes = [0u8; PATH];
        let is_placeholder = sys::read_link(link(fd).as_c_str(), &mut bytes).is_ok_and(|link| original(link).is_some());
        sys::set_errno(saved);
        if is_placeholder { libc::ENOSPC } else { errno }
    })
}

/// Creates the log, which takes the number of its placeholder `fd`. `status` is the placeholder's.
pub fn replace(fd: c_int, path: &[u8], status: &libc::stat) -> Result<(), c_int> {
    let mut name = Text::<256>::new();
    name.set(path);
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    let real = sys::open(name.as_c_str(), flags, status.st_mode & 0o7777)?;
    let inherited = sys::descriptor_flags(fd).unwrap_or(0);
    let placed = sys::duplicate_onto(real, fd, inherited & libc::FD_CLOEXEC != 0);
    sys::close(real);
    placed
}
