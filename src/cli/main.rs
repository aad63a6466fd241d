//! `tideover`: starts programs under libtideover.so, and shows what the library does in them.
//!
//! It reads pages, /proc and ELF files, and links no hook of the library, so that it never acts on itself.
#![deny(unsafe_code, clippy::print_stdout, clippy::print_stderr)]

mod child;
mod clean;
mod cli;
mod command;
mod config;
mod effective;
mod elf;
mod events;
mod failure;
mod file;
mod foothold;
mod generate;
mod given;
mod inheritance;
mod library;
mod lifetime;
mod manual;
mod origin;
mod output;
mod pages;
mod preload;
mod preload_file;
mod privileges;
mod process;
mod ps;
mod rehearsal;
mod run;
mod scenarios;
mod script;
mod selftest;
mod settings_file;

mod snapshot;
mod stat;
mod suggest;
mod system_wide;
mod table;
mod trial;
mod units;
mod verdict;

fn main() -> std::process::ExitCode {
    cli::main()
}
