//! Descriptors that are not opened by name: copies, pipes, event sources, terminals.

use core::ffi::{c_char, c_int, c_long, c_uint};

use libc::{sigset_t, termios, winsize};

use super::hooks;
use super::kinds::{blocking, descriptor, pair, through, whole};
use super::sandbox;
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

/// dup2(2) and dup3(2): the program names the number, so EMFILE and EBADF from them mean "too high", which no waiting mends.
#[inline(always)]
fn onto(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, from: c_int, to: c_int) -> c_int {
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
        descriptors::undo_take(to, replaced);
    }
    fd
}

/// A copy of `from` at a number that the kernel chooses.
#[inline(always)]
fn copying(call: impl Fn() -> Call, real: impl FnMut() -> c_int, from: c_int) -> c_int {
    let fd = descriptor(call, real);
    if fd >= 0 {
        descriptors::copy(from, fd);
    }
    fd
}

/// A new epoll set.
#[inline(always)]
fn set(call: impl Fn() -> Call, real: impl FnMut() -> c_int) -> c_int {
    let fd = descriptor(call, real);
    if fd >= 0 {
        descriptors::classify(fd, descriptors::EPOLL);
    }
    fd
}

/// fcntl(2), of which only the commands that make a copy matter.
#[inline(always)]
fn control(call: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int, command: c_int) -> c_int {
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => copying(call, real, fd),
        _ => real(),
    }
}

/// openpty(3): two descriptors, at two addresses.
///
/// # Safety
/// Once `real` has returned 0, a number can be read at both.
#[inline(always)]
unsafe fn terminal(
    call: impl Fn() -> Call,
    real: impl FnMut() -> c_int,
    master: *mut c_int,
    slave: *mut c_int,
) -> c_int {
    let answer = whole(|| Call { needs_several: true, ..call() }, real);
    if answer == 0 {
        // SAFETY: `real` has succeeded, so the caller promises both.
        unsafe {
            page::opened(*master);
            page::opened(*slave);
        }
    }
    answer
}

/// forkpty(3): when it fails for lack of descriptors, it has not forked yet. The parent gets one descriptor.
///
/// # Safety
/// Once `real` has returned more than 0, a number can be read at `master`.
#[inline(always)]
unsafe fn forked(call: impl Fn() -> Call, real: impl FnMut() -> c_int, master: *mut c_int) -> c_int {
    let answer = whole(|| Call { needs_several: true, ..call() }, real);
    if answer > 0 {
        // SAFETY: `real` has succeeded in the parent, so the caller promises it.
        page::opened(unsafe { *master });
    }
    answer
}

/// prctl(2): a program that installs a seccomp filter has allowed for its own system calls, not for the library's.
#[inline(always)]
fn process_control(call: impl Fn() -> Call, real: impl FnMut() -> c_int, option: c_int) -> c_int {
    if option == libc::PR_SET_SECCOMP {
        sandbox::before();
    }
    let answer = through(call, real);
    if option == libc::PR_SET_SECCOMP {
        sandbox::after(answer == 0);
    }
    answer
}
