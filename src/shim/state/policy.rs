//! The policy file of the machine: opened, checked and read. What stands in it is the contract's to say (`tideover_contract::policy`).
//!
//! Where there is none, this costs one open(2) that fails. It is read into memory of its own, and not mapped: whoever cuts a mapped file
//! ends the process by SIGBUS.
#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::fmt;

use tideover_contract::policy::{self as contract, MAX};
use tideover_contract::settings::{MAX_TEXT, ROWS};

use crate::os::display::ErrnoName;
use crate::os::mapping::Mapping;
use crate::os::sys;
use crate::state::thread;

/// [`contract::PATH`] for open(2).
pub const DEFAULT: &CStr = c"/etc/tideover.toml";
/// So many bytes are read at once.
const PIECE: usize = 1024;

/// Why a file, or a part of it, is not used.
pub enum Trouble {
    /// TIDEOVER_CONFIG is none.
    Path,
    /// It could not be opened or read.
    Unreadable(sys::Errno),
    /// It is not to be used, and what helps.
    Unusable(&'static str),
    /// A line that is not understood: its number, and what is wrong.
    Line(u32, &'static str),
    /// A line whose value its setting does not take: its number, and the setting's index.
    Value(u32, usize),
}

/// A file that was read.
pub struct File {
    content: Mapping,
    length: usize,
}

impl Trouble {
    /// Will it pass when a descriptor is free?
    pub fn is_for_want_of_descriptors(&self) -> bool {
        matches!(self, Trouble::Unreadable(libc::EMFILE | libc::ENFILE))
    }
}

impl File {
    /// What stands in it.
    pub fn text(&self) -> &[u8] {
        self.content.bytes(0, self.length)
    }

    /// Its hash, which is never 0.
    pub fn hash(&self) -> u64 {
        tideover_contract::hash::fnv1a(self.text()).max(1)
    }

    /// Gives `set` each setting of this file that is for a program of this name, by its index, in the file's order. `set` answers whether
    /// the setting takes that value. Returns the first trouble.
    pub fn apply(&self, program: &[u8], mut set: impl FnMut(usize, &[u8]) -> bool) -> Option<Trouble> {
        let mut first = None;
        let mut room = [0; MAX_TEXT];
        for entry in contract::entries(self.text()) {
            let trouble = match entry {
                Err(mistake) => Trouble::Line(mistake.line, mistake.why),
                Ok(entry) if entry.is_for_commands() || !entry.is_for(program) => continue,
                Ok(entry) => match entry.setting() {
                    None => Trouble::Line(entry.line, "there is no setting of this name"),
                    Some(index) => match entry.value.text(&mut room) {
                        Some(text) if set(index, text) => continue,
                        Some(_) => Trouble::Value(entry.line, index),
                        None => Trouble::Line(entry.line, "a list holds texts without commas"),
                    },
                },
            };
            first.get_or_insert(trouble);
        }
        first
    }
}

/// Reads a file. None: there is none. `me` is the user who may own it beside root.
#[inline(always)]
pub fn open(path: &CStr, me: u32) -> Option<Result<File, Trouble>> {
    match try_to_open(path) {
        Err(libc::ENOENT) => None,
        // A descriptor beyond the limit, which is closed before the program goes on.
        Err(libc::EMFILE) if thread::count() <= 1 => opened(sys::with_one_more(|| try_to_open(path)), me),
        other => opened(other, me),
    }
}

#[inline(always)]
fn try_to_open(path: &CStr) -> Result<i32, sys::Errno> {
    sys::open(path, libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

#[cold]
#[inline(never)]
fn opened(opened: Result<i32, sys::Errno>, me: u32) -> Option<Result<File, Trouble>> {
    match opened {
        Ok(fd) => {
            let read = read(fd, me);
            sys::close(fd);
            Some(read)
        }
        Err(libc::ENOENT) => None,
        Err(errno) => Some(Err(Trouble::Unreadable(errno))),
    }
}

fn read(fd: i32, me: u32) -> Result<File, Trouble> {
    let status = sys::fstat(fd).map_err(Trouble::Unreadable)?;
    if let Some(why) = contract::unusable(status.st_mode, status.st_uid, status.st_size as u64, me) {
        return Err(Trouble::Unusable(why));
    }
    // A file that has grown since is read as far as it may be long, and is refused by the contract if it is longer.
    let most = (status.st_size as usize + PIECE).min(MAX + PIECE);
    let mut content = Mapping::private(most).map_err(Trouble::Unreadable)?;
    let mut length = 0;
    let mut piece = [0; PIECE];
    while most - length >= PIECE {
        let part = sys::read_at(fd, &mut piece, length as u64).map_err(Trouble::Unreadable)?;
        if part.is_empty() {
            break;
        }
        content.put(length, part);
        length += part.len();
    }
    Ok(File { content, length })
}

/// Prints the end of a sentence that began with the path of the file.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Trouble::Path => f.write_str(" is not used: TIDEOVER_CONFIG takes an absolute path of at most 200 bytes"),
            Trouble::Unreadable(libc::ENOENT) => f.write_str(": there is none; TIDEOVER_CONFIG names another"),
            Trouble::Unreadable(errno) => write!(f, " cannot be read: {}; chmod a+r", ErrnoName(errno)),
            Trouble::Unusable(why) => write!(f, " is not used: {why}"),
            Trouble::Line(line, why) => write!(f, " line {line}: {why}"),
            Trouble::Value(line, index) => write!(f, " line {line}: the value is not {}", ROWS[index].kind),
        }
    }
}
