//! System calls that arm64 has never had: a program can't make them, so their names stand for numbers that no system call has.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(unused))]

use core::ffi::c_long;

/// open(2).
pub const OPEN: c_long = c_long::MIN;
/// creat(2).
pub const CREAT: c_long = c_long::MIN + 1;
/// epoll_create(2).
pub const EPOLL_CREATE: c_long = c_long::MIN + 2;
/// eventfd(2), which has no flags.
pub const EVENTFD: c_long = c_long::MIN + 3;
/// signalfd(2), which has no flags.
pub const SIGNALFD: c_long = c_long::MIN + 4;
/// inotify_init(2).
pub const INOTIFY_INIT: c_long = c_long::MIN + 5;
/// pipe(2).
pub const PIPE: c_long = c_long::MIN + 6;
/// epoll_wait(2).
pub const EPOLL_WAIT: c_long = c_long::MIN + 7;
/// poll(2).
pub const POLL: c_long = c_long::MIN + 8;
