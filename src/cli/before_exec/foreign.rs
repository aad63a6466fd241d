//! Descriptors of other processes, by pidfd_getfd(2): tcp(7)'s TCP_INFO, the items of an epoll set, kcmp(2).
//!
//! A copy of a descriptor keeps its file open: a listener whose port its process wants to bind again, a connection whose end the
//! client waits for. So each copy here is closed within microseconds, before the function returns.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use std::mem;
use std::thread;

/// For how long a TCP connection has been idle, by TCP_INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idle {
    /// Milliseconds since its process last sent data.
    pub sent: u32,
    /// Milliseconds since data last came from its client.
    pub received: u32,
}

/// State 1 of the kernel's net/tcp_states.h.
const ESTABLISHED: u8 = 1;

/// Takes a copy of a process's descriptor, if that is open on the socket of this inode.
fn socket(process: BorrowedFd<'_>, number: i32, inode: u64) -> Result<OwnedFd, Errno> {
    let copy = pidfd_getfd(process, number, PidfdGetfdFlags::empty())?;
    if fstat(&copy)?.st_ino == inode { Ok(copy) } else { Err(Errno::BADF) }
}

/// For how long the TCP connection of a process's descriptor has been idle; the error is [`Errno::BADF`] if it is another by now, and
/// [`Errno::NOTCONN`] if it is not established.
pub fn idle(process: BorrowedFd<'_>, number: i32, inode: u64) -> Result<Idle, Errno> {
    idle_of(&socket(process, number, inode)?)
}

fn idle_of(socket: &OwnedFd) -> Result<Idle, Errno> {
    // SAFETY: all-zero bytes are a valid tcp_info, which has numbers only.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which has as many and is ours.
    let asked = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    if asked != 0 {
        return Err(last_error());
    }
    if info.tcpi_state != ESTABLISHED {
        return Err(Errno::NOTCONN);
    }
    Ok(Idle { sent: info.tcpi_last_data_sent, received: info.tcpi_last_data_recv })
}

/// Number of bytes that a socket has received and its process has not read.
fn unread(socket: &OwnedFd) -> Result<u64, Errno> {
    rustix::io::ioctl_fionread(socket)
}

/// Ends the receiving side of a process's connection (SHUT_RD), if it has still been idle for `longer` milliseconds and has no unread
/// input. To the process it is as if the client had closed: it reads the end of the stream. What it still sends is sent, and neither
/// EPIPE nor SIGPIPE comes of it, as they would of SHUT_RDWR.
pub fn end_input(process: BorrowedFd<'_>, number: i32, inode: u64, longer: u32) -> Result<bool, Errno> {
    let socket = socket(process, number, inode)?;
    let idle = idle_of(&socket)?;
    if idle.sent.min(idle.received) < longer || unread(&socket)? > 0 {
        return Ok(false);
    }
    shutdown(&socket, Shutdown::Read).map(|()| true)
}

/// An item of an epoll set: the file of a descriptor that it watches, for which events, and the word that it answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Number that the descriptor had in the process that put it into the set. The set knows an item by its file and this number.
    pub number: i32,
    /// Inode of the file.
    pub inode: u64,
    /// Mask of epoll_ctl(2), with the EPOLLERR and EPOLLHUP that the kernel adds.
    pub events: u32,
    /// The word.
    pub data: u64,
}

/// Changes the events of an item in the set that a process has as descriptor `set`, if all else of it is as in `expected`, and keeps its
/// word. The copy of the listener must have the number that it has in that process, so a thread with a table of descriptors of its own
/// does it, which loses none of ours.
pub fn change_events(process: BorrowedFd<'_>, set: i32, expected: Item, events: u32) -> Result<(), Errno> {
    let process = process.as_raw_fd();
    let work = move || {
        // SAFETY: CLONE_FILES gives this thread a table of its own. It uses only numbers that it makes itself, and `process`, which is
        // open in the copy as it was in the original; it ends without any owned descriptor that is used elsewhere.
        if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
            return Err(last_error());
        }
        let done = change_here(process, set, expected, events);
        // SAFETY: closes the descriptors of this thread's own table, so that nothing of the process is held when the caller goes on.
        unsafe { libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) };
        done
    };
    let thread = thread::Builder::new().stack_size(128 << 10).spawn(work).map_err(|_| Errno::AGAIN)?;
    thread.join().unwrap_or(Err(Errno::CANCELED))
}

