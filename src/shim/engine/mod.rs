//! What happens when a call fails for lack of descriptors: something is freed, or the call waits, and is made again.

pub mod attempt;
pub mod backoff;
pub mod breaker;
pub mod call;
pub mod reclaim;
pub mod reserve;
pub mod tickets;
mod told;
pub mod wait;
