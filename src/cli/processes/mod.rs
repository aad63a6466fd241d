//! What /proc says about processes: the program, its descriptors, its sockets.
#![forbid(unsafe_code)]

pub mod connections;
pub mod descriptors;
pub mod list;
pub mod mappings;
pub mod process;
pub mod program;
pub mod sockets;
