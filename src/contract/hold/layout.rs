//! The bytes of a hold's file: a header of one page, a table of the logs whose lines are held, and the ring of records.
//!
//! All words are of 64 bits, in the machine's byte order.

use super::{Hold, Memory};

/// The first eight bytes: `TIDEHOLD`.
const MAGIC: u64 = u64::from_ne_bytes(*b"TIDEHOLD");
/// Version of this layout. Readers leave any other alone.
const LAYOUT: u64 = 2;
/// Bytes of a word.
pub(super) const WORD: usize = size_of::<u64>();
/// Bytes of the header.
const HEADER: usize = 4096;
/// So many logs can have lines in one hold at the same time.
pub const LOGS: usize = 1024;
/// Bytes of the longest path that the table of logs has room for.
pub const LONGEST_PATH: usize = 1024;
/// Words before the path in an entry of that table.
const BEFORE_PATH: usize = 16;
/// Words of an entry.
const ENTRY: usize = BEFORE_PATH + LONGEST_PATH / WORD;
/// Bytes of the file before the ring of records.
pub const OVERHEAD: usize = HEADER + LOGS * ENTRY * WORD;
/// What the names of all holds begin with.
pub const FIRST_NAME: &str = "hold.";

const _: () = assert!(OVERHEAD.is_multiple_of(4096));

/// Words of the header.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum Header {
    /// Holds [`MAGIC`].
    Magic,
    /// Holds [`LAYOUT`].
    Layout,
    /// Process id of the process that made the file, in its own namespace.
    Pid,
    /// Its effective user id.
    Uid,
    /// When the file was made, nanoseconds of CLOCK_REALTIME.
    Made,
    /// Bytes of the ring: a multiple of 4096.
    Capacity,
    /// Position of the oldest record. Positions count bytes from the beginning; the place of one is its remainder by the capacity.
    Head,
    /// Position of the end of the newest record.
    Tail,
    /// Position of the newest record, plus one; 0: not known. For the process whose hold it is only.
    Newest,
    /// How many entries of the table of logs the file has space for.
    Entries,
    /// Position of the record whose text goes on in the stage, plus one; 0: the stage is closed.
    Stage,
    /// Bytes of that record's text before the stage.
    StageFrom,
    /// Bytes of the stage.
    StageLength,
    /// Index of its log.
    StageLog,
}

/// Words of an entry in the table of logs, before the path.
#[derive(Clone, Copy)]
#[repr(usize)]
pub(super) enum Field {
    /// 1: the entry is in use.
    Used,
    /// st_dev of the log.
    Device,
    /// st_ino of the log.
    Inode,
    /// errno that began it: ENOSPC or EDQUOT.
    Errno,
    /// Since when its lines are diverted, nanoseconds of CLOCK_REALTIME.
    Since,
    /// Lines that were diverted.
    Lines,
    /// Bytes that were diverted.
    Bytes,
    /// Lines that were diverted and are not held any more, because newer ones took their place.
    Gone,
    /// Size of the log when a piece was about to be written, or when the log was diverted in the middle of a line.
    Placed,
    /// Position of the record from which a piece is being written, plus one; 0: none is.
    Piece,
    /// How many bytes of that record had been put back before.
    PieceFrom,
    /// Bytes of the piece.
    PieceLength,
    /// 1: the log consists of JSON objects.
    Json,
    /// Bytes of the path.
    PathLength,
    /// Mode of a log that could not be created.
    Mode,
    /// When the log was made, nanoseconds of CLOCK_REALTIME; 0: its filesystem does not say.
    Born,
}

/// A log that is to be entered.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// st_dev and st_ino.
    pub identity: (u64, u64),
    /// Its absolute path.
    pub path: &'a [u8],
    /// ENOSPC or EDQUOT.
    pub errno: i32,
    /// Since when it is diverted, nanoseconds of CLOCK_REALTIME.
    pub since: u64,
    /// Its size, bytes.
    pub placed: u64,
    /// It consists of JSON objects.
    pub json: bool,
    /// Mode of a log that could not be created.
    pub mode: u32,
    /// When it was made (statx(2)), nanoseconds of CLOCK_REALTIME; 0: its filesystem does not say.
    pub born: u64,
}

/// Why a file can't be used as a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It does not begin as a hold, or is still being made.
    NoHold,
    /// It has another layout.
    OtherLayout,
    /// Its numbers contradict each other, or its size.
    Contradiction,
}

/// Name of the hold of a process: its id, and when the hold was made, so that a later process of that id does not come across it.
pub fn hold_file_name(to: &mut dyn core::fmt::Write, pid: u32, made_ns: u64) -> core::fmt::Result {
    write!(to, "{FIRST_NAME}{pid}.{made_ns:x}")
}

/// Ends the name of a hold of whose logs none was where it had been when a program that started looked at it, though their filesystem was
/// mounted: it is left to `tideover clean` from then on, and to the next outage of its log.
pub const GONE: &str = ".gone";

/// Name of the file, in the folder of holds, one byte of which is locked (fcntl(2), F_SETLK) by whoever puts lines back into a log. Whoever
/// has locked all of it may remove it.
pub const LOCK_FILE: &str = "lock";

