//! `tideover guard`: carries running programs over their descriptor limit from outside, also static ones and Go, into which nothing can be
//! loaded. No program may die, lose a signal or get an error that it would not have got.
//!
//! | file | is about |
//! |---|---|
//! | `guarding` | the targets of one guard |
//! | `names` | the processes that the command line means, also those that start later |
//! | `refusal` | processes that are left alone, and why |
//! | `target` | a process that is held: by pidfd, start time and lock |
//! | `look` | the steps that are taken for a target, and when to look next |
//! | `evidence` | how far its soft limit may be raised, by its objects |
//! | `limit` | raising it |
//! | `sockets` | its listeners and the clients that they have accepted |
//! | `idle` | ending the longest idle clients |
//! | `spin` | is it known to spin at its limit, and which items of its epoll sets make it? |
//! | `park` | parking these items, and bringing them back |
//! | `guarded` | what the states say: for other commands |
//! | `state` | the folder with the lock and the state of each target |
//! | `tell` | events, as text or JSON |
#![forbid(unsafe_code)]

pub mod evidence;
pub mod guarded;
pub mod guarding;
mod idle;
mod limit;
pub mod look;
pub mod names;
mod park;
pub mod refusal;
mod sockets;
mod spin;
pub mod state;
pub mod target;
pub mod tell;
