//! The system calls that the library makes itself, all on cold paths. Typed, errno as a value; see [`crate::arch::syscall`].

use crate::arch::{self, syscall};
use crate::os::elf;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use libc::{c_int, c_long, c_short, c_uint, c_void, rlimit, timespec};

/// An errno.
pub type Errno = c_int;

fn answer(raw: isize) -> Result<usize, Errno> {
    if (-4095..0).contains(&raw) { Err(-raw as Errno) } else { Ok(raw as usize) }
}

macro_rules! call {
    ($number:ident $(, $arg:expr)*) => {{
        let given = [$($arg as usize),*];
        let mut args = [0usize; 6];
        args[..given.len()].copy_from_slice(&given);
        // SAFETY: each function below passes what its man page asks for; pointers come from references that outlive the call.
        answer(unsafe { syscall(libc::$number as c_long, args) })
    }};
}

/// The host's errno.
pub fn errno() -> Errno {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() }
}

/// Sets the host's errno.
pub fn set_errno(errno: Errno) {
    // SAFETY: errno is this thread's.
    unsafe { *libc::__errno_location() = errno };
}

/// getpid(2), from the kernel: libc may cache it, and a vfork child shares libc's memory.
pub fn getpid() -> c_int {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_getpid, [0; 6]) as c_int }
}

/// getppid(2).
pub fn getppid() -> c_int {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_getppid, [0; 6]) as c_int }
}

/// gettid(2).
pub fn gettid() -> c_int {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_gettid, [0; 6]) as c_int }
}

/// prctl(2) PR_GET_NAME: the calling thread's name, padded with zeros.
pub fn thread_name() -> Result<[u8; 16], Errno> {
    let mut name = [0; 16];
    call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr())?;
    Ok(name)
}

/// Does this process have a thread of this number?
pub fn has_thread(tid: c_int) -> bool {
    call!(SYS_tgkill, getpid(), tid, 0) != Err(libc::ESRCH)
}

/// geteuid(2).
pub fn geteuid() -> c_uint {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_geteuid, [0; 6]) as c_uint }
}

/// openat(2) from the working directory; the path is absolute everywhere in this library.
pub fn open(path: &CStr, flags: c_int, mode: c_uint) -> Result<c_int, Errno> {
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode).map(|fd| fd as c_int)
}

/// close(2).
pub fn close(fd: c_int) {
    let _ = call!(SYS_close, fd);
}

/// write(2), once.
pub fn write(fd: c_int, bytes: &[u8]) -> Result<usize, Errno> {
    call!(SYS_write, fd, bytes.as_ptr(), bytes.len())
}

/// write(2), once, of what a host passed.
pub fn write_raw(fd: c_int, data: *const c_void, count: usize) -> Result<usize, Errno> {
    call!(SYS_write, fd, data, count)
}

/// Writes to a pipe what it takes at once; neither blocks nor raises SIGPIPE. EOPNOTSUPP before Linux 6.18.
pub fn write_now(fd: c_int, data: *const c_void, count: usize) -> Result<usize, Errno> {
    const RWF_NOSIGNAL: c_int = 0x100;
    let vector = libc::iovec { iov_base: data.cast_mut(), iov_len: count };
    call!(SYS_pwritev2, fd, &raw const vector, 1, -1isize, -1isize, libc::RWF_NOWAIT | RWF_NOSIGNAL)
}

/// Can these bytes be read? A host may pass a bad pointer, and expects EFAULT, not a crash. Asked by rt_sigprocmask(2) with an
/// operation that does not exist: it reads eight bytes, and then fails with EINVAL.
pub fn is_readable(data: *const c_void, length: usize) -> bool {
    const PAGE: usize = 4096;
    const NO_OPERATION: c_int = 99;
    let (start, end) = (data as usize, (data as usize).saturating_add(length));
    // To rt_sigprocmask(2), NULL is no set at all.
    let readable = |at: usize| at >= 8 && call!(SYS_rt_sigprocmask, NO_OPERATION, at & !7, 0, 8) != Err(libc::EFAULT);
    length == 0 || (readable(start) && (start / PAGE + 1..=(end - 1) / PAGE).all(|page| readable(page * PAGE)))
}

