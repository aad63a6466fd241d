//! The parts in which lines are written to a sink, and how much of them has come there.
//!
//! A stream (a pipe, a terminal, a file) gets as many whole lines in one write as it takes at once; a daemon that takes datagrams gets one
//! for each line.
#![forbid(unsafe_code)]

use super::payload::{self, Payload};

/// Most bytes in one write to a stream. A pipe takes so many as a whole or not at all (PIPE_BUF).
pub const ONE_WRITE: usize = 4096;
/// Most bytes of a line in one datagram: less than any socket's buffer. A longer line is several messages.
const ONE_DATAGRAM: usize = 32 << 10;
/// Most pieces of the program's memory in one part.
const FRAGMENTS: usize = 5;

/// How a sink wants its lines.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Bytes as they are.
    Stream,
    /// journald's own protocol: fields, each `NAME=value` and a newline.
    Journal,
    /// syslog(3)'s: `<14>program[pid]: line`.
    Syslog,
}

/// What is said of a line beside the line itself. No text has control characters.
pub struct Header<'a> {
    /// TIDEOVER_FALLBACK_PREFIX, filled in.
    pub prefix: &'a [u8],
    /// Name of the program.
    pub program: &'a [u8],
    /// Its process id.
    pub pid: &'a [u8],
    /// Path of the log.
    pub path: &'a [u8],
}

/// What has become of a payload.
#[derive(Clone, Copy, Default)]
pub struct Delivery {
    /// Bytes that are in the sink.
    pub sent: usize,
    /// Newlines among them.
    pub lines: u64,
    /// Bytes that the sink's reader did not take in time, and that are lost.
    pub dropped: usize,
    /// The sink takes no more: what is neither sent nor dropped is still to be sent elsewhere.
    pub failed: bool,
}

impl Delivery {
    /// So many bytes of this part are in the sink.
    pub fn count(&mut self, part: &Part<'_>, sent: usize) {
        self.sent += sent;
        self.lines += part.first(sent).map(payload::newlines).sum::<u64>();
    }
}

/// What is written at once.
pub struct Part<'a> {
    fragments: [&'a [u8]; FRAGMENTS],
    /// Its first byte begins a line.
    begins_line: bool,
}

impl<'a> Part<'a> {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.fragments.iter().map(|fragment| fragment.len()).sum()
    }

    /// The first so many bytes, in pieces.
    fn first(&self, mut count: usize) -> impl Iterator<Item = &'a [u8]> {
        self.fragments.into_iter().map(move |fragment| {
            let taken = fragment.get(..count).unwrap_or(fragment);
            count -= taken.len();
            taken
        })
    }

    /// Is the last of the first `count` bytes a newline?
    pub fn ends_line(&self, count: usize) -> bool {
        self.first(count).filter_map(<[u8]>::last).last() == Some(&b'\n')
    }

    /// Calls `put` with what is written for this part. `end_first`: the last line in the stream has no end. Returns the answer, and how many
    /// bytes were put before the part's own.
    pub fn write<R>(
        &self,
        form: Form,
        header: &Header<'_>,
        end_first: bool,
        put: impl FnOnce(&[&[u8]]) -> R,
    ) -> (R, usize) {
        let [a, b, c, d, e] = self.fragments;
        let prefix = if self.begins_line { header.prefix } else { b"" };
        match form {
            Form::Stream => {
                let end: &[u8] = if end_first { b"\n" } else { b"" };
                (put(&[end, prefix, a, b, c, d, e]), end.len() + prefix.len())
            }
            Form::Journal => {
                let end: &[u8] = if self.ends_line(usize::MAX) { b"" } else { b"\n" };
                let identifier = b"PRIORITY=6\nSYSLOG_IDENTIFIER=";
                (
                    put(&[
                        identifier,
                        header.program,
                        b"\nTIDEOVER_LOG=",
                        header.path,
                        b"\nMESSAGE=",
                        prefix,
                        a,
                        b,
                        c,
                        d,
                        e,
                        end,
                    ]),
                    0,
                )
            }
            Form::Syslog => (put(&[b"<14>", header.program, b"[", header.pid, b"]: ", prefix, a, b, c, d, e]), 0),
        }
    }
}

/// The parts of a payload.
pub struct Parts<'a, Pieces> {
    pieces: Pieces,
    /// What is left of the piece that was begun.
    rest: &'a [u8],
    form: Form,
    /// Most bytes of a part.
    most: usize,
    line_by_line: bool,
    begins_line: bool,
}

