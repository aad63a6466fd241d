//! What the kernel knows of epoll sets: /proc/self/fdinfo lists what is watched in one, with its events and data.
//!
//! Asked when the program has registered a listener where no hook saw it: before listen(2), by a system call of its own, or through one of
//! two descriptors of a set. Needs a descriptor for a moment.

use core::ffi::c_int;
use core::fmt::Write;

use libc::epoll_event;

use super::watch::Watch;
use crate::engine::reserve;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::descriptors::{self, CLIENT, EPOLL, LISTENER, OUTGOING};
use crate::state::page;

/// Bytes of the longest line of interest: ` tfd:`, ` events:`, ` data:`, ` ino:` and their numbers.
const LINE: usize = 160;

/// Marks epoll sets and listeners that no hook has seen: made by system calls of the program's own, inherited, or received. Needs no
/// descriptor.
pub fn find_unmarked() {
    /// They are looked for up to this number.
    const LOW: c_int = 1024;
    let highest = c_int::try_from(page::high_water()).unwrap_or(c_int::MAX).max(64);
    for fd in (0..highest.min(LOW)).filter(|&fd| descriptors::marks(fd) & (EPOLL | LISTENER | CLIENT | OUTGOING) == 0) {
        if sys::is_listening(fd) {
            descriptors::add(fd, LISTENER);
        } else if is_set(fd) {
            descriptors::add(fd, EPOLL);
        }
    }
}

/// Is this an epoll set?
fn is_set(fd: c_int) -> bool {
    let mut path = Text::<40>::new();
    let _ = write!(path, "/proc/self/fd/{fd}");
    let mut link = [0u8; 32];
    sys::read_link(path.as_c_str(), &mut link).is_ok_and(|link| link == b"anon_inode:[eventpoll]")
}

/// Calls `tell` for every listener in one set. False: it could not be asked.
pub fn one_set(epoll: c_int, tell: &mut impl FnMut(Watch)) -> bool {
    let mut path = Text::<64>::new();
    let _ = write!(path, "/proc/self/fdinfo/{epoll}");
    let open = || sys::open(path.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC, 0);
    let opened = open().or_else(|errno| {
        let loan = reserve::lend().ok_or(errno)?;
        let opened = open();
        loan.restore();
        opened
    });
    let Ok(file) = opened else { return false };
    let whole = read_lines(file, |line| {
        if let Some(watch) = parse(epoll, line) {
            tell(watch);
        }
    });
    sys::close(file);
    whole
}

/// Calls `with` for each line of a file; the rest of one that is too long is dropped.
fn read_lines(file: c_int, mut with: impl FnMut(&[u8])) -> bool {
    let (mut chunk, mut line, mut length, mut offset) = ([0u8; 1024], [0u8; LINE], 0, 0);
    loop {
        match sys::read_at(file, &mut chunk, offset) {
            Ok([]) => return true,
            Ok(bytes) => {
                offset += bytes.len() as u64;
                for &byte in bytes {
                    if byte == b'\n' {
                        with(&line[..length]);
                        length = 0;
                    } else if length < LINE {
                        line[length] = byte;
                        length += 1;
                    }
                }
            }
            Err(_) => return false,
        }
    }
}

/// Reads a line like `tfd:        5 events: 80000019 data:                5  pos:0 ino:832fab sdev:9`. None: not a listener, or no such line.
fn parse(epoll: c_int, line: &[u8]) -> Option<Watch> {
    let mut words = line.split(|b| b.is_ascii_whitespace() || *b == b':').filter(|word| !word.is_empty());
    let mut field = |name: &[u8], radix| {
        words.find(|word| *word == name)?;
        u64::from_str_radix(core::str::from_utf8(words.next()?).ok()?, radix).ok()
    };
    let fd = c_int::try_from(field(b"tfd", 10)?).ok()?;
    if descriptors::marks(fd) & (CLIENT | OUTGOING) != 0 {
        return None;
    }
    let events = u32::try_from(field(b"events", 16)?).ok()?;
    let data = field(b"data", 16)?;
    let inode = field(b"ino", 16)?;
    // The descriptor may have been closed while the socket lives on elsewhere; then there is nothing that could be masked.
    let is_it = sys::is_listening(fd) && sys::fstat(fd).is_ok_and(|status| status.st_ino == inode);
    is_it.then(|| {
        descriptors::add(fd, LISTENER);
        Watch::open(epoll, fd, inode, epoll_event { events, u64: data })
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn the_kernel_tells_of_listeners_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // SAFETY: plain system calls.
        let epoll = unsafe { libc::epoll_create1(0) };
        for fd in [listener.as_raw_fd(), other.as_raw_fd()] {
            let event = epoll_event { events: libc::EPOLLIN as u32, u64: 0x1234_5678_9abc };
            sys::epoll_control(epoll, libc::EPOLL_CTL_ADD, fd, Some(&event)).unwrap();
        }
        let mut told = vec![];
        assert!(one_set(epoll, &mut |watch: Watch| told.push((watch.epoll, watch.listener, { watch.event.u64 }))));
        assert_eq!(told, [(epoll, listener.as_raw_fd(), 0x1234_5678_9abc)]);
        sys::close(epoll);
    }
}
