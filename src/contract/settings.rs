//! The settings: one table that reads as a manual and yields the environment variables, the flags of `tideover run`, the
//! keys of its TOML file, the defaults, the ranges and the documents.
//!
//! A value is kept as one u64 (durations in nanoseconds, sizes in bytes, ratios in millionths, choices as an index, text as
//! "is it set"), so that the effective settings fit the shared page.

use core::fmt;

use crate::collection::{self, Runtime};

/// What a setting accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `0` or `1` (also `off`/`on`, `no`/`yes`, `false`/`true`).
    Flag,
    /// A whole number, lowest and highest.
    Count(u64, u64),
    /// A decimal number, lowest and highest in millionths.
    Ratio(u64, u64),
    /// `500ms`, `2s`, `1m`, `1h`; lowest and highest in nanoseconds.
    Duration(u64, u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An absolute path.
    Path,
    /// Shell patterns, by comma.
    Globs,
    /// A word, or bytes as `64K`, `50M`, `1G` within a range; the word counts as 0.
    SizeOr(&'static str, u64, u64),
    /// A word, which counts as 0, or what another kind accepts.
    Or(&'static str, &'static Kind),
    /// Bytes per time, as `64M/min`, `1M/s`; kept as bytes per minute.
    Rate,
    /// `stdout`, `stderr`, `off`, or an absolute path.
    Sink,
    /// `off`, or `auto` and names of runtimes by comma; kept as [`Runtime::bit`]s and [`collection::AUTO`].
    Runtimes,
    /// Any text on one line.
    Text,
}

/// What a [`Kind::Sink`] holds.
pub mod sink {
    /// The descriptor that was standard output at start.
    pub const STDOUT: u64 = 0;
    /// The descriptor that was standard error at start.
    pub const STDERR: u64 = 1;
    /// Nowhere: the true error is returned.
    pub const OFF: u64 = 2;
    /// A path.
    pub const PATH: u64 = 3;
}

/// One millionth: the unit of [`Kind::Ratio`].
pub const MILLION: u64 = 1_000_000;
/// Nanoseconds in a second: the unit of [`Kind::Duration`] is the nanosecond.
pub const SECOND: u64 = 1_000_000_000;
const MS: u64 = SECOND / 1000;
const HOUR: u64 = 3600 * SECOND;
/// Longest path that a setting can hold, in bytes.
pub const MAX_PATH: usize = 200;
/// Longest list of patterns, or text, in bytes.
pub const MAX_TEXT: usize = 1000;
const GIB: u64 = 1 << 30;
/// The library knows so many descriptors one by one.
const MOST_SOCKETS: u64 = 65535;

/// A row of the table.
#[derive(Debug)]
pub struct Setting {
    /// Key in the TOML file, `max_retries`; with dashes the flag, `--max-retries`.
    pub name: &'static str,
    /// Environment variable, `TIDEOVER_MAX_RETRIES`.
    pub env: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Default, as a user would write it; empty for unset text.
    pub default: &'static str,
    /// One sentence for `--help` and the documents.
    pub help: &'static str,
}

macro_rules! settings {
    ($($id:ident $name:literal $env:literal $kind:expr, $default:literal, $help:literal;)*) => {
        /// Names a row of [`SETTINGS`]; `as usize` is its index there and in the shared page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Id { $(#[doc = $help] $id,)* }

        /// All settings, in the order of the documents.
        pub static SETTINGS: &[Setting] = &[$(Setting { name: $name, env: $env, kind: $kind, default: $default, help: $help },)*];
    };
}

settings! {
    Disable "disable" "TIDEOVER_DISABLE" Kind::Flag, "0",
        "1: do nothing at all";
    Only "only" "TIDEOVER_ONLY" Kind::Globs, "",
        "program names to act in, as shell patterns; empty: all";
    Except "except" "TIDEOVER_EXCEPT" Kind::Globs, "",
        "program names not to act in, as shell patterns; empty: none";
    MaxRetries "max_retries" "TIDEOVER_MAX_RETRIES" Kind::Count(0, 1000), "5",
        "waits before giving up; 0: never wait";
    InitialWait "initial_wait" "TIDEOVER_INITIAL_WAIT" Kind::Duration(MS, HOUR), "500ms",
        "longest first wait; any close in the process ends a wait at once";
    BackoffMultiplier "backoff_multiplier" "TIDEOVER_BACKOFF_MULTIPLIER" Kind::Ratio(MILLION, 100 * MILLION), "2.0",
        "each wait is this many times the one before";
    MaxWait "max_wait" "TIDEOVER_MAX_WAIT" Kind::Duration(MS, HOUR), "10s",
        "no single wait is longer";
    Jitter "jitter" "TIDEOVER_JITTER" Kind::Ratio(0, MILLION), "0.25",
        "each wait varies at random by up to this part of itself";
    BreakerFailures "breaker_failures" "TIDEOVER_BREAKER_FAILURES" Kind::Count(0, 1_000_000), "5",
        "after so many waits in a row that gave up, fail at once; 0: never";
    BreakerCooldown "breaker_cooldown" "TIDEOVER_BREAKER_COOLDOWN" Kind::Duration(MS, 24 * HOUR), "30s",
        "for so long, then try waiting again";
    Raise "raise" "TIDEOVER_RAISE" Kind::Choice(&["off", "auto", "force"]), "auto",
        "raise the soft limit when it is hit; auto: not past 1024 in programs that use select(2), not at all in those that use getdtablesize(3)";
    RaiseCap "raise_cap" "TIDEOVER_RAISE_CAP" Kind::Count(1, 1 << 30), "524288",
        "never raise the soft limit above this";
    Gc "gc" "TIDEOVER_GC" Kind::Runtimes, "auto",
        "runtimes whose garbage is collected when descriptors run out; auto: python, jvm, ruby";
    FdWarn "fd_warn" "TIDEOVER_FD_WARN" Kind::Ratio(0, MILLION), "0.7",
        "warn when so large a part of the descriptors that can be had is in use; 0: never";
    FdCritical "fd_critical" "TIDEOVER_FD_CRITICAL" Kind::Ratio(0, MILLION), "0.9",
        "call it critical at this part; 0: never";
    Accept "accept" "TIDEOVER_ACCEPT" Kind::Choice(&["pass", "park", "shed"]), "park",
        "clients for whom there is no descriptor: pass the error on, let them wait quietly, or turn them away";
    ShedAfter "shed_after" "TIDEOVER_SHED_AFTER" Kind::Or("off", &Kind::Duration(MS, 24 * HOUR)), "off",
        "with park: turn clients away once none could be accepted for so long";
    ShedClose "shed_close" "TIDEOVER_SHED_CLOSE" Kind::Choice(&["rst", "fin"]), "rst",
        "clients that are turned away see a reset, or an orderly end";
    MaxClients "max_clients" "TIDEOVER_MAX_CLIENTS" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off",
        "accepted sockets open at once";
    AcceptRate "accept_rate" "TIDEOVER_ACCEPT_RATE" Kind::Or("off", &Kind::Count(1, MILLION)), "off",
        "clients accepted per second";
    OverLimit "over_limit" "TIDEOVER_OVER_LIMIT" Kind::Choice(&["wait", "refuse"]), "wait",
        "clients over these two limits wait in the listener's queue, or are turned away";
    MaxConnections "max_connections" "TIDEOVER_MAX_CONNECTIONS" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off",
        "outgoing TCP connections open at once; one more waits in a blocking connect, else gets EAGAIN";
    MaxPerEndpoint "max_per_endpoint" "TIDEOVER_MAX_PER_ENDPOINT" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off",
        "the same for connections to one address and port";
    ConnectTimeout "connect_timeout" "TIDEOVER_CONNECT_TIMEOUT" Kind::Or("off", &Kind::Duration(MS, HOUR)), "off",
        "a blocking TCP connect fails with ETIMEDOUT after this time";
    IdleTimeout "idle_timeout" "TIDEOVER_IDLE_TIMEOUT" Kind::Or("off", &Kind::Duration(MS, 24 * HOUR)), "off",
        "when no descriptor is left, shut down TCP clients that were idle for longer, longest idle first";
    Logs "logs" "TIDEOVER_LOGS" Kind::Globs, "",
        "paths that are logs, as shell patterns, beside those of the built-in rule";
    LogsExcept "logs_except" "TIDEOVER_LOGS_EXCEPT" Kind::Globs, "",
        "paths that are not logs, whatever else says so";
    Fallback "fallback" "TIDEOVER_FALLBACK" Kind::Sink, "stdout",
        "where log lines go while the log's disk is full";
    FallbackLimit "fallback_limit" "TIDEOVER_FALLBACK_LIMIT" Kind::Rate, "64M/min",
        "cap on what goes there; past it the true error is returned";
    FallbackTotal "fallback_total" "TIDEOVER_FALLBACK_TOTAL" Kind::SizeOr("off", 1, 1 << 50), "16G",
        "cap on what one process sends there in all";
    FallbackPrefix "fallback_prefix" "TIDEOVER_FALLBACK_PREFIX" Kind::Text, "",
        "put before each line there; {path} {name} {pid} are filled in";
    RecoveryFree "recovery_free" "TIDEOVER_RECOVERY_FREE" Kind::SizeOr("auto", 1, 1024 * GIB), "auto",
        "free space needed to go back to the file; auto: 5 % of the filesystem, at most 100M";
    RecoveryInterval "recovery_interval" "TIDEOVER_RECOVERY_INTERVAL" Kind::Duration(MS, HOUR), "100ms",
        "look for free space at most so often";
    Cleanup "cleanup" "TIDEOVER_CLEANUP" Kind::SizeOr("off", 1, 1 << 50), "off",
        "bytes to free on a full disk by removing the log's own oldest rotated siblings";
    Truncate "truncate" "TIDEOVER_TRUNCATE" Kind::SizeOr("off", 1, 1 << 50), "off",
        "size above which a log on a full disk is itself cut to its last 10 %";
    OnFull "on_full" "TIDEOVER_ON_FULL" Kind::Choice(&["fail", "wait"]), "fail",
        "wait: calls other than writes to logs wait for space on a full disk";
    FullWait "full_wait" "TIDEOVER_FULL_WAIT" Kind::Duration(MS, 365 * 24 * HOUR), "1h",
        "at most so long, then the true error";
    Page "page" "TIDEOVER_PAGE" Kind::Flag, "on",
        "keep the counters in a shared page for `tideover ps` and `stat`";
    PageDir "page_dir" "TIDEOVER_PAGE_DIR" Kind::Path, "/dev/shm",
        "directory that holds the pages";
    Log "log" "TIDEOVER_LOG" Kind::Choice(&["off", "error", "warn", "info", "debug"]), "warn",
        "what the library says";
    LogFile "log_file" "TIDEOVER_LOG_FILE" Kind::Path, "",
        "file that its messages are appended to; empty: stderr";
}

/// How many settings there are.
pub const COUNT: usize = SETTINGS.len();

/// Indexes of [`Id::Raise`]'s words.
pub mod raise {
    /// Never.
    pub const OFF: u64 = 0;
    /// Whatever select(2) users would survive.
    pub const AUTO: u64 = 1;
    /// Even when the program uses select(2).
    pub const FORCE: u64 = 2;
}

/// Indexes of [`Id::Accept`]'s words.
pub mod accept {
    /// The error is passed on.
    pub const PASS: u64 = 0;
    /// The listener is parked.
    pub const PARK: u64 = 1;
    /// Clients are turned away.
    pub const SHED: u64 = 2;
}

/// Indexes of [`Id::ShedClose`]'s words.
pub mod shed_close {
    /// With a reset.
    pub const RST: u64 = 0;
}

/// Indexes of [`Id::OverLimit`]'s words.
pub mod over_limit {
    /// Turned away.
    pub const REFUSE: u64 = 1;
}

/// Index of "wait" in [`Id::OnFull`]'s words.
pub const ON_FULL_WAIT: u64 = 1;

/// Where an effective value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The table's default.
    Default = 0,
    /// The environment (which is also how `tideover run` hands over flags and files).
    Environment = 1,
    /// The environment held a value that was refused.
    Refused = 2,
}