/// sigaltstack(2): where the signal stack ends that the caller is on; None if it is on none.
pub fn alternate_stack() -> Option<usize> {
    let mut stack = core::mem::MaybeUninit::<libc::stack_t>::zeroed();
    call!(SYS_sigaltstack, 0, stack.as_mut_ptr()).ok()?;
    // SAFETY: the kernel has filled it in.
    let stack = unsafe { stack.assume_init() };
    (stack.ss_flags & libc::SS_ONSTACK != 0).then_some(stack.ss_sp as usize)
}

/// sendto(2) without address, never raising SIGPIPE, never blocking.
pub fn send(fd: c_int, bytes: &[u8]) -> Result<usize, Errno> {
    call!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT, 0, 0)
}

/// fstat(2).
pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_fstat, fd, status.as_mut_ptr())?;
    // SAFETY: all zero bytes are a valid stat, and the kernel has filled it in.
    Ok(unsafe { status.assume_init() })
}

/// stat(2), or lstat(2).
pub fn stat(path: &CStr, follow: bool) -> Result<libc::stat, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    call!(SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), status.as_mut_ptr(), flags)?;
    // SAFETY: as in fstat.
    Ok(unsafe { status.assume_init() })
}

/// Bytes of a filesystem.
pub struct Filesystem {
    /// In all.
    pub total: u64,
    /// Free for this user.
    pub available: u64,
    /// In no file.
    pub unused: u64,
    /// Magic number of its kind.
    pub kind: i64,
}

/// fstatfs(2).
pub fn filesystem(fd: c_int) -> Result<Filesystem, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::statfs>::zeroed();
    call!(SYS_fstatfs, fd, status.as_mut_ptr())?;
    // SAFETY: as in fstat.
    let status = unsafe { status.assume_init() };
    // Blocks are counted in fragments where these differ.
    let unit = if status.f_frsize > 0 { status.f_frsize } else { status.f_bsize } as u64;
    Ok(Filesystem {
        total: status.f_blocks.saturating_mul(unit),
        available: status.f_bavail.saturating_mul(unit),
        unused: status.f_bfree.saturating_mul(unit),
        kind: status.f_type,
    })
}

/// readlink(2) into `to`: the part that was filled in.
pub fn read_link<'a>(path: &CStr, to: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let length = call!(SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), to.as_mut_ptr(), to.len())?;
    Ok(to.get(..length).unwrap_or(&[]))
}

/// pread(2) into `to`: the part that was filled in.
pub fn read_at(fd: c_int, to: &mut [u8], offset: u64) -> Result<&[u8], Errno> {
    let length = call!(SYS_pread64, fd, to.as_mut_ptr(), to.len(), offset)?;
    Ok(to.get(..length).unwrap_or(&[]))
}

/// pwrite(2), once.
pub fn write_at(fd: c_int, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    call!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), offset)
}

/// ftruncate(2).
pub fn truncate(fd: c_int, length: u64) -> Result<(), Errno> {
    call!(SYS_ftruncate, fd, length).map(drop)
}

/// getdents64(2): the part of `to` that was filled in.
pub fn read_directory(fd: c_int, to: &mut [u8]) -> Result<&[u8], Errno> {
    let length = call!(SYS_getdents64, fd, to.as_mut_ptr(), to.len())?;
    Ok(to.get(..length).unwrap_or(&[]))
}

/// memfd_create(2), to be sealed.
pub fn memory_file(name: &CStr, close_on_exec: bool) -> Result<c_int, Errno> {
    let flags = libc::MFD_ALLOW_SEALING | if close_on_exec { libc::MFD_CLOEXEC } else { 0 };
    call!(SYS_memfd_create, name.as_ptr(), flags).map(|fd| fd as c_int)
}

