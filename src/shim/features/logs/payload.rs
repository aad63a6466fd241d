//! What a write was to write: one buffer or several, as the program passed them, and how much of them is done.
//!
//! The program's buffers may be bad pointers. write(2) would answer EFAULT for them (or ENOSPC, when the disk is full), so the library
//! must not crash on them: the kernel is asked first whether they can be read.

use libc::{iovec, ssize_t};

use crate::os::sys::{self, Errno};

/// What a write did.
#[repr(C)]
pub struct Written {
    /// The answer for the program, as write(2) gives it; with -1, errno is set.
    pub answer: ssize_t,
    /// How many of these bytes are in the file; the others went elsewhere.
    pub reached: usize,
}

impl Written {
    /// Nothing was written, and errno says why; or the real call is still to be made.
    pub const FAILED: Written = Written { answer: -1, reached: 0 };

    /// Of `total` bytes that were all written, so many are in the file.
    pub fn all(total: usize, reached: usize) -> Written {
        Written { answer: total as ssize_t, reached }
    }
}

/// The buffers of a write as the program passed them. Their memory may not be readable.
#[derive(Clone, Copy)]
pub struct Buffers<'a> {
    buffers: &'a [iovec],
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Buffer<'a> {
    buffer: &'a iovec,
}

impl<'a> Buffers<'a> {
    /// The buffers that these describe.
    ///
    /// # Safety
    /// While `'a` lasts, the memory that they describe is as a caller of writev(2) must leave it: it may be unmapped, but where it is
    /// mapped it stays mapped, and nobody writes to it.
    pub unsafe fn new(buffers: &'a [iovec]) -> Buffers<'a> {
        Buffers { buffers }
    }

    /// Bytes in all.
    pub fn len(self) -> usize {
        self.buffers.iter().map(|buffer| buffer.iov_len).fold(0, usize::saturating_add)
    }

    /// The buffer, if there is exactly one.
    pub fn single(self) -> Option<Buffer<'a>> {
        match self.buffers {
            [buffer] => Some(Buffer { buffer }),
            _ => None,
        }
    }

    /// What is to be written, if all of it can be read.
    pub fn payload(self) -> Option<Payload<'a>> {
        let readable = self.buffers.iter().all(|buffer| sys::is_readable(buffer.iov_base, buffer.iov_len));
        readable.then_some(Payload { buffers: self.buffers, skip: 0, end: usize::MAX })
    }
}

impl<'a> Buffer<'a> {
    /// Bytes.
    pub fn len(self) -> usize {
        self.buffer.iov_len
    }

    /// Where it begins.
    pub fn address(self) -> usize {
        self.buffer.iov_base as usize
    }

    /// Its bytes.
    ///
    /// # Safety
    /// All of them can be read.
    pub unsafe fn text(self) -> &'a [u8] {
        // SAFETY: the caller's own promise, and that of `Buffers::new`: they stay mapped and as they are while 'a lasts.
        unsafe { core::slice::from_raw_parts(self.buffer.iov_base.cast(), self.buffer.iov_len) }
    }

    /// Writes to a pipe what it takes at once, see [`sys::write_now`]. Returns the bytes that were written, which are fewer than all
    /// only if the rest of the buffer can't be read.
    pub fn write_now(self, pipe: i32) -> Result<&'a [u8], Errno> {
        // SAFETY: what `Buffers::new` was promised is all that a write of the buffer asks for: the kernel answers EFAULT where it can't
        // read.
        let count = unsafe { sys::write_now(pipe, self.buffer.iov_base, self.buffer.iov_len) }?;
        // SAFETY: the kernel has just read these bytes, so they are mapped, and not at NULL; `Buffers::new` was promised that they stay
        // mapped and as they are while 'a lasts.
        Ok(if count == 0 { &[] } else { unsafe { core::slice::from_raw_parts(self.buffer.iov_base.cast(), count) } })
    }
}

