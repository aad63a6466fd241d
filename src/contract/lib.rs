//! What libtideover.so and its readers agree on, each fact once:
//!
//! | module | says |
//! |---|---|
//! | [`page`] | the layout of the shared page, its counters and its events |
//! | [`settings`] | the settings: names, values, defaults, words |
//! | [`select`] | how far a soft limit may be raised |
//! | [`log_name`] | what logs are called |
//! | [`rule`] | which files are logs |
//! | [`stream`] | which standard streams carry messages |
//! | [`refusal`] | why a file is not taken for a log |
//! | [`ballast`] | the file of `tideover ballast`, which keeps space for a full disk |
//! | [`collection`] | the runtimes whose garbage is collected, and why one was not |
//! | [`policy`] | the policy file of the machine |
//! | [`glob`] | the pattern language of lists of names |
//! | [`hash`] | the hash of the library's tables |
//! | [`random`] | numbers for tests |
//! | [`hold`] | the file that keeps diverted lines until they are put back |
//!
//! No hooks, no allocation, no system call, no unsafe code. The C header, the JSON of `tideover stat` and the documents are
//! made from these tables or compared with them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod ballast;
pub mod collection;
#[cfg(test)]
mod docs;
pub mod glob;
pub mod hash;
#[cfg(test)]
mod header;
pub mod hold;
pub mod log_name;
pub mod page;
pub mod policy;
pub mod random;
pub mod refusal;
pub mod rule;
pub mod select;
pub mod settings;
pub mod stream;
