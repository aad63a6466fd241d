//! While files are diverted, or after a write that was short or failed: is this a log, and what becomes of its bytes?
#![forbid(unsafe_code)]

use core::cell::OnceCell;

use libc::{c_int, ssize_t};

use super::files::{self, DivertedFile, Key};
use super::opened::{Log, PATH, directory};
use super::payload::{Buffers, Payload, Written};
use super::{ballast, burst, cap, cleanup, divert, hold, placeholder, program, put_back, rotate, sink, space};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, HISTORY, LOG, OTHER};
use crate::state::process::{self, Phase};
use crate::state::report::ErrnoName;
use crate::state::{control, page, thread};
use tideover_contract::rule::Refusal;

/// Bytes of stack that it takes to judge a file and to divert its lines, when the sink is a file that is to be judged, too
/// (`--test disk_hazards small`).
const STACK: usize = 14 << 10;

/// While files are diverted, before the real call: takes this write if it is to one of them. The answer -1 means that the real call is
/// to be made. errno stays as it is.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub(super) extern "C" fn before_write(fd: c_int, buffers: Buffers<'_>) -> Written {
    let saved = sys::errno();
    let done = barrier(None, || match rotate::before_write(fd, buffers) {
        Some(reached) => Some(after_part(fd, buffers, reached)),
        None if files::any_diverted() => take_write(fd, buffers),
        None => None,
    });
    sys::set_errno(saved);
    done.unwrap_or(Written::FAILED)
}

/// The end of a line that is written in several parts is in the old file of a log that was rotated: the rest of the payload follows.
fn after_part(fd: c_int, buffers: Buffers<'_>, reached: usize) -> Written {
    let Some((payload, status)) = buffers.payload().zip(sys::fstat(fd).ok()) else {
        return Written::all(reached, reached);
    };
    let all = reached + Log::without_path(fd, &status).write(payload.after(reached)).0;
    if all < payload.len() { after_short_write(fd, buffers, all as ssize_t) } else { Written::all(all, all) }
}

fn take_write(fd: c_int, buffers: Buffers<'_>) -> Option<Written> {
    // The lines of a vfork child must be diverted, too: not even getpid(2) is asked here.
    if descriptors::marks(fd) & OTHER != 0 || !matches!(process::phase(), Phase::Active | Phase::Exiting) {
        return None;
    }
    if control::look() {
        leave(fd);
        return None;
    }
    let single = buffers.single();
    if let Some(buffer) = single
        && let done @ Some(_) = burst::take(fd, buffer)
    {
        return done;
    }
    // Lines that came before this one are sent before it.
    if burst::is_open() {
        hold::catch_up();
    }
    let recognised = single.and_then(|_| recognise(fd));
    let now = sys::now();
    if recognised.is_some_and(|file| !file.is_check_due(now)) && cap::is_used_up(now) {
        return None;
    }
    if let (Some(file), Some(buffer)) = (recognised, single)
        && let done @ Some(_) = divert::send_to_pipe(file, buffer)
    {
        burst::note_line(now);
        return done;
    }
    let status = regular_file(fd)?;
    let file = find_diverted(fd, &status)?;
    let log = Log::without_path(fd, &status);
    // The inode may be that of a diverted log, and the descriptor still no log's: its number may be another file's by now, or its
    // writer has asked for durability since.
    let is_known = descriptors::marks(fd) & (LOG | HISTORY) == LOG;
    if is_known
        && recognised.is_none()
        && let Some(buffer) = single
        && let done @ Some(_) = divert::send_to_pipe(file, buffer)
    {
        label(fd, file);
        return done;
    }
    let payload = buffers.payload()?;
    if !is_known {
        // Else the write goes to the file itself, behind what is held.
        Log::with_path(fd, &status)?.judge(payload.first()).inspect_err(|_| put_back::of_all_logs_at_once()).ok()?;
        descriptors::add(fd, LOG);
        file.move_to(log.key);
    }
    if recognised.is_some() {
        burst::note_line(now);
    } else if single.is_some() && sink::pipe().is_some() {
        label(fd, file);
    }
    log.divert_or_recover(file, payload)
}

/// Told to pass everything through: what is kept is put back, where there is space, before the program writes to the file itself.
#[cold]
#[inline(never)]
fn leave(fd: c_int) {
    let is_diverted = || regular_file(fd).is_some_and(|status| files::find(Key::of_file(&status)).is_some());
    if process::may_note() && (is_diverted() || space::is_search_due()) && thread::has_stack(STACK) {
        put_back::of_all_logs_at_once();
    }
}

