//! How values are printed in messages.

#![forbid(unsafe_code)]

use core::fmt::{self, Write};

use tideover_contract::settings::SECOND;

/// Prints nanoseconds as `15.5 s` or `12 ms`.
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns >= SECOND => write!(f, "{}.{} s", ns / SECOND, ns % SECOND / (SECOND / 10)),
            ns if ns >= 1_000_000 => write!(f, "{} ms", ns / 1_000_000),
            ns => write!(f, "{} us", ns / 1000),
        }
    }
}

/// Prints bytes that a user gave, control characters and bad UTF-8 replaced, at most 80 bytes.
pub struct Printable<'a>(pub &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = &self.0[..self.0.len().min(80)];
        for chunk in cut.utf8_chunks() {
            for character in chunk.valid().chars() {
                f.write_char(if character.is_control() { '?' } else { character })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char('?')?;
            }
        }
        if cut.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
    }
}

/// Prints an errno by its name: the few that can come up here, else its number.
pub struct ErrnoName(pub i32);

impl fmt::Display for ErrnoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            libc::EMFILE => "EMFILE",
            libc::ENFILE => "ENFILE",
            libc::ENOENT => "ENOENT",
            libc::EACCES => "EACCES",
            libc::EPERM => "EPERM",
            libc::EROFS => "EROFS",
            libc::ENOSPC => "ENOSPC",
            libc::EDQUOT => "EDQUOT",
            libc::ENOTDIR => "ENOTDIR",
            libc::ENOSYS => "ENOSYS",
            libc::EEXIST => "EEXIST",
            libc::EAGAIN => "EAGAIN",
            libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            other => return write!(f, "errno {other}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_gave_is_printed_safely() {
        assert_eq!(Printable(b"a\nb\xff\x1b").to_string(), "a?b??");
        assert_eq!(Printable(&[b'x'; 100]).to_string().len(), 83);
        assert_eq!(Seconds(15_500_000_000).to_string(), "15.5 s");
    }
}
