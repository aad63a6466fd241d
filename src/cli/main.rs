//! `tideover`: starts programs under libtideover.so, and shows what the library does in them.
//!
//! It reads pages, /proc and ELF files, and links no hook of the library, so that it never acts on itself.
#![deny(unsafe_code, clippy::print_stdout, clippy::print_stderr)]

mod census;
mod cgroup;
mod child;
mod clean;
mod cli;
mod command;
mod config;
mod connections;
mod doctor;
mod effective;
mod elf;
mod events;
mod failure;
mod file;
mod foothold;
mod generate;
mod given;
#[cfg(test)]
mod hostile_test;
mod http;
mod inheritance;
mod library;
mod lifetime;
mod manual;
mod metrics;
mod origin;
mod output;
mod pageless;
mod pages;
mod preload;
mod preload_file;
mod privileges;
mod process;
mod program;
mod ps;
mod rehearsal;
mod rescue;
mod run;
mod scenarios;
mod script;
mod selftest;
mod settings_file;
mod small_disk;
mod snapshot;
mod sockets;
mod stat;
mod suggest;
mod survey;
mod system;
mod system_wide;
mod table;
mod top;
mod trial;
mod units;
mod verdict;
mod watch;

fn main() -> std::process::ExitCode {
    cli::main()
}
