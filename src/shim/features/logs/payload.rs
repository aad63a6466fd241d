//! What a write was to write: one buffer or several, as the host passed them, and how far it has come.

use libc::iovec;

use crate::os::sys;

/// A host's buffers, from a byte on.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    buffers: &'a [iovec],
    skip: usize,
    /// Bytes from the beginning of the first buffer on that belong to it.
    end: usize,
}

impl<'a> Payload<'a> {
    /// All of these buffers.
    ///
    /// # Safety
    /// Each is readable, as writev(2) wants them.
    pub unsafe fn new(buffers: &'a [iovec]) -> Payload<'a> {
        Payload { buffers, skip: 0, end: usize::MAX }
    }

    /// What a host passed to write(2) or writev(2), if it can be read at all.
    ///
    /// # Safety
    /// The buffers' addresses can be read; what they point to stays as it is during the call.
    pub unsafe fn of_host(buffers: *const iovec, count: usize) -> Option<Payload<'a>> {
        // SAFETY: promised by the caller.
        let buffers = unsafe { core::slice::from_raw_parts(buffers, count) };
        buffers.iter().all(|b| sys::is_readable(b.iov_base, b.iov_len)).then_some(Payload {
            buffers,
            skip: 0,
            end: usize::MAX,
        })
    }

    /// Without the first `more` bytes.
    pub fn after(self, more: usize) -> Payload<'a> {
        Payload { skip: self.skip + more, ..self }
    }

    /// Only the first `most` bytes.
    pub fn upto(self, most: usize) -> Payload<'a> {
        Payload { end: self.end.min(self.skip.saturating_add(most)), ..self }
    }

    /// How many bytes are left.
    pub fn len(self) -> usize {
        let whole = self.buffers.iter().map(|b| b.iov_len).fold(0, usize::saturating_add);
        whole.min(self.end).saturating_sub(self.skip)
    }

    /// The bytes, piece by piece; no piece is empty.
    pub fn pieces(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let (mut skip, mut left) = (self.skip, self.end);
        self.buffers.iter().filter_map(move |buffer| {
            let length = buffer.iov_len.min(left);
            left -= length;
            let start = skip.min(length);
            skip -= start;
            // SAFETY: promised to `new`; a buffer without bytes is not looked at.
            (length > start).then(|| unsafe {
                core::slice::from_raw_parts(buffer.iov_base.cast::<u8>().add(start), length - start)
            })
        })
    }

    /// The first piece: enough to see what kind of text it is.
    pub fn first(self) -> &'a [u8] {
        self.pieces().next().unwrap_or(&[])
    }

    /// Length of the first line with its newline; None if there is no newline.
    pub fn line(self) -> Option<usize> {
        let mut before = 0;
        for piece in self.pieces() {
            match piece.iter().position(|&b| b == b'\n') {
                Some(at) => return Some(before + at + 1),
                None => before += piece.len(),
            }
        }
        None
    }

    /// How many newlines there are, and whether the last byte is one.
    pub fn lines(self) -> (u64, bool) {
        let mut count = 0;
        let mut last = b'\n';
        for piece in self.pieces() {
            count += newlines(piece);
            last = piece.last().copied().unwrap_or(last);
        }
        (count, last == b'\n')
    }
}

/// How many newlines are in these bytes?
pub fn newlines(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    loop {
        // SAFETY: a pointer and its length. libc's memchr(3) looks at 32 bytes at once, and this is much of what a line costs.
        let found = unsafe { libc::memchr(bytes.as_ptr().cast(), b'\n'.into(), bytes.len()) };
        if found.is_null() {
            return count;
        }
        count += 1;
        bytes = bytes.get(found as usize - bytes.as_ptr() as usize + 1..).unwrap_or(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_skipped_across_buffers() {
        let buffer = |text: &'static str| iovec { iov_base: text.as_ptr() as *mut _, iov_len: text.len() };
        let buffers = [buffer("ab"), buffer(""), buffer("c\nd"), buffer("e")];
        // SAFETY: static text.
        let payload = unsafe { Payload::new(&buffers) };
        let text = |payload: Payload<'_>| payload.pieces().flatten().map(|&b| b as char).collect::<String>();
        assert_eq!((payload.len(), text(payload)), (6, "abc\nde".into()));
        assert_eq!((payload.after(3).len(), text(payload.after(3))), (3, "\nde".into()));
        assert_eq!((payload.line(), payload.after(4).line()), (Some(4), None));
        assert_eq!((payload.lines(), payload.after(9).len()), ((1, false), 0));
        let part = payload.after(1).upto(3);
        assert_eq!((part.len(), text(part), part.upto(9).len()), (3, "bc\n".into(), 3));
    }
}
