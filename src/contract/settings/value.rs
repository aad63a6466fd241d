//! Reading a value as a user writes it.

use super::choices::sink;
use super::kind::{
    GIB, HOUR, Kind, MAX_PATH, MAX_TEXT, MILLION, MOST_ROTATED, MS, ROTATED_SHIFT, ROTATED_SIZES, SECOND,
};
use crate::collection::{self, Runtime};

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
        Kind::Choice(words) => word(words, text),
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
        Kind::Rotation if text == b"off" => Some(0),
        Kind::Rotation => rotation(text),
        Kind::Sink if text.is_empty() => None,
        Kind::Sink => word(sink::WORDS, text).or_else(|| parse(&Kind::Path, text).map(|_| sink::PATH)),
    }
}

/// `100M,5`
fn rotation(text: &[u8]) -> Option<u64> {
    let (bytes, count) = text.split_at_checked(text.iter().position(|&b| b == b',')?)?;
    let (bytes, count) = (size(bytes.trim_ascii())?, decimal(count.get(1..)?.trim_ascii(), 1)?);
    let is_valid = (ROTATED_SIZES.0..=ROTATED_SIZES.1).contains(&bytes) && (1..=MOST_ROTATED).contains(&count);
    is_valid.then_some(bytes << ROTATED_SHIFT | count)
}

/// The number of a word.
fn word(words: &[&str], text: &[u8]) -> Option<u64> {
    words.iter().position(|word| word.as_bytes() == text).map(|index| index as u64)
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

/// `digits[.digits]` times `unit`, without floating point; None when malformed or too large. With a unit of 1: a whole number.
pub(crate) fn decimal(text: &[u8], unit: u64) -> Option<u64> {
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
