//! The table of settings.

use super::choices::{accept, log_format, log_level, on_full, over_limit, raise, shed_close, sink};
use super::kind::{GIB, HOUR, Kind, MILLION, MOST_SOCKETS, MS, SECOND};
use crate::collection;

/// A row of the table, with what people read.
#[derive(Debug)]
pub struct Setting {
    /// Key in the TOML file, `max_retries`; with dashes the flag, `--max-retries`.
    pub name: &'static str,
    /// Environment variable, `TIDEOVER_MAX_RETRIES`.
    pub env: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Default, as a user would write it; empty for unset text. Beside it in the table: its stored value.
    pub default: &'static str,
    /// One sentence for `--help` and the documents.
    pub help: &'static str,
}

/// A row of the table, as far as the library needs it. It has a table of its own: each pointer in a table is relocated, and the page
/// around it copied, at the start of every process.
#[derive(Debug)]
pub struct Row {
    /// As in [`Setting`].
    pub env: &'static str,
    /// As in [`Setting`].
    pub kind: Kind,
}

macro_rules! settings {
    ($($id:ident $name:literal $env:literal $kind:expr, $default:literal = $value:expr, $help:literal;)*) => {
        /// Names a row of [`SETTINGS`]; `as usize` is its index there and in the shared page.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Id { $(#[doc = $help] $id,)* }

        /// All settings, in the order of the documents.
        pub static SETTINGS: &[Setting] = &[$(Setting { name: $name, env: $env, kind: $kind, default: $default, help: $help },)*];

        /// The rows of [`SETTINGS`] without what people read.
        pub static ROWS: &[Row] = &[$(Row { env: $env, kind: $kind },)*];

        /// The defaults as they are stored: to read the texts would take longer than all else that the library does at load.
        const DEFAULTS: [u64; COUNT] = [$($value,)*];

        /// The defaults as users write them, a line each: one text, without a pointer to each.
        const DEFAULT_TEXTS: &str = concat!($($default, "\n",)*);
    };
}

