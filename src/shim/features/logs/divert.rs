//! Lines of a log go elsewhere.
#![forbid(unsafe_code)]

use core::fmt::Write;
use core::sync::atomic::Ordering::Relaxed;

use libc::c_int;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings;

use super::delivery::{Delivery, Header, ONE_WRITE};
use super::files::{self, DivertedFile};
use super::messages::MESSAGES;
use super::opened::{Log, PATH};
use super::payload::{self, Buffer, Payload, Written};
use super::sink::{self, Place, Sink};
use super::{cap, hold, pipe};
use crate::os::output;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::events::{self, Event};
use crate::state::page;
use crate::state::process;
use crate::state::report::{About, ErrnoName, More, Printable};
use crate::state::settings::SETTINGS;

/// Why lines are diverted, for messages: `errno` is ENOSPC or EDQUOT.
pub(super) fn reason(errno: c_int) -> &'static str {
    if errno == libc::EDQUOT { "over quota" } else { "disk full" }
}

impl Log<'_> {
    /// May so many bytes be diverted? They are charged then.
    fn charge(&self, bytes: usize, now: u64) -> bool {
        let Err(cap) = cap::charge(bytes as u64, now) else { return true };
        if let Some(more) = MESSAGES.capped.due() {
            log::warn!(
                "{}: more is written than {} admits: the error is passed on{}",
                self.name(),
                settings::ROWS[cap as usize].env,
                More(more)
            );
        }
        false
    }

    /// A sink for so many bytes, if there is one and the caps allow them; they are charged then.
    pub(super) fn charged_sink(&self, bytes: usize, errno: c_int, now: u64) -> Option<Sink> {
        if !self.charge(bytes, now) {
            return None;
        }
        let sink = self.sink(None);
        if sink.is_none() {
            cap::uncharge(bytes as u64);
            if !hold::is_on() {
                self.say_no_sink(errno);
            }
        }
        sink
    }

    /// Says that the lines can go nowhere.
    fn say_no_sink(&self, errno: c_int) {
        if let Some(more) = MESSAGES.no_sink.due() {
            log::warn!(
                "{}: {}, and there is nowhere to send its lines; TIDEOVER_FALLBACK= names a file on another disk{}",
                self.name(),
                ErrnoName(errno),
                More(more)
            );
        }
    }

    /// Diverts a payload after the real write failed with `errno`: it is kept, if it can be, and goes to the sink, if there is one. Its
    /// first `torn` bytes are the beginning of a line, and are in the file already. Returns how many of the other bytes were taken from the
    /// program. None: none were, and the program must get the true error.
    pub(super) fn divert(&self, payload: Payload<'_>, errno: c_int, torn: usize) -> Option<usize> {
        let now = sys::now();
        let rest = payload.after(torn);
        if process::is_off() || !self.charge(rest.len(), now) {
            return None;
        }
        // Twice: another thread may have recovered the file since the real write failed. Then the disk is full anew.
        let entered =
            (0..2).find_map(|_| files::enter(self.key, self.path(), errno).filter(|(file, _)| file.begin_sending()));
        let Some((file, new)) = entered else {
            cap::uncharge(rest.len() as u64);
            return None;
        };
        if new {
            file.ends_mid_line.store(torn > 0, Relaxed);
        }
        let sink = self.sink(None);
        let (name, is_stderr) = (sink.as_ref().map(|sink| (sink.name(), sink.why)), sink.as_ref().map(Sink::place));
        let kept = self.keep(file, payload, torn, sink.is_some());
        // On standard error the message comes first: the lines may begin with the rest of one.
        let is_first = new && (is_stderr == Some(Place::Stderr) || kept && sink.is_none());
        if is_first {
            self.announce_diversion(errno, name, kept);
        }
        let taken = self.hand_over(file, sink, rest, (kept, new && torn > 0), now);
        file.end_sending();
        if taken == 0 {
            if new {
                file.withdraw();
            }
            self.say_no_sink(errno);
            return None;
        }
        if new && !is_first {
            self.announce_diversion(errno, name, kept);
        }
        Some(taken)
    }

    /// Diverts a payload of a file that is diverted already, for `errno`. Returns how many bytes were taken from the program. None: none
    /// were, and the real call is to be made.
    pub(super) fn divert_more(
        &self,
        file: &DivertedFile,
        payload: Payload<'_>,
        errno: c_int,
        now: u64,
    ) -> Option<usize> {
        if !self.charge(payload.len(), now) {
            return None;
        }
        // False if the file is written again by now.
        if !file.begin_sending() {
            cap::uncharge(payload.len() as u64);
            return None;
        }
        let sink = self.sink(None);
        let kept = self.keep(file, payload, 0, sink.is_some());
        let taken = self.hand_over(file, sink, payload, (kept, false), now);
        file.end_sending();
        if taken == 0 {
            self.say_no_sink(errno);
        }
        Some(taken).filter(|&taken| taken > 0)
    }

    /// Keeps a payload in the hold, if there is one, and the file is still diverted. `has_sink`: its oldest lines may make room.
    fn keep(&self, file: &DivertedFile, payload: Payload<'_>, torn: usize, has_sink: bool) -> bool {
        let Some(mut hold) = hold::enter() else { return false };
        file.is_diverted(file.key()) && hold.keep(self, file, payload, torn, has_sink)
    }

    /// Sends what is kept, or could not be, to the sink; the cap has been charged for it. Is it kept, and do its first bytes continue a line
    /// of the file? Returns how many bytes were taken from the program.
    fn hand_over(
        &self,
        file: &DivertedFile,
        sink: Option<Sink>,
        payload: Payload<'_>,
        (kept, mid_line): (bool, bool),
        now: u64,
    ) -> usize {
        let has_sink = sink.is_some();
        let taken = sink.map_or(0, |sink| self.send(file, sink, payload, (kept, mid_line), now));
        let rest = payload.len() - taken;
        if kept && rest > 0 {
            let (lines, whole_lines) = payload.after(taken).lines();
            // Where nothing can be sent, what is kept is what the note counts.
            let counted = if has_sink { (0, 0) } else { (lines, rest as u64) };
            file.count(counted.0, counted.1, whole_lines, now);
            return payload.len();
        }
        if !has_sink && !kept {
            cap::uncharge(rest as u64);
        }
        taken
    }

    /// Writes a payload of a diverted file to the sink, or to the next one if that fails, and counts it; the cap has been charged for it.
    /// Is it kept for the file, and do its first bytes continue a line of the file? Returns how many bytes were taken from the program; for the others there is
    /// no sink.
    pub(super) fn send(
        &self,
        file: &DivertedFile,
        sink: Sink,
        payload: Payload<'_>,
        (kept, mid_line): (bool, bool),
        now: u64,
    ) -> usize {
        let mut mid_line = file.mid_line.load(Relaxed) || mid_line;
        let (mut prefix, mut program, mut path) = (Text::<300>::new(), Text::<64>::new(), Text::<PATH>::new());
        if !SETTINGS.fallback_prefix().is_empty() {
            self.fill_prefix(&mut prefix);
        }
        let mut pid = Text::<16>::new();
        let _ = write!(pid, "{}", process::pid());
        let _ = write!(program, "{}", Printable(process::program()));
        if sink.is_daemon() {
            let _ = write!(path, "{}", self.name());
        }
        let header = Header {
            prefix: prefix.as_bytes(),
            program: program.as_bytes(),
            pid: pid.as_bytes(),
            path: path.as_bytes(),
        };
        let (mut taken, mut next) = (0, Some(sink));
        while let Some(sink) = next.take() {
            let rest = payload.after(taken);
            let done = sink.deliver(rest, &header, mid_line);
            let took = done.sent + done.dropped;
            if took > 0 {
                mid_line = !rest.upto(took).lines().1;
                count_sent(file, &done, rest.upto(took).lines(), kept, now);
            }
            taken += took;
            if done.dropped > 0 && !kept {
                self.say_dropped(sink.name());
            }
            if done.failed {
                next = self.sink(Some(sink.place()));
            }
        }
        if !kept {
            cap::uncharge((payload.len() - taken) as u64);
        }
        taken
    }

    /// Says that lines are lost.
    fn say_dropped(&self, sink: &str) {
        if let Some(more) = MESSAGES.dropped.due() {
            let dropped = page::counters().dropped_bytes.load(Relaxed);
            log::warn!(
                "{}: {sink} does not take its lines in time: {dropped} bytes are lost so far{}",
                self.name(),
                More(more)
            );
        }
    }

    /// TIDEOVER_FALLBACK_PREFIX, with `{path}`, `{name}` and `{pid}` replaced.
    fn fill_prefix(&self, to: &mut Text<300>) {
        let path = self.path();
        let base = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        // A name may have newlines and escapes in it, which must not become lines of a log or commands of a terminal.
        let mut rest = SETTINGS.fallback_prefix();
        while let Some((&first, after)) = rest.split_first() {
            if let Some(tail) = rest.strip_prefix(b"{path}") {
                let _ = write!(to, "{}", Printable(path));
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix(b"{name}") {
                let _ = write!(to, "{}", Printable(base));
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

    /// Says where lines go from now on, and why, where the user has not said so; and whether they are kept for the file.
    fn announce_diversion(&self, errno: c_int, sink: Option<(&str, &str)>, kept: bool) {
        if let Some(more) = MESSAGES.diverted.due() {
            let (name, why) = sink.unwrap_or_default();
            let (open, close) = if why.is_empty() { ("", "") } else { (" (", ")") };
            let (go, back) = match (sink.is_some(), kept) {
                (true, true) => ("go to ", ", and into the file when there is space"),
                (true, false) => ("go to ", ""),
                (false, _) => ("are kept, and go into the file when there is space", ""),
            };
            let about = About { kind: "degraded", call: "write", errno, ..About::NOTHING };
            about.log(format_args!(
                "{}: {} ({}), its lines {go}{name}{open}{why}{close}{back}{}",
                self.name(),
                reason(errno),
                ErrnoName(errno),
                More(more)
            ));
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
    if !plain || !output::writes_pipes_at_once() || file.mid_line.load(Relaxed) || file.is_check_due(now) {
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
        if let Some(mut hold) = hold::enter() {
            hold.keep_more(file, sent);
        }
        let lines = payload::newlines(sent);
        let done = Delivery { sent: sent.len(), lines, ..Delivery::default() };
        count_sent(file, &done, (lines, sent.last() == Some(&b'\n')), false, now);
    }
    if sent.len() < count {
        cap::uncharge((count - sent.len()) as u64);
    }
    file.end_sending();
    output::learn_from(written.map(<[u8]>::len));
    (!sent.is_empty()).then_some(Written::all(sent.len(), 0))
}

/// Sends lines of a burst, which are all kept for the file, and were so many writes of the program.
pub(super) fn send_burst(file: &DivertedFile, text: &[u8], writes: u64) {
    let now = sys::now();
    let counters = page::counters();
    if output::writes_pipes_at_once()
        && let Some(fd) = pipe::descriptor(now)
    {
        let written = sys::write_text_now(fd, text);
        if written == Ok(text.len()) {
            let lines = payload::newlines(text);
            let done = Delivery { sent: text.len(), lines, ..Delivery::default() };
            page::add(&counters.diverted_writes, writes.saturating_sub(1));
            count_sent(file, &done, (lines, true), true, now);
            return;
        }
        output::learn_from(written);
    }
    // What was written of it is in the pipe: a pipe takes so many bytes as a whole or not at all.
    let (device, inode) = file.key().identity();
    let status = sys::status_of(device, inode);
    let log = Log::without_path(-1, &status);
    let mut sink = log.sink(None);
    sink.iter_mut().for_each(|sink| sink.wait = sink::BURST_WAIT);
    let before = counters.diverted_lines.load(Relaxed);
    payload::with_text(text, |payload| log.hand_over(file, sink, payload, (true, false), now));
    // Each write was a line, or several. Those that the sink did not take went nowhere else.
    let sent = counters.diverted_lines.load(Relaxed).wrapping_sub(before);
    page::add(&counters.diverted_writes, writes.min(sent).saturating_sub(1));
}

/// Counts what was taken from the program: `of` says how many newlines were in it, and whether the last byte was one. What is kept for the
/// file is not lost where the sink does not take it.
fn count_sent(file: &DivertedFile, done: &Delivery, of: (u64, bool), kept: bool, now: u64) {
    let (lines, whole_lines) = of;
    let lost = lines - done.lines;
    file.count(done.lines, done.sent as u64, whole_lines, now);
    let counters = page::counters();
    if done.sent > 0 {
        page::add(&counters.diverted_writes, 1);
    }
    page::add(&counters.diverted_bytes, done.sent as u64);
    page::add(&counters.diverted_lines, done.lines);
    if done.dropped > 0 && !kept {
        file.count_lost(lost, done.dropped as u64);
        page::add(&counters.dropped_bytes, done.dropped as u64);
        page::add(&counters.dropped_lines, lost);
    }
}
