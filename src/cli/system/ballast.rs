//! A ballast (`tideover_contract::ballast`): made, looked at, given up, and made anew.
#![forbid(unsafe_code)]

use rustix::fs::{FallocateFlags, StatVfs, fallocate, fstatvfs, statvfs};
use rustix::io::Errno;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use tideover_contract::ballast::{Ballast, HEAD};

/// So many bytes of the filesystem, or 5 % if that is less, stay free when a ballast is made: with less, lines do not go to a log again.
const FREE: u64 = 100 << 20;
/// With so many free bytes, or one thousandth of the filesystem if that is less, it counts as full.
const FULL: u64 = 1 << 20;
/// Bytes that are written at once where blocks can't be reserved.
const PIECE: usize = 1 << 20;

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A ballast, open for writing.
    Ballast(Open),
    /// A file that was to become one, when the command was killed.
    Unfinished,
    /// Something else, and why it is no ballast.
    Other(&'static str),
}

/// A ballast that is open for writing.
#[derive(Debug)]
pub struct Open {
    file: File,
    /// How large it is when it is whole, bytes.
    pub size: u64,
}

/// Bytes that are free for this user, and of the whole filesystem.
fn space(fs: &StatVfs) -> (u64, u64) {
    let unit = if fs.f_frsize == 0 { fs.f_bsize } else { fs.f_frsize };
    (fs.f_bavail.saturating_mul(unit), fs.f_blocks.saturating_mul(unit))
}

/// Bytes that are missing if so many more are to be taken.
fn lacking(fs: &StatVfs, more: u64) -> u64 {
    let (free, total) = space(fs);
    (FREE.min(total / 20).saturating_add(more)).saturating_sub(free)
}

/// Looks at a path, and opens the ballast that is there.
pub fn look(path: &Path) -> io::Result<Found> {
    let reason = |status: &Metadata| match status {
        status if status.is_symlink() => Some("it is a symbolic link"),
        status if !status.is_file() => Some("it is no regular file"),
        status if status.nlink() != 1 => Some("it has another name, too"),
        _ => None,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
        // Asked before it is opened: to open a FIFO or a device has effects.
        Ok(status) => {
            if let Some(why) = reason(&status) {
                return Ok(Found::Other(why));
            }
        }
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let status = file.metadata()?;
    if let Some(why) = reason(&status) {
        return Ok(Found::Other(why));
    }
    let mut head = [0; HEAD];
    let length = file.read_at(&mut head, 0)?;
    Ok(match Ballast::read(&head[..length]) {
        Some(ballast) if ballast.inode == status.ino() => Found::Ballast(Open { file, size: ballast.size }),
        Some(_) => Found::Other("it is a copy of a ballast"),
        None if status.len() > 0 && head[..length].iter().all(|&byte| byte == 0) => Found::Unfinished,
        None => Found::Other("it is a file with other contents"),
    })
}

/// Makes a ballast of so many bytes where nothing is. On an error, nothing is there.
pub fn make(path: &Path, size: u64) -> Result<(), String> {
    let said = |error: io::Error| error.to_string();
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(said)?;
    let made = fill(&file, 0, size).and_then(|()| {
        // The head comes last: before that, nobody takes the file for a ballast.
        write_head(&file, size).map_err(said)
    });
    if made.is_err() {
        let _ = fs::remove_file(path);
    }
    made
}

/// Writes the whole head of a ballast of so many bytes.
fn write_head(file: &File, size: u64) -> io::Result<()> {
    let mut head = Ballast { size, inode: file.metadata()?.ino() }.to_string().into_bytes();
    head.resize(HEAD, 0);
    file.write_all_at(&head, 0).and_then(|()| file.sync_all())
}

/// Takes blocks for the bytes from `from` to `size` of a file.
fn fill(file: &File, from: u64, size: u64) -> Result<(), String> {
    let missing = lacking(&fstatvfs(file).map_err(|error| io::Error::from(error).to_string())?, size - from);
    if missing > 0 {
        return Err(format!(
            "too little space is free: {missing} bytes more are needed, or logs could not be written again"
        ));
    }
    let done = match fallocate(file, FallocateFlags::empty(), from, size - from) {
        // Where blocks can't be reserved, zeros are written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(file, from, size),
        done => done.map_err(io::Error::from),
    };
    done.and_then(|()| file.sync_all()).map_err(|error| error.to_string())?;
    let taken = file.metadata().map_err(|error| error.to_string())?.blocks() * 512;
    if taken < size / 10 * 9 {
        return Err(format!("this filesystem took only {taken} bytes for {size}: it keeps no space by a file"));
    }
    Ok(())
}

fn write_zeros(file: &File, from: u64, size: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE];
    let mut at = from;
    while at < size {
        let length = PIECE.min(usize::try_from(size - at).unwrap_or(PIECE));
        file.write_all_at(&zeros[..length], at)?;
        at += length as u64;
    }
    Ok(())
}

impl Open {
    /// Was it given up?
    pub fn is_given_up(&self) -> bool {
        self.file.metadata().is_ok_and(|status| status.len() < self.size)
    }

    /// Is its filesystem full?
    pub fn is_full(&self) -> bool {
        fstatvfs(&self.file).is_ok_and(|fs| {
            let (free, total) = space(&fs);
            free < FULL.min(total / 1000).max(1)
        })
    }

    /// Is there room to make it anew?
    pub fn has_room(&self) -> bool {
        fstatvfs(&self.file).is_ok_and(|fs| lacking(&fs, self.size - HEAD as u64) == 0)
    }

    /// Gives it up.
    pub fn give_up(&self) -> io::Result<()> {
        self.file.set_len(HEAD as u64)
    }

    /// Makes it as large as `size`, whether it was given up or not. It takes only the blocks that it lacks, and keeps those that it has
    /// all the while: on an error it is as it was.
    pub fn resize(&mut self, size: u64) -> Result<(), String> {
        let said = |error: io::Error| error.to_string();
        let length = self.file.metadata().map_err(said)?.len();
        let grown = if length < size { fill(&self.file, length, size) } else { Ok(()) };
        // The head comes after the blocks, so that a ballast that says how large it is has been so large.
        let done = grown.and_then(|()| write_head(&self.file, size).map_err(said));
        let done = done.and_then(|()| if length > size { self.file.set_len(size).map_err(said) } else { Ok(()) });
        match done {
            Ok(()) => self.size = size,
            Err(_) => {
                let _ = self.file.set_len(length);
            }
        }
        done
    }

    /// Makes it anew after it was given up. On an error it stays given up.
    pub fn refill(&self) -> Result<(), String> {
        let done = fill(&self.file, HEAD as u64, self.size);
        if done.is_err() {
            let _ = self.give_up();
        }
        done
    }
}

/// Free bytes of the filesystem of a path.
pub fn free(path: &Path) -> u64 {
    statvfs(path).map_or(0, |fs| space(&fs).0)
}