/// In a thread with its own table, all of whose descriptors are closed afterwards.
fn change_here(process: i32, set: i32, expected: Item, events: u32) -> Result<(), Errno> {
    let take = |number: i32| {
        // SAFETY: pidfd_getfd takes numbers, and touches no memory.
        check(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process, number, 0) })
    };
    // Room for the read below: a number that dup2 is about to replace must not be that of a copy.
    let mut epoll = take(set)?;
    if epoll == expected.number {
        // SAFETY: F_DUPFD_CLOEXEC takes numbers.
        epoll = check(unsafe { libc::fcntl(epoll, libc::F_DUPFD_CLOEXEC, expected.number + 1) }.into())?;
    }
    let listener = take(expected.number)?;
    if listener != expected.number {
        // SAFETY: dup2 in the table of this thread alone. EBADF says here that the number is above this process's own soft limit, and not
        // that the listener is gone.
        check(unsafe { libc::dup2(listener, expected.number) }.into()).map_err(|_| Errno::MFILE)?;
        // SAFETY: closes the first copy, which this function made.
        unsafe { libc::close(listener) };
    }
    // SAFETY: all-zero bytes are a valid stat.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: `stat` is ours and of the right type.
    check(unsafe { libc::fstat(expected.number, &raw mut stat) }.into())?;
    let text = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{epoll}")).map_err(|_| Errno::NOENT)?;
    let found = items(&text).into_iter().find(|item| (item.number, item.inode) == (expected.number, stat.st_ino));
    if found != Some(expected) {
        return Err(Errno::STALE);
    }
    let mut event = libc::epoll_event { events, u64: expected.data };
    // SAFETY: `event` is ours; EPOLL_CTL_MOD reads it.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_MOD, expected.number, &raw mut event) }.into()).map(drop)
}

/// The items in the text of /proc/PID/fdinfo/SET: `tfd: 5 events: 19 data: 5 pos:0 ino:1234 sdev:8`, all but `tfd` in hex digits.
pub fn items(fdinfo: &str) -> Vec<Item> {
    let item = |line: &str| {
        let line = line.strip_prefix("tfd:")?;
        let field = |name: &str| line.split_once(name).map(|(_, rest)| rest.split_whitespace().next().unwrap_or(""));
        Some(Item {
            number: line.split_whitespace().next()?.parse().ok()?,
            events: u32::from_str_radix(field("events:")?, 16).ok()?,
            data: u64::from_str_radix(field("data:")?, 16).ok()?,
            inode: u64::from_str_radix(field("ino:")?, 16).ok()?,
        })
    };
    fdinfo.lines().filter_map(item).collect()
}

/// Have two processes the same open file as descriptor `number`? None if the kernel does not say.
pub fn share(first: u32, second: u32, number: i32) -> Option<bool> {
    const KCMP_FILE: libc::c_int = 0;
    let number = libc::c_ulong::try_from(number).ok()?;
    // SAFETY: kcmp takes numbers, and touches no memory.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, first, second, KCMP_FILE, number, number) };
    (order >= 0).then_some(order == 0)
}

fn check(answer: libc::c_long) -> Result<i32, Errno> {
    if answer < 0 { Err(last_error()) } else { Ok(i32::try_from(answer).unwrap_or(i32::MAX)) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::epoll;
    use rustix::fd::AsFd;
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    fn me() -> OwnedFd {
        pidfd_open(Pid::from_raw(std::process::id() as i32).unwrap(), PidfdFlags::empty()).unwrap()
    }

    fn items_of(set: &OwnedFd) -> Vec<Item> {
        items(&std::fs::read_to_string(format!("/proc/self/fdinfo/{}", set.as_raw_fd())).unwrap())
    }

    #[test]
    fn an_item_is_changed_only_if_it_is_what_was_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let set = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let word = epoll::EventData::new_u64(0x1234_0000_0005);
        epoll::add(&set, &listener, word, epoll::EventFlags::IN).unwrap();
        let before = items_of(&set)[0];
        assert_eq!((before.number, before.data), (listener.as_raw_fd(), 0x1234_0000_0005));
        let me = me();
        change_events(me.as_fd(), set.as_raw_fd(), before, 0).unwrap();
        let changed = items_of(&set)[0];
        assert_eq!(changed, Item { events: 0x18, ..before });
        assert_eq!(change_events(me.as_fd(), set.as_raw_fd(), before, 1), Err(Errno::STALE));
        change_events(me.as_fd(), set.as_raw_fd(), changed, before.events).unwrap();
        assert_eq!(items_of(&set), [before]);
        assert_eq!(share(std::process::id(), std::process::id(), set.as_raw_fd()), Some(true));
    }

    #[test]
    fn the_input_of_an_idle_connection_ends_and_its_output_does_not() {
        use std::io::{Read, Write};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, me) = (listener.accept().unwrap().0, me());
        let inode = fstat(&server).unwrap().st_ino;
        let number = server.as_raw_fd();
        assert!(idle(me.as_fd(), number, inode).unwrap().received < 5000);
        assert_eq!(idle(me.as_fd(), number, inode + 1), Err(Errno::BADF));
        assert_eq!(end_input(me.as_fd(), number, inode, 60_000), Ok(false), "not idle for so long");
        client.write_all(b"x").unwrap();
        while unread(&server.try_clone().unwrap().into()).unwrap() == 0 {}
        assert_eq!(end_input(me.as_fd(), number, inode, 0), Ok(false), "unread input");
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        assert_eq!(end_input(me.as_fd(), number, inode, 0), Ok(true));
        assert_eq!(server.read(&mut byte).unwrap(), 0);
        server.write_all(b"answer").unwrap();
        drop(server);
        let mut said = String::new();
        client.read_to_string(&mut said).unwrap();
        assert_eq!(said, "answer");
    }
}
