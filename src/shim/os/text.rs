//! Text on the stack: a buffer of fixed size that format_args! writes to, and that cuts what does not fit.

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt;

/// At most `N - 1` bytes of text, always followed by a NUL.
#[derive(Clone, Debug)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    /// Empty.
    pub const fn new() -> Self {
        Text { bytes: [0; N], length: 0 }
    }

    /// Replaces the text, as far as the new one fits.
    #[inline(never)]
    pub fn set(&mut self, text: &[u8]) {
        self.bytes.fill(0);
        self.length = 0;
        let _ = self.push(text);
    }

    /// Appends as much as fits. Returns whether that was all.
    pub fn push(&mut self, more: &[u8]) -> bool {
        let room = N - 1 - self.length;
        let taken = more.len().min(room);
        self.bytes[self.length..self.length + taken].copy_from_slice(&more[..taken]);
        self.length += taken;
        taken == more.len()
    }

    /// What has been written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// As text, which it is as long as only text was written to it; else empty.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or("")
    }

    /// As a path for the kernel. It ends at the first NUL.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// Ends the text with a newline, in place of the last byte if it is full.
    pub fn end_line(&mut self) {
        if !self.push(b"\n") {
            self.bytes[self.length - 1] = b'\n';
        }
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Prints nanoseconds of CLOCK_REALTIME as RFC 3339 text in UTC, to the second.
pub struct Time(pub u64);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000_000;
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        // From days to a date, by years that begin in March (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let march = (5 * of_year + 2) / 153;
        let (day, month) = (of_year - (153 * march + 2) / 5 + 1, if march < 10 { march + 3 } else { march - 9 });
        let year = year + era * 400 + u64::from(month <= 2);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn times_are_dates() {
        let seconds = |s: u64| Time(s * 1_000_000_000).to_string();
        assert_eq!(seconds(0), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(seconds(1_795_171_623), "2026-11-20T10:47:03Z");
    }

    #[test]
    fn text_is_cut_and_stays_terminated() {
        let mut text = Text::<8>::new();
        let _ = write!(text, "{}", 123_456_789);
        assert_eq!(text.as_bytes(), b"1234567");
        text.end_line();
        assert_eq!(text.as_bytes(), b"123456\n");
        assert_eq!(text.as_c_str().to_bytes(), b"123456\n");
    }
}
