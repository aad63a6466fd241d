//! Putting held text back into its log.
//!
//! Before a piece is written, the hold says which piece that is and how large the log was; afterwards, that it is done. Whoever finds the
//! hold of a process that was killed meanwhile looks whether the piece stands in the log.
//!
//! No two processes put lines back into one log at the same time ([`LOCK_FILE`](super::LOCK_FILE)): one would end the line that the other is
//! about to go on with. Others may write to it at any time.

use super::layout::Field;
use super::ring::Record;
use super::{Hold, Memory};

/// Most bytes of one write.
pub const PIECE: usize = 64 << 10;

/// How often a line may be split before the rest is left for later.
const MOST_SPLIT: u32 = 8;

/// The errno of a full disk; its number is the same on every architecture that Linux has.
const ENOSPC: i32 = 28;

/// A log that text is put back into. Offsets are those of text in the hold.
pub trait Target {
    /// Bytes of the log; None: it can't be asked.
    fn size(&self) -> Option<u64>;
    /// Appends text: as much of it as one write takes, and no more than up to its last newline if it has one. Returns how many bytes
    /// that were; the error is an errno.
    fn append(&self, offset: usize, length: usize) -> Result<usize, i32>;
    /// Appends a newline.
    fn end_line(&self) -> Result<(), i32>;
    /// Is the log's last byte no newline?
    fn ends_mid_line(&self) -> bool;
    /// How many bytes of this text stand in the log from `at` on?
    fn holds(&self, at: u64, offset: usize, length: usize) -> usize;
    /// Does this text stand in the log from `at` on? Where the log can't be read, it does.
    fn stands(&self, at: u64, offset: usize, length: usize) -> bool {
        self.holds(at, offset, length) == length
    }
    /// Where the line begins that the byte before `upto` is part of, in bytes from the beginning of this text.
    fn line_start(&self, offset: usize, upto: usize) -> usize;
    /// Bytes of the first line of this text, with its newline if that is part of the text.
    fn line_length(&self, offset: usize, length: usize) -> usize;
}

/// How far putting back has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was held is in the log.
    All,
    /// There was no more time.
    Part,
    /// The log took no more, for this errno.
    Failed(i32),
}

/// Settles a piece that was being written when the process of the hold ended: it is done as far as it stands in the log.
pub fn settle<M: Memory>(hold: &Hold<M>, log: usize, target: &impl Target) {
    let Some(position) = hold.field(log, Field::Piece).checked_sub(1) else { return };
    let (from, length) = (hold.field(log, Field::PieceFrom), hold.field(log, Field::PieceLength));
    let placed = hold.field(log, Field::Placed);
    let pending = hold.record(position).filter(|record| record.log == log && u64::from(record.done) >= from);
    if let Some(record) = pending
        && let Some(size) = target.size()
    {
        let noted = u64::from(record.done) - from;
        let most = if noted > 0 { noted } else { (u64::from(record.length) - from).min(length) } as usize;
        let there = target.holds(placed, record.offset + from as usize, most);
        // A part that others have written behind is an unfinished line, which is written once more.
        if there == most || noted == 0 && size == placed.saturating_add(there as u64) {
            hold.set_done(&record, from as u32 + there as u32);
            hold.set_field(log, Field::Placed, placed + there as u64);
        }
    }
    hold.set_field(log, Field::Piece, 0);
}

/// Puts back what is held of a log, piece by piece, while `may_go_on`, which is asked after each, with how many bytes that
/// were. Returns how far it came, and how many
/// bytes it has put back.
pub fn put_back<M: Memory>(
    hold: &Hold<M>,
    log: usize,
    target: &impl Target,
    mut may_go_on: impl FnMut(u64) -> bool,
) -> (Outcome, u64) {
    let (mut total, mut split) = (0, 0);
    let mut outcome = Outcome::All;
    'records: for mut record in hold.records().filter(|record| record.log == log) {
        while record.done < record.length {
            if total > 0 && !may_go_on(total) || split > MOST_SPLIT {
                outcome = Outcome::Part;
                break 'records;
            }
            let before = record.done;
            if let Err(errno) = put_piece(hold, &mut record, target) {
                outcome = Outcome::Failed(errno);
                break 'records;
            }
            total += u64::from(record.done.saturating_sub(before));
            split += u32::from(record.done <= before);
        }
    }
    hold.trim();
    (outcome, total)
}

