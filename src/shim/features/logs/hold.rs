//! Diverted lines are kept until their log has space, and are put back then, in order, before the line that found the space.
//!
//! A process has at most one hold (`tideover_contract::hold`, [`hold_file`]), made with the first diverted line and
//! removed when all is put back. One lock is around keeping a line, putting lines back and the switch back to the file, so that the
//! order of lines is exact among threads.
#![deny(unsafe_code)]

use core::ops::{Deref, DerefMut};
use core::sync::atomic::Ordering::Relaxed;

use tideover_contract::hold::{self, Hold, New, Outcome, Record};
use tideover_contract::settings::{Id, SECOND};

use super::files::{self, DivertedFile, Key};
use super::hold_file::{self, Mapped};
use super::messages::MESSAGES;
use super::opened::Log;
use super::payload::{self, Payload};
use super::target::Open;
use super::{burst, divert};
use crate::os::lock::{Held, Lock};
use crate::os::mapping::Mapping;
use crate::os::sys;
use crate::state::report::{ErrnoName, More, Printable};
use crate::state::settings::SETTINGS;
use crate::state::{page, process, thread};

/// How long putting back may take in one call of the program, nanoseconds. As many bytes as a piece has may always be written, and one
/// piece more.
const TIME: u64 = SECOND / 2000;

#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".tables")]
static HOLD: Lock<Option<Mapped>> = Lock::new(None);

/// The right to use the hold. While a thread has it, no other keeps a line, puts lines back, or switches a log back.
pub struct Holding {
    own: Held<'static, Option<Mapped>>,
}

/// Are diverted lines kept?
pub fn is_on() -> bool {
    SETTINGS.get(Id::Hold) != 0
}

/// The hold. None: lines are not kept, or another thread does not give it back, or this is a process that shares the memory of the one
/// whose hold it is, or has a copy that nobody told it of (clone(2), _Fork(3)).
pub fn enter() -> Option<Holding> {
    if !is_on() || !(thread::is_in_vfork() || process::is_ours()) {
        return None;
    }
    let own = HOLD.enter().map(|own| Holding { own })?;
    if let Some(reserved) = burst::close() {
        own.send_staged(reserved);
    }
    Some(own)
}

/// Sends the lines of this log that came fast, and makes room for more.
pub fn renew_stage(key: Key) {
    if let Some(mut own) = enter()
        && let Some(mapped) = own.own.deref_mut()
    {
        mapped.kept = Some(key).filter(|_| !mapped.path.as_bytes().is_empty());
    }
}

/// Sends the lines that came fast.
pub fn catch_up() {
    drop(enter());
}

/// In the child of a fork: the hold is the parent's.
pub fn forked() {
    if HOLD.is_taken() {
        HOLD.forked();
    }
    if let Some(mut own) = HOLD.try_enter() {
        *own = None;
    }
}

/// Puts lines of a log back, for a bounded time.
pub(super) fn put_back(from: &Hold<Mapping>, log: usize, fd: i32, until: u64) -> (Outcome, u64) {
    let to = Open { fd, hold: from };
    hold::settle(from, log, &to);
    let (outcome, bytes) = hold::put_back(from, log, &to, |bytes| bytes < hold::PIECE as u64 || sys::now() < until);
    page::add(&page::counters().put_back_bytes, bytes);
    (outcome, bytes)
}

/// When putting back has to stop that begins now, CLOCK_MONOTONIC nanoseconds. A program that ends has time.
pub(super) fn time_limit(now: u64) -> u64 {
    if process::phase() == process::Phase::Exiting { u64::MAX } else { now + TIME }
}

/// What is to be said of a log's lines when they are back.
#[derive(Clone, Copy, Default)]
pub(super) struct Kept {
    /// Lines that were held.
    pub(super) lines: u64,
    /// Those of them that newer ones took the place of.
    pub(super) gone: u64,
    /// Were lines held at all?
    pub(super) any: bool,
}

