//! Numbers as people read them: bytes, durations, times, counts that fit a column.
#![forbid(unsafe_code)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Prints a number of bytes: `0 B`, `512 B`, `1.5 KiB`, `64.0 MiB`.
pub fn bytes(n: u64) -> String {
    match scaled(n, 1024.0, &["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]) {
        Some((value, unit)) => format!("{value:.1} {unit}"),
        None => format!("{n} B"),
    }
}

/// Prints a number of bytes in at most six characters: `512`, `1.5K`, `64.0M`, in powers of 1024.
pub fn short_bytes(n: u64) -> String {
    match scaled(n, 1024.0, &["K", "M", "G", "T", "P", "E"]) {
        Some((value, unit)) => format!("{value:.1}{unit}"),
        None => n.to_string(),
    }
}

/// Prints a count in at most seven characters: all digits up to 9999999, then `10.0M`.
pub fn short_count(n: u64) -> String {
    if n < 10_000_000 {
        return n.to_string();
    }
    scaled(n, 1000.0, &["k", "M", "G", "T", "P", "E"])
        .map_or_else(|| n.to_string(), |(v, unit)| format!("{v:.1}{unit}"))
}

fn scaled(n: u64, step: f64, units: &[&'static str]) -> Option<(f64, &'static str)> {
    let mut value = n as f64;
    let mut unit = None;
    for name in units {
        // 0.05 below the step already prints as the step itself: 1023.95 KiB is 1.0 MiB.
        if value < step - if unit.is_some() { 0.05 } else { 0.0 } {
            break;
        }
        value /= step;
        unit = Some(*name);
    }
    unit.map(|unit| (value, unit))
}

/// Prints nanoseconds as `0`, `850 ns`, `12.3 us`, `4.0 ms`, `1.50 s`, `3m 20s`, `2h 5m`, `3d 4h`.
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    match ns {
        0 => "0".to_string(),
        1..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ if seconds < 60 => format!("{:.2} s", ns as f64 / 1e9),
        _ if seconds < 3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Prints nanoseconds of CLOCK_REALTIME as RFC 3339 in UTC, with milliseconds. No u64 is beyond the year 2554.
pub fn rfc3339(ns: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(ns)).to_string()
}

/// The time now, in nanoseconds of CLOCK_REALTIME.
pub fn now_ns() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Prints how long ago a time in nanoseconds of CLOCK_REALTIME was: `3m 20s ago`, `just now`.
pub fn ago(ns: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match now.saturating_sub(Duration::from_nanos(ns)).as_secs() {
        0 => "just now".to_string(),
        seconds => format!("{} ago", duration(seconds * 1_000_000_000).replace(".00", "")),
    }
}

/// Prints a number with a noun, which gets an s unless the number is 1: `1 page`, `2 pages`.
pub fn counted(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_at_a_glance() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(64 << 20)], ["0 B", "1023 B", "1.5 KiB", "64.0 MiB"]);
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!([duration(0), duration(12_300), duration(200_000_000_000)], ["0", "12.3 us", "3m 20s"]);
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert!(rfc3339(u64::MAX).starts_with("2554-"));
    }

    #[test]
    fn short_forms_stay_short() {
        for n in [0, 999, 9_999_999, 10_000_000, 1 << 30, u64::MAX] {
            assert!(short_count(n).len() <= 7, "{}", short_count(n));
            assert!(short_bytes(n).len() <= 7, "{}", short_bytes(n));
        }
    }
}
