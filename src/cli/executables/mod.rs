//! What the file of a program says before it is started: its format, its interpreter, its privileges.
#![forbid(unsafe_code)]

#[cfg(test)]
pub mod compiled;
pub mod elf;
pub mod executable;
pub mod privileges;
pub mod script;
pub mod search;
pub mod symbols;
