//! Sockets.

use core::ffi::c_int;
use std::io::IoSlice;

use super::{Errno, block_signals, call, close, restore_signals};

/// sendmsg(2) without address, never raising SIGPIPE, never blocking.
pub fn send_pieces(fd: c_int, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    // SAFETY: all zero bytes are a valid msghdr: no address, no pieces, no control messages.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    call!(SYS_sendmsg, fd, &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
}

/// A datagram socket that is connected to the AF_UNIX socket of this path, and does not block.
pub fn connect_datagram(path: &[u8]) -> Result<c_int, Errno> {
    // SAFETY: all zero bytes are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as _;
    // Its last byte stays zero.
    if path.len() >= address.sun_path.len() {
        return Err(libc::ENAMETOOLONG);
    }
    for (to, &from) in address.sun_path.iter_mut().zip(path) {
        *to = from as _;
    }
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let fd = call!(SYS_socket, libc::AF_UNIX, kind, 0)? as c_int;
    match call!(SYS_connect, fd, &raw const address, size_of::<libc::sockaddr_un>()) {
        Ok(_) => Ok(fd),
        Err(errno) => {
            close(fd);
            Err(errno)
        }
    }
}

/// The path of an AF_UNIX socket's peer (getpeername(2)), or of the socket itself (getsockname(2)), into `to`: the part that was filled in,
/// which is empty if it has none.
pub fn socket_path(fd: c_int, peer: bool, to: &mut [u8; 108]) -> Result<&[u8], Errno> {
    // SAFETY: all zero bytes are a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    let mut size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    if peer {
        call!(SYS_getpeername, fd, &raw mut address, &raw mut size)?;
    } else {
        call!(SYS_getsockname, fd, &raw mut address, &raw mut size)?;
    }
    if i32::from(address.sun_family) != libc::AF_UNIX {
        return Ok(&[]);
    }
    for (to, &from) in to.iter_mut().zip(&address.sun_path) {
        *to = from as u8;
    }
    Ok(to.split(|&byte| byte == 0).next().unwrap_or(&[]))
}

/// getsockopt(2) of an int of SOL_SOCKET.
fn socket_option(fd: c_int, option: c_int) -> Result<c_int, Errno> {
    let (mut value, mut size) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    call!(SYS_getsockopt, fd, libc::SOL_SOCKET, option, &raw mut value, &raw mut size)?;
    Ok(value)
}

/// getsockopt(2) SO_DOMAIN: AF_UNIX, AF_INET ...
pub fn socket_domain(fd: c_int) -> Result<c_int, Errno> {
    socket_option(fd, libc::SO_DOMAIN)
}

/// Is this a socket that clients connect to?
pub fn is_listening(fd: c_int) -> bool {
    socket_option(fd, libc::SO_ACCEPTCONN) == Ok(1)
}

/// Is this a socket with one peer: a stream that is not listening?
pub fn is_connection(fd: c_int) -> bool {
    matches!(socket_option(fd, libc::SO_TYPE), Ok(libc::SOCK_STREAM | libc::SOCK_SEQPACKET)) && !is_listening(fd)
}

/// Is this a TCP socket?
pub fn is_tcp(fd: c_int) -> bool {
    const MPTCP: c_int = 262;
    matches!(socket_option(fd, libc::SO_PROTOCOL), Ok(libc::IPPROTO_TCP | MPTCP))
}

/// getsockopt(2) TCP_INFO.
pub fn tcp_info(fd: c_int) -> Result<libc::tcp_info, Errno> {
    let mut info = core::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    call!(SYS_getsockopt, fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr(), &raw mut size)?;
    // SAFETY: all zero bytes are valid, and the kernel has filled in what it knows.
    Ok(unsafe { info.assume_init() })
}

/// What the kernel's `struct tcp_info` (linux/tcp.h) says of the data of a connection. That of libc is shorter.
#[repr(C)]
pub struct TcpTraffic {
    /// A state of tcp(7).
    pub state: u8,
    _options: [u8; 7],
    _segments: [u32; 9],
    /// Milliseconds since data was last sent, or since the connection was made.
    pub last_sent: u32,
    _acknowledged: u32,
    /// Milliseconds since data was last received, or since the connection was made.
    pub last_received: u32,
    _metrics: [u32; 24],
    /// Segments with data that were received; 0 before Linux 4.6.
    pub received: u32,
    /// Segments with data that were sent; 0 before Linux 4.6.
    pub sent: u32,
}

const _: () = assert!(core::mem::offset_of!(TcpTraffic, last_sent) == 44, "as in linux/tcp.h");
const _: () = assert!(core::mem::offset_of!(TcpTraffic, received) == 152, "as in linux/tcp.h");

/// getsockopt(2) TCP_INFO.
pub fn tcp_traffic(fd: c_int) -> Result<TcpTraffic, Errno> {
    let mut traffic = core::mem::MaybeUninit::<TcpTraffic>::zeroed();
    let mut size = size_of::<TcpTraffic>() as libc::socklen_t;
    call!(SYS_getsockopt, fd, libc::IPPROTO_TCP, libc::TCP_INFO, traffic.as_mut_ptr(), &raw mut size)?;
    // SAFETY: all zero bytes are valid, and the kernel has filled in what it knows.
    Ok(unsafe { traffic.assume_init() })
}