impl Source {
    /// From the byte in the shared page.
    pub fn from_byte(byte: u8) -> Source {
        match byte {
            1 => Source::Environment,
            2 => Source::Refused,
            _ => Source::Default,
        }
    }
}

/// The row of an environment variable, with or without the prefix's row being known.
pub fn by_env(name: &[u8]) -> Option<usize> {
    SETTINGS.iter().position(|s| s.env.as_bytes() == name)
}

/// The row of a TOML key or of a flag without its dashes (`max-retries` and `max_retries` are the same).
pub fn by_name(name: &str) -> Option<usize> {
    SETTINGS.iter().position(|s| {
        s.name.len() == name.len() && s.name.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    })
}

/// The value that stands for a setting's default.
pub fn default_value(index: usize) -> u64 {
    parse(&SETTINGS[index].kind, SETTINGS[index].default.as_bytes()).unwrap_or(0)
}

/// Reads a value as a user writes it; None when it is malformed or out of range.
pub fn parse(kind: &Kind, text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    let within = |value: u64, low: u64, high: u64| (low..=high).contains(&value).then_some(value);
    match *kind {
        Kind::Flag => match text {
            b"0" | b"off" | b"no" | b"false" => Some(0),
            b"1" | b"on" | b"yes" | b"true" => Some(1),
            _ => None,
        },
        Kind::Count(low, high) => within(decimal(text, 1)?, low, high),
        Kind::Ratio(low, high) => within(decimal(text, MILLION)?, low, high),
        Kind::Duration(low, high) => {
            let digits = text.iter().take_while(|b| b.is_ascii_digit() || **b == b'.').count();
            let unit = match &text[digits..] {
                b"us" => 1000,
                b"ms" => MS,
                b"s" => SECOND,
                b"m" | b"min" => 60 * SECOND,
                b"h" => HOUR,
                _ => return None,
            };
            within(decimal(&text[..digits], unit)?, low, high)
        }
        Kind::Choice(words) => words.iter().position(|w| w.as_bytes() == text).map(|i| i as u64),
        Kind::Path if text.is_empty() => Some(0),
        Kind::Path => (text[0] == b'/' && text.len() <= MAX_PATH && !text.contains(&b'\n')).then_some(1),
        Kind::Globs if !crate::glob::is_well_formed(text) => None,
        Kind::Globs | Kind::Text => {
            (text.len() <= MAX_TEXT && !text.contains(&b'\n')).then_some(u64::from(!text.is_empty()))
        }
        Kind::SizeOr(word, _, _) | Kind::Or(word, _) if text == word.as_bytes() => Some(0),
        Kind::Or(_, kind) => parse(kind, text),
        Kind::SizeOr(_, low, high) => within(size(text)?, low, high),
        Kind::Rate => {
            if text == b"0" {
                return Some(0);
            }
            let slash = text.iter().position(|&b| b == b'/')?;
            let (bytes, per) = text.split_at_checked(slash)?;
            let per_minute = size(bytes)?;
            match per {
                b"/min" | b"/m" => Some(per_minute),
                b"/s" => per_minute.checked_mul(60),
                b"/h" => Some(per_minute / 60),
                _ => None,
            }
        }
        Kind::Runtimes if text == b"off" => Some(0),
        Kind::Runtimes => text.split(|&b| b == b',').try_fold(0, |all, word| match word.trim_ascii() {
            b"auto" => Some(all | collection::AUTO),
            name => Runtime::by_name(name).map(|runtime| all | runtime.bit()),
        }),
        Kind::Sink => match text {
            b"stdout" => Some(sink::STDOUT),
            b"stderr" => Some(sink::STDERR),
            b"off" => Some(sink::OFF),
            _ if text.is_empty() => None,
            _ => parse(&Kind::Path, text).map(|_| sink::PATH),
        },
    }
}

