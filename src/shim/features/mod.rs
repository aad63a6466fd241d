//! What the library does for certain kinds of calls: accept(2), writes to logs, outgoing connections.

pub mod accept;
pub mod logs;
pub mod outgoing;
