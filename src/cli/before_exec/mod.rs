//! What the command does before Rust's start-up and between fork(2) and execve(2). No other folder has unsafe code.
#![allow(unsafe_code)]

pub mod chroot;
pub mod rust_startup;
