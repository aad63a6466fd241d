//! What is known and counted: settings, the shared page, events, messages, and what is known of this process, its threads and its
//! descriptors. No policy: nothing here decides what a failed call does.

pub mod descriptors;
pub mod events;
pub mod handlers;
pub mod page;
mod page_file;
pub mod process;
pub mod report;
pub mod settings;
pub mod streams;
pub mod thread;
pub mod usage;
