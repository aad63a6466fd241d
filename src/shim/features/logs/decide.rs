//! After a write fell short, or while files are diverted: is this a log, and what becomes of the rest?

use core::cell::OnceCell;

use libc::{c_int, iovec, ssize_t};

use super::calls::Written;
use super::files::{self, File, Key};
use super::opened::{Log, PATH, folder};
use super::payload::Payload;
use super::{cleanup, divert, standin};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, HISTORY, LOG, OTHER};
use crate::state::process::{self, Phase};
use crate::state::report::ErrnoName;
use crate::state::{page, thread};

/// What it takes to judge a file and to send its lines elsewhere, when that is a file to be judged, too (`--test disk_hazards small`).
const STACK: usize = 14 << 10;

/// While files are diverted: takes this write if it is to one of them. Answer -1: make the real call.
#[cold]
#[inline(never)]
pub(super) extern "C" fn instead(fd: c_int, buffers: *const iovec, count: usize) -> Written {
    let saved = sys::errno();
    let done = barrier(None, || {
        // In a vfork child, too, the line must go elsewhere: not even getpid(2) is asked here.
        if descriptors::marks(fd) & OTHER != 0 || !matches!(process::phase(), Phase::Active | Phase::Exiting) {
            return None;
        }
        // SAFETY: the address of a write's one buffer is our own, and a writev's was asked for.
        let single = (count == 1).then(|| unsafe { &*buffers });
        let marked = single.and_then(|_| marked(fd));
        if let (Some(file), Some(buffer)) = (marked, single)
            && let done @ Some(_) = divert::pass_on(file, buffer)
        {
            return done;
        }
        let status = sys::fstat(fd).ok()?;
        if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            descriptors::add(fd, OTHER);
            return None;
        }
        let found = files::find(Key::of_file(&status));
        let unmade = files::any_unmade();
        // Most writes are to files that are not diverted.
        if found.is_none() && !unmade && !files::is_search_due() || !thread::has_stack(STACK) {
            return None;
        }
        let file = match found {
            Some(file) => file,
            // A log that could not be made is there now.
            None if unmade => files::find(Key::of_path(Log::look(fd, &status)?.path()))?,
            // So is the successor of one that was rotated.
            None => files::find_rotated(Log::look(fd, &status)?.path())?,
        };
        let log = Log::known(fd, &status);
        // The same inode is not yet the same log: this descriptor may be another file by now, or have asked for durability since.
        let is_known = descriptors::marks(fd) & (LOG | HISTORY) == LOG;
        if is_known
            && marked.is_none()
            && let Some(buffer) = single
            && let done @ Some(_) = divert::pass_on(file, buffer)
        {
            mark(fd, file);
            return done;
        }
        // SAFETY: the host's own buffers.
        let payload = unsafe { Payload::of_host(buffers, count) }?;
        if !is_known {
            Log::look(fd, &status)?.judge(payload).ok()?;
            descriptors::add(fd, LOG);
            file.is_now(log.key);
        }
        log.divert_or_return(file, payload)
    });
    sys::set_errno(saved);
    done.unwrap_or(Written { answer: -1, reached: 0 })
}

/// The diverted log that this descriptor is, if its open file bears our mark: then it has not been replaced where no hook could see it
/// (Go, io_uring). fstat(2) would cost more than twice as much.
fn marked(fd: c_int) -> Option<&'static File> {
    let marks = descriptors::marks(fd);
    if marks & (LOG | HISTORY) != LOG {
        return None;
    }
    let file = files::find_number(descriptors::file(marks))?;
    (sys::signal_number(fd) == Ok(file.mark())).then_some(file)
}

/// Marks the open file of a diverted log, for [`marked`]. Not one that its user has given a signal, or a lease, whose break would come
/// as that signal.
fn mark(fd: c_int, file: &File) {
    if thread::is_in_vfork() {
        return;
    }
    let ours = |signal| signal == 0 || files::MARKS.contains(&signal);
    let free = sys::signal_number(fd).is_ok_and(ours) && sys::lease(fd) == Ok(libc::F_UNLCK);
    if free && sys::set_signal_number(fd, file.mark()).is_ok() {
        descriptors::set_file(fd, file.number());
    }
}

