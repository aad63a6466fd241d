//! What is kept is put back by the path of its log: when the program writes to another log by now, when it ends, and what a process has
//! left that has ended.
#![allow(clippy::result_large_err, reason = "nothing is allocated here, and it is moved once")]
#![forbid(unsafe_code)]

use core::ffi::CStr;

use tideover_contract::hold::{Hold, LONGEST_PATH, Outcome};

use super::files::{self, Key};
use super::hold::{self, Holding, Kept};
use super::log_lock::LogLock;
use super::messages::MESSAGES;
use super::note::Note;
use super::opened::{Log, PATH, directory};
use super::target::Open;
use super::{hold_file, space};
use crate::os::mapping::Mapping;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::report::{More, Printable};

/// Puts back what this process keeps of all logs whose disk has room, by their paths.
pub fn of_all_logs() {
    of_all(Some(hold::time_limit(sys::now())));
}

/// As [`of_all_logs`], without a limit on the time that it takes, and as far as there is any space at all.
pub fn of_all_logs_at_once() {
    of_all(None);
}

fn of_all(until: Option<u64>) {
    let Some(mut own) = hold::enter().filter(|own| own.mapped().is_some()) else { return };
    for log in 0..own.mapped().map_or(0, |mapped| mapped.hold.entries()) {
        of_log(&mut own, log, until);
    }
    own.remove_if_empty();
}

/// Puts back what is kept of one log, if it is diverted and no other thread writes to it again.
fn of_log(own: &mut Holding, log: usize, until: Option<u64>) {
    let Some(mapped) = own.mapped().filter(|mapped| mapped.hold.logs().any(|used| used == log)) else { return };
    let identity = mapped.hold.identity(log);
    let file = files::find(Key::of_identity(identity));
    let Some(fd) = open(&mapped.hold, log) else { return };
    let has_room = until.is_none() || mapped.hold.errno(log) == libc::EDQUOT || space::has_room(fd);
    let lock = if has_room { lock(fd) } else { None };
    if lock.is_some() && file.is_none_or(|file| file.begin_recovery()) {
        let (outcome, bytes) = hold::put_back(&mapped.hold, log, fd, until.unwrap_or(u64::MAX));
        hold::uncount(bytes);
        if outcome == Outcome::All
            && let Some(note) = end(&mapped.hold, log, fd, sink_of(fd))
        {
            mapped.hold.leave(log);
            if let Some(file) = file {
                let age = file.age();
                file.recovered();
                let status = sys::fstat(fd);
                let log = status.as_ref().ok().and_then(|status| Log::with_path(fd, status));
                log.inspect(|log| note.announce(log, age));
            }
        } else {
            file.inspect(|file| file.abandon_recovery());
        }
    }
    sys::close(fd);
}

/// The lock of the log of this descriptor.
fn lock(fd: i32) -> Option<LogLock> {
    sys::fstat(fd).ok().and_then(|status| LogLock::take(Key::of_file(&status).identity()))
}

/// What messages call the sink of a log.
fn sink_of(fd: i32) -> Option<&'static str> {
    let status = sys::fstat(fd).ok()?;
    Log::with_path(fd, &status)?.sink(None).map(|sink| sink.name())
}

/// Puts back what processes of this user that have ended have left. Called when the program gets its page.
pub fn of_ended_processes() {
    if !hold::is_on() || !hold_file::any() {
        return;
    }
    let Some(_own) = hold::enter() else { return };
    let until = hold::time_limit(sys::now());
    hold_file::find_left(None, |left| {
        if sys::now() >= until {
            return Some(left);
        }
        for log in 0..left.hold.entries() {
            if !left.hold.logs().any(|used| used == log) {
                continue;
            }
            let Some(fd) = open(&left.hold, log) else { continue };
            let has_room = left.hold.errno(log) == libc::EDQUOT || space::has_room(fd);
            let lock = if has_room { lock(fd) } else { None };
            if lock.is_some()
                && hold::put_back(&left.hold, log, fd, until).0 == Outcome::All
                && end(&left.hold, log, fd, None).is_some()
            {
                announce(&left.hold, log);
                left.hold.leave(log);
            }
            sys::close(fd);
        }
        if left.hold.is_empty() {
            left.remove();
        }
        None
    });
}

/// Writes the note behind lines that are all put back, and returns it. None: there was no space for it. `sink` is where the lines went.
fn end(hold: &Hold<Mapping>, log: usize, fd: i32, sink: Option<&'static str>) -> Option<Note> {
    let (lines, bytes, gone) = hold.counts(log);
    let note = Note {
        errno: hold.errno(log),
        since: hold.since(log),
        lines,
        bytes,
        lost: (0, 0),
        json: hold.is_json(log),
        sink,
        kept: Kept { lines, gone, any: true },
    };
    let mut text = Text::<400>::new();
    if tideover_contract::hold::Target::ends_mid_line(&Open { fd, hold }) {
        let _ = text.push(b"\n");
    }
    note.fill(&mut text);
    (sys::write(fd, text.as_bytes()) == Ok(text.as_bytes().len())).then_some(note)
}

fn announce(hold: &Hold<Mapping>, log: usize) {
    if let Some(more) = MESSAGES.put_back.due() {
        let mut path = [0; LONGEST_PATH];
        log::warn!(
            "{}: {} lines that process {} has kept are put back{}",
            Printable(hold.path(log, &mut path)),
            hold.counts(log).0,
            hold.pid(),
            More(more)
        );
    }
}

/// Opens a log of a hold to append to it, wherever it is called in its folder by now; one that could not be created is created.
fn open(hold: &Hold<Mapping>, log: usize) -> Option<i32> {
    let mut bytes = [0; LONGEST_PATH];
    let mut path = Text::<PATH>::new();
    path.set(hold.path(log, &mut bytes));
    let path = path;
    let key = Key::of_identity(hold.identity(log));
    if key.is_uncreated() {
        let fd = open_to_append(path.as_c_str(), libc::O_CREAT, hold.mode(log))?;
        let status = sys::fstat(fd).ok().filter(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG);
        return status.map(|_| fd).or_else(|| close(fd));
    }
    let born = hold.born(log);
    if let Some(fd) = open_as(path.as_c_str(), key, born) {
        return Some(fd);
    }
    // Another file may have the inode number of a removed one.
    if born == 0 {
        return None;
    }
    let folder = directory(path.as_bytes());
    let mut name = Text::<PATH>::new();
    super::opened::name_of(folder.as_c_str(), key.identity().1, &mut name);
    open_as(Some(name).filter(|name| !name.as_bytes().is_empty())?.as_c_str(), key, born)
}

fn close(fd: i32) -> Option<i32> {
    sys::close(fd);
    None
}

fn open_to_append(path: &CStr, more: i32, mode: u32) -> Option<i32> {
    let flags =
        libc::O_WRONLY | libc::O_APPEND | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    sys::open(path, flags | more, mode).ok()
}

/// Opens a file to append to it, if it is the one that is meant.
fn open_as(path: &CStr, key: Key, born: u64) -> Option<i32> {
    // Asked first: to open a FIFO or a device has effects.
    let is_meant = |status: &libc::stat| Key::of_file(status) == key && status.st_mode & libc::S_IFMT == libc::S_IFREG;
    sys::stat(path, false).ok().filter(is_meant)?;
    let fd = open_to_append(path, 0, 0)?;
    if sys::fstat(fd).is_ok_and(|status| is_meant(&status)) && sys::birth(fd) == born { Some(fd) } else { close(fd) }
}
