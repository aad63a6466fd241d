//! What happens when a call fails for lack of a descriptor: something is freed, or the call waits, and it is made again.
//!
//! [`attempt`] decides in which order; [`reclaim`] frees, [`wait`] sleeps, [`breaker`] says when sleeping is in vain.

pub mod attempt;
pub mod backoff;
pub mod breaker;
pub mod call;
pub mod closes;
pub mod demand;
mod evidence;
pub mod line;
mod may_begin;
pub mod messages;
mod other_limit;
mod queue;
pub mod reclaim;
pub mod reserve;
pub mod sleepers;
pub mod tickets;
pub mod wait;