impl Drop for Holding {
    fn drop(&mut self) {
        if let Some(mapped) = self.own.deref_mut()
            && let Some(key) = mapped.kept.take()
        {
            burst::open(&mapped.hold, key);
        }
    }
}

impl Holding {
    /// The hold, if there is one.
    pub(super) fn mapped(&self) -> Option<&Mapped> {
        self.own.deref().as_ref()
    }

    /// Keeps a payload of a diverted log, whose first `torn` bytes are in the file already. `may_drop`: its oldest lines have gone
    /// elsewhere, so that they may make room for new ones. False: it could not be kept.
    pub fn keep(
        &mut self,
        log: &Log<'_>,
        file: &DivertedFile,
        payload: Payload<'_>,
        torn: usize,
        may_drop: bool,
    ) -> bool {
        let length = payload.len();
        let text = || payload.pieces();
        let index = self.index_of(log, file, payload);
        let torn_here = if torn > 0 { self.prepare_torn(index, log.fd, torn) } else { 0 };
        let kept = index.is_some_and(|index| self.append(index, length, text(), torn_here, may_drop));
        if let Some(mapped) = self.mapped().filter(|_| kept)
            && let Some(index) = index
        {
            mapped.hold.count(index, payload.lines().0, (length - torn) as u64);
        }
        self.note_kept(kept, file);
        count_kept(kept, length - torn);
        kept
    }

    /// Text begins with so many bytes that stand at the end of the log: returns how many of them are not to be put back. None are, if text
    /// of another thread is kept already that comes before: then the line is ended, and stands whole behind that text.
    fn prepare_torn(&self, index: Option<usize>, fd: i32, torn: usize) -> usize {
        let (Some(mapped), Some(index)) = (self.mapped(), index) else { return 0 };
        let is_first = mapped.hold.held(index).records == 0;
        let size = sys::fstat(fd).ok().map(|status| status.st_size as u64);
        mapped.hold.set_placed(index, size.filter(|_| is_first).unwrap_or(u64::MAX));
        if is_first { torn } else { 0 }
    }

    /// Keeps text of a log of which text was kept before, after it has gone elsewhere.
    pub(super) fn keep_more(&mut self, file: &DivertedFile, text: &[u8]) {
        let identity = file.key().identity();
        let index = self.mapped().and_then(|mapped| mapped.hold.find(identity.0, identity.1));
        let kept = index.is_some_and(|index| self.append(index, text.len(), core::iter::once(text), 0, true));
        if let Some(mapped) = self.mapped().filter(|_| kept)
            && let Some(index) = index
        {
            mapped.hold.count(index, payload::newlines(text), text.len() as u64);
        }
        self.note_kept(kept, file);
        count_kept(kept, text.len());
    }

    /// A line of this log was kept, or was not. Where it would end with the process, the next ones go to the sink each by itself.
    fn note_kept(&mut self, kept: bool, file: &DivertedFile) {
        if let Some(mapped) = self.own.deref_mut() {
            mapped.kept = Some(file.key()).filter(|_| kept && !mapped.path.as_bytes().is_empty());
        }
    }

    /// Sends the lines that came fast, which are held as any others from here on.
    fn send_staged(&self, reserved: usize) {
        let Some(mapped) = self.mapped() else { return };
        let Some(staged) = mapped.hold.close_stage(reserved) else { return };
        let text = mapped.hold.memory().bytes(staged.offset, staged.length);
        mapped.hold.count(staged.log, payload::newlines(text), staged.length as u64);
        count_kept(true, staged.length);
        if let Some(file) = files::find(Key::of_identity(mapped.hold.identity(staged.log))) {
            divert::send_burst(file, text, staged.lines);
        }
    }

