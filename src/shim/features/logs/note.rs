//! The line in a log that says what happened to its lines while its disk was full, and the message that says so elsewhere.
#![forbid(unsafe_code)]

use core::fmt::Write;

use tideover_contract::page::EventKind;

use super::divert;
use super::hold::Kept;
use super::messages::MESSAGES;
use super::opened::Log;
use crate::os::sys;
use crate::os::text::{Text, Time};
use crate::state::report::{More, Seconds};

/// What there is to be said.
pub(super) struct Note {
    /// ENOSPC or EDQUOT.
    pub(super) errno: i32,
    /// Since when lines were diverted, nanoseconds of CLOCK_REALTIME.
    pub(super) since: u64,
    /// Lines that were diverted.
    pub(super) lines: u64,
    /// Bytes of them.
    pub(super) bytes: u64,
    /// Lines that were lost, and their bytes.
    pub(super) lost: (u64, u64),
    /// The log consists of JSON objects.
    pub(super) json: bool,
    /// Where they went; None: they were kept only.
    pub(super) sink: Option<&'static str>,
    /// Which of them are put back.
    pub(super) kept: Kept,
}

impl Note {
    /// Writes the line: how many lines went where, from when to when, and whether they stand in the file by now. A JSON object where the
    /// log consists of JSON objects.
    pub(super) fn fill(&self, to: &mut Text<400>) {
        let Note { lines, bytes, lost: (lost_lines, lost_bytes), .. } = *self;
        let (from, until) = (Time(self.since), Time(sys::clock(libc::CLOCK_REALTIME)));
        let reason = divert::reason(self.errno);
        let sink = self.sink.unwrap_or(if self.kept.any { "the hold" } else { "nowhere" });
        if self.json {
            let _ = write!(to, "{{\"tideover\":\"{reason}\",\"lines\":{lines},\"bytes\":{bytes}");
            if lost_bytes > 0 {
                let _ = write!(to, ",\"lost_lines\":{lost_lines},\"lost_bytes\":{lost_bytes}");
            }
            let _ = write!(to, ",\"sent_to\":\"{sink}\",\"from\":\"{from}\",\"until\":\"{until}\"");
            if self.kept.any {
                let _ = write!(to, ",\"held\":{},\"put_back\":{}", self.kept.lines, self.put_back());
            }
            let _ = to.write_str("}\n");
            return;
        }
        let _ = write!(to, "tideover: {reason}: {lines} lines ({bytes} bytes) went to {sink}");
        if lost_bytes > 0 {
            let _ = write!(to, ", {lost_lines} lines ({lost_bytes} bytes) were lost,");
        }
        let _ = write!(to, " between {from} and {until}");
        let _ = match self.kept {
            Kept { any: false, .. } => Ok(()),
            Kept { lines: kept, gone: 0, .. } if kept == lines => to.write_str(", and are put back above"),
            Kept { lines: kept, .. } => write!(to, ", and {} of {kept} are put back above", self.put_back()),
        };
        let _ = to.write_str("\n");
    }

    /// How many lines are put back.
    fn put_back(&self) -> u64 {
        self.kept.lines.saturating_sub(self.kept.gone)
    }

    /// Says that lines are written to the file again, `age` nanoseconds after they were diverted.
    pub(super) fn announce(&self, log: &Log<'_>, age: u64) {
        if let Some(more) = MESSAGES.recovered.due() {
            let sink = self.sink.unwrap_or("the hold");
            let mut rest = Text::<80>::new();
            if self.lost.0 > 0 {
                let _ = write!(rest, ", {} were lost", self.lost.0);
            }
            if self.kept.any {
                let _ = write!(rest, ", {} are put back", self.put_back());
            }
            log::warn!(
                target: "restored",
                "{}: recovered after {}, {} lines went to {sink}{}{}",
                log.name(),
                Seconds(age),
                self.lines,
                rest.as_str(),
                More(more)
            );
        }
        log.emit(EventKind::Restored, 0, age);
    }
}
