//! `tideover`: starts programs under libtideover.so, and shows what the library does in them.
//!
//! It reads pages, /proc and ELF files, and links no hook of the library, so that it never acts on itself.
//!
//! The folders are layers: each uses only those below it, which `layers_test.rs` checks.
//!
//! | folder | is about |
//! |---|---|
//! | `commands` | the command line: one file or folder for each command |
//! | `guard` | what `tideover guard` does to running processes, from outside |
//! | `launch` | starting a program with the library |
//! | `settings` | where the values of settings come from |
//! | `pages` | the shared pages of guarded processes |
//! | `processes` | what /proc says about processes |
//! | `executables` | what the file of a program says |
//! | `system` | what the kernel says about the whole system; replacing files |
//! | `before_exec` | what a child does between fork(2) and execve(2), descriptors of other processes; all unsafe code |
//! | `show` | text, tables and units; how a command fails |
#![deny(unsafe_code, clippy::print_stdout, clippy::print_stderr)]

mod before_exec;
mod commands;
mod executables;
mod guard;
#[cfg(test)]
mod hostile_test;
mod launch;
#[cfg(test)]
mod layers_test;
mod pages;
mod processes;
mod settings;
mod show;
mod system;

fn main() -> std::process::ExitCode {
    commands::main()
}
