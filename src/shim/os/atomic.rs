//! The atomics of the files that a loom test compiles, too, with loom's atomics in the place of these (tests/).

#![forbid(unsafe_code)]

pub use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
