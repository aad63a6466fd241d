//! Printing a stored value as a user would write it.

use core::fmt;

use super::choices::sink;
use super::kind::{GIB, HOUR, Kind, MILLION, MS, SECOND, rotation};
use crate::collection::{self, Runtime};

/// Prints a stored value as a user would write it. A text is not in the value, and is printed as `set` or as nothing.
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
            (Kind::Rotation, value) => match rotation(value) {
                None => f.write_str("off"),
                Some((size, kept)) => write!(f, "{},{kept}", Bytes(size)),
            },
            (Kind::Sink, sink::PATH) => f.write_str("a path"),
            (Kind::Sink, value) => f.write_str(sink::WORDS.get(value as usize).unwrap_or(&"?")),
        }
    }
}

pub(super) struct Millionths(pub u64);

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
pub(super) struct Bytes(pub u64);

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
