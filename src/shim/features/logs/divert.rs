//! Lines go elsewhere, and the file gets its lines again.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use libc::{c_int, iovec, ssize_t};
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings;

use super::calls::Written;
use super::files::{self, File};
use super::opened::Log;
use super::payload::{self, Payload};
use super::sink::{ONE_WRITE, Sink};
use super::{cap, pipe, space};
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, LOG};
use crate::state::events::{self, Event};
use crate::state::page;
use crate::state::process;
use crate::state::report::{ErrnoName, More, Repeated, Seconds};
use crate::state::settings::SETTINGS;

/// pwritev2(2) can't do what is needed (Linux before 6.18): the long way, which asks poll(2).
static OLD_KERNEL: AtomicBool = AtomicBool::new(false);
#[unsafe(link_section = ".tables")]
static DIVERTING: Repeated = Repeated::new();
#[unsafe(link_section = ".tables")]
static RETURNED: Repeated = Repeated::new();
#[unsafe(link_section = ".tables")]
static NOWHERE: Repeated = Repeated::new();
#[unsafe(link_section = ".tables")]
static CAPPED: Repeated = Repeated::new();

impl Log<'_> {
    /// A sink for so many bytes, if there is one and the caps admit them.
    fn allowed_sink(&self, bytes: usize, errno: c_int, now: u64) -> Option<Sink> {
        let Some(sink) = self.sink() else {
            if let Some(more) = NOWHERE.due() {
                log::warn!(
                    "{}: {}, and there is nowhere to send its lines; TIDEOVER_FALLBACK= names a file on another disk{}",
                    self.name(),
                    ErrnoName(errno),
                    More(more)
                );
            }
            return None;
        };
        if let Err(reached) = cap::admit(bytes as u64, now) {
            if let Some(more) = CAPPED.due() {
                log::warn!(
                    "{}: more is written than {} admits: the error is passed on{}",
                    self.name(),
                    settings::ROWS[reached as usize].env,
                    More(more)
                );
            }
            return None;
        }
        Some(sink)
    }

    /// Sends a payload elsewhere. None: it can't, and the host must get the true error.
    pub(super) fn divert(&self, payload: Payload<'_>, errno: c_int, torn: bool) -> Option<()> {
        let now = sys::now();
        let sink = self.allowed_sink(payload.len(), errno, now)?;
        // Another thread may have gone back to the file since the real write failed: then the disk is full anew.
        let (file, new) =
            (0..2).find_map(|_| files::enter(self.key, self.path(), errno).filter(|(file, _)| file.begin_sending()))?;
        if new {
            file.torn.store(torn, Relaxed);
            self.announce(errno, sink.name);
        }
        self.send(file, &sink, payload, new && torn, now);
        file.end_sending();
        Some(())
    }

    /// Sends a payload of a diverted file elsewhere, and counts it.
    fn send(&self, file: &File, sink: &Sink, payload: Payload<'_>, torn: bool, now: u64) {
        let mid_line = file.mid_line.load(Relaxed) || torn;
        let mut prefix = Text::<300>::new();
        if !SETTINGS.fallback_prefix().is_empty() {
            self.fill_prefix(&mut prefix);
        }
        let dropped = sink.deliver(payload, prefix.as_bytes(), mid_line);
        let bytes = payload.len();
        let (lines, whole) = payload.lines();
        count_sent(file, lines, bytes, whole, dropped, now);
    }

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

    /// A write to a diverted file: elsewhere, or back into the file if there is room again. None: it goes nowhere, and the real call
    /// is made.
    pub(super) fn divert_or_return(&self, file: &File, payload: Payload<'_>) -> Option<Written> {
        let errno = file.errno.load(Relaxed);
        let total = payload.len();
        let all = |reached| Some(Written { answer: total as ssize_t, reached });
        // The rest of a line goes where its beginning went.
        let tail = if file.mid_line.load(Relaxed) { payload.line().unwrap_or(total) } else { 0 };
        let now = sys::now();
        // From the look on, others wait for its outcome: of lines that are written at the same time, all or none go back.
        if tail < total && file.is_look_due(now) && file.begin_return() {
            file.looked();
            if errno == libc::EDQUOT || space::has_room(self.fd) {
                return self.return_with(file, payload, tail, now);
            }
            file.abandon_return();
        }
        let sink = self.allowed_sink(total, errno, now)?;
        // By now the file may have its lines again: then the real call is made.
        file.begin_sending().then(|| {
            self.send(file, &sink, payload, false, now);
            file.end_sending();
        })?;
        all(0)
    }

    /// There seems to be room: the first `tail` bytes end a line that is elsewhere, the others are for the file.
    fn return_with(&self, file: &File, payload: Payload<'_>, tail: usize, now: u64) -> Option<Written> {
        let errno = file.errno.load(Relaxed);
        let mut done = 0;
        if tail > 0
            && let Some(sink) = self.allowed_sink(tail, errno, now)
        {
            self.send(file, &sink, payload.upto(tail), true, now);
            done = tail;
        }
        let reached = self.write_back(file, payload.after(done)).unwrap_or(0);
        done += reached;
        if done < payload.len() {
            file.probe_failed();
            if let Some(sink) = self.allowed_sink(payload.len() - done, errno, now) {
                self.send(file, &sink, payload.after(done), reached > 0, now);
                done = payload.len();
            }
            file.abandon_return();
        }
        (done > 0).then_some(Written { answer: done as ssize_t, reached })
    }

    /// The real file is where the stand-in was: it gets the note of what went elsewhere, and the payload.
    pub(super) fn take_place(&self, diverted: Option<&File>, payload: Payload<'_>) -> Option<Written> {
        let status = sys::fstat(self.fd).ok()?;
        descriptors::forget(self.fd);
        let real = Log { device: self.device, path: self.path.clone(), ..Log::known(self.fd, &status) };
        let total = payload.len();
        let written = match diverted {
            Some(file) if file.begin_return() => {
                let written = real.write_back(file, payload);
                if written != Some(total) {
                    // The stand-in's entry is no more; the file has one of its own from here on.
                    file.abandon_return();
                }
                written.unwrap_or(0)
            }
            _ => real.write(payload).0,
        };
        if written >= total {
            return Some(Written { answer: total as ssize_t, reached: total });
        }
        let log = Log::look(self.fd, &status)?;
        descriptors::add(self.fd, LOG);
        log.divert(payload.after(written), libc::ENOSPC, written > 0)?;
        Some(Written { answer: total as ssize_t, reached: written })
    }

    /// Ends a torn line, says in the file what went where, and writes the payload. Returns how much of the payload is in the file,
    /// all of it if the file has its lines again; None if not a byte.
    fn write_back(&self, file: &File, payload: Payload<'_>) -> Option<usize> {
        let mut note = Text::<400>::new();
        if self.is_torn(file.torn.load(Relaxed)) {
            let _ = note.push(b"\n");
        }
        let place = self.sink().map_or("nowhere", |sink| sink.name);
        self.fill_note(&mut note, file, place, payload.first().first() == Some(&b'{'));
        if sys::write(self.fd, note.as_bytes()) != Ok(note.as_bytes().len()) {
            return None;
        }
        let (written, wrong) = self.write(payload);
        if wrong != 0 {
            return Some(written);
        }
        let (lines, age) = (file.lines.load(Relaxed), file.age());
        file.returned();
        self.welcome(lines, age, place);
        Some(written)
    }

    /// The line in the file: how much went where, between when and when. An object where the log is made of objects.
    fn fill_note(&self, to: &mut Text<400>, file: &File, place: &str, json: bool) {
        let (lines, bytes) = (file.lines.load(Relaxed), file.bytes.load(Relaxed));
        let from = crate::os::text::Time(file.since.load(Relaxed));
        let until = crate::os::text::Time(sys::clock(libc::CLOCK_REALTIME));
        let why = if file.errno.load(Relaxed) == libc::EDQUOT { "over quota" } else { "disk full" };
        let _ = if json {
            writeln!(
                to,
                "{{\"tideover\":\"{why}\",\"lines\":{lines},\"bytes\":{bytes},\"sent_to\":\"{place}\",\"from\":\"{from}\",\"until\":\"{until}\"}}"
            )
        } else {
            writeln!(to, "tideover: {why}: {lines} lines ({bytes} bytes) went to {place} between {from} and {until}")
        };
    }

    fn announce(&self, errno: c_int, place: &str) {
        let why = if errno == libc::EDQUOT { "over quota" } else { "disk full" };
        if let Some(more) = DIVERTING.due() {
            log::warn!("{}: {why} ({}), its lines go to {place}{}", self.name(), ErrnoName(errno), More(more));
        }
        self.emit(EventKind::Degraded, errno, 0);
    }

    fn welcome(&self, lines: u64, age: u64, place: &str) {
        if let Some(more) = RETURNED.due() {
            log::warn!(
                "{}: recovered after {}, {lines} lines went to {place}{}",
                self.name(),
                Seconds(age),
                More(more)
            );
        }
        self.emit(EventKind::Restored, 0, age);
    }

    fn emit(&self, kind: EventKind, errno: c_int, waited: u64) {
        events::emit(&Event { kind, call: "write", errno, fd: self.fd, tries: 0, waited, outcome: Outcome::None });
    }
}

