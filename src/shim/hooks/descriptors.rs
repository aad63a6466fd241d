//! Descriptors that are not opened by name: copies, pipes, event sources, terminals.

use core::ffi::{c_char, c_int, c_long, c_uint};

use libc::{sigset_t, termios, winsize};

use super::{blocking, descriptor, hooks, pair, through};
use crate::engine::call::Call;
use crate::features::logs::copies;
use crate::state::{descriptors, page};

hooks! {
    dup(fd: c_int) -> c_int = copying(fd);
    dup2(fd: c_int, to: c_int) -> c_int = onto(fd, to);
    __dup2(fd: c_int, to: c_int) -> c_int = onto(fd, to);
    dup3(fd: c_int, to: c_int, flags: c_int) -> c_int = onto(fd, to);
    fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int = control(fd, command);
    fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int = control(fd, command);
    __fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int = control(fd, command);
    pipe(fds: *mut c_int) -> c_int = pair(fds);
    __pipe(fds: *mut c_int) -> c_int = pair(fds);
    pipe2(fds: *mut c_int, flags: c_int) -> c_int = pair(fds) if blocking(flags);
    epoll_create(size: c_int) -> c_int = set();
    epoll_create1(flags: c_int) -> c_int = set();
    eventfd(initial: c_uint, flags: c_int) -> c_int = descriptor() if blocking(flags);
    signalfd(fd: c_int, mask: *const sigset_t, flags: c_int) -> c_int = descriptor() if blocking(flags);
    timerfd_create(clock: c_int, flags: c_int) -> c_int = descriptor() if blocking(flags);
    inotify_init() -> c_int = descriptor();
    inotify_init1(flags: c_int) -> c_int = descriptor() if blocking(flags);
    fanotify_init(flags: c_uint, event_flags: c_uint) -> c_int = descriptor() if flags & libc::FAN_NONBLOCK == 0;
    memfd_create(name: *const c_char, flags: c_uint) -> c_int = descriptor();
    pidfd_open(pid: c_int, flags: c_uint) -> c_int = descriptor() if blocking(flags as c_int);
    pidfd_getfd(pidfd: c_int, fd: c_int, flags: c_uint) -> c_int = descriptor();
    fsopen(name: *const c_char, flags: c_uint) -> c_int = descriptor();
    fsmount(fd: c_int, flags: c_uint, attributes: c_uint) -> c_int = descriptor();
    fspick(at: c_int, path: *const c_char, flags: c_uint) -> c_int = descriptor();
    posix_openpt(flags: c_int) -> c_int = descriptor() if blocking(flags);
    getpt() -> c_int = descriptor();
    openpty(master: *mut c_int, slave: *mut c_int, name: *mut c_char, modes: *const termios, size: *const winsize) -> c_int
        = terminal(master, slave);
    forkpty(master: *mut c_int, name: *mut c_char, modes: *const termios, size: *const winsize) -> c_int = forked(master);
    prctl(option: c_int, a: c_long, b: c_long, c: c_long, d: c_long) -> c_int = process_control(option);
}

/// dup2(2) and dup3(2): the host names the number, so that EMFILE and EBADF from them mean "too high", which no waiting mends.
#[inline(always)]
unsafe fn onto(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, from: c_int, to: c_int) -> c_int {
    if from == to {
        return real();
    }
    copies::before_replacing(to);
    let replaced = descriptors::take(to);
    let fd = real();
    if fd >= 0 {
        page::replaced();
        descriptors::copy(from, fd);
    } else if replaced != 0 {
        descriptors::put_back(to, replaced);
    }
    fd
}

/// A copy at a number of the kernel's choice.
#[inline(always)]
unsafe fn copying(call: impl Fn() -> Call, real: impl FnMut() -> c_int, from: c_int) -> c_int {
    // SAFETY: as the caller promised.
    let fd = unsafe { descriptor(call, real) };
    if fd >= 0 {
        descriptors::copy(from, fd);
    }
    fd
}

/// An epoll set.
#[inline(always)]
unsafe fn set(call: impl Fn() -> Call, real: impl FnMut() -> c_int) -> c_int {
    // SAFETY: as the caller promised.
    let fd = unsafe { descriptor(call, real) };
    if fd >= 0 {
        descriptors::classify(fd, descriptors::EPOLL);
    }
    fd
}

/// fcntl(2): only the commands that make a copy.
#[inline(always)]
unsafe fn control(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int, command: c_int) -> c_int {
    match command {
        // SAFETY: as the caller promised.
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => unsafe { copying(call, real, fd) },
        _ => real(),
    }
}

/// openpty(3): two descriptors, at two addresses.
#[inline(always)]
unsafe fn terminal(
    call: impl Fn() -> Call,
    real: impl FnMut() -> c_int,
    master: *mut c_int,
    slave: *mut c_int,
) -> c_int {
    // SAFETY: as the caller promised; on success both are filled in.
    unsafe {
        let answer = super::whole(|| Call { needs_several: true, ..call() }, real);
        if answer == 0 {
            page::opened(*master);
            page::opened(*slave);
        }
        answer
    }
}

/// forkpty(3): fails before it forks; the parent gets one descriptor.
#[inline(always)]
unsafe fn forked(call: impl Fn() -> Call, real: impl FnMut() -> c_int, master: *mut c_int) -> c_int {
    // SAFETY: as the caller promised; on success the parent's is filled in.
    unsafe {
        let answer = super::whole(|| Call { needs_several: true, ..call() }, real);
        if answer > 0 {
            page::opened(*master);
        }
        answer
    }
}

/// prctl(2): a host that installs a seccomp filter has counted its own system calls, not ours.
#[inline(always)]
unsafe fn process_control(call: impl Fn() -> Call, real: impl FnMut() -> c_int, option: c_int) -> c_int {
    if option == libc::PR_SET_SECCOMP {
        super::sandbox::before();
    }
    // SAFETY: as the caller promised.
    let answer = unsafe { through(call, real) };
    if option == libc::PR_SET_SECCOMP {
        super::sandbox::after(answer == 0);
    }
    answer
}
