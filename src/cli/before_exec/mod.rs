//! What the command does before Rust's start-up and between fork(2) and execve(2), leases, locks, and the descriptors of other processes.
//! No other folder has unsafe code.
#![allow(unsafe_code)]

pub mod byte_lock;
pub mod chroot;
pub mod foreign;
pub mod lease;
pub mod rust_startup;