/// One piece: from the first byte of a record that has not been put back. A line that somebody has split who wrote meanwhile is to be
/// written anew: then less of the record is done than before.
fn put_piece<M: Memory>(hold: &Hold<M>, record: &mut Record, target: &impl Target) -> Result<(), i32> {
    let log = record.log;
    let size = begin_piece(hold, record, target)?;
    hold.set_done(record, record.done);
    let left = (record.length - record.done) as usize;
    if left == 0 {
        return Ok(());
    }
    let offset = record.offset + record.done as usize;
    let start = target.line_start(record.offset, record.done as usize) as u32;
    // The rest of a line that was begun is written by itself: if it does not stand behind the beginning then, no other line is written twice.
    let length = match left.min(PIECE) {
        length if start < record.done => target.line_length(offset, length),
        length => length,
    };
    hold.set_field(log, Field::Placed, size);
    hold.set_field(log, Field::PieceFrom, record.done.into());
    hold.set_field(log, Field::PieceLength, length as u64);
    hold.set_field(log, Field::Piece, record.position + 1);
    let written = target.append(offset, length);
    if start < record.done && written.is_ok_and(|n| n > 0 && !target.stands(size, offset, n)) {
        (record.done, record.torn) = (start, 0);
        hold.set_field(log, Field::Placed, u64::MAX);
        hold.set_done(record, record.done);
    } else if let Ok(written) = written {
        record.done += written as u32;
        hold.set_done(record, record.done);
        hold.set_field(log, Field::Placed, size + written as u64);
    }
    hold.set_field(log, Field::Piece, 0);
    match written {
        Ok(0) => Err(ENOSPC),
        other => other.map(drop),
    }
}

/// If only the newline of a line was still to be written, and somebody else has written one there since: where the next line begins.
fn ended_by_others<M: Memory>(hold: &Hold<M>, record: &Record, target: &impl Target, size: u64) -> Option<u32> {
    let done = record.done.max(record.torn);
    let start = target.line_start(record.offset, done as usize);
    let begun = done as usize - start;
    let placed = hold.field(record.log, Field::Placed);
    let (offset, left) = (record.offset + start, record.length.checked_sub(done)? as usize);
    let is_ended = begun > 0
        && left > 0
        && placed < size
        && target.line_length(record.offset + done as usize, left) == 1
        && target.holds(placed.checked_sub(begun as u64)?, offset, begun + 1) == begun + 1;
    is_ended.then_some(done + 1)
}

/// Where a piece begins in its record: at the beginning of a line, once the log's last line is ended; or where the line was cut that ends the
/// log. Returns the size of the log for which that is so.
fn begin_piece<M: Memory>(hold: &Hold<M>, record: &mut Record, target: &impl Target) -> Result<u64, i32> {
    let size = target.size().ok_or(0)?;
    if size == hold.field(record.log, Field::Placed) {
        if record.done >= record.torn {
            return Ok(size);
        }
        let begun = size.checked_sub(record.torn.into());
        if begun.is_some_and(|at| target.stands(at, record.offset, record.torn as usize)) {
            record.done = record.torn;
            return Ok(size);
        }
    }
    if let Some(done) = ended_by_others(hold, record, target, size) {
        record.done = done;
    }
    // Somebody else has written since, or this is the first piece: a line that was begun begins anew.
    record.done = target.line_start(record.offset, record.done as usize) as u32;
    if target.ends_mid_line() {
        target.end_line()?;
        return target.size().ok_or(0);
    }
    Ok(size)
}
