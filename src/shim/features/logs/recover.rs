//! There is space again: lines are written to the file, after a note that says how many went elsewhere.
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use tideover_contract::page::EventKind;

use super::divert;
use super::files::DivertedFile;
use super::messages::MESSAGES;
use super::opened::Log;
use super::payload::{Payload, Written};
use super::space;
use crate::os::sys;
use crate::os::text::{Text, Time};
use crate::state::descriptors::{self, LOG};
use crate::state::page;
use crate::state::report::{More, Seconds};

impl Log<'_> {
    /// A write to a diverted file: it is diverted, too, or written to the file if there is room again. None: it was not written at all,
    /// and the real call is to be made.
    pub(super) fn divert_or_recover(&self, file: &DivertedFile, payload: Payload<'_>) -> Option<Written> {
        let errno = file.errno.load(Relaxed);
        let total = payload.len();
        // The rest of a line goes where its beginning went.
        let tail = if file.mid_line.load(Relaxed) { payload.line().unwrap_or(total) } else { 0 };
        let now = sys::now();
        // Until the outcome is known, other threads that write lines of this file wait for it, so that all of these lines are diverted or
        // none is.
        if tail < total && file.is_check_due(now) && file.begin_recovery() {
            file.checked();
            if errno == libc::EDQUOT || space::has_room(self.fd) {
                return self.recover(file, payload, tail, now);
            }
            file.abandon_recovery();
        }
        let sink = self.charged_sink(total, errno, now)?;
        // False if the file is written again by now: then the real call is made.
        let taken = file.begin_sending().then(|| {
            let taken = self.send(file, sink, payload, false, now);
            file.end_sending();
            taken
        })?;
        (taken > 0).then_some(Written::all(taken, 0))
    }

    /// There seems to be room: the first `tail` bytes end a diverted line, the others are for the file.
    fn recover(&self, file: &DivertedFile, payload: Payload<'_>, tail: usize, now: u64) -> Option<Written> {
        page::add(&page::counters().recovery_attempts, 1);
        let errno = file.errno.load(Relaxed);
        let mut done = 0;
        if tail > 0
            && let Some(sink) = self.charged_sink(tail, errno, now)
        {
            done = self.send(file, sink, payload.upto(tail), true, now);
        }
        let reached = self.write_with_note(file, payload.after(done)).unwrap_or(0);
        done += reached;
        if done < payload.len() {
            file.write_failed();
            if let Some(sink) = self.charged_sink(payload.len() - done, errno, now) {
                done += self.send(file, sink, payload.after(done), reached > 0, now);
            }
            file.abandon_recovery();
        }
        (done > 0).then_some(Written::all(done, reached))
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
        let written = match diverted {
            Some(file) if file.begin_recovery() => {
                let written = real.write_with_note(file, payload);
                if written != Some(total) {
                    // From here on the file is known by its inode, and has another entry than its placeholder.
                    file.abandon_recovery();
                }
                written.unwrap_or(0)
            }
            _ => real.write(payload).0,
        };
        if written >= total {
            return Some(Written::all(total, total));
        }
        let log = Log::with_path(self.fd, &status)?;
        descriptors::add(self.fd, LOG);
        let taken = log.divert(payload.after(written), libc::ENOSPC, written > 0).unwrap_or(0);
        (written + taken > 0).then_some(Written::all(written + taken, written))
    }

    /// Ends the file's last line if it has no newline, writes the note of what went elsewhere, and writes the payload. Returns how many
    /// bytes of the payload are in the file; if that is all, the file is no longer diverted. None if the note was not written.
    fn write_with_note(&self, file: &DivertedFile, payload: Payload<'_>) -> Option<usize> {
        let mut note = Text::<400>::new();
        if self.ends_mid_line(file.ends_mid_line.load(Relaxed)) {
            let _ = note.push(b"\n");
        }
        let sink = self.sink(None).map_or("nowhere", |sink| sink.name());
        fill_note(&mut note, file, sink, payload.first().first() == Some(&b'{'));
        if sys::write(self.fd, note.as_bytes()) != Ok(note.as_bytes().len()) {
            return None;
        }
        let (written, errno) = self.write(payload);
        if errno != 0 {
            return Some(written);
        }
        let (lines, lost, age) = (file.lines.load(Relaxed), file.lost_lines.load(Relaxed), file.age());
        file.recovered();
        self.announce_recovery(lines, lost, age, sink);
        Some(written)
    }

    /// Says that lines are written to the file again.
    fn announce_recovery(&self, lines: u64, lost: u64, age: u64, sink: &str) {
        if let Some(more) = MESSAGES.recovered.due() {
            let mut lost_too = Text::<48>::new();
            if lost > 0 {
                let _ = write!(lost_too, ", {lost} were lost");
            }
            log::warn!(
                "{}: recovered after {}, {lines} lines went to {sink}{}{}",
                self.name(),
                Seconds(age),
                lost_too.as_str(),
                More(more)
            );
        }
        self.emit(EventKind::Restored, 0, age);
    }
}

/// The line in the file: how much went where, from when to when. A JSON object where the log consists of JSON objects.
fn fill_note(to: &mut Text<400>, file: &DivertedFile, sink: &str, json: bool) {
    let (lines, bytes) = (file.lines.load(Relaxed), file.bytes.load(Relaxed));
    let from = Time(file.since.load(Relaxed));
    let until = Time(sys::clock(libc::CLOCK_REALTIME));
    let reason = divert::reason(file.errno.load(Relaxed));
    let (lost_lines, lost_bytes) = (file.lost_lines.load(Relaxed), file.lost_bytes.load(Relaxed));
    let mut lost = Text::<100>::new();
    if json {
        if lost_bytes > 0 {
            let _ = write!(lost, ",\"lost_lines\":{lost_lines},\"lost_bytes\":{lost_bytes}");
        }
        let _ = writeln!(
            to,
            "{{\"tideover\":\"{reason}\",\"lines\":{lines},\"bytes\":{bytes}{},\"sent_to\":\"{sink}\",\"from\":\"{from}\",\"until\":\"{until}\"}}",
            lost.as_str()
        );
        return;
    }
    if lost_bytes > 0 {
        let _ = write!(lost, ", {lost_lines} lines ({lost_bytes} bytes) were lost,");
    }
    let _ = writeln!(
        to,
        "tideover: {reason}: {lines} lines ({bytes} bytes) went to {sink}{} between {from} and {until}",
        lost.as_str()
    );
}
