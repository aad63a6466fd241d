//! Numbers of the system calls that newer architectures lack. Programs make them by syscall(2); the library itself makes none of them.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(unused))]

use core::ffi::c_long;

/// open(2).
pub const OPEN: c_long = libc::SYS_open;
/// creat(2).
pub const CREAT: c_long = libc::SYS_creat;
/// epoll_create(2).
pub const EPOLL_CREATE: c_long = libc::SYS_epoll_create;
/// eventfd(2), which has no flags.
pub const EVENTFD: c_long = libc::SYS_eventfd;
/// signalfd(2), which has no flags.
pub const SIGNALFD: c_long = libc::SYS_signalfd;
/// inotify_init(2).
pub const INOTIFY_INIT: c_long = libc::SYS_inotify_init;
/// pipe(2).
pub const PIPE: c_long = libc::SYS_pipe;
/// epoll_wait(2).
pub const EPOLL_WAIT: c_long = libc::SYS_epoll_wait;
/// poll(2).
pub const POLL: c_long = libc::SYS_poll;