/// fstat(2) of a descriptor that is open on a regular file. One that is not is marked, so that it is not asked again.
fn regular_file(fd: c_int) -> Option<libc::stat> {
    let status = sys::fstat(fd).ok()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        descriptors::add(fd, OTHER);
        return None;
    }
    Some(status)
}

/// The entry of this descriptor's file if it is diverted, or takes the place of one that is.
fn find_diverted(fd: c_int, status: &libc::stat) -> Option<&'static DivertedFile> {
    let found = files::find(Key::of_file(status));
    let uncreated = files::any_uncreated();
    // Most writes are to files that are not diverted.
    if found.is_none() && !uncreated && !space::is_search_due() || !thread::has_stack(STACK) {
        return None;
    }
    match found {
        Some(file) => Some(file),
        // Is it a log that could not be created before?
        None if uncreated => files::find(Key::of_path(Log::with_path(fd, status)?.path())),
        // Is it the successor of a log that was rotated?
        None if !hold::is_on() => files::find_rotated(Log::with_path(fd, status)?.path()),
        // The log was rotated: new lines go to the new file, and lines that are held are put back into the old one, under the name that
        // it has now.
        None => {
            put_back::of_all_logs();
            None
        }
    }
}

/// The diverted log that this descriptor is, if its open file bears the label of [`label`]: then the number has not been given to
/// another file where no hook could see it (Go, io_uring). fstat(2) would cost more than twice as much.
pub(super) fn recognise(fd: c_int) -> Option<&'static DivertedFile> {
    let marks = descriptors::marks(fd);
    if marks & (LOG | HISTORY) != LOG {
        return None;
    }
    let file = files::find_number(descriptors::file(marks))?;
    (sys::signal_number(fd) == Ok(file.signal())).then_some(file)
}

/// Labels the open file of a diverted log by the signal number of F_SETSIG, which means nothing for a regular file. Not if the program
/// has set one, nor if the file has a lease, whose break would be told by that signal.
fn label(fd: c_int, file: &DivertedFile) {
    if thread::is_in_vfork() || file.number() == 0 {
        return;
    }
    let is_free = |signal| signal == 0 || files::SIGNALS.contains(&signal);
    let may_label = sys::signal_number(fd).is_ok_and(is_free) && sys::lease(fd) == Ok(libc::F_UNLCK);
    if may_label && sys::set_signal_number(fd, file.signal()).is_ok() {
        descriptors::set_file(fd, file.number());
    }
}

/// May this answer of a write, less than it was given, be for want of space? EPERM is what a [placeholder] answers.
pub(super) fn is_for_space(answer: ssize_t, errno: c_int) -> bool {
    answer >= 0 || matches!(errno, libc::ENOSPC | libc::EDQUOT | libc::EPERM)
}

/// A real write answered `answer`, which is less than it was given: if it was to a log whose disk is full, the rest is diverted. With
/// the answer -1, errno is the error for the program.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub(super) extern "C" fn after_short_write(fd: c_int, buffers: Buffers<'_>, answer: ssize_t) -> Written {
    let native = Written { answer, reached: answer.max(0) as usize };
    let errno = sys::errno();
    if !is_for_space(answer, errno) {
        return native;
    }
    // Most short writes are a socket's.
    let other = descriptors::marks(fd) & OTHER != 0 || fd as usize >= descriptors::NUMBERS;
    if answer >= 0 && other || errno != libc::EPERM && descriptors::marks(fd) & OTHER != 0 {
        return native;
    }
    if answer < 0 && errno != libc::EPERM && is_past_cap(fd) {
        barrier((), || count_full(errno, true));
        sys::set_errno(errno);
        return native;
    }
    let mut errno_after = errno;
    let done = barrier(None, || {
        if !process::may_note() {
            return None;
        }
        if control::look() && errno != libc::EPERM {
            return None;
        }
        let status = regular_file(fd)?;
        if !thread::has_stack(STACK) {
            return None;
        }
        let payload = buffers.payload()?;
        if answer < 0 && errno == libc::EPERM {
            // Had the library not opened a placeholder, open(2) would have told the program that there is no space.
            return write_to_placeholder(fd, &status, payload).inspect(|done| {
                if done.answer < 0 {
                    errno_after = libc::ENOSPC;
                }
            });
        }
        divert_rest(fd, &status, payload, answer, errno)
    });
    sys::set_errno(errno_after);
    done.unwrap_or(native)
}

