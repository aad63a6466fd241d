//! Starting a program with the library: can it be preloaded into it, and with which LD_PRELOAD.
#![forbid(unsafe_code)]

pub mod check;
pub mod library;
pub mod preload;
pub mod sanitizer;
