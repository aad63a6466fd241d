//! A ballast: a file of real blocks that `tideover ballast` makes, and that is given up when its filesystem is full. What was given up is
//! cut to its head, which says how large it was, so that `tideover watch` can make it anew.
//!
//! Whoever gives one up must be sure that it is one. It has the name [`NAME`], belongs to root or to the user of whoever gives it up, has
//! no second name, and begins with a head that names its own inode: a copy of a ballast is none, nor is a link to another file.

use crate::settings::decimal;

/// Name of the file. The library looks for it in the log's folder and in those above, on the same filesystem.
pub const NAME: &str = "tideover.ballast";

/// Bytes that are left when it is given up: the head, filled up with zeros.
pub const HEAD: usize = 4096;

/// Smallest and largest size of a ballast, bytes.
pub const SIZES: (u64, u64) = (64 << 10, 1024 << 30);

/// First line of the head.
const FIRST: &[u8] = b"tideover ballast 1\n";

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ballast {
    /// Bytes of the whole file.
    pub size: u64,
    /// st_ino of the file.
    pub inode: u64,
}

impl Ballast {
    /// Reads a head; None if it is none.
    pub fn read(head: &[u8]) -> Option<Ballast> {
        let (size, rest) = number(head.strip_prefix(FIRST)?.strip_prefix(b"size ")?)?;
        let (inode, _) = number(rest.strip_prefix(b"inode ")?)?;
        (SIZES.0..=SIZES.1).contains(&size).then_some(Ballast { size, inode })
    }
}

/// A number and the newline behind it, and what follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|&byte| byte == b'\n')?;
    Some((decimal(text.get(..end)?, 1)?, text.get(end + 1..)?))
}

impl core::fmt::Display for Ballast {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "tideover ballast 1\nsize {}\ninode {}\n\nThis file keeps space for a full disk. Nothing is stored in it, and it may be \
             removed:\n`tideover ballast --remove PATH`, or rm.\n",
            self.size, self.inode
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_nothing_else_is_one() {
        let ballast = Ballast { size: 64 << 20, inode: 12 };
        let head = ballast.to_string();
        assert_eq!(Ballast::read(head.as_bytes()), Some(ballast));
        assert!(head.len() < HEAD && head.as_bytes().starts_with(FIRST));
        for other in [
            String::new(),
            head.replace("ballast 1", "ballast 2"),
            head.replace("size", "SIZE"),
            head.replace("12\n\n", "12 "),
            head.replace("12\n", "x\n"),
            head.replace(&(64 << 20).to_string(), "4096"),
            head.replace(&(64 << 20).to_string(), "99999999999999999999"),
            format!("\n{head}"),
            head[..30].to_string(),
        ] {
            assert_eq!(Ballast::read(other.as_bytes()), None, "{other:?}");
        }
    }
}