/// `64K`, `50M`, `1G`, `4096`, in bytes; None when malformed or too large.
fn size(text: &[u8]) -> Option<u64> {
    let (unit, digits) = match text.split_last()? {
        (b'K' | b'k', digits) => (1 << 10, digits),
        (b'M' | b'm', digits) => (1 << 20, digits),
        (b'G' | b'g', digits) => (GIB, digits),
        _ => (1, text),
    };
    decimal(digits, unit)
}

/// `digits[.digits]` times `unit`, without floating point; None when malformed or too large.
fn decimal(text: &[u8], unit: u64) -> Option<u64> {
    let mut parts = text.splitn(2, |&b| b == b'.');
    let whole = parts.next()?;
    let fraction = parts.next();
    if whole.is_empty() || fraction.is_some_and(|f| f.is_empty() || unit == 1) {
        return None;
    }
    let digits = |text: &[u8]| {
        text.iter().try_fold(0u64, |sum, b| {
            b.is_ascii_digit().then_some(())?;
            sum.checked_mul(10)?.checked_add(u64::from(b - b'0'))
        })
    };
    let mut value = digits(whole)?.checked_mul(unit)?;
    let mut parts = 1u64;
    for &digit in fraction.unwrap_or(b"") {
        digit.is_ascii_digit().then_some(())?;
        // Beyond what the unit can hold, digits change nothing.
        parts = parts.saturating_mul(10);
        value = value.checked_add(u64::from(digit - b'0') * unit / parts)?;
    }
    Some(value)
}

