//! A log that lines of a hold are put back into, as `tideover_contract::hold` wants to know it.
#![forbid(unsafe_code)]

use tideover_contract::hold::{self, Hold, Target};

use super::opened::{self, reopen};
use crate::os::mapping::Mapping;
use crate::os::sys;

/// A log into which lines are put back, by a descriptor that is open for writing.
pub(super) struct Open<'a> {
    pub(super) fd: i32,
    pub(super) hold: &'a Hold<Mapping>,
}

impl Target for Open<'_> {
    fn size(&self) -> Option<u64> {
        sys::fstat(self.fd).ok().map(|status| status.st_size as u64)
    }

    fn append(&self, offset: usize, length: usize) -> Result<usize, i32> {
        let text = self.hold.memory().bytes(offset, length);
        let end = if text.len() < hold::PIECE { text.len() } else { line_end(text) };
        let text = text.get(..end).unwrap_or(text);
        // Past the limit, a write raises SIGXFSZ.
        let limit = sys::file_size_limit();
        if limit != u64::MAX && self.size().is_none_or(|size| size.saturating_add(text.len() as u64) > limit) {
            return Err(libc::EFBIG);
        }
        sys::write(self.fd, text)
    }

    fn end_line(&self) -> Result<(), i32> {
        sys::write(self.fd, b"\n").map(drop)
    }

    fn ends_mid_line(&self) -> bool {
        opened::ends_mid_line(self.fd).unwrap_or(false)
    }

    fn holds(&self, at: u64, offset: usize, length: usize) -> usize {
        let Some(fd) = reopen(self.fd) else { return 0 };
        let text = self.hold.memory().bytes(offset, length);
        let mut same = 0;
        let mut bytes = [0u8; 2048];
        while let Ok(part @ [_, ..]) = sys::read_at(fd, &mut bytes, at + same as u64) {
            let here = part.iter().zip(text.get(same..).unwrap_or(&[])).take_while(|(a, b)| a == b).count();
            same += here;
            if here < part.len() {
                break;
            }
        }
        sys::close(fd);
        same
    }

    fn stands(&self, at: u64, offset: usize, length: usize) -> bool {
        // Without a free descriptor, it can't be read.
        self.holds(at, offset, length) == length || reopen(self.fd).inspect(|&fd| sys::close(fd)).is_none()
    }

    fn line_start(&self, offset: usize, upto: usize) -> usize {
        let before = self.hold.memory().bytes(offset, upto);
        before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1)
    }

    fn line_length(&self, offset: usize, length: usize) -> usize {
        let text = self.hold.memory().bytes(offset, length);
        text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1)
    }
}

/// Where the last whole line ends; all of it, if there is none.
fn line_end(text: &[u8]) -> usize {
    text.iter().rposition(|&byte| byte == b'\n').map_or(text.len(), |at| at + 1)
}