/// fcntl(2) F_ADD_SEALS: no writes any more.
pub fn seal(fd: c_int) -> Result<(), Errno> {
    call!(SYS_fcntl, fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE | libc::F_SEAL_GROW).map(drop)
}

/// fchmod(2).
pub fn change_mode(fd: c_int, mode: c_uint) -> Result<(), Errno> {
    call!(SYS_fchmod, fd, mode).map(drop)
}

/// fcntl(2) F_SETFL.
pub fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), Errno> {
    call!(SYS_fcntl, fd, libc::F_SETFL, flags).map(drop)
}

/// dup3(2).
pub fn duplicate_onto(fd: c_int, to: c_int, close_on_exec: bool) -> Result<(), Errno> {
    call!(SYS_dup3, fd, to, if close_on_exec { libc::O_CLOEXEC } else { 0 }).map(drop)
}

/// fcntl(2) F_DUPFD_CLOEXEC.
pub fn duplicate(fd: c_int, lowest: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, lowest).map(|fd| fd as c_int)
}

/// getsockopt(2) of an int of SOL_SOCKET.
fn socket_option(fd: c_int, option: c_int) -> Result<c_int, Errno> {
    let (mut value, mut size) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    call!(SYS_getsockopt, fd, libc::SOL_SOCKET, option, &raw mut value, &raw mut size)?;
    Ok(value)
}

/// AF_UNIX, AF_INET ...
pub fn socket_domain(fd: c_int) -> Result<c_int, Errno> {
    socket_option(fd, libc::SO_DOMAIN)
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

/// accept4(2) of somebody who is not to stay; non-blocking is what is accepted, not the listener.
pub fn accept(listener: c_int) -> Result<c_int, Errno> {
    call!(SYS_accept4, listener, 0, 0, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).map(|fd| fd as c_int)
}

/// setsockopt(2) SO_LINGER: close(2) sends a reset.
pub fn reset_on_close(fd: c_int) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let size = size_of::<libc::linger>();
    let _ = call!(SYS_setsockopt, fd, libc::SOL_SOCKET, libc::SO_LINGER, &raw const linger, size);
}

/// Reads what has come at a socket, a few KiB at most: close(2) resets a connection with something unread.
pub fn drain(fd: c_int) {
    let mut scrap = [0u8; 512];
    for _ in 0..16 {
        let got = call!(SYS_recvfrom, fd, scrap.as_mut_ptr(), scrap.len(), libc::MSG_DONTWAIT, 0, 0);
        if !got.is_ok_and(|bytes| bytes == scrap.len()) {
            break;
        }
    }
}

/// epoll_ctl(2).
pub fn epoll_control(
    epoll: c_int,
    operation: c_int,
    fd: c_int,
    event: Option<&libc::epoll_event>,
) -> Result<(), Errno> {
    let event = event.map_or(core::ptr::null(), core::ptr::from_ref);
    call!(SYS_epoll_ctl, epoll, operation, fd, event).map(drop)
}

/// Has this process a thread of this number? tgkill(2) with no signal.
pub fn is_thread(tid: c_int) -> bool {
    call!(SYS_tgkill, getpid(), tid, 0) != Err(libc::ESRCH)
}

/// Is there a process of this number? kill(2) with no signal.
pub fn is_alive(pid: c_int) -> bool {
    call!(SYS_kill, pid, 0) != Err(libc::ESRCH)
}

/// rt_sigprocmask(2): blocks all signals in this thread; the mask that was.
pub fn block_signals() -> Result<u64, Errno> {
    block(u64::MAX)
}

/// rt_sigprocmask(2): blocks all signals in this thread but those that a fault of its own raises: the kernel ends a process that blocks
/// these. Returns the mask that was.
pub fn block_signals_but_faults() -> Result<u64, Errno> {
    block(without(u64::MAX, &FAULTS))
}

