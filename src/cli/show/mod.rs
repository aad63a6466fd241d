//! What people and scripts see: text, tables, units, and how a command fails.
#![forbid(unsafe_code)]

pub mod failure;
pub mod output;
pub mod repeated;
pub mod table;
pub mod units;