/// getsockopt(2) SO_RCVTIMEO in nanoseconds; 0: none.
pub fn receive_timeout(fd: c_int) -> u64 {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut size = size_of::<libc::timeval>() as libc::socklen_t;
    match call!(SYS_getsockopt, fd, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &raw mut time, &raw mut size) {
        Ok(_) => time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000,
        Err(_) => 0,
    }
}

/// getsockopt(2) SO_SNDTIMEO in nanoseconds; 0: none.
pub fn send_timeout(fd: c_int) -> Result<u64, Errno> {
    let time = send_timeval(fd)?;
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000)
}

fn send_timeval(fd: c_int) -> Result<libc::timeval, Errno> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut size = size_of::<libc::timeval>() as libc::socklen_t;
    call!(SYS_getsockopt, fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &raw mut time, &raw mut size).map(|_| time)
}

fn set_send_timeval(fd: c_int, time: libc::timeval) -> Result<(), Errno> {
    let size = size_of::<libc::timeval>();
    call!(SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &raw const time, size).map(drop)
}

/// accept4(2) of a client that is closed soon. The new socket does not block; whether this call does depends on the listener.
pub fn accept(listener: c_int) -> Result<c_int, Errno> {
    call!(SYS_accept4, listener, 0, 0, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).map(|fd| fd as c_int)
}

/// setsockopt(2) SO_LINGER: close(2) sends a reset.
pub fn reset_on_close(fd: c_int) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>();
    let _ = call!(SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_LINGER, &raw const linger, size);
}

/// Reads what a socket has received, 8 KiB at most: close(2) resets a connection of which something is unread.
pub fn drain(fd: c_int) {
    let mut scrap = [0u8; 512];
    for _ in 0..16 {
        let got = call!(SYS_recvfrom, fd, scrap.as_mut_ptr(), scrap.len(), libc::MSG_DONTWAIT, 0, 0);
        if !got.is_ok_and(|bytes| bytes == scrap.len()) {
            break;
        }
    }
}

/// ioctl(2) FIONREAD: bytes that the program has not read yet; 0 also where that is not known.
pub fn unread(fd: c_int) -> c_int {
    let mut bytes: c_int = 0;
    call!(SYS_ioctl, fd, libc::FIONREAD, &raw mut bytes).map_or(0, |_| bytes)
}

/// getpeername(2): the address as a sockaddr, cut to 28 bytes.
pub fn peer(fd: c_int) -> Result<[u8; 28], Errno> {
    let mut address = [0u8; 28];
    let mut size = address.len() as libc::socklen_t;
    call!(SYS_getpeername, fd, address.as_mut_ptr(), &raw mut size).map(|_| address)
}

/// Has this socket a peer?
pub fn is_connected(fd: c_int) -> bool {
    peer(fd).is_ok()
}

/// shutdown(2), both ways.
pub fn shut_down(fd: c_int) -> Result<(), Errno> {
    call!(SYS_shutdown, fd, libc::SHUT_RDWR).map(drop)
}

/// connect(2) of a blocking socket, for at most a tick of the kernel's clock: EINPROGRESS if it takes longer. That is done by a short
/// send timeout. No signal handler runs meanwhile, so none can jump away and leave the socket with it.
///
/// # Safety
/// `address` and `length` are what the program passed to connect(2), which has not returned.
pub unsafe fn connect_briefly(fd: c_int, address: *const libc::sockaddr, length: libc::socklen_t) -> Result<(), Errno> {
    let own = send_timeval(fd)?;
    let mask = block_signals()?;
    let connected = set_send_timeval(fd, libc::timeval { tv_sec: 0, tv_usec: 1 }).and_then(|()| {
        let connected = call!(SYS_connect, fd, address, length).map(drop);
        let _ = set_send_timeval(fd, own);
        connected
    });
    restore_signals(mask);
    connected
}

/// connect(2) to AF_UNSPEC: the socket can be connected anew, as after a connect(2) that failed.
pub fn disconnect(fd: c_int) {
    let nowhere = [0u8; 16];
    let _ = call!(SYS_connect, fd, nowhere.as_ptr(), nowhere.len());
    // Reading SO_ERROR clears it: else the program would find ECONNRESET there.
    let _ = socket_option(fd, libc::SO_ERROR);
}

/// The port that a TCP socket is bound to; 0 if it is bound to none.
pub fn local_port(fd: c_int) -> Result<u16, Errno> {
    let mut address = [0u8; 28];
    let mut size = address.len() as libc::socklen_t;
    call!(SYS_getsockname, fd, address.as_mut_ptr(), &raw mut size)?;
    Ok(u16::from_be_bytes([address[2], address[3]]))
}

/// Has this machine an address from which this IPv6 address can be reached? To find out, a UDP socket is connected, which sends nothing.
///
/// # Safety
/// `address` and `length` are what the program passed to connect(2), which has not returned.
pub unsafe fn has_source_for(address: *const libc::sockaddr, length: libc::socklen_t) -> bool {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    call!(SYS_socket, libc::AF_INET6, kind, 0).is_ok_and(|fd| {
        let connected = call!(SYS_connect, fd, address, length);
        close(fd as c_int);
        connected.is_ok()
    })
}