    /// Index of the log in the hold; the hold is made, and the log entered, if need be.
    fn index_of(&mut self, log: &Log<'_>, file: &DivertedFile, payload: Payload<'_>) -> Option<usize> {
        let identity = file.key().identity();
        if self.own.is_none() {
            *self.own.deref_mut() = make(identity, log.fd);
        }
        let mapped = self.own.deref_mut().as_mut()?;
        if let Some(known) = mapped.hold.find(identity.0, identity.1) {
            return Some(known);
        }
        let new = New {
            identity,
            path: log.path(),
            errno: file.errno.load(Relaxed),
            since: file.since.load(Relaxed),
            // If the log ends in the middle of a line, that is another process's, whose disk is full as well; or this one's, which makes a
            // write of each newline (`python -u`).
            placed: match payload.first().first() {
                Some(b'\n') => sys::fstat(log.fd).map_or(0, |status| status.st_size as u64),
                _ => u64::MAX,
            },
            json: payload.first().first() == Some(&b'{'),
            mode: log.status.st_mode,
            born: if file.key().is_uncreated() { 0 } else { sys::birth(log.fd) },
        };
        mapped.hold.enter(&new).or_else(|| {
            mapped.grow_table();
            mapped.hold.enter(&new)
        })
    }

    /// Appends text of so many bytes.
    fn append<'a>(
        &mut self,
        log: usize,
        length: usize,
        text: impl Iterator<Item = &'a [u8]>,
        torn: usize,
        may_drop: bool,
    ) -> bool {
        let Some(mapped) = self.own.deref_mut() else { return false };
        let Ok(length) = u32::try_from(length) else { return false };
        let place = loop {
            if mapped.hold.comes_around(length) && mapped.grow() {
                continue;
            }
            if let Some(place) = mapped.hold.place(log, length, torn as u32) {
                break place;
            }
            // A part of the ring that can't be much larger than the payload is not emptied for it.
            if !may_drop || u64::from(length) > mapped.hold.capacity() / 2 {
                return false;
            }
            let Some(dropped) = mapped.hold.drop_oldest() else { return false };
            forget(&mapped.hold, &dropped);
        };
        let mut offset = place.offset;
        for piece in text {
            mapped.hold.memory_mut().put(offset, piece);
            offset += piece.len();
        }
        mapped.hold.commit(&place);
        true
    }

    /// Puts lines back into the log of this descriptor that processes which have ended have left for it, when it was known by this key.
    pub(super) fn put_back_left(&self, key: Key, fd: i32, until: u64) -> Outcome {
        put_back_left(key.identity(), fd, until)
    }

    /// Puts lines of this file back by the descriptor of it that the program writes to. First those that processes which have ended
    /// have left.
    pub(super) fn put_back(&mut self, key: Key, fd: i32, until: u64) -> Outcome {
        let identity = key.identity();
        let left = put_back_left(identity, fd, until);
        if left != Outcome::All {
            return left;
        }
        let Some(mapped) = self.mapped() else { return Outcome::All };
        let Some(log) = mapped.hold.find(identity.0, identity.1) else { return Outcome::All };
        let (outcome, bytes) = put_back(&mapped.hold, log, fd, until);
        uncount(bytes);
        outcome
    }

    /// What is known of the lines of this file, all of which are put back.
    pub(super) fn kept(&self, key: Key) -> Kept {
        let identity = key.identity();
        let found = self.mapped().and_then(|mapped| Some((mapped, mapped.hold.find(identity.0, identity.1)?)));
        found.map_or(Kept::default(), |(mapped, log)| {
            let (lines, _, gone) = mapped.hold.counts(log);
            Kept { lines, gone, any: true }
        })
    }

    /// The file is written again: forgets it, and removes the hold if nothing is in it any more.
    pub(super) fn leave(&mut self, key: Key) {
        let identity = key.identity();
        let Some(mapped) = self.mapped() else { return };
        if let Some(log) = mapped.hold.find(identity.0, identity.1) {
            mapped.hold.leave(log);
        }
        self.remove_if_empty();
    }

    pub(super) fn remove_if_empty(&mut self) {
        let is_empty =
            self.mapped().is_some_and(|mapped| mapped.hold.is_empty() && mapped.hold.logs().next().is_none());
        if is_empty && let Some(mapped) = self.own.deref_mut().take() {
            page::counters().held_bytes.store(0, Relaxed);
            mapped.remove();
        }
    }

    /// A log that could not be created is there now, and is known otherwise.
    pub(super) fn rename(&self, old: Key, new: Key, fd: i32) {
        let (old, new) = (old.identity(), new.identity());
        if let Some(mapped) = self.mapped()
            && let Some(log) = mapped.hold.find(old.0, old.1)
        {
            mapped.hold.set_identity(log, new.0, new.1, sys::birth(fd));
            mapped.hold.set_placed(log, u64::MAX);
        }
    }
}

