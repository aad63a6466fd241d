//! Text on the stack: a fixed buffer that is written with format_args! and cut when it is full.

use core::ffi::CStr;
use core::fmt;

/// At most `N - 1` bytes of text, always followed by a NUL.
pub struct Text<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Text<N> {
    /// Empty.
    pub const fn new() -> Self {
        Text { bytes: [0; N], length: 0 }
    }

    /// Appends what fits; true if it was all.
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

    /// As a path for the kernel; cut at an embedded NUL.
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

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