settings! {
    Disable "disable" "TIDEOVER_DISABLE" Kind::Flag, "0" = 0,
        "1: do nothing at all";
    Only "only" "TIDEOVER_ONLY" Kind::Globs, "" = 0,
        "program names to act in, as shell patterns; empty: all";
    Except "except" "TIDEOVER_EXCEPT" Kind::Globs, "" = 0,
        "program names not to act in, as shell patterns; empty: none";
    MaxRetries "max_retries" "TIDEOVER_MAX_RETRIES" Kind::Count(0, 1000), "5" = 5,
        "waits before giving up; 0: never wait";
    InitialWait "initial_wait" "TIDEOVER_INITIAL_WAIT" Kind::Duration(MS, HOUR), "500ms" = 500 * MS,
        "longest first wait for a descriptor; any close in the process ends a wait at once";
    BackoffMultiplier "backoff_multiplier" "TIDEOVER_BACKOFF_MULTIPLIER" Kind::Ratio(MILLION, 100 * MILLION), "2.0" = 2 * MILLION,
        "each wait is this many times the one before";
    MaxWait "max_wait" "TIDEOVER_MAX_WAIT" Kind::Duration(MS, HOUR), "10s" = 10 * SECOND,
        "longest single wait for a descriptor";
    Jitter "jitter" "TIDEOVER_JITTER" Kind::Ratio(0, MILLION), "0.25" = MILLION / 4,
        "each wait varies at random by up to this part of itself";
    BreakerFailures "breaker_failures" "TIDEOVER_BREAKER_FAILURES" Kind::Count(0, 1_000_000), "5" = 5,
        "after so many calls in a row that waited in vain, calls fail without waiting; 0: never";
    BreakerCooldown "breaker_cooldown" "TIDEOVER_BREAKER_COOLDOWN" Kind::Duration(MS, 24 * HOUR), "30s" = 30 * SECOND,
        "how long calls then fail without waiting, before one waits again";
    Raise "raise" "TIDEOVER_RAISE" Kind::Choice(raise::WORDS), "auto" = raise::AUTO,
        "raise the soft limit when it is hit; auto: not past 1024 in programs that use select(2), not at all in those that use getdtablesize(3)";
    RaiseCap "raise_cap" "TIDEOVER_RAISE_CAP" Kind::Count(1, 1 << 30), "524288" = 524_288,
        "never raise the soft limit above this";
    Gc "gc" "TIDEOVER_GC" Kind::Runtimes, "auto" = collection::AUTO,
        "runtimes whose garbage is collected when descriptors run out; auto: python, jvm, ruby";
    FdWarn "fd_warn" "TIDEOVER_FD_WARN" Kind::Ratio(0, MILLION), "0.7" = 700_000,
        "warn when so large a part of the descriptors that can be had is in use; 0: never";
    FdCritical "fd_critical" "TIDEOVER_FD_CRITICAL" Kind::Ratio(0, MILLION), "0.9" = 900_000,
        "warn again, as critical, when so large a part of the descriptors that can be had is in use; 0: never";
    Accept "accept" "TIDEOVER_ACCEPT" Kind::Choice(accept::WORDS), "park" = accept::PARK,
        "clients for whom there is no descriptor: pass the error on, let them wait quietly, or turn them away";
    ShedAfter "shed_after" "TIDEOVER_SHED_AFTER" Kind::Or("off", &Kind::Duration(MS, 24 * HOUR)), "off" = 0,
        "with park: turn clients away once none could be accepted for so long";
    ShedClose "shed_close" "TIDEOVER_SHED_CLOSE" Kind::Choice(shed_close::WORDS), "rst" = shed_close::RST,
        "clients that are turned away see a reset, or an orderly end";
    MaxClients "max_clients" "TIDEOVER_MAX_CLIENTS" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off" = 0,
        "accepted sockets open at once";
    AcceptRate "accept_rate" "TIDEOVER_ACCEPT_RATE" Kind::Or("off", &Kind::Count(1, MILLION)), "off" = 0,
        "clients accepted per second";
    OverLimit "over_limit" "TIDEOVER_OVER_LIMIT" Kind::Choice(over_limit::WORDS), "wait" = over_limit::WAIT,
        "clients over max_clients or accept_rate wait in the listener's queue, or are turned away";
    MaxConnections "max_connections" "TIDEOVER_MAX_CONNECTIONS" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off" = 0,
        "outgoing TCP connections open at once; one more waits in a blocking connect, else gets EAGAIN";
    MaxPerEndpoint "max_per_endpoint" "TIDEOVER_MAX_PER_ENDPOINT" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off" = 0,
        "outgoing TCP connections open at once to one address and port; one more waits or gets EAGAIN, as with max_connections";
    ConnectTimeout "connect_timeout" "TIDEOVER_CONNECT_TIMEOUT" Kind::Or("off", &Kind::Duration(MS, HOUR)), "off" = 0,
        "a blocking TCP connect fails with ETIMEDOUT after this time";
    IdleTimeout "idle_timeout" "TIDEOVER_IDLE_TIMEOUT" Kind::Or("off", &Kind::Duration(MS, 24 * HOUR)), "off" = 0,
        "when no descriptor is left, shut down TCP clients that were idle for longer, longest idle first";
    MaxLifetime "max_lifetime" "TIDEOVER_MAX_LIFETIME" Kind::Or("off", &Kind::Duration(MS, 365 * 24 * HOUR)), "off" = 0,
        "when no descriptor is left, shut down accepted connections that are older, oldest first";
    MaxPerClient "max_per_client" "TIDEOVER_MAX_PER_CLIENT" Kind::Or("off", &Kind::Count(1, MOST_SOCKETS)), "off" = 0,
        "accepted connections open at once per client address (IPv6: per /64); more are turned away";
    RatePerClient "rate_per_client" "TIDEOVER_RATE_PER_CLIENT" Kind::Or("off", &Kind::Count(1, MILLION)), "off" = 0,
        "clients accepted per second and client address (IPv6: per /64); more are turned away";
    Logs "logs" "TIDEOVER_LOGS" Kind::Globs, "" = 0,
        "paths that are logs, as shell patterns, beside those of the built-in rule";
    LogsExcept "logs_except" "TIDEOVER_LOGS_EXCEPT" Kind::Globs, "" = 0,
        "paths that are not logs, whatever else says so";
    Fallback "fallback" "TIDEOVER_FALLBACK" Kind::Sink, "auto" = sink::AUTO,
        "where log lines go while the log's disk is full; auto: standard output or standard error if it carries messages, else the journal or syslog";
    FallbackLimit "fallback_limit" "TIDEOVER_FALLBACK_LIMIT" Kind::Rate, "64M/min" = 64 << 20,
        "cap on the bytes of log lines that go to the fallback; past it the true error is returned";
    FallbackTotal "fallback_total" "TIDEOVER_FALLBACK_TOTAL" Kind::SizeOr("off", 1, 1 << 50), "16G" = 16 * GIB,
        "cap on the bytes of log lines that one process sends to the fallback in all";
    FallbackPrefix "fallback_prefix" "TIDEOVER_FALLBACK_PREFIX" Kind::Text, "" = 0,
        "text put before each log line that goes to the fallback; {path} {name} {pid} are filled in";
    RecoveryFree "recovery_free" "TIDEOVER_RECOVERY_FREE" Kind::SizeOr("auto", 1, 1024 * GIB), "auto" = 0,
        "free space needed before lines go to the log again; auto: 5 % of the filesystem, at most 100M";
    RecoveryInterval "recovery_interval" "TIDEOVER_RECOVERY_INTERVAL" Kind::Duration(MS, HOUR), "100ms" = 100 * MS,
        "shortest time between two looks for free space";
    Cleanup "cleanup" "TIDEOVER_CLEANUP" Kind::SizeOr("off", 1, 1 << 50), "off" = 0,
        "bytes to free on a full disk by removing the log's own oldest rotated siblings";
    Truncate "truncate" "TIDEOVER_TRUNCATE" Kind::SizeOr("off", 1, 1 << 50), "off" = 0,
        "size above which a log on a full disk is itself cut to its last 10 %";
    OnFull "on_full" "TIDEOVER_ON_FULL" Kind::Choice(on_full::WORDS), "fail" = on_full::FAIL,
        "wait: calls other than writes to logs wait for space on a full disk";
    FullWait "full_wait" "TIDEOVER_FULL_WAIT" Kind::Duration(MS, 365 * 24 * HOUR), "1h" = HOUR,
        "longest wait for space on a full disk (on_full=wait); then the true error is returned";
    Page "page" "TIDEOVER_PAGE" Kind::Flag, "on" = 1,
        "keep the counters in a shared page for `tideover ps` and `stat`";
    PageDir "page_dir" "TIDEOVER_PAGE_DIR" Kind::Path, "/dev/shm" = 1,
        "directory that holds the pages";
    Log "log" "TIDEOVER_LOG" Kind::Choice(log_level::WORDS), "warn" = log_level::WARN,
        "which messages the library writes";
    LogFile "log_file" "TIDEOVER_LOG_FILE" Kind::Path, "" = 0,
        "file that the library's messages are appended to; empty: standard error";
    Hold "hold" "TIDEOVER_HOLD" Kind::SizeOr("off", 0, GIB), "1M" = 1 << 20,
        "bytes of diverted lines that a process keeps, to put them into the log when there is space; off: the fallback alone gets them";
    HoldDir "hold_dir" "TIDEOVER_HOLD_DIR" Kind::Path, "" = 0,
        "directory in which diverted lines are kept, best in memory; empty: that of the pages";
    Rotate "rotate" "TIDEOVER_ROTATE" Kind::Rotation, "off" = 0,
        "rotate this program's logs at that size, and keep so many old ones; for programs that cannot reopen their log";
    LogFormat "log_format" "TIDEOVER_LOG_FORMAT" Kind::Choice(log_format::WORDS), "text" = log_format::TEXT,
        "json: each message of the library is an object on a line of its own (docs/json.md)";
}

