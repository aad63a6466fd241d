//! The library's messages: each is one line, formatted on the stack, and written by one call that can't block the program.
//!
//! They are logged by the macros of the `log` crate; the logger behind these neither allocates nor locks. A line goes to stderr only if
//! that is open on the file that it was open on when the program started (or on one opened to append, as daemons do), can be written
//! now, and can't raise SIGPIPE. Of messages that repeat, the first is logged, and then one after 30 s, 60 s, 120 s ...; the others are
//! counted (hhvm#119: ten minutes at the limit filled a disk with 211 GB of one message).
//!
//! With TIDEOVER_LOG_FORMAT=json the line is an object (docs/json.md). On the stream that systemd has connected with the journal it begins with
//! its priority, `<4>`, which the journal takes off (sd-daemon(3)).

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::io::IoSlice;

use log::{Level, LevelFilter, Log, Metadata, Record};
use tideover_contract::settings::{Id, SECOND, log_format, log_level};

use crate::os::output::Output;
use crate::os::sys;
use crate::os::text::{Text, Time};
use crate::state::settings::SETTINGS;
use crate::state::{late_messages, process, streams, thread};

pub use crate::os::display::{ErrnoName, Printable, Seconds};

const STDERR: i32 = 2;
/// For so many nanoseconds after its first line, a message is kept back; each time that it is logged again doubles that.
const QUIET: u64 = 30 * SECOND;

/// The logger: prints each record as a line.
struct Lines;

/// At load: sets the logger, and the level by TIDEOVER_LOG.
pub fn start() {
    log::set_max_level(match SETTINGS.get(Id::Log) {
        log_level::OFF => LevelFilter::Off,
        log_level::ERROR => LevelFilter::Error,
        log_level::INFO => LevelFilter::Info,
        log_level::DEBUG => LevelFilter::Debug,
        _ => LevelFilter::Warn,
    });
    let _ = log::set_logger(&Lines);
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let kind = record.target().rsplit(':').next().unwrap_or_default();
        print(&About { level: record.level(), kind, ..About::NOTHING }, record.args());
    }

    fn flush(&self) {}
}

/// What a message is about, for those that read it by a machine.
pub struct About<'a> {
    /// How bad it is.
    pub level: Level,
    /// What has happened, in a word.
    pub kind: &'a str,
    /// Name of the call; empty if it is about none.
    pub call: &'a str,
    /// Error of the call; 0 for none.
    pub errno: i32,
    /// Descriptors in use, soft limit, hard limit.
    pub descriptors: Option<[u64; 3]>,
    /// What helps; in a line of text it follows the message.
    pub remedy: Option<&'a dyn fmt::Display>,
}

impl About<'_> {
    /// A warning about nothing that is named here.
    pub const NOTHING: Self =
        About { level: Level::Warn, kind: "", call: "", errno: 0, descriptors: None, remedy: None };

    /// Logs the message, if TIDEOVER_LOG admits its level.
    pub fn log(&self, message: fmt::Arguments<'_>) {
        if self.level <= log::max_level() {
            print(self, &message);
        }
    }
}

/// Bytes of the priority before a line.
const PRIORITY: usize = 3;
/// Longest line, in bytes.
const LINE: usize = 1024;
/// So much of an object is left for what helps, the longest of which is shorter.
const REMEDY: usize = 280;

#[inline(never)]
fn print(about: &About<'_>, message: &fmt::Arguments<'_>) {
    let mut line = Text::<LINE>::new();
    let priority = match about.level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        _ => "<7>",
    };
    line.push(priority.as_bytes());
    if SETTINGS.get(Id::LogFormat) == log_format::JSON {
        object(&mut line, about, message);
    } else {
        let _ = write!(line, "tideover[{}]: {message}", process::pid());
        if let Some(remedy) = about.remedy {
            let _ = write!(line, "; {remedy}");
        }
    }
    line.end_line();
    deliver(line.as_bytes());
}