/// Which byte of [`LOCK_FILE`] is locked for the log of this device and inode: from 0 to 2^62 - 1.
pub fn lock_offset((device, inode): (u64, u64)) -> i64 {
    let words = [device.to_ne_bytes(), inode.to_ne_bytes()];
    (crate::hash::fnv1a(words.iter().flatten()) >> 2) as i64
}

/// Is this the name of a hold?
pub fn is_hold_file_name(name: &[u8]) -> bool {
    let mut parts = name.strip_suffix(GONE.as_bytes()).unwrap_or(name).splitn(3, |&byte| byte == b'.');
    let (first, pid, made) = (parts.next(), parts.next(), parts.next());
    let digits =
        |text: Option<&[u8]>, is_digit: fn(&u8) -> bool| text.is_some_and(|t| !t.is_empty() && t.iter().all(is_digit));
    first == Some(b"hold") && digits(pid, u8::is_ascii_digit) && digits(made, u8::is_ascii_hexdigit)
}

impl<M: Memory> Hold<M> {
    pub(super) fn header(&self, word: Header) -> u64 {
        self.memory.load(word as usize)
    }

    pub(super) fn set_header(&self, word: Header, value: u64) {
        self.memory.store(word as usize, value);
    }

    pub(super) fn field(&self, log: usize, field: Field) -> u64 {
        self.memory.load(entry(log) + field as usize)
    }

    pub(super) fn set_field(&self, log: usize, field: Field, value: u64) {
        self.memory.store(entry(log) + field as usize, value);
    }

    /// Makes a hold of zeroed memory, with room for so many logs, and with a ring of so many bytes.
    pub fn format(&self, pid: u32, uid: u32, made_ns: u64, entries: usize, capacity: usize) {
        self.set_header(Header::Layout, LAYOUT);
        self.set_header(Header::Pid, pid.into());
        self.set_header(Header::Uid, uid.into());
        self.set_header(Header::Made, made_ns);
        self.set_header(Header::Entries, entries as u64);
        self.set_header(Header::Capacity, capacity as u64);
        self.set_header(Header::Magic, MAGIC);
    }

    /// Is this a hold whose numbers can be believed, in a file of so many bytes? Its records are checked while they are walked.
    pub fn check(&self, file_size: u64) -> Result<(), Damage> {
        if self.memory.words() * WORD < OVERHEAD || self.header(Header::Magic) != MAGIC {
            return Err(Damage::NoHold);
        }
        if self.header(Header::Layout) != LAYOUT {
            return Err(Damage::OtherLayout);
        }
        let (capacity, head, tail) = (self.capacity(), self.header(Header::Head), self.header(Header::Tail));
        let fits = capacity > 0
            && capacity.is_multiple_of(4096)
            && (OVERHEAD as u64)
                .checked_add(capacity)
                .is_some_and(|end| end <= file_size && end <= (self.memory.words() * WORD) as u64);
        let ordered = head <= tail && head.is_multiple_of(WORD as u64) && tail - head <= capacity && tail < 1 << 62;
        if fits && ordered { Ok(()) } else { Err(Damage::Contradiction) }
    }

    /// Bytes of the ring.
    pub fn capacity(&self) -> u64 {
        self.header(Header::Capacity)
    }

    /// Process id of the process that made it.
    pub fn pid(&self) -> u64 {
        self.header(Header::Pid)
    }

    /// When it was made, nanoseconds of CLOCK_REALTIME.
    pub fn made_ns(&self) -> u64 {
        self.header(Header::Made)
    }

    /// Another process has it now.
    pub fn set_pid(&self, pid: u32) {
        self.set_header(Header::Pid, pid.into());
    }

    /// How many logs the file has room for.
    pub fn entries(&self) -> usize {
        (self.header(Header::Entries) as usize).min(LOGS)
    }

    /// The file has room for so many logs now.
    pub fn set_entries(&self, entries: usize) {
        self.set_header(Header::Entries, entries as u64);
    }

    /// The indexes of the logs in it.
    pub fn logs(&self) -> impl Iterator<Item = usize> {
        (0..self.entries()).filter(|&log| self.field(log, Field::Used) == 1)
    }

    /// The log of this device and inode.
    pub fn find(&self, device: u64, inode: u64) -> Option<usize> {
        self.logs().find(|&log| self.identity(log) == (device, inode))
    }

    /// st_dev and st_ino of a log.
    pub fn identity(&self, log: usize) -> (u64, u64) {
        (self.field(log, Field::Device), self.field(log, Field::Inode))
    }

    /// Sets st_dev, st_ino and birth of a log that could not be created before, and now is.
    pub fn set_identity(&self, log: usize, device: u64, inode: u64, born: u64) {
        self.set_field(log, Field::Born, born);
        self.set_field(log, Field::Device, device);
        self.set_field(log, Field::Inode, inode);
    }

    /// errno that began the diversion of a log.
    pub fn errno(&self, log: usize) -> i32 {
        self.field(log, Field::Errno) as i32
    }

