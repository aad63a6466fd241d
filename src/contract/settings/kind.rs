//! What a setting accepts, and how that is printed.

use core::fmt;

use super::choices::sink;
use super::shown::{Bytes, Millionths, Nanoseconds};
use crate::collection::Runtime;

/// One millionth: the unit of [`Kind::Ratio`].
pub const MILLION: u64 = 1_000_000;
/// Nanoseconds in a second: the unit of [`Kind::Duration`] is the nanosecond.
pub const SECOND: u64 = 1_000_000_000;
pub(super) const MS: u64 = SECOND / 1000;
pub(super) const HOUR: u64 = 3600 * SECOND;
/// Longest path that a setting can hold, in bytes.
pub const MAX_PATH: usize = 200;
/// Longest list of patterns, or text, in bytes.
pub const MAX_TEXT: usize = 1000;
pub(super) const GIB: u64 = 1 << 30;
/// Highest limit on a number of sockets: the library keeps a mark for each descriptor below this.
pub(super) const MOST_SOCKETS: u64 = 65535;

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
    /// A word of [`sink`], or an absolute path.
    Sink,
    /// `off`, or `auto` and names of runtimes by comma; kept as [`Runtime::bit`]s and [`crate::collection::AUTO`].
    Runtimes,
    /// `off`, or a size and a number, `100M,5`; kept as [`rotation`] takes it apart.
    Rotation,
    /// Any text on one line.
    Text,
}

/// Lowest and highest size of [`Kind::Rotation`], bytes.
pub(super) const ROTATED_SIZES: (u64, u64) = (4 << 10, 1024 * GIB);
/// Highest number of [`Kind::Rotation`].
pub(super) const MOST_ROTATED: u64 = 1000;
/// The number is below this bit, the size above it.
pub(super) const ROTATED_SHIFT: u32 = 10;

/// The size in bytes and the number that a value of [`Kind::Rotation`] is made of; None: it is `off`.
pub const fn rotation(value: u64) -> Option<(u64, u64)> {
    if value == 0 { None } else { Some((value >> ROTATED_SHIFT, value & ((1 << ROTATED_SHIFT) - 1))) }
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
            Kind::Choice(words) => write!(f, "one of {}", ByComma(words)),
            Kind::Path => write!(f, "an absolute path of at most {MAX_PATH} bytes"),
            Kind::Globs => f.write_str("shell patterns separated by commas, each [ with its ]"),
            Kind::SizeOr(word, low, high) => {
                write!(f, "{word}, or a size such as 64K, 50M, 1G, from {} to {}", Bytes(low), Bytes(high))
            }
            Kind::Or(word, kind) => write!(f, "{word}, or {kind}"),
            Kind::Rate => f.write_str("a size per time such as 64M/min, 1M/s, or 0"),
            Kind::Sink => write!(f, "{}, or an absolute path", ByComma(sink::WORDS)),
            Kind::Runtimes => {
                f.write_str("off, or by commas auto")?;
                Runtime::ALL.iter().try_for_each(|runtime| write!(f, ", {}", runtime.name()))
            }
            Kind::Rotation => {
                let (low, high) = ROTATED_SIZES;
                write!(
                    f,
                    "off, or a size and how many old files are kept, such as 100M,5, from {},1 to {},{MOST_ROTATED}",
                    Bytes(low),
                    Bytes(high)
                )
            }
            Kind::Text => write!(f, "a line of at most {MAX_TEXT} bytes"),
        }
    }
}

/// Words with a comma and a blank between them.
struct ByComma(&'static [&'static str]);

impl fmt::Display for ByComma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().enumerate() {
            write!(f, "{}{word}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}