/// Appends the message as a JSON object, which is whole also where a text in it had to be cut.
fn object(line: &mut Text<LINE>, about: &About<'_>, message: &fmt::Arguments<'_>) {
    let _ = write!(
        line,
        "{{\"time\":\"{}\",\"level\":\"{}\",\"pid\":{},\"kind\":\"{}\",\"call\":\"{}\",\"errno\":{},\"program\":\"",
        Time(sys::clock(libc::CLOCK_REALTIME)),
        log_level::WORDS[about.level as usize],
        process::pid(),
        about.kind,
        about.call,
        about.errno,
    );
    let _ = write!(Quoted { line, kept: LINE / 2 }, "{}", Printable(process::program()));
    if let Some([used, soft, hard]) = about.descriptors {
        let _ = write!(line, "\",\"used\":{used},\"soft\":{soft},\"hard\":{hard},\"message\":\"");
    } else {
        line.push(b"\",\"used\":null,\"soft\":null,\"hard\":null,\"message\":\"");
    }
    let _ = Quoted { line, kept: REMEDY }.write_fmt(*message);
    line.push(b"\",\"remedy\":\"");
    if let Some(remedy) = about.remedy {
        let _ = write!(Quoted { line, kept: 4 }, "{remedy}");
    }
    line.push(b"\"}");
}

/// The inside of a JSON text: control characters are replaced, and what would leave fewer than `kept` bytes of the line is left out.
struct Quoted<'a> {
    line: &'a mut Text<LINE>,
    kept: usize,
}

impl Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.line.as_bytes().len() + character.len_utf8() + self.kept >= LINE {
                self.kept = LINE;
                break;
            }
            match character {
                '"' | '\\' => drop(self.line.push(&[b'\\', character as u8])),
                '\0'..='\x1f' => drop(self.line.push(b"?")),
                _ => drop(self.line.push(character.encode_utf8(&mut [0; 4]).as_bytes())),
            }
        }
        Ok(())
    }
}

/// Writes a line, with its priority before it, to TIDEOVER_LOG_FILE, or to stderr; nowhere if neither can take it now.
fn deliver(marked: &[u8]) {
    let line = &marked[PRIORITY..];
    if let Some(path) = SETTINGS.log_file() {
        match open_log_file(path) {
            Ok(file) => {
                late_messages::write(&file);
                let _ = file.write(&[IoSlice::new(line)]);
                return;
            }
            // The file gets it later; a program that is killed before that has said it on stderr.
            Err(libc::EMFILE | libc::ENFILE) => late_messages::keep(line),
            // The path is wrong: stderr is better than nothing.
            Err(_) => {}
        }
    }
    let Ok(status) = sys::fstat(STDERR) else { return };
    let kind = status.st_mode & libc::S_IFMT;
    let same = streams::STDERR.is_file(&status);
    let appended = || {
        streams::STDERR.was_open()
            && kind == libc::S_IFREG
            && sys::status_flags(STDERR).is_ok_and(|flags| flags & libc::O_APPEND != 0)
    };
    if !same && !appended() {
        return;
    }
    let line = if streams::is_journal_stream(&status) { marked } else { line };
    match Output::of(STDERR, &status) {
        Ok(output) => drop(output.write(&[IoSlice::new(line)])),
        // What most messages are about. Nothing can be opened anew then, so a terminal is asked first whether it takes the line.
        Err(libc::EMFILE | libc::ENFILE) if kind == libc::S_IFCHR => write_when_ready(line),
        Err(_) => {}
    }
}

fn open_log_file(path: &CStr) -> Result<Output, sys::Errno> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
    let fd = sys::open(path, flags | libc::O_NONBLOCK, 0o644)?;
    sys::fstat(fd).map(|status| Output::own(fd, &status)).inspect_err(|_| sys::close(fd))
}

/// Writes messages that could not be written before to TIDEOVER_LOG_FILE, if a descriptor is free now.
pub fn catch_up() {
    if late_messages::any()
        && let Some(file) = SETTINGS.log_file().and_then(|path| open_log_file(path).ok())
    {
        late_messages::write(&file);
    }
}

