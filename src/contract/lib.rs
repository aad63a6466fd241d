//! What libtideover.so and its readers agree on: the layout of the shared page ([`page`]), the settings
//! ([`settings`]), the runtimes whose garbage is collected ([`collection`]), and the pattern language that both use ([`glob`]).
//!
//! Tables only. No hooks, no allocation, no system call; the C header, the JSON of `tideover stat` and the documents are
//! derived from these tables or checked against them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod collection;
#[cfg(test)]
mod docs;
pub mod glob;
#[cfg(test)]
mod header;
pub mod page;
pub mod refusal;
pub mod select;
pub mod settings;