/// Is this a log whose lines are not admitted any more in this minute? Asked first, so that such a line costs little more than its failed
/// write.
fn is_past_cap(fd: c_int) -> bool {
    descriptors::marks(fd) & (LOG | HISTORY) == LOG && cap::is_used_up(sys::now())
}

/// A write failed with EPERM. If the descriptor is a [placeholder]: creates the real file if that is possible by now, and diverts what
/// the file does not take.
fn write_to_placeholder(fd: c_int, status: &libc::stat, payload: Payload<'_>) -> Option<Written> {
    let mut log = Log::with_path(fd, status)?;
    let mut path = Text::<PATH>::new();
    path.set(placeholder::original(log.path())?);
    log.key = Key::of_path(path.as_bytes());
    log.device = sys::stat(directory(path.as_bytes()).as_c_str(), true).map_or(status.st_dev, |s| s.st_dev);
    log.path = OnceCell::from(path);
    let diverted = files::find(log.key);
    let is_log = log.judge(payload.first());
    let due = diverted.is_none_or(|file| file.is_check_due(sys::now()));
    if let Some(file) = diverted.filter(|_| due) {
        file.checked();
    }
    let errno = match if due { placeholder::replace(fd, log.path(), status) } else { Err(libc::ENOSPC) } {
        Ok(()) => return log.recover_from_placeholder(diverted, payload),
        Err(errno) => errno,
    };
    if let Err(refusal) = is_log {
        page::add(&page::page().refusals[refusal as usize], 1);
        return Some(Written::FAILED);
    }
    if process::is_off() {
        return Some(Written::FAILED);
    }
    log.divert(payload, errno, 0).map(|taken| Written::all(taken, 0))
}

/// A write to a regular file failed for want of space, or was short: if the file is a log, the rest is diverted.
fn divert_rest(fd: c_int, status: &libc::stat, payload: Payload<'_>, answer: ssize_t, errno: c_int) -> Option<Written> {
    let reached = answer.max(0) as usize;
    if answer >= 0 && reached >= payload.len() {
        return None;
    }
    let log = Log::with_path(fd, status);
    let judged = log.as_ref().map_or(Err(Refusal::NoPath), |log| log.judge(payload.after(reached).first()));
    if answer < 0 {
        count_full(errno, judged.is_ok());
    }
    let log = log?;
    let may_divert = program::may_divert();
    if answer < 0 && (judged.is_err() || !may_divert) && ballast::give_up(&log, errno) {
        let more = log.write(payload).0;
        return (more > 0).then(|| Written::all(more, more));
    }
    if !may_divert {
        return None;
    }
    if let Err(refusal) = judged {
        if refusal == Refusal::Copied {
            // What it copies from may be closed before the rest of its buffer is written.
            descriptors::add(fd, OTHER);
        }
        if answer < 0 {
            page::add(&page::page().refusals[refusal as usize], 1);
            log::debug!("{}: {} is passed on: {}", log.name(), ErrnoName(errno), refusal.text());
        }
        return None;
    }
    // A short write has no errno: the rest of it will. Not beyond RLIMIT_FSIZE, where a write raises SIGXFSZ.
    let (mut reached, mut errno) = (reached, errno);
    if answer >= 0 {
        let rest = (payload.len() - reached) as u64;
        if (status.st_size as u64).saturating_add(rest) > sys::file_size_limit() {
            return None;
        }
        let (more, ended_by) = log.write(payload.after(reached));
        (reached, errno) = (reached + more, ended_by);
        if errno != libc::ENOSPC && errno != libc::EDQUOT {
            return Some(Written::all(reached, reached));
        }
        count_full(errno, true);
    }
    descriptors::add(fd, LOG);
    let make_room = || ballast::give_up(&log, errno) || cleanup::is_wanted() && cleanup::make_room(&log);
    if files::find(log.key).is_none() && make_room() {
        reached += log.write(payload.after(reached)).0;
    }
    if reached == payload.len() {
        return Some(Written::all(reached, reached));
    }
    // The beginning of a line that was cut is kept with the rest of it, for others may write behind it.
    let line = payload.line_start(reached);
    match log.divert(payload.after(line), errno, reached - line) {
        Some(taken) => Some(Written::all(reached + taken, reached)),
        None if reached > 0 => Some(Written::all(reached, reached)),
        None => None,
    }
}

/// Counts that a write to a file failed for want of space or quota.
fn count_full(errno: c_int, is_log: bool) {
    page::ensure();
    let counters = page::counters();
    page::add(
        match errno {
            _ if !is_log => &counters.other_full,
            libc::ENOSPC => &counters.enospc,
            _ => &counters.edquot,
        },
        1,
    );
}