impl Form {
    /// The parts of a payload. `header` is put before each line; `mid_line`: the payload's first bytes continue a line.
    pub fn parts<'a>(
        self,
        payload: Payload<'a>,
        header: &Header<'_>,
        mid_line: bool,
    ) -> Parts<'a, impl Iterator<Item = &'a [u8]>> {
        let most = match self {
            // With the newline that ends a line which was cut.
            Form::Stream => ONE_WRITE - header.prefix.len() - 1,
            Form::Journal | Form::Syslog => ONE_DATAGRAM,
        };
        let line_by_line = self != Form::Stream || !header.prefix.is_empty();
        Parts { pieces: payload.pieces(), rest: &[], form: self, most, line_by_line, begins_line: !mid_line }
    }
}

impl<'a, Pieces: Iterator<Item = &'a [u8]>> Iterator for Parts<'a, Pieces> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let mut part = Part { fragments: [&[]; FRAGMENTS], begins_line: self.begins_line };
        let mut left = self.most;
        for fragment in &mut part.fragments {
            if self.rest.is_empty() {
                self.rest = self.pieces.next().unwrap_or(&[]);
            }
            let (taken, rest) = self.rest.split_at(chunk(self.rest, left, self.line_by_line));
            (*fragment, self.rest) = (taken, rest);
            left -= taken.len();
            let is_whole = taken.last() == Some(&b'\n');
            if taken.is_empty() || left == 0 || is_whole || self.form == Form::Stream {
                break;
            }
        }
        self.begins_line = part.ends_line(usize::MAX);
        (part.len() > 0).then_some(part)
    }
}

/// How many bytes of a piece go in one write of at most `most`: as many whole lines as fit, or one line.
fn chunk(piece: &[u8], most: usize, line_by_line: bool) -> usize {
    let first = piece.get(..most).unwrap_or(piece);
    let newline = if line_by_line {
        first.iter().position(|&b| b == b'\n')
    } else {
        first.iter().rposition(|&b| b == b'\n').filter(|_| first.len() < piece.len())
    };
    newline.map_or(first.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::logs::payload::with_payload;

    const HEADER: Header<'_> = Header { prefix: b"", program: b"app", pid: b"7", path: b"/a.log" };

    #[test]
    fn pieces_are_cut_at_newlines() {
        assert_eq!(chunk(b"one\ntwo\n", ONE_WRITE, true), 4);
        assert_eq!(chunk(b"one\ntwo\n", ONE_WRITE, false), 8);
        let mut long = [b'x'; 5000];
        assert_eq!(chunk(&long, ONE_WRITE, false), ONE_WRITE);
        long[99] = b'\n';
        assert_eq!(chunk(&long, ONE_WRITE, false), 100);
    }

    /// What is written for these buffers, one text for each write.
    fn written(form: Form, header: &Header<'_>, buffers: &[&str], mid_line: bool) -> Vec<String> {
        let text = |pieces: &[&[u8]]| String::from_utf8(pieces.concat()).unwrap();
        with_payload(buffers, |payload| {
            form.parts(payload, header, mid_line).map(|part| part.write(form, header, false, text).0).collect()
        })
    }

    #[test]
    fn a_stream_gets_bytes_and_daemons_get_lines() {
        let buffers = ["one\ntw", "o\n", "three"];
        assert_eq!(written(Form::Stream, &HEADER, &buffers, false), ["one\ntw", "o\n", "three"]);
        let prefixed = Header { prefix: b"p: ", ..HEADER };
        assert_eq!(written(Form::Stream, &prefixed, &buffers, false), ["p: one\n", "p: tw", "o\n", "p: three"]);
        assert_eq!(written(Form::Stream, &prefixed, &buffers, true), ["one\n", "p: tw", "o\n", "p: three"]);
        let syslog = written(Form::Syslog, &HEADER, &buffers, false);
        assert_eq!(syslog, ["<14>app[7]: one\n", "<14>app[7]: two\n", "<14>app[7]: three"]);
        let journal = written(Form::Journal, &HEADER, &buffers, false);
        let message = |text: &str| format!("PRIORITY=6\nSYSLOG_IDENTIFIER=app\nTIDEOVER_LOG=/a.log\nMESSAGE={text}\n");
        assert_eq!(journal, [message("one"), message("two"), message("three")]);
    }

    #[test]
    fn what_has_come_is_counted_in_whole_lines() {
        let part = Part { fragments: [b"one\ntwo\nth", b"ree\n", b"", b"", b""], begins_line: true };
        let counted = |sent| {
            let mut delivery = Delivery::default();
            delivery.count(&part, sent);
            (delivery.sent, delivery.lines, part.ends_line(sent))
        };
        assert_eq!(
            [counted(0), counted(4), counted(9), counted(14)],
            [(0, 0, false), (4, 1, true), (9, 2, false), (14, 3, true)]
        );
    }
}
