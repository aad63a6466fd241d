//! A log that can't even be opened: on full xfs and btrfs, and where there are no inodes left, open(2) with O_CREAT fails with
//! ENOSPC. The program gets a stand-in, a memory file named after the log that can't be written: each write to it comes back
//! with EPERM, goes elsewhere, and first tries the real open, whose file then takes the stand-in's place.
//!
//! All that is needed later is in the inode, its name and mode, so that it is inherited over dup, fork and exec.

use core::ffi::{CStr, c_char};

use libc::c_int;

use super::opened::{PATH, database_beside, link, working_folder};
use super::rule::{self, Facts, History};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::process;
use crate::state::report::{ErrnoName, More, Printable, Repeated};
use crate::state::settings::SETTINGS;

/// What the kernel puts before the name of a memory file in /proc, and we before the log's path.
const LINK: &[u8] = b"/memfd:tideover:";
const NAME: &[u8] = b"tideover:";
/// The kernel's limit on such names.
const LONGEST: usize = 249 - NAME.len();

#[unsafe(link_section = ".tables")]
static OPENED: Repeated = Repeated::new();

/// After open(2) failed with ENOSPC or EDQUOT: a stand-in, if this would have been a log. `at` is the directory's descriptor.
#[cold]
#[inline(never)]
pub extern "C" fn open(at: c_int, path: *const c_char, flags: c_int, mode: u32) -> c_int {
    let errno = sys::errno();
    let wanted = libc::O_CREAT | libc::O_APPEND;
    let reads = flags & libc::O_ACCMODE != libc::O_WRONLY;
    if !matches!(errno, libc::ENOSPC | libc::EDQUOT) || flags & wanted != wanted || flags & libc::O_EXCL != 0 || reads {
        return -1;
    }
    let made = barrier(None, || make(at, path, flags, mode, errno));
    sys::set_errno(errno);
    made.unwrap_or(-1)
}

fn make(at: c_int, path: *const c_char, flags: c_int, mode: u32, errno: c_int) -> Option<c_int> {
    if !process::may_act() || super::is_off() || path.is_null() {
        return None;
    }
    // SAFETY: open(2) has read it, and failed for another reason.
    let path = absolute(at, unsafe { CStr::from_ptr(path) })?;
    let facts = Facts {
        path: path.as_bytes(),
        flags,
        regular: true,
        standard: false,
        stderr: false,
        history: History::default(),
        positioned: false,
        payload: b"\n",
        head: b"",
        include: SETTINGS.logs(),
        exclude: SETTINGS.logs_except(),
    };
    rule::judge(&facts, || database_beside(path.as_bytes())).ok()?;
    if path.as_bytes().len() > LONGEST {
        return None;
    }
    let mut name = Text::<256>::new();
    let _ = name.push(NAME);
    let _ = name.push(path.as_bytes());
    let fd = sys::memory_file(name.as_c_str(), flags & libc::O_CLOEXEC != 0).ok()?;
    // The mode that the file would have: kept in the inode until it can be made.
    let prepared = sys::change_mode(fd, mode & 0o7777).is_ok()
        && sys::seal(fd).is_ok()
        && sys::set_status_flags(fd, flags & (libc::O_APPEND | libc::O_NONBLOCK)).is_ok();
    if !prepared {
        sys::close(fd);
        return None;
    }
    if let Some(more) = OPENED.due() {
        log::warn!(
            "{}: can't be created ({}), its lines go elsewhere until it can{}",
            Printable(path.as_bytes()),
            ErrnoName(errno),
            More(more)
        );
    }
    Some(fd)
}

/// The path from the root, as it was given: not resolved, for it is to be opened again.
fn absolute(at: c_int, path: &CStr) -> Option<Text<PATH>> {
    let mut whole = Text::<PATH>::new();
    if path.to_bytes().first() != Some(&b'/') {
        let folder = if at == libc::AT_FDCWD { working_folder() } else { link(at) };
        let mut bytes = [0u8; PATH];
        whole.set(sys::read_link(folder.as_c_str(), &mut bytes).ok()?);
        let _ = whole.push(b"/");
    }
    whole.push(path.to_bytes()).then_some(whole)
}

/// The log that a stand-in stands for, by what /proc says of the descriptor.
pub fn original(link: &[u8]) -> Option<&[u8]> {
    let path = link.strip_prefix(LINK)?;
    Some(path.strip_suffix(b" (deleted)").unwrap_or(path))
}

/// The error of a call on this descriptor, for the host: a stand-in's own EPERM means that there is no space.
#[cold]
#[inline(never)]
pub extern "C" fn true_error(fd: c_int, wrong: c_int) -> c_int {
    barrier(wrong, || {
        if wrong != libc::EPERM || !process::may_act() {
            return wrong;
        }
        let errno = sys::errno();
        let mut bytes = [0u8; PATH];
        let stands_in = sys::read_link(link(fd).as_c_str(), &mut bytes).is_ok_and(|link| original(link).is_some());
        sys::set_errno(errno);
        if stands_in { libc::ENOSPC } else { wrong }
    })
}

/// Tries the real open, and puts the file in the stand-in's place.
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