/// [`catch_up`] when the program ends, or is about to execute another: if no descriptor is free, there is one more for a moment, in which no
/// other thread may take it or set a limit of its own. Where the limit is the hard one, standard error alone has the messages.
pub fn ending() {
    catch_up();
    if late_messages::any()
        && thread::count() <= 1
        && let Some(path) = SETTINGS.log_file()
        && let Ok(file) = sys::with_one_more(|| open_log_file(path))
    {
        late_messages::write(&file);
    }
}

/// Writes to a terminal that says that it can be written, without signals: SIGTTOU would stop a job in the background.
fn write_when_ready(line: &[u8]) {
    let mut ready = [sys::pollfd(STDERR, libc::POLLOUT)];
    if sys::poll_now(&mut ready).is_ok()
        && ready[0].revents == libc::POLLOUT
        && let Ok(own) = sys::block_signals()
    {
        let _ = sys::write(STDERR, line);
        sys::restore_signals(own);
    }
}

/// A message that may repeat.
pub struct Repeated {
    /// When it may be logged again, nanoseconds of CLOCK_MONOTONIC; 0: it has never been logged.
    next: AtomicU64,
    /// For how long it is kept back after it is logged, nanoseconds.
    quiet: AtomicU64,
    /// How often it was kept back since it was last logged.
    kept_back: AtomicU32,
}

impl Repeated {
    /// A message that has not been logged yet.
    pub const fn new() -> Repeated {
        Repeated { next: AtomicU64::new(0), quiet: AtomicU64::new(QUIET), kept_back: AtomicU32::new(0) }
    }

    /// May it be logged now? Some: yes, and so many were kept back since it was last logged.
    pub fn due(&self) -> Option<u32> {
        let now = sys::now();
        let next = self.next.load(Relaxed);
        let quiet = self.quiet.load(Relaxed);
        if now < next || self.next.compare_exchange(next, now + quiet, Relaxed, Relaxed).is_err() {
            self.kept_back.fetch_add(1, Relaxed);
            return None;
        }
        if next != 0 {
            self.quiet.store(quiet.saturating_mul(2), Relaxed);
        }
        Some(self.kept_back.swap(0, Relaxed))
    }
}

/// What [`Repeated::due`] returned: prints ` (and 12 more like it since the last line)`, or nothing if it is 0.
pub struct More(pub u32);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " (and {} more like it since the last line)", self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_whole_however_long_its_texts_are() {
        for (message, remedy) in
            [("a \"b\" \\ \x01 \u{e9}".to_string(), 3), ("\"".repeat(3000), 3000), ("\u{20ac}".repeat(3000), 1)]
        {
            let mut line = Text::new();
            let remedy = "\\".repeat(remedy);
            let about =
                About { kind: "exhausted", descriptors: Some([u64::MAX; 3]), remedy: Some(&remedy), ..About::NOTHING };
            object(&mut line, &about, &format_args!("{message}"));
            let text = core::str::from_utf8(line.as_bytes()).expect("UTF-8");
            let inside = text.strip_prefix('{').and_then(|text| text.strip_suffix("\"}")).expect("an object");
            assert!(inside.contains("\"kind\":\"exhausted\"") && inside.contains("\",\"remedy\":\"\\\\"), "{text}");
            // Without what is escaped, quotes come in pairs: eleven names, seven texts.
            let quotes = inside.replace("\\\\", "").replace("\\\"", "").matches('"').count();
            assert_eq!(quotes, 2 * (12 + 7) - 1, "{text}");
        }
    }

    #[test]
    fn a_repeated_message_is_counted_not_said() {
        let kind = Repeated::new();
        assert_eq!(kind.due(), Some(0));
        assert_eq!(kind.due(), None);
        assert_eq!(kind.due(), None);
        kind.next.store(1, Relaxed);
        assert_eq!(kind.due(), Some(2));
        assert_eq!(kind.quiet.load(Relaxed), 2 * QUIET);
    }
}
