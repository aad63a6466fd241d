//! What the library knows: the settings, the shared page with its counters and events, the process, its threads and its descriptors;
//! and how it logs messages. Nothing here decides what happens to a failed call.

pub mod clients;
pub mod control;
pub mod descriptors;
pub mod environment;
pub mod events;
pub mod handlers;
pub mod late_messages;
pub mod page;
pub mod page_file;
pub mod page_words;
pub mod policy;
pub mod process;
pub mod reconcile;
pub mod report;
pub mod settings;
pub mod streams;
pub mod thread;
pub mod usage;