/// How many settings there are.
pub const COUNT: usize = ROWS.len();

/// Where a value in effect came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Source {
    /// The table's default.
    Default = 0,
    /// The environment (which is also how `tideover run` hands over flags and files).
    Environment = 1,
    /// The environment held a value that was refused.
    Refused = 2,
    /// The policy file of the machine.
    Policy = 3,
    /// The policy file held a value that was refused.
    PolicyRefused = 4,
}

impl Source {
    /// From the byte in the shared page.
    pub fn from_byte(byte: u8) -> Source {
        match byte {
            1 => Source::Environment,
            2 => Source::Refused,
            3 => Source::Policy,
            4 => Source::PolicyRefused,
            _ => Source::Default,
        }
    }
}

/// Index in [`SETTINGS`] of the setting with this environment variable.
pub fn by_env(name: &[u8]) -> Option<usize> {
    ROWS.iter().position(|row| row.env.as_bytes() == name)
}

/// Index in [`SETTINGS`] of the setting with this key, `max_retries` or `max-retries`, as [`by_name`], by the variables' names alone:
/// the library has no other names.
pub fn by_key(key: &[u8]) -> Option<usize> {
    let letter = |byte: &u8| match byte {
        b'-' => b'_',
        b'A'..=b'Z' => 0,
        other => other.to_ascii_uppercase(),
    };
    let is_it = |row: &Row| {
        row.env.as_bytes().get(PREFIX.len()..).is_some_and(|env| env.iter().copied().eq(key.iter().map(letter)))
    };
    ROWS.iter().position(is_it)
}

/// With what the names of all variables begin.
pub const PREFIX: &str = "TIDEOVER_";

/// Index in [`SETTINGS`] of the setting with this TOML key or flag: `max_retries`, or `max-retries` without the leading dashes.
pub fn by_name(name: &str) -> Option<usize> {
    SETTINGS.iter().position(|s| {
        s.name.len() == name.len() && s.name.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
    })
}

/// The default of the setting of this index, as its stored value.
pub fn default_value(index: usize) -> u64 {
    DEFAULTS[index]
}

/// The default of the setting of this index, as a user would write it.
pub fn default_text(index: usize) -> &'static str {
    DEFAULT_TEXTS.split('\n').nth(index).unwrap_or("")
}

/// The default of a [`Kind::Ratio`] in percent.
pub fn default_percent(id: Id) -> f64 {
    default_value(id as usize) as f64 * 100.0 / MILLION as f64
}