/// Prints what a setting accepts: `a whole number from 0 to 1000`.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Kind::Flag => f.write_str("0 or 1"),
            Kind::Count(low, high) => write!(f, "a whole number from {low} to {high}"),
            Kind::Ratio(low, high) => write!(f, "a number from {} to {}", Millionths(low), Millionths(high)),
            Kind::Duration(low, high) => {
                write!(f, "a duration such as 500ms, 2s, 1m, from {} to {}", Nanoseconds(low), Nanoseconds(high))
            }
            Kind::Choice(words) => {
                f.write_str("one of")?;
                for (i, word) in words.iter().enumerate() {
                    write!(f, "{}{word}", if i == 0 { " " } else { ", " })?;
                }
                Ok(())
            }
            Kind::Path => write!(f, "an absolute path of at most {MAX_PATH} bytes"),
            Kind::Globs => f.write_str("shell patterns separated by commas, each [ with its ]"),
            Kind::SizeOr(word, low, high) => {
                write!(f, "{word}, or a size such as 64K, 50M, 1G, from {} to {}", Bytes(low), Bytes(high))
            }
            Kind::Or(word, kind) => write!(f, "{word}, or {kind}"),
            Kind::Rate => f.write_str("a size per time such as 64M/min, 1M/s, or 0"),
            Kind::Sink => f.write_str("stdout, stderr, off, or an absolute path"),
            Kind::Runtimes => {
                f.write_str("off, or by commas auto")?;
                Runtime::ALL.iter().try_for_each(|runtime| write!(f, ", {}", runtime.name()))
            }
            Kind::Text => write!(f, "a line of at most {MAX_TEXT} bytes"),
        }
    }
}