/// As [`block_signals_but_faults`], and without the two by which libc cancels threads and sets their ids. Returns the mask that was.
pub fn block_handlers() -> Result<u64, Errno> {
    const CANCEL: [c_int; 2] = [32, 33];
    block(without(without(u64::MAX, &FAULTS), &CANCEL))
}

const FAULTS: [c_int; 7] =
    [libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];

fn without(set: u64, signals: &[c_int]) -> u64 {
    signals.iter().fold(set, |set, signal| set & !(1 << (signal - 1)))
}

/// Of these, too: what is blocked stays blocked.
fn block(signals: u64) -> Result<u64, Errno> {
    let mut mask = 0u64;
    call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const signals, &raw mut mask, 8).map(|_| mask)
}

/// Undoes [`block_signals`] and [`block_handlers`].
pub fn restore_signals(mask: u64) {
    let _ = call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0, 8);
}

/// Is this a socket that clients connect to?
pub fn is_listening(fd: c_int) -> bool {
    socket_option(fd, libc::SO_ACCEPTCONN) == Ok(1)
}

/// Is this a socket with one peer: a stream that is not listening?
pub fn is_connection(fd: c_int) -> bool {
    matches!(socket_option(fd, libc::SO_TYPE), Ok(libc::SOCK_STREAM | libc::SOCK_SEQPACKET)) && !is_listening(fd)
}

/// RLIMIT_FSIZE, bytes: a write past it is SIGXFSZ.
pub fn file_size_limit() -> u64 {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    match call!(SYS_prlimit64, 0, libc::RLIMIT_FSIZE, 0, &raw mut limit) {
        Ok(_) => limit.rlim_cur,
        Err(_) => 0,
    }
}

/// mkdir(2).
pub fn mkdir(path: &CStr, mode: c_uint) -> Result<(), Errno> {
    call!(SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), mode).map(drop)
}

/// unlink(2).
pub fn unlink(path: &CStr) -> Result<(), Errno> {
    call!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0).map(drop)
}

/// Writes `content` at the start of a file. Allocates as fallocate(2) would, 4 us faster on a tmpfs.
pub fn fill<T>(fd: c_int, content: &T) -> Result<(), Errno> {
    match call!(SYS_pwrite64, fd, &raw const *content, size_of::<T>(), 0) {
        Ok(written) if written < size_of::<T>() => Err(libc::ENOSPC),
        other => other.map(drop),
    }
}

/// mmap(2) of a whole file, shared and writable.
pub fn map_shared(fd: c_int, length: usize, instead: *mut c_void) -> Result<*mut c_void, Errno> {
    let flags = libc::MAP_SHARED | if instead.is_null() { 0 } else { libc::MAP_FIXED };
    call!(SYS_mmap, instead, length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0).map(|p| p as *mut c_void)
}

/// mmap(2) of fresh memory, zeroed.
pub fn map_private(length: usize) -> Result<*mut c_void, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call!(SYS_mmap, 0, length, libc::PROT_READ | libc::PROT_WRITE, flags, usize::MAX, 0).map(|p| p as *mut c_void)
}

/// munmap(2) of what [`map_private`] returned.
pub fn unmap(address: *mut c_void, length: usize) {
    let _ = call!(SYS_munmap, address, length);
}

/// mprotect(2).
pub fn protect(address: usize, length: usize, how: c_int) -> Result<(), Errno> {
    call!(SYS_mprotect, address, length, how).map(drop)
}

/// fcntl(2) F_GETFL.
pub fn status_flags(fd: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_GETFL, 0).map(|flags| flags as c_int)
}

/// fcntl(2) F_GETSIG: a number that belongs to the open file, and means nothing for a regular one. The cheapest question of all that
/// has to do with the file behind a descriptor.
pub fn signal_number(fd: c_int) -> Result<c_int, Errno> {
    const F_GETSIG: c_int = 11;
    call!(SYS_fcntl, fd, F_GETSIG, 0).map(|signal| signal as c_int)
}

