//! Where the values of settings come from: flags, a file, the environment, a page.
#![forbid(unsafe_code)]

pub mod effective;
pub mod file;
pub mod origin_variable;
pub mod overrides;
pub mod policy;
pub mod steps;
pub mod suggest;
