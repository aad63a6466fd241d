//! The ring of records. A record is two words and a part of a log's text, whole lines as a rule.
//!
//! First word: bytes of the text (lower half), index of its log (16 bits), flags (16 bits). Second: how many bytes of the text have been
//! put back (lower half), and how many of its first bytes stand in the log already, at its torn end (upper half).
//!
//! Text that follows other text of its log is added to that record. What a process that is killed at any moment leaves behind is
//! complete up to the tail, which is stored last: the newest record counts as no longer than that.

use super::layout::{Field, Header, OVERHEAD, WORD};
use super::{Hold, Memory, PIECE};

/// Bytes before the text of a record.
pub(super) const BEFORE: u64 = 2 * WORD as u64;
/// Flag of a record that has no text: it fills the ring up to its end.
const FILLER: u64 = 1;

/// Part of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub position: u64,
    /// Offset of its text in the file, bytes.
    pub offset: usize,
    /// Bytes of its text.
    pub length: u32,
    /// Index of its log.
    pub log: usize,
    /// So many bytes have been put back.
    pub done: u32,
    /// So many of its first bytes stand in the log already, at its torn end.
    pub torn: u32,
}

/// Where text is to be copied to, before [`Hold::commit`].
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Offset in the file, bytes.
    pub offset: usize,
    /// The record that it belongs to, with its length afterwards.
    record: Record,
}

/// What is held of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Bytes that are still to be put back.
    pub bytes: u64,
    /// Records that they are in.
    pub records: u64,
}

fn aligned(position: u64) -> u64 {
    position.next_multiple_of(WORD as u64)
}

impl Place {
    /// The record that it belongs to, with its length afterwards.
    pub(super) fn record(&self) -> Record {
        self.record
    }
}

impl<M: Memory> Hold<M> {
    fn word_at(&self, position: u64) -> usize {
        OVERHEAD / WORD + (position % self.capacity()) as usize / WORD
    }

    /// Bytes from a position to the end of the ring.
    pub(super) fn room_behind(&self, position: u64) -> u64 {
        self.capacity() - position % self.capacity()
    }

    fn tail(&self) -> u64 {
        self.header(Header::Tail)
    }

    /// The record at a position, or the first one behind a filler there; None at the tail, and where no record can be.
    fn record_at(&self, mut position: u64) -> Option<Record> {
        let tail = self.tail();
        // Between two records there is at most one filler, or the end of the ring.
        for _ in 0..3 {
            position = aligned(position);
            let text = position.checked_add(BEFORE).filter(|&text| text < tail)?;
            let room = self.room_behind(position);
            let first = if room < BEFORE { FILLER << 48 } else { self.memory.load(self.word_at(position)) };
            if first >> 48 & FILLER != 0 {
                position += room;
                continue;
            }
            let second = self.memory.load(self.word_at(position) + 1);
            let length = (first as u32).min((tail - text).min(u64::from(u32::MAX)) as u32);
            let log = (first >> 32 & 0xffff) as usize;
            if length == 0 || BEFORE + u64::from(length) > room || log >= self.entries() {
                return None;
            }
            let (done, torn) = ((second as u32).min(length), ((second >> 32) as u32).min(length));
            let offset = OVERHEAD + (text % self.capacity()) as usize;
            return Some(Record { position, offset, length, log, done, torn });
        }
        None
    }