    /// Since when a log is diverted, nanoseconds of CLOCK_REALTIME.
    pub fn since(&self, log: usize) -> u64 {
        self.field(log, Field::Since)
    }

    /// Lines and bytes of a log that were diverted, and how many of the lines are not held any more.
    pub fn counts(&self, log: usize) -> (u64, u64, u64) {
        (self.field(log, Field::Lines), self.field(log, Field::Bytes), self.field(log, Field::Gone))
    }

    /// Is it a log of JSON objects?
    pub fn is_json(&self, log: usize) -> bool {
        self.field(log, Field::Json) == 1
    }

    /// Counts lines and bytes that are diverted.
    pub fn count(&self, log: usize, lines: u64, bytes: u64) {
        self.set_field(log, Field::Lines, self.field(log, Field::Lines) + lines);
        self.set_field(log, Field::Bytes, self.field(log, Field::Bytes) + bytes);
    }

    /// Counts lines that are not held any more.
    pub fn count_gone(&self, log: usize, lines: u64) {
        self.set_field(log, Field::Gone, self.field(log, Field::Gone) + lines);
    }

    /// The path of a log, in `to`. Not to be trusted: whoever wrote the file chose it.
    pub fn path<'a>(&self, log: usize, to: &'a mut [u8; LONGEST_PATH]) -> &'a [u8] {
        let first = entry(log) + BEFORE_PATH;
        for (word, bytes) in to.chunks_exact_mut(WORD).enumerate() {
            bytes.copy_from_slice(&self.memory.load(first + word).to_ne_bytes());
        }
        let length = (self.field(log, Field::PathLength) as usize).min(LONGEST_PATH);
        to.get(..length).unwrap_or(&[])
    }

    /// Enters a log, unless there is no room for it in the table, or its path is too long.
    pub fn enter(&self, new: &New<'_>) -> Option<usize> {
        if new.path.len() > LONGEST_PATH {
            return None;
        }
        let log = (0..self.entries()).find(|&log| self.field(log, Field::Used) != 1)?;
        for (word, bytes) in new.path.chunks(WORD).enumerate() {
            let mut whole = [0; WORD];
            whole.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            self.memory.store(entry(log) + BEFORE_PATH + word, u64::from_ne_bytes(whole));
        }
        for (field, value) in [
            (Field::Device, new.identity.0),
            (Field::Inode, new.identity.1),
            (Field::Errno, new.errno as u64),
            (Field::Since, new.since),
            (Field::Lines, 0),
            (Field::Bytes, 0),
            (Field::Gone, 0),
            (Field::Placed, new.placed),
            (Field::Piece, 0),
            (Field::Json, new.json.into()),
            (Field::Mode, new.mode.into()),
            (Field::Born, new.born),
            (Field::PathLength, new.path.len() as u64),
            (Field::Used, 1),
        ] {
            self.set_field(log, field, value);
        }
        Some(log)
    }

    /// When the log was made, nanoseconds of CLOCK_REALTIME; 0: not known. Device and inode number alone may be those of another file by
    /// now: the inode number of a removed file is given to the next one.
    pub fn born(&self, log: usize) -> u64 {
        self.field(log, Field::Born)
    }

    /// Mode of a log that could not be created.
    pub fn mode(&self, log: usize) -> u32 {
        self.field(log, Field::Mode) as u32 & 0o777
    }

    /// The log had this size, and may end in the middle of a line, before the text that is held next.
    pub fn set_placed(&self, log: usize, size: u64) {
        self.set_field(log, Field::Placed, size);
    }

    /// Forgets a log of which no line is held.
    pub fn leave(&self, log: usize) {
        self.set_field(log, Field::Used, 0);
    }
}

/// Bytes of an entry of the table up to its path, and where that of this index begins in the file.
pub const ENTRY_START: usize = BEFORE_PATH * WORD;

/// See [`ENTRY_START`].
pub const fn entry_offset(log: usize) -> usize {
    entry(log) * WORD
}

/// st_dev and st_ino of the log whose entry begins with these bytes, if the entry is in use.
pub fn identity_in(entry: &[u8]) -> Option<(u64, u64)> {
    let word = |field: Field| {
        let at = field as usize * WORD;
        entry.get(at..at + WORD)?.first_chunk::<WORD>().map(|word| u64::from_ne_bytes(*word))
    };
    (word(Field::Used)? == 1).then_some((word(Field::Device)?, word(Field::Inode)?))
}

/// How many logs a hold has room for whose file begins with these bytes.
pub fn entries_in(first: &[u8]) -> usize {
    let at = Header::Entries as usize * WORD;
    let word = first.get(at..).and_then(|rest| rest.first_chunk::<WORD>());
    word.map_or(0, |word| u64::from_ne_bytes(*word) as usize).min(LOGS)
}

/// Bytes of the header and so many entries of the table.
pub const fn table_end(entries: usize) -> usize {
    HEADER + entries * ENTRY * WORD
}

/// Index of an entry's first word.
const fn entry(log: usize) -> usize {
    (HEADER + log * ENTRY * WORD) / WORD
}
