//! The stage: room at the end of the ring that is given to lines which come fast, so that each of them is held without a lock.
//!
//! Whoever opens it reserves the room behind the newest text of a log. Whoever writes a line there takes a part of the room, copies the
//! line, and stores its place in a slot: from then on it is held, whatever becomes of the process. Whoever closes it makes all of it part
//! of the record. Slots are used in the order of the places.

use super::layout::{Header, WORD};
use super::ring::{BEFORE, Record};
use super::{Hold, Memory, OVERHEAD};

/// How many lines the stage takes.
pub const SLOTS: usize = 64;
/// Index of the word of the first slot.
pub const FIRST_SLOT: usize = 64;
/// In the word of a slot: the line is there. Its length in bytes is in the lower half, its offset in the room in the upper one.
const THERE: u64 = 1 << 63;

/// The word of a slot for a line of so many bytes at this offset.
pub const fn slot(offset: u32, length: u32) -> u64 {
    THERE | (offset as u64) << 32 | length as u64
}

/// Text that has become part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Offset in the file, bytes.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
    /// Index of its log.
    pub log: usize,
    /// Lines that it was written as.
    pub lines: u64,
}

impl<M: Memory> Hold<M> {
    /// Reserves room for so many bytes of a log's text. Returns its offset in the file; None: there is no room, or the ring has to grow.
    pub fn open_stage(&self, log: usize, length: u32) -> Option<usize> {
        if self.comes_around(length) {
            return None;
        }
        let place = self.place(log, length, 0)?;
        (0..SLOTS).for_each(|slot| self.memory().store(FIRST_SLOT + slot, 0));
        let record = place.record();
        let from = record.length - length;
        if from == 0 {
            self.write_head(&Record { length: 0, ..record });
        }
        self.set_header(Header::StageFrom, from.into());
        self.set_header(Header::StageLength, length.into());
        self.set_header(Header::StageLog, log as u64);
        self.set_header(Header::Stage, record.position + 1);
        Some(place.offset)
    }

    /// Makes the lines of the stage part of their record, and so many bytes of it at least. Also for a hold that a process has left, of
    /// which nothing is to be believed.
    pub fn close_stage(&self, least: usize) -> Option<Staged> {
        let staged = self.staged(least as u64).filter(|staged| staged.length > 0);
        if let Some(staged) = staged {
            let (position, from) = (self.header(Header::Stage) - 1, self.header(Header::StageFrom));
            let length = (from + staged.length as u64) as u32;
            self.lengthen(position, staged.log, length);
        }
        // The slots stay as they are until there is a stage again: by its word a thread that was given up learns of that.
        self.set_header(Header::Stage, 0);
        staged
    }

    /// What is on the stage, unless it is part of its record already. What lies between lines is made a line of blanks: there a process
    /// was killed while it copied one.
    fn staged(&self, least: u64) -> Option<Staged> {
        let position = self.header(Header::Stage).checked_sub(1)?;
        let (from, room) = (self.header(Header::StageFrom), self.header(Header::StageLength));
        let log = usize::try_from(self.header(Header::StageLog)).ok().filter(|&log| log < self.entries())?;
        let begin = position.checked_add(BEFORE)?.checked_add(from)?;
        let end = begin.checked_add(room)?;
        let (head, tail) = (self.header(Header::Head), self.header(Header::Tail));
        let fits = position.is_multiple_of(WORD as u64)
            && position >= head
            && end.checked_sub(head).is_some_and(|bytes| bytes <= self.capacity())
            && BEFORE + from + room <= self.room_behind(position);
        // Text is added to the newest record, or a new one begins behind it, perhaps at the beginning of the ring.
        let follows = if from == 0 { position >= tail } else { begin == tail };
        if !fits || !follows {
            return None;
        }
        let offset = OVERHEAD + ((position + BEFORE) % self.capacity()) as usize + from as usize;
        let (mut length, mut lines) = (0, 0);
        for word in (0..SLOTS).map(|slot| self.memory().load(FIRST_SLOT + slot)).filter(|word| word & THERE != 0) {
            let (at, bytes) = ((word & !THERE) >> 32, u64::from(word as u32));
            if at < length || at + bytes > room {
                break;
            }
            self.blank(offset + length as usize, (at - length) as usize);
            (length, lines) = (at + bytes, lines + 1);
        }
        let whole = length.max(least.min(room));
        self.blank(offset + length as usize, (whole - length) as usize);
        Some(Staged { offset, length: whole as usize, log, lines })
    }

    /// Makes bytes of the file a line of blanks.
    fn blank(&self, offset: usize, length: usize) {
        for at in offset..offset + length {
            let byte = if at + 1 == offset + length { b'\n' } else { b' ' };
            let mut bytes = self.memory().load(at / WORD).to_ne_bytes();
            bytes[at % WORD] = byte;
            self.memory().store(at / WORD, u64::from_ne_bytes(bytes));
        }
    }
}