/// Bytes of the program's buffers that can be read, from one byte up to another.
#[derive(Clone, Copy)]
pub struct Payload<'a> {
    /// All buffers of the write.
    buffers: &'a [iovec],
    /// Bytes at the beginning that are not part of the payload.
    skip: usize,
    /// Where the payload ends, in bytes from the beginning of the first buffer.
    end: usize,
}

impl<'a> Payload<'a> {
    /// Without the first `more` bytes.
    pub fn after(self, more: usize) -> Payload<'a> {
        Payload { skip: self.skip + more, ..self }
    }

    /// At most the first `most` bytes.
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
            // SAFETY: `start < length <= iov_len`, so this is within the buffer, and not empty. `Buffers::payload` has asked the kernel
            // whether all of it can be read, and `Buffers::new` was promised that it stays mapped and as it is while 'a lasts.
            (length > start).then(|| unsafe {
                core::slice::from_raw_parts(buffer.iov_base.cast::<u8>().add(start), length - start)
            })
        })
    }

    /// The first piece, or nothing: enough to see what kind of text it is.
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

    /// Where the line begins that the byte before `upto` is part of, in bytes from the beginning.
    pub fn line_start(self, upto: usize) -> usize {
        let (mut before, mut start) = (0, 0);
        for piece in self.upto(upto).pieces() {
            if let Some(at) = piece.iter().rposition(|&b| b == b'\n') {
                start = before + at + 1;
            }
            before += piece.len();
        }
        start
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

/// How many newlines are in these bytes? By memchr(3), which compares 32 bytes at once: the count is much of what a line costs.
pub fn newlines(mut bytes: &[u8]) -> u64 {
    let mut count = 0;
    loop {
        // SAFETY: memchr(3) reads at most so many bytes as the slice has.
        let found = unsafe { libc::memchr(bytes.as_ptr().cast(), b'\n'.into(), bytes.len()) };
        if found.is_null() {
            return count;
        }
        count += 1;
        bytes = bytes.get(found as usize - bytes.as_ptr() as usize + 1..).unwrap_or(&[]);
    }
}

/// Calls `then` with bytes of our own as a payload.
pub fn with_text<R>(text: &[u8], then: impl FnOnce(Payload<'_>) -> R) -> R {
    let buffers = [iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() }];
    then(Payload { buffers: &buffers, skip: 0, end: usize::MAX })
}

/// For unit tests: the payload of a write of these buffers.
#[cfg(test)]
pub fn with_payload<R>(buffers: &[&str], test: impl FnOnce(Payload<'_>) -> R) -> R {
    let buffer = |text: &&str| iovec { iov_base: text.as_ptr() as *mut _, iov_len: text.len() };
    let buffers: Vec<iovec> = buffers.iter().map(buffer).collect();
    // SAFETY: text that nobody writes to, and that outlives the call.
    test(unsafe { Buffers::new(&buffers) }.payload().expect("text can be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_skipped_across_buffers() {
        let buffer = |text: &'static str| iovec { iov_base: text.as_ptr() as *mut _, iov_len: text.len() };
        let buffers = [buffer("ab"), buffer(""), buffer("c\nd"), buffer("e")];
        // SAFETY: static text, which nobody writes to.
        let payload = unsafe { Buffers::new(&buffers) }.payload().unwrap();
        let text = |payload: Payload<'_>| payload.pieces().flatten().map(|&b| b as char).collect::<String>();
        assert_eq!((payload.len(), text(payload)), (6, "abc\nde".into()));
        assert_eq!((payload.after(3).len(), text(payload.after(3))), (3, "\nde".into()));
        assert_eq!((payload.line(), payload.after(4).line()), (Some(4), None));
        assert_eq!((payload.line_start(6), payload.line_start(4), payload.line_start(3)), (4, 4, 0));
        assert_eq!((payload.lines(), payload.after(9).len()), ((1, false), 0));
        let part = payload.after(1).upto(3);
        assert_eq!((part.len(), text(part), part.upto(9).len()), (3, "bc\n".into(), 3));
    }
}