    /// All records, from the oldest on; also those that have been put back and are not removed yet.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut position = self.header(Header::Head);
        core::iter::from_fn(move || {
            let record = self.record_at(position)?;
            position = record.position + BEFORE + u64::from(record.length);
            Some(record)
        })
    }

    /// The record that begins at this position, if one does.
    pub(super) fn record(&self, position: u64) -> Option<Record> {
        self.records().find(|record| record.position == position)
    }

    /// What is held of a log.
    pub fn held(&self, log: usize) -> Held {
        let of_log = self.records().filter(|record| record.log == log && record.done < record.length);
        of_log.fold(Held::default(), |held, record| Held {
            bytes: held.bytes + u64::from(record.length - record.done),
            records: held.records + 1,
        })
    }

    /// Is nothing held?
    pub fn is_empty(&self) -> bool {
        self.records().all(|record| record.done >= record.length)
    }

    /// A place for so many bytes of a log's text, of which the first `torn` stand in the log already; None if there is no room for
    /// them behind the newest record.
    pub fn place(&self, log: usize, length: u32, torn: u32) -> Option<Place> {
        if length == 0 {
            return None;
        }
        if torn == 0
            && let Some(place) = self.place_in_newest(log, length)
        {
            return Some(place);
        }
        let whole = BEFORE + u64::from(length);
        let mut position = aligned(self.tail());
        let room = self.room_behind(position);
        let filled = if room < whole { room } else { 0 };
        let end = position.checked_add(filled + whole)?;
        if whole > self.capacity() || end - self.header(Header::Head) > self.capacity() {
            return None;
        }
        if filled >= BEFORE {
            self.memory.store(self.word_at(position), (filled - BEFORE) | FILLER << 48);
        }
        position += filled;
        let offset = OVERHEAD + ((position + BEFORE) % self.capacity()) as usize;
        Some(Place { offset, record: Record { position, offset, length, log, done: 0, torn } })
    }

    /// Bytes of the longest record that text is added to: a piece, and a small part of the ring, which makes room record by record.
    fn longest_record(&self) -> u64 {
        (PIECE as u64).min(self.capacity() / 8)
    }

    /// A place at the end of the newest record, if that is the log's and not too long.
    fn place_in_newest(&self, log: usize, length: u32) -> Option<Place> {
        let newest = self.header(Header::Newest).checked_sub(1)?;
        if newest < self.header(Header::Head) {
            return None;
        }
        let record = self.record_at(newest).filter(|record| record.position == newest && record.log == log)?;
        let end = record.position + BEFORE + u64::from(record.length);
        let longer = record.length.checked_add(length).filter(|&longer| u64::from(longer) <= self.longest_record())?;
        let room = self.room_behind(record.position);
        let fits = BEFORE + u64::from(longer) <= room
            && end + u64::from(length) - self.header(Header::Head) <= self.capacity();
        let offset = record.offset + record.length as usize;
        (fits && end == self.tail()).then_some(Place { offset, record: Record { length: longer, ..record } })
    }

    /// The text has been copied to its place: from here on it is held.
    pub fn commit(&self, place: &Place) {
        let record = &place.record;
        self.write_head(record);
        self.lengthen(record.position, record.log, record.length);
    }

    /// Writes the words before the text of a record.
    pub(super) fn write_head(&self, record: &Record) {
        self.set_done(record, record.done);
        self.memory.store(self.word_at(record.position), u64::from(record.length) | (record.log as u64) << 32);
    }

    /// The newest record is this one, of a log, and has so many bytes of text.
    pub(super) fn lengthen(&self, position: u64, log: usize, length: u32) {
        self.memory.store(self.word_at(position), u64::from(length) | (log as u64) << 32);
        self.set_header(Header::Tail, position + BEFORE + u64::from(length));
        self.set_header(Header::Newest, position + 1);
    }

    /// Notes how many bytes of a record have been put back.
    pub(super) fn set_done(&self, record: &Record, done: u32) {
        self.memory.store(self.word_at(record.position) + 1, u64::from(done) | u64::from(record.torn) << 32);
    }

    /// Removes the oldest record, whether or not it was put back.
    pub fn drop_oldest(&self) -> Option<Record> {
        let record = self.records().next()?;
        if record.done < record.length {
            // The log may end in the middle of a line whose rest goes now.
            self.set_field(record.log, Field::Placed, u64::MAX);
        }
        self.move_head(record.position + BEFORE + u64::from(record.length));
        Some(record)
    }

    /// Removes the records of a log, which can't be put back. Returns how many bytes of them were held.
    pub fn drop_log(&self, log: usize) -> u64 {
        let bytes = self.held(log).bytes;
        for record in self.records().filter(|record| record.log == log) {
            self.set_done(&record, record.length);
        }
        self.trim();
        bytes
    }

    /// Removes the oldest records as far as they have been put back.
    pub fn trim(&self) {
        let mut end = None;
        for record in self.records() {
            if record.done < record.length {
                end = Some(record.position);
                break;
            }
            end = Some(record.position + BEFORE + u64::from(record.length));
        }
        if let Some(end) = end {
            self.move_head(end);
        }
    }

    fn move_head(&self, to: u64) {
        let to = aligned(to);
        if to >= self.tail() {
            // The tail first: the head is never beyond it.
            self.set_header(Header::Tail, to);
        }
        self.set_header(Header::Head, to);
    }

    /// Makes the ring larger, if its records have not come around its end yet. The file has the bytes already.
    pub fn grow(&self, capacity: u64) -> bool {
        let grows =
            capacity > self.capacity() && self.tail() <= self.capacity() && aligned(self.tail()) <= self.capacity();
        if grows {
            self.set_header(Header::Capacity, capacity);
        }
        grows
    }

    /// Would so many bytes of text be the first that come around the ring's end? A ring that is to grow has to do so before.
    pub fn comes_around(&self, length: u32) -> bool {
        self.can_grow() && aligned(self.tail()) + BEFORE + u64::from(length) > self.capacity()
    }

    /// Can the ring be made larger?
    pub fn can_grow(&self) -> bool {
        aligned(self.tail()) <= self.capacity()
    }

    /// Takes over what another process has left: cuts off what is no record.
    pub fn adopt(&self) {
        self.close_stage(0);
        let last = self.records().last();
        let end = last.map_or(self.header(Header::Head), |last| last.position + BEFORE + u64::from(last.length));
        self.set_header(Header::Tail, end);
        self.set_header(Header::Newest, 0);
    }
}
