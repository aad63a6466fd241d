//! The shared pages of guarded processes: finding and reading them, and what they say.
#![forbid(unsafe_code)]

pub mod belief;
mod containers;
pub mod events;
pub mod folder;
pub mod hold_log;
pub mod holds;
pub mod lifetime;
mod log_lock;
pub mod lookup;
pub mod obtainable;
pub mod snapshot;
pub mod without_page;

#[cfg(test)]
pub use folder::forge;
pub use folder::{Found, Page, base, walk, without_counts};