/// A real write answered with less than it was given, or -1.
#[cold]
#[inline(never)]
pub(super) extern "C" fn fell_short(fd: c_int, buffers: *const iovec, count: usize, answer: ssize_t) -> Written {
    let reached = answer.max(0) as usize;
    let native = Written { answer, reached };
    let errno = sys::errno();
    if answer < 0 && !matches!(errno, libc::ENOSPC | libc::EDQUOT | libc::EPERM) {
        return native;
    }
    // Most short writes are a socket's.
    let other = descriptors::marks(fd) & OTHER != 0 || fd as usize >= descriptors::NUMBERS;
    if answer >= 0 && other {
        return native;
    }
    let mut errno_after = errno;
    let done = barrier(None, || {
        if !process::may_act() {
            return None;
        }
        let status = sys::fstat(fd).ok()?;
        if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            descriptors::add(fd, OTHER);
            return None;
        }
        if !thread::has_stack(STACK) {
            return None;
        }
        // SAFETY: the host's own buffers.
        let payload = unsafe { Payload::of_host(buffers, count) }?;
        if answer < 0 && errno == libc::EPERM {
            // Without its stand-in, the program would have been told that there is no space.
            return stood_in(fd, &status, payload).inspect(|done| {
                if done.answer < 0 {
                    errno_after = libc::ENOSPC;
                }
            });
        }
        shortened(fd, &status, payload, answer, errno)
    });
    sys::set_errno(errno_after);
    done.unwrap_or(native)
}

/// A write came back with EPERM: is this a stand-in? Then the real file is tried, and what it does not take goes elsewhere.
fn stood_in(fd: c_int, status: &libc::stat, payload: Payload<'_>) -> Option<Written> {
    let mut log = Log::look(fd, status)?;
    let mut path = Text::<PATH>::new();
    path.set(standin::original(log.path())?);
    log.key = Key::of_path(path.as_bytes());
    log.device = sys::stat(folder(path.as_bytes()).as_c_str(), true).map_or(status.st_dev, |s| s.st_dev);
    log.path = OnceCell::from(path);
    let diverted = files::find(log.key);
    let is_log = log.judge(payload);
    let due = diverted.is_none_or(|file| file.is_look_due(sys::now()));
    if let Some(file) = diverted.filter(|_| due) {
        file.looked();
    }
    let errno = match if due { standin::replace(fd, log.path(), status) } else { Err(libc::ENOSPC) } {
        Ok(()) => return log.take_place(diverted, payload),
        Err(errno) => errno,
    };
    let total = payload.len();
    if let Err(refusal) = is_log {
        page::add(&page::page().refusals[refusal as usize], 1);
        return Some(Written { answer: -1, reached: 0 });
    }
    log.divert(payload, errno, false).map(|()| Written { answer: total as ssize_t, reached: 0 })
}

fn shortened(fd: c_int, status: &libc::stat, payload: Payload<'_>, answer: ssize_t, errno: c_int) -> Option<Written> {
    let reached = answer.max(0) as usize;
    if answer < 0 {
        count_full(errno);
    } else if reached >= payload.len() {
        return None;
    }
    if super::is_off() {
        return None;
    }
    let log = Log::look(fd, status)?;
    if let Err(refusal) = log.judge(payload) {
        if answer < 0 {
            page::add(&page::page().refusals[refusal as usize], 1);
            log::debug!("{}: {} is passed on: {}", log.name(), ErrnoName(errno), refusal.text());
        }
        return None;
    }
    // A write that was cut says nothing of the reason: the rest of it will. Not past RLIMIT_FSIZE, which would be SIGXFSZ.
    let (mut reached, mut errno) = (reached, errno);
    if answer >= 0 {
        let rest = (payload.len() - reached) as u64;
        if (status.st_size as u64).saturating_add(rest) > sys::file_size_limit() {
            return None;
        }
        let (more, wrong) = log.write(payload.after(reached));
        (reached, errno) = (reached + more, wrong);
        if errno != libc::ENOSPC && errno != libc::EDQUOT {
            return Some(Written { answer: reached as ssize_t, reached });
        }
        count_full(errno);
    }
    descriptors::add(fd, LOG);
    let total = payload.len();
    if cleanup::is_asked_for() && files::find(log.key).is_none() && cleanup::make_room(&log) {
        reached += log.write(payload.after(reached)).0;
        if reached == total {
            return Some(Written { answer: total as ssize_t, reached });
        }
    }
    match log.divert(payload.after(reached), errno, reached > 0) {
        Some(()) => Some(Written { answer: total as ssize_t, reached }),
        None if reached > 0 => Some(Written { answer: reached as ssize_t, reached }),
        None => None,
    }
}

/// A log's disk was full, or over quota.
fn count_full(errno: c_int) {
    page::ensure();
    page::add(if errno == libc::ENOSPC { &page::counters().enospc } else { &page::counters().edquot }, 1);
}