/// The short way of a line, when nothing is to be looked at or put before it and its sink is a pipe: the kernel is the first to
/// read the host's buffer, and says if that is no buffer. None: nothing was done, and it takes the long way.
pub(super) fn pass_on(file: &File, buffer: &iovec) -> Option<Written> {
    let count = buffer.iov_len;
    let now = sys::now();
    let plain = (1..=ONE_WRITE).contains(&count) && SETTINGS.fallback_prefix().is_empty();
    if !plain || OLD_KERNEL.load(Relaxed) || file.mid_line.load(Relaxed) || file.is_look_due(now) {
        return None;
    }
    let fd = pipe::descriptor(now)?;
    if cap::admit(count as u64, now).is_err() {
        return None;
    }
    if !file.begin_sending() {
        cap::give_back(count as u64);
        return None;
    }
    // Less than all only if the rest of the buffer can't be read.
    // SAFETY: the buffer that the program passed to its write.
    let sent = unsafe { sys::write_now(fd, buffer.iov_base, count) };
    let answer = sent.unwrap_or(0);
    if answer > 0 {
        // SAFETY: the kernel has just read it.
        let bytes = unsafe { core::slice::from_raw_parts(buffer.iov_base.cast::<u8>(), answer) };
        count_sent(file, payload::newlines(bytes), answer, bytes.last() == Some(&b'\n'), 0, now);
    }
    if answer < count {
        cap::give_back((count - answer) as u64);
    }
    file.end_sending();
    if matches!(sent, Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM)) {
        OLD_KERNEL.store(true, Relaxed);
    }
    (answer > 0).then_some(Written { answer: answer as ssize_t, reached: 0 })
}

/// Counts what went elsewhere; of these bytes, so many could not.
fn count_sent(file: &File, lines: u64, bytes: usize, whole_lines: bool, dropped: usize, now: u64) {
    file.diverted(lines, bytes as u64, whole_lines, now);
    let counters = page::counters();
    page::add(&counters.diverted_writes, 1);
    page::add(&counters.diverted_bytes, (bytes - dropped) as u64);
    page::add(&counters.diverted_lines, lines);
    if dropped > 0 {
        page::add(&counters.dropped_bytes, dropped as u64);
    }
}
