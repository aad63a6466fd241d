//! There is space again: what was kept is put back, a note says what happened, and lines are written to the file.
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering::Relaxed;

use tideover_contract::hold::Outcome;

use super::files::{DivertedFile, Key};
use super::hold::{self, Holding, Kept};
use super::log_lock::LogLock;
use super::note::Note;
use super::opened::Log;
use super::payload::{Payload, Written};
use super::space;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, LOG};
use crate::state::page;
use crate::state::process::{self, Phase};

impl Log<'_> {
    /// A write to a diverted file: it is diverted, too, or written to the file if there is room again. None: it was not written at all,
    /// and the real call is to be made.
    pub(super) fn divert_or_recover(&self, file: &DivertedFile, payload: Payload<'_>) -> Option<Written> {
        let errno = file.errno.load(Relaxed);
        let total = payload.len();
        // The rest of a line goes where its beginning went.
        let tail = if file.mid_line.load(Relaxed) { payload.line().unwrap_or(total) } else { 0 };
        let now = sys::now();
        let due = file.is_check_due(now) || process::phase() == Phase::Exiting;
        // Until the outcome is known, other threads that write lines of this file wait for it, so that all of these lines are diverted or
        // none is.
        if tail < total && due && file.begin_recovery() {
            file.checked();
            if errno == libc::EDQUOT || space::has_room(self.fd) {
                match hold::enter() {
                    Some(mut hold) => match self.recover_with(&mut hold, file, payload, tail, now) {
                        done @ Some(_) => return done,
                        None => file.abandon_recovery(),
                    },
                    None => return self.recover(file, payload, tail, now),
                }
            } else {
                file.abandon_recovery();
            }
        }
        self.divert_more(file, payload, errno, now).map(|taken| Written::all(taken, 0))
    }

    /// There seems to be room: what is kept is put back, then come the note and the payload, whose first `tail` bytes end a line. None:
    /// nothing of the payload was written, and it is to be diverted as those before.
    fn recover_with(
        &self,
        hold: &mut Holding,
        file: &DivertedFile,
        payload: Payload<'_>,
        tail: usize,
        now: u64,
    ) -> Option<Written> {
        let _lock = LogLock::take(file.key().identity())?;
        page::add(&page::counters().recovery_attempts, 1);
        match hold.put_back(file.key(), self.fd, hold::time_limit(now)) {
            Outcome::All => {}
            // The next write goes on.
            Outcome::Part => {
                file.check_soon();
                return None;
            }
            Outcome::Failed(_) => {
                file.write_failed();
                return None;
            }
        }
        if tail > 0 {
            self.send_if_possible(file, payload.upto(tail), (true, true), now);
        }
        let (key, total) = (file.key(), payload.len());
        let reached = self.write_around_note(file, payload, tail, hold.kept(key));
        if reached == total {
            hold.leave(key);
            return Some(Written::all(total, total));
        }
        file.write_failed();
        let line = payload.line_start(reached);
        let kept = hold.keep(self, file, payload.after(line), reached - line, self.sink(None).is_some());
        let sent = self.send_if_possible(file, payload.after(reached), (kept, reached > line), now);
        file.abandon_recovery();
        let done = if kept { total } else { reached + sent };
        (done > 0).then_some(Written::all(done, reached))
    }

    /// Writes the end of a line, the note, and the payload behind that end. Returns how many bytes of the payload are in the file; if that
    /// is all, the file is no longer diverted.
    fn write_around_note(&self, file: &DivertedFile, payload: Payload<'_>, tail: usize, kept: Kept) -> usize {
        let (ended, _) = self.write(payload.upto(tail));
        if ended < tail {
            return ended;
        }
        tail + self.write_with_note(file, payload.after(tail), kept).unwrap_or(0)
    }

    /// There seems to be room, and nothing is kept: the first `tail` bytes end a diverted line, the others are for the file.
    fn recover(&self, file: &DivertedFile, payload: Payload<'_>, tail: usize, now: u64) -> Option<Written> {
        page::add(&page::counters().recovery_attempts, 1);
        let mut done = 0;
        if tail > 0 {
            done = self.send_if_possible(file, payload.upto(tail), (false, true), now);
        }
        let reached = self.write_with_note(file, payload.after(done), Kept::default()).unwrap_or(0);
        done += reached;
        if done < payload.len() {
            file.write_failed();
            done += self.send_if_possible(file, payload.after(done), (false, reached > 0), now);
            file.abandon_recovery();
        }
        (done > 0).then_some(Written::all(done, reached))
    }

    /// Sends a payload to the sink, if there is one and the caps allow it. Is it kept for the file, or written there, and do its first bytes
    /// continue a line? Returns how many bytes were taken.
    fn send_if_possible(&self, file: &DivertedFile, payload: Payload<'_>, how: (bool, bool), now: u64) -> usize {
        let errno = file.errno.load(Relaxed);
        self.charged_sink(payload.len(), errno, now).map_or(0, |sink| self.send(file, sink, payload, how, now))
    }

    /// The real file has just replaced its [placeholder](super::placeholder): it gets the note, if lines of it were diverted, and the
    /// payload.
    pub(super) fn recover_from_placeholder(
        &self,
        diverted: Option<&DivertedFile>,
        payload: Payload<'_>,
    ) -> Option<Written> {
        let status = sys::fstat(self.fd).ok()?;
        descriptors::forget(self.fd);
        let real = Log { device: self.device, path: self.path.clone(), ..Log::without_path(self.fd, &status) };
        let total = payload.len();
        let mut hold = hold::enter();
        let lock = hold.as_ref().and_then(|_| LogLock::take(real.key.identity()));
        let may = hold.is_none() || lock.is_some();
        let written = match diverted {
            Some(file) if file.begin_recovery() => real.recover_as(hold.as_mut(), file, payload, may),
            _ => {
                if let Some(hold) = hold.as_ref().filter(|_| lock.is_some()) {
                    hold.put_back_left(self.key, self.fd, hold::time_limit(sys::now()));
                }
                real.write(payload).0
            }
        };
        drop(lock);
        drop(hold);
        if written >= total {
            return Some(Written::all(total, total));
        }
        let log = Log::with_path(self.fd, &status)?;
        descriptors::add(self.fd, LOG);
        let line = payload.line_start(written);
        let taken = log.divert(payload.after(line), libc::ENOSPC, written - line).unwrap_or(0);
        (written + taken > 0).then_some(Written::all(written + taken, written))
    }

    /// What the placeholder stood for is this file: puts back what is kept of it if it `may`, and writes the note and the payload. Returns
    /// how many bytes of the payload are in the file.
    fn recover_as(&self, hold: Option<&mut Holding>, file: &DivertedFile, payload: Payload<'_>, may: bool) -> usize {
        let key = Key::of_file(self.status);
        let mut kept = Kept::default();
        let mut back = if may { Outcome::All } else { Outcome::Part };
        if let Some(hold) = hold.as_ref() {
            if may {
                hold.put_back_left(file.key(), self.fd, hold::time_limit(sys::now()));
            }
            hold.rename(file.key(), key, self.fd);
        }
        file.becomes(key);
        let mut hold = hold;
        if let Some(hold) = hold.as_mut().filter(|_| may) {
            back = hold.put_back(key, self.fd, hold::time_limit(sys::now()));
            kept = hold.kept(key);
        }
        if back != Outcome::All {
            file.check_soon();
            file.abandon_recovery();
            return 0;
        }
        let written = self.write_with_note(file, payload, kept);
        if written == Some(payload.len()) {
            if let Some(hold) = hold {
                hold.leave(key);
            }
        } else {
            file.abandon_recovery();
        }
        written.unwrap_or(0)
    }

    /// Ends the file's last line if it has no newline, writes the note of what went elsewhere, and writes the payload. Returns how many
    /// bytes of the payload are in the file; if that is all, the file is no longer diverted. None if the note was not written.
    fn write_with_note(&self, file: &DivertedFile, payload: Payload<'_>, kept: Kept) -> Option<usize> {
        let sink = self.sink(None).map(|sink| sink.name());
        let note = Note {
            errno: file.errno.load(Relaxed),
            since: file.since.load(Relaxed),
            lines: file.lines.load(Relaxed),
            bytes: file.bytes.load(Relaxed),
            lost: (file.lost_lines.load(Relaxed), file.lost_bytes.load(Relaxed)),
            json: payload.first().first() == Some(&b'{'),
            sink,
            kept,
        };
        let mut text = Text::<400>::new();
        if self.ends_mid_line(!kept.any && file.ends_mid_line.load(Relaxed)) {
            let _ = text.push(b"\n");
        }
        // A child that has diverted nothing since it was forked has nothing to say.
        let has_news = note.lines > 0 || !hold::is_on();
        if has_news {
            note.fill(&mut text);
        }
        if sys::write(self.fd, text.as_bytes()) != Ok(text.as_bytes().len()) {
            return None;
        }
        let (written, errno) = self.write(payload);
        if errno != 0 {
            return Some(written);
        }
        let age = file.age();
        file.recovered();
        if has_news {
            note.announce(self, age);
        }
        Some(written)
    }
}
