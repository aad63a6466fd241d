//! Writing to what others share (a terminal, a pipe, a socket) so that the program neither waits nor gets a signal, by the kernel's word:
//! never by poll(2) and then write(2), since another thread or process may have taken the room in between.
//!
//! | file | how |
//! |---|---|
//! | socket | MSG_DONTWAIT, MSG_NOSIGNAL |
//! | pipe | RWF_NOWAIT and RWF_NOSIGNAL (Linux 6.18); else RWF_NOWAIT with signals blocked; else a descriptor of our own with O_NONBLOCK; else vmsplice(2) |
//! | terminal, other devices | a descriptor of our own with O_NONBLOCK, signals blocked |
//! | regular file | does not wait for a reader; not past RLIMIT_FSIZE, where a write raises SIGXFSZ |
//!
//! O_NONBLOCK is never set on the program's own descriptor: whoever shares it would see that.
#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::io::IoSlice;

use super::links;
use super::sys::{self, Errno};

/// Most pieces of memory in one write.
pub const PIECES: usize = 12;

/// A descriptor that can be written in one of these ways.
pub struct Output {
    fd: i32,
    way: Way,
    /// It was opened for this value, and is closed with it.
    opened: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Socket,
    /// A pipe whose open file others share.
    Pipe,
    /// An open file of our own, with O_NONBLOCK.
    Own,
    /// A regular file.
    Regular,
}

/// What the kernel can do with a pipe: 0: RWF_NOWAIT and RWF_NOSIGNAL, until a write says otherwise; 1: RWF_NOWAIT; 2: neither.
static PIPE: AtomicU8 = AtomicU8::new(0);

/// The kernel, or a filter of system calls, does not do this.
fn is_unsupported(answer: Result<usize, Errno>) -> bool {
    matches!(answer, Err(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM))
}

/// Can pipes be written by one call with RWF_NOWAIT and RWF_NOSIGNAL, as far as is known?
pub fn writes_pipes_at_once() -> bool {
    PIPE.load(Relaxed) == 0
}

/// A write with RWF_NOWAIT and RWF_NOSIGNAL has got this answer.
pub fn learn_from(answer: Result<usize, Errno>) {
    if is_unsupported(answer) {
        PIPE.fetch_max(1, Relaxed);
    }
}

impl Output {
    /// What `fd`, whose fstat(2) is `status`, is open on. The error: it can't be written in any of the ways.
    pub fn of(fd: i32, status: &libc::stat) -> Result<Output, Errno> {
        let shared = |way| Ok(Output { fd, way, opened: false });
        match status.st_mode & libc::S_IFMT {
            libc::S_IFSOCK => shared(Way::Socket),
            libc::S_IFREG => shared(Way::Regular),
            libc::S_IFIFO => shared(Way::Pipe),
            libc::S_IFCHR => Ok(Output { fd: reopen(fd)?, way: Way::Own, opened: true }),
            _ => Err(libc::EINVAL),
        }
    }

    /// A descriptor that was opened with O_NONBLOCK (a socket: with SOCK_NONBLOCK) for this value, whose fstat(2) is `status`.
    pub fn own(fd: i32, status: &libc::stat) -> Output {
        let way = match status.st_mode & libc::S_IFMT {
            libc::S_IFSOCK => Way::Socket,
            libc::S_IFREG => Way::Regular,
            _ => Way::Own,
        };
        Output { fd, way, opened: true }
    }

    /// The descriptor that is written to.
    pub fn fd(&self) -> i32 {
        self.fd
    }

    /// One write of at most [`PIECES`] pieces. EAGAIN: there is no room. EPIPE: nobody reads. EFBIG: the file may not grow.
    pub fn write(&self, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
        match self.way {
            Way::Socket => sys::send_pieces(self.fd, pieces),
            Way::Pipe => write_to_pipe(self.fd, pieces),
            Way::Own => without_signals(|| sys::write_pieces(self.fd, pieces)),
            Way::Regular => {
                let size = sys::fstat(self.fd)?.st_size as u64;
                let more: usize = pieces.iter().map(|piece| piece.len()).sum();
                if size.saturating_add(more as u64) > sys::file_size_limit() {
                    return Err(libc::EFBIG);
                }
                sys::write_pieces(self.fd, pieces)
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.opened {
            sys::close(self.fd);
        }
    }
}

/// An open file of our own on what the descriptor is open on.
fn reopen(fd: i32) -> Result<i32, Errno> {
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    sys::open(links::descriptor(fd).as_c_str(), flags, 0)
}

fn write_to_pipe(fd: i32, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    for (known, silent) in [(0, true), (1, false)] {
        if PIPE.load(Relaxed) > known {
            continue;
        }
        let write = || sys::write_pieces_now(fd, pieces, silent);
        let answer = if silent { write() } else { without_signals(write) };
        if !is_unsupported(answer) {
            return answer;
        }
        PIPE.fetch_max(known + 1, Relaxed);
    }
    match reopen(fd) {
        Ok(own) => {
            let answer = without_signals(|| sys::write_pieces(own, pieces));
            sys::close(own);
            answer
        }
        // Another user's pipe, no descriptor, or no /proc. A page in the pipe for each write, so the pipe is full sooner.
        Err(_) => without_signals(|| sys::give_page(fd, pieces)),
    }
}

/// Makes a write that does not wait, with all signals blocked: a terminal then does not stop a job in the background (SIGTTOU), and the
/// SIGPIPE of a pipe without a reader, which the kernel sends to this thread alone, is taken back before it is delivered.
fn without_signals(write: impl FnOnce() -> Result<usize, Errno>) -> Result<usize, Errno> {
    let mask = sys::block_signals()?;
    let was_pending = sys::is_pending(libc::SIGPIPE);
    let answer = write();
    if answer == Err(libc::EPIPE) && !was_pending {
        sys::take_signal(libc::SIGPIPE);
    }
    sys::restore_signals(mask);
    answer
}