fn count_kept(kept: bool, bytes: usize) {
    let counters = page::counters();
    page::add(if kept { &counters.held_bytes } else { &counters.not_held_bytes }, bytes as u64);
}

/// So many bytes are not held any more.
pub(super) fn uncount(bytes: u64) {
    let held = &page::counters().held_bytes;
    let _ = held.fetch_update(Relaxed, Relaxed, |now| Some(now.saturating_sub(bytes)));
}

/// A record had to make room: only the sink got its lines.
fn forget(hold: &Hold<Mapping>, dropped: &Record) {
    let left = (dropped.length - dropped.done) as usize;
    let text = hold.memory().bytes(dropped.offset + dropped.done as usize, left);
    hold.count_gone(dropped.log, payload::newlines(text));
    uncount(left as u64);
    page::add(&page::counters().not_held_bytes, left as u64);
}

/// A hold for this process: the one that a process which has ended has left for this log, or a new one.
fn make(identity: (u64, u64), fd: i32) -> Option<Mapped> {
    let most = SETTINGS.get(Id::Hold);
    let has_log = |mapped: Mapped| Some(mapped).filter(|mapped| find(&mapped.hold, identity, fd).is_some());
    if let Some(left) = hold_file::any().then(|| hold_file::find_left(Some(identity), has_log)).flatten() {
        left.hold.set_pid(process::pid() as u32);
        let bytes: u64 = left.hold.logs().map(|log| left.hold.held(log).bytes).sum();
        page::add(&page::counters().held_bytes, bytes);
        return Some(left);
    }
    match Mapped::make(most) {
        Ok(made) => Some(made),
        Err((what, errno)) => {
            if let Some(more) = MESSAGES.no_hold.due() {
                log::warn!(
                    "diverted lines are kept in memory only, and lost if this process is killed: {what} {}: {}; TIDEOVER_HOLD_DIR= names another directory{}",
                    Printable(hold_file::folder(sys::geteuid()).as_bytes()),
                    ErrnoName(errno),
                    More(more)
                );
            }
            Mapped::make_private(most)
        }
    }
}

/// The log of this device and inode number in a hold that another process has left, if it is the one that the descriptor is open on. One
/// that could not be created has no birth.
fn find(left: &Hold<Mapping>, identity: (u64, u64), fd: i32) -> Option<usize> {
    let is_same = |log: &usize| Key::of_identity(identity).is_uncreated() || left.born(*log) == sys::birth(fd);
    left.find(identity.0, identity.1).filter(is_same)
}

/// Puts back into this log what processes that have ended have left for it.
fn put_back_left(identity: (u64, u64), fd: i32, until: u64) -> Outcome {
    let mut outcome = Outcome::All;
    if !hold_file::any() {
        return outcome;
    }
    hold_file::find_left(Some(identity), |left| {
        if outcome == Outcome::All
            && let Some(log) = find(&left.hold, identity, fd)
        {
            outcome = put_back(&left.hold, log, fd, until).0;
            if outcome == Outcome::All {
                left.hold.leave(log);
            }
            if left.hold.is_empty() {
                left.remove();
            }
        }
        None
    });
    outcome
}