/// Prints a stored value as a user would write it. Text settings are not in the value: `set` or nothing.
pub struct Shown<'a>(pub &'a Kind, pub u64);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Kind::Flag | Kind::Count(..), value) => write!(f, "{value}"),
            (Kind::Ratio(..), value) => Millionths(value).fmt(f),
            (Kind::Duration(..), value) => Nanoseconds(value).fmt(f),
            (Kind::Choice(words), value) => f.write_str(words.get(value as usize).unwrap_or(&"?")),
            (Kind::Path | Kind::Globs | Kind::Text, value) => f.write_str(if value == 0 { "" } else { "set" }),
            (Kind::SizeOr(word, _, _) | Kind::Or(word, _), 0) => f.write_str(word),
            (Kind::Or(_, kind), value) => Shown(kind, value).fmt(f),
            (Kind::SizeOr(..), value) => Bytes(value).fmt(f),
            (Kind::Rate, value) => write!(f, "{}/min", Bytes(value)),
            (Kind::Runtimes, 0) => f.write_str("off"),
            (Kind::Runtimes, value) => {
                let auto = (value & collection::AUTO != 0).then_some("auto");
                let named = Runtime::ALL.iter().filter(|r| value & r.bit() != 0).map(|r| r.name());
                let mut comma = "";
                auto.into_iter().chain(named).try_for_each(|word| {
                    write!(f, "{comma}{word}")?;
                    comma = ",";
                    Ok(())
                })
            }
            (Kind::Sink, value) => {
                f.write_str(["stdout", "stderr", "off", "a path"].get(value as usize).unwrap_or(&"?"))
            }
        }
    }
}

struct Millionths(u64);

impl fmt::Display for Millionths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut fraction, mut width) = (self.0 % MILLION, 6);
        while width > 1 && fraction.is_multiple_of(10) {
            fraction /= 10;
            width -= 1;
        }
        write!(f, "{}.{fraction:0width$}", self.0 / MILLION)
    }
}