/// fcntl(2) F_GETLEASE.
pub fn lease(fd: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_GETLEASE, 0).map(|kind| kind as c_int)
}

/// fcntl(2) F_SETSIG.
pub fn set_signal_number(fd: c_int, signal: c_int) -> Result<(), Errno> {
    const F_SETSIG: c_int = 10;
    call!(SYS_fcntl, fd, F_SETSIG, signal).map(|_| ())
}

/// fcntl(2) F_GETFD.
pub fn descriptor_flags(fd: c_int) -> Result<c_int, Errno> {
    call!(SYS_fcntl, fd, libc::F_GETFD, 0).map(|flags| flags as c_int)
}

/// poll(2) without waiting: how many of these have something to say.
pub fn poll_now(fds: &mut [libc::pollfd]) -> Result<usize, Errno> {
    poll_for(fds, 0)
}

/// poll(2) for so many milliseconds.
pub fn poll_for(fds: &mut [libc::pollfd], milliseconds: c_int) -> Result<usize, Errno> {
    call!(SYS_poll, fds.as_mut_ptr(), fds.len(), milliseconds)
}

/// A pollfd.
pub fn pollfd(fd: c_int, events: c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Is this a socket of TCP?
pub fn is_tcp(fd: c_int) -> bool {
    const MPTCP: c_int = 262;
    let (mut protocol, mut size) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    let asked = call!(SYS_getsockopt, fd, libc::SOL_SOCKET, libc::SO_PROTOCOL, &raw mut protocol, &raw mut size);
    asked.is_ok() && (protocol == libc::IPPROTO_TCP || protocol == MPTCP)
}

/// getsockopt(2) TCP_INFO.
pub fn tcp_info(fd: c_int) -> Result<libc::tcp_info, Errno> {
    let mut info = core::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of::<libc::tcp_info>() as libc::socklen_t;
    call!(SYS_getsockopt, fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr(), &raw mut size)?;
    // SAFETY: all zero bytes are valid, and the kernel has filled in what it knows.
    Ok(unsafe { info.assume_init() })
}

/// shutdown(2), both ways.
pub fn shut_down(fd: c_int) -> Result<(), Errno> {
    call!(SYS_shutdown, fd, libc::SHUT_RDWR).map(drop)
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

/// connect(2) of a blocking socket, for at most a tick of the kernel's clock: EINPROGRESS if it takes longer. No signal handler runs
/// meanwhile, so that none can leave the socket with that for a send timeout.
pub fn connect_briefly(fd: c_int, address: *const libc::sockaddr, length: libc::socklen_t) -> Result<(), Errno> {
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

/// connect(2) to nowhere: as after a connect that failed, the socket can be used for another one.
pub fn disconnect(fd: c_int) {
    let nowhere = [0u8; 16];
    let _ = call!(SYS_connect, fd, nowhere.as_ptr(), nowhere.len());
    // Else the host would find ECONNRESET there.
    let (mut error, mut size) = (0 as c_int, size_of::<c_int>() as libc::socklen_t);
    let _ = call!(SYS_getsockopt, fd, libc::SOL_SOCKET, libc::SO_ERROR, &raw mut error, &raw mut size);
}

/// Port that a socket of TCP is bound to; 0: none.
pub fn local_port(fd: c_int) -> Result<u16, Errno> {
    let mut address = [0u8; 28];
    let mut size = address.len() as libc::socklen_t;
    call!(SYS_getsockname, fd, address.as_mut_ptr(), &raw mut size)?;
    Ok(u16::from_be_bytes([address[2], address[3]]))
}

/// Has this machine an address from which this one of IPv6 can be reached? Asked by connecting a socket of UDP, which sends nothing.
pub fn has_source_for(address: *const libc::sockaddr, length: libc::socklen_t) -> bool {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    call!(SYS_socket, libc::AF_INET6, kind, 0).is_ok_and(|fd| {
        let connected = call!(SYS_connect, fd, address, length);
        close(fd as c_int);
        connected.is_ok()
    })
}

/// This process's RLIMIT_NOFILE.
pub fn descriptor_limit(pid: c_int) -> Result<rlimit, Errno> {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    call!(SYS_prlimit64, pid, libc::RLIMIT_NOFILE, 0, &raw mut limit)?;
    Ok(limit)
}

/// Sets RLIMIT_NOFILE of a process; 0 is this one.
pub fn set_descriptor_limit(pid: c_int, limit: rlimit) -> Result<(), Errno> {
    call!(SYS_prlimit64, pid, libc::RLIMIT_NOFILE, &raw const limit, 0).map(drop)
}

/// clock_gettime(2) in nanoseconds; 0 if the clock does not exist. Not libc's: libfaketime and its like move that one. By the kernel's
/// own function in this process, a twentieth of a system call, where there is one.
pub fn clock(which: libc::clockid_t) -> u64 {
    type Read = unsafe extern "C" fn(libc::clockid_t, *mut timespec) -> c_int;
    const NAME: elf::Name = elf::Name::new(arch::CLOCK_GETTIME);
    const NONE: usize = 1;
    /// Its address; 0: not looked for yet.
    static READ: AtomicUsize = AtomicUsize::new(0);
    let mut read = READ.load(Relaxed);
    if read == 0 {
        read = elf::of_kernel(&NAME).unwrap_or(NONE);
        READ.store(read, Relaxed);
    }
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the function of this name has this type.
    let known = read != NONE && unsafe { core::mem::transmute::<usize, Read>(read)(which, &raw mut now) } == 0;
    match known || call!(SYS_clock_gettime, which, &raw mut now).is_ok() {
        true => now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64,
        false => 0,
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// sched_yield(2).
pub fn yield_now() {
    // SAFETY: takes no arguments, can't fail.
    unsafe { syscall(libc::SYS_sched_yield, [0; 6]) };
}

/// futex(2) FUTEX_WAIT: sleeps while the word holds `value`, at most so many nanoseconds.
pub fn futex_wait(word: &AtomicU32, value: u32, nanoseconds: u64) -> Result<(), Errno> {
    let timeout = timespec_of(nanoseconds);
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    call!(SYS_futex, word.as_ptr(), operation, value, &raw const timeout, 0, 0).map(drop)
}

fn timespec_of(nanoseconds: u64) -> timespec {
    timespec { tv_sec: (nanoseconds / 1_000_000_000) as i64, tv_nsec: (nanoseconds % 1_000_000_000) as i64 }
}

/// ppoll(2) of nothing: sleeps for so many nanoseconds with this mask of signals. EINTR: a handler ran, also for a signal that has
/// come before.
pub fn sleep_with_mask(nanoseconds: u64, mask: u64) -> Result<(), Errno> {
    let timeout = timespec_of(nanoseconds);
    let slept = call!(SYS_ppoll, 0, 0, &raw const timeout, &raw const mask, 8).map(drop);
    if !matches!(slept, Ok(()) | Err(libc::EINTR)) {
        sleep(nanoseconds);
    }
    slept
}

/// Sleeps for so many nanoseconds, or until a signal comes.
pub fn sleep(nanoseconds: u64) {
    let _ = futex_wait(&AtomicU32::new(0), 0, nanoseconds);
}

/// futex(2) FUTEX_WAKE: how many threads were woken, at most `most`.
pub fn futex_wake(word: &AtomicU32, most: c_int) -> usize {
    call!(SYS_futex, word.as_ptr(), libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, most).unwrap_or(0)
}

/// Has this signal a handler that wants blocked calls interrupted (no SA_RESTART)?
pub fn interrupts(signal: c_int) -> bool {
    let mut action = arch::KernelAction::new();
    call!(SYS_rt_sigaction, signal, 0, &raw mut action, 8).is_ok()
        && action.handler != libc::SIG_DFL
        && action.handler != libc::SIG_IGN
        && action.flags & libc::SA_RESTART as u64 == 0
}
