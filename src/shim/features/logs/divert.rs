//! Lines of a log go elsewhere.
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::c_int;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings;

use super::files::{self, DivertedFile};
use super::messages::MESSAGES;
use super::opened::Log;
use super::payload::{self, Buffer, Payload, Written};
use super::sink::{ONE_WRITE, Sink};
use super::{cap, pipe};
use crate::os::sys;
use crate::os::text::Text;
use crate::state::events::{self, Event};
use crate::state::page;
use crate::state::process;
use crate::state::report::{ErrnoName, More};
use crate::state::settings::SETTINGS;

/// pwritev2(2) can't do what [`send_to_pipe`] needs (Linux before 6.18), so poll(2) is asked before each write.
static IS_OLD_KERNEL: AtomicBool = AtomicBool::new(false);

/// Why lines are diverted, for messages: `errno` is ENOSPC or EDQUOT.
pub(super) fn reason(errno: c_int) -> &'static str {
    if errno == libc::EDQUOT { "over quota" } else { "disk full" }
}

impl Log<'_> {
    /// A sink for so many bytes, if there is one and the caps allow them; they are charged then.
    pub(super) fn charged_sink(&self, bytes: usize, errno: c_int, now: u64) -> Option<Sink> {
        let Some(sink) = self.sink() else {
            if let Some(more) = MESSAGES.no_sink.due() {
                log::warn!(
                    "{}: {}, and there is nowhere to send its lines; TIDEOVER_FALLBACK= names a file on another disk{}",
                    self.name(),
                    ErrnoName(errno),
                    More(more)
                );
            }
            return None;
        };
        if let Err(cap) = cap::charge(bytes as u64, now) {
            if let Some(more) = MESSAGES.capped.due() {
                log::warn!(
                    "{}: more is written than {} admits: the error is passed on{}",
                    self.name(),
                    settings::ROWS[cap as usize].env,
                    More(more)
                );
            }
            return None;
        }
        Some(sink)
    }

    /// Sends a payload elsewhere after the real write failed with `errno`. `ends_mid_line`: the file ends in the middle of a line. None:
    /// nothing was sent, and the program must get the true error.
    pub(super) fn divert(&self, payload: Payload<'_>, errno: c_int, ends_mid_line: bool) -> Option<()> {
        let now = sys::now();
        let sink = self.charged_sink(payload.len(), errno, now)?;
        // Twice: another thread may have recovered the file since the real write failed. Then the disk is full anew.
        let (file, new) =
            (0..2).find_map(|_| files::enter(self.key, self.path(), errno).filter(|(file, _)| file.begin_sending()))?;
        if new {
            file.ends_mid_line.store(ends_mid_line, Relaxed);
            self.announce_diversion(errno, sink.name);
        }
        self.send(file, &sink, payload, new && ends_mid_line, now);
        file.end_sending();
        Some(())
    }

    /// Writes a payload of a diverted file to the sink, and counts it. `mid_line`: its first bytes continue a line of the file.
    pub(super) fn send(&self, file: &DivertedFile, sink: &Sink, payload: Payload<'_>, mid_line: bool, now: u64) {
        let mid_line = file.mid_line.load(Relaxed) || mid_line;
        let mut prefix = Text::<300>::new();
        if !SETTINGS.fallback_prefix().is_empty() {
            self.fill_prefix(&mut prefix);
        }
        let dropped = sink.deliver(payload, prefix.as_bytes(), mid_line);
        let (lines, whole_lines) = payload.lines();
        count_sent(file, lines, payload.len(), whole_lines, dropped, now);
    }

    /// TIDEOVER_FALLBACK_PREFIX, with `{path}`, `{name}` and `{pid}` replaced.
    fn fill_prefix(&self, to: &mut Text<300>) {
        let path = self.path();
        let base = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        let mut rest = SETTINGS.fallback_prefix();
        while let Some((&first, after)) = rest.split_first() {
            if let Some(tail) = rest.strip_prefix(b"{path}") {
                to.push(path);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix(b"{name}") {
                to.push(base);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix(b"{pid}") {
                let _ = write!(to, "{}", process::pid());
                rest = tail;
            } else {
                to.push(&[first]);
                rest = after;
            }
        }
    }

    /// Says that lines go to `sink` from now on.
    fn announce_diversion(&self, errno: c_int, sink: &str) {
        if let Some(more) = MESSAGES.diverted.due() {
            let reason = reason(errno);
            log::warn!("{}: {reason} ({}), its lines go to {sink}{}", self.name(), ErrnoName(errno), More(more));
        }
        self.emit(EventKind::Degraded, errno, 0);
    }

    /// Makes an event. `waited` is in nanoseconds.
    pub(super) fn emit(&self, kind: EventKind, errno: c_int, waited: u64) {
        events::emit(&Event { kind, call: "write", errno, fd: self.fd, tries: 0, waited, outcome: Outcome::None });
    }
}

/// The short way of a line to a sink that is a pipe, when the file need not be checked and nothing is to be put before the line: one
/// write, by which the kernel says whether the program's buffer can be read. None: nothing was done, and the line goes the long way.
pub(super) fn send_to_pipe(file: &DivertedFile, buffer: Buffer<'_>) -> Option<Written> {
    let count = buffer.len();
    let now = sys::now();
    let plain = (1..=ONE_WRITE).contains(&count) && SETTINGS.fallback_prefix().is_empty();
    if !plain || IS_OLD_KERNEL.load(Relaxed) || file.mid_line.load(Relaxed) || file.is_check_due(now) {
        return None;
    }
    let fd = pipe::descriptor(now)?;
    if cap::charge(count as u64, now).is_err() {
        return None;
    }
    if !file.begin_sending() {
        cap::uncharge(count as u64);
        return None;
    }
    let written = buffer.write_now(fd);
    let sent = written.unwrap_or(&[]);
    if !sent.is_empty() {
        count_sent(file, payload::newlines(sent), sent.len(), sent.last() == Some(&b'\n'), 0, now);
    }
    if sent.len() < count {
        cap::uncharge((count - sent.len()) as u64);
    }
    file.end_sending();
    if matches!(written, Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM)) {
        IS_OLD_KERNEL.store(true, Relaxed);
    }
    (!sent.is_empty()).then_some(Written::all(sent.len(), 0))
}

/// Counts what was diverted; `dropped` of the bytes were not taken by the reader.
fn count_sent(file: &DivertedFile, lines: u64, bytes: usize, whole_lines: bool, dropped: usize, now: u64) {
    file.count(lines, bytes as u64, whole_lines, now);
    let counters = page::counters();
    page::add(&counters.diverted_writes, 1);
    page::add(&counters.diverted_bytes, (bytes - dropped) as u64);
    page::add(&counters.diverted_lines, lines);
    if dropped > 0 {
        page::add(&counters.dropped_bytes, dropped as u64);
    }
}