/// Prints a size in the largest unit that gives a whole number: `64M`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(GIB, "G"), (1 << 20, "M"), (1 << 10, "K")];
        match units.into_iter().find(|(u, _)| self.0 != 0 && self.0.is_multiple_of(*u)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Prints a duration in the largest unit that gives a whole number: `30s`, `500ms`.
pub struct Nanoseconds(pub u64);

impl fmt::Display for Nanoseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(HOUR, "h"), (60 * SECOND, "m"), (SECOND, "s"), (MS, "ms"), (1000, "us"), (1, "ns")];
        let (unit, name) =
            units.into_iter().find(|(u, _)| self.0 != 0 && self.0.is_multiple_of(*u)).unwrap_or((SECOND, "s"));
        write!(f, "{}{name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_well_formed() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let env = format!("TIDEOVER_{}", setting.name.to_uppercase());
            assert_eq!(setting.env, env, "the variable is the key in capitals");
            assert!(parse(&setting.kind, setting.default.as_bytes()).is_some(), "{} has a bad default", setting.name);
            assert_eq!(by_env(env.as_bytes()), Some(index));
            assert_eq!(by_name(&setting.name.replace('_', "-")), Some(index));
            if !matches!(setting.kind, Kind::Path | Kind::Globs | Kind::Flag | Kind::Text) {
                assert_eq!(Shown(&setting.kind, default_value(index)).to_string(), setting.default);
            }
        }
        assert_eq!(SETTINGS[Id::LogFile as usize].name, "log_file");
    }

    #[test]
    fn values_are_read_as_users_write_them() {
        let wait = Kind::Duration(MS, HOUR);
        assert_eq!(parse(&wait, b"500ms"), Some(500 * MS));
        assert_eq!(parse(&wait, b" 1.5s "), Some(1500 * MS));
        assert_eq!(parse(&wait, b"2m"), Some(120 * SECOND));
        for bad in ["", "5", "-1s", "s", "1.s", ".5s", "1e3s", "99999999999999999999s", "2h", "0ms", "1 s"] {
            assert_eq!(parse(&wait, bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse(&Kind::Ratio(0, MILLION), b"0.25"), Some(250_000));
        assert_eq!(parse(&Kind::Ratio(0, MILLION), b"1.0000001"), Some(MILLION));
        assert_eq!(parse(&Kind::Ratio(0, MILLION), b"1.1"), None);
        assert_eq!(parse(&Kind::Count(0, 10), b"1.0"), None);
        assert_eq!(parse(&Kind::Choice(&["off", "auto"]), b"auto"), Some(1));
        assert_eq!(parse(&Kind::Path, b"relative"), None);
        assert_eq!(parse(&Kind::Path, &[b'/'; MAX_PATH + 1]), None);
        assert_eq!(parse(&Kind::Flag, b"\xff"), None);
        assert_eq!(parse(&Kind::Rate, b"64M/min"), Some(64 << 20));
        assert_eq!(parse(&Kind::Rate, b"1K/s"), Some(60 << 10));
        assert_eq!(parse(&Kind::Rate, b"0/min"), Some(0));
        assert_eq!(parse(&Kind::Rate, b"0"), Some(0));
        assert_eq!(parse(&Kind::Globs, b"*.l[o"), None);
        assert_eq!(parse(&Kind::SizeOr("auto", 1, GIB), b"auto"), Some(0));
        assert_eq!(parse(&Kind::SizeOr("auto", 1, GIB), b"1.5M"), Some(3 << 19));
        assert_eq!(parse(&Kind::Sink, b"/var/spare.log"), Some(sink::PATH));
        let runtimes = |text: &str| parse(&Kind::Runtimes, text.as_bytes());
        for text in ["off", "auto", "python,jvm", "auto,guile"] {
            assert_eq!(Shown(&Kind::Runtimes, runtimes(text).unwrap()).to_string(), text);
        }
        assert_eq!(runtimes(" jvm, python "), runtimes("python,jvm"));
        assert_eq!([runtimes(""), runtimes("node"), runtimes("off,python"), runtimes("python,")], [None; 4]);
        let limit = Kind::Or("off", &Kind::Count(1, 9));
        assert_eq!([&b"off"[..], b"7", b"0", b"10"].map(|text| parse(&limit, text)), [Some(0), Some(7), None, None]);
        assert_eq!(limit.to_string(), "off, or a whole number from 1 to 9");
        assert_eq!([0, 7].map(|value| Shown(&limit, value).to_string()), ["off", "7"]);
        for bad in ["64M", "/min", "64M/day", "M/min"] {
            assert_eq!(parse(&Kind::Rate, bad.as_bytes()), None, "{bad:?}");
        }
        for (kind, bad) in
            [(Kind::SizeOr("auto", 1, GIB), "2G"), (Kind::SizeOr("auto", 1, GIB), "K"), (Kind::Sink, "x")]
        {
            assert_eq!(parse(&kind, bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn ranges_are_said_in_words() {
        assert_eq!(SETTINGS[Id::MaxRetries as usize].kind.to_string(), "a whole number from 0 to 1000");
        assert_eq!(SETTINGS[Id::Jitter as usize].kind.to_string(), "a number from 0.0 to 1.0");
        assert!(SETTINGS[Id::MaxWait as usize].kind.to_string().ends_with("from 1ms to 1h"));
        assert_eq!(SETTINGS[Id::Raise as usize].kind.to_string(), "one of off, auto, force");
    }
}
