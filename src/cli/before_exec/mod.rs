//! What a child process does between fork(2) and execve(2). The only folder of the command with unsafe code.
#![allow(unsafe_code)]

pub mod chroot;
pub mod rust_startup;
