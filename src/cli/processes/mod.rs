//! What /proc says about processes: the program, its descriptors, its sockets.
#![forbid(unsafe_code)]

mod cgroup_path;
pub mod connections;
pub mod descriptors;
pub mod each;
pub mod list;
pub mod mappings;
pub mod measured;
pub mod process;
pub mod program;
pub mod root;
mod script;
pub mod service;
pub mod sink;
pub mod sockets;
mod standard_stream;
