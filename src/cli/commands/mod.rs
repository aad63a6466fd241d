//! The command line: a table of all commands.
#![forbid(unsafe_code)]

mod arguments;
mod ballast;
mod clean;
mod config;
mod control;
mod doctor;
mod events;
mod generate;
mod guard;
mod install;
pub mod metrics;
pub mod ps;
mod rescue;
mod run;
mod selftest;
pub mod stat;
mod top;
mod unpack;
mod watch;

use crate::show::failure::{Failure, Status};
use crate::show::output::{complain, explain, print, print_json, start_log};
use clap::error::ErrorKind;
use clap::{ArgMatches, Command};
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitCode;

type Row = (fn() -> Command, fn(&ArgMatches) -> Result<(), Failure>);

/// Each command with its command line and the function that runs it, in the order of `--help`.
const COMMANDS: &[Row] = &[
    (run::command, run::run),
    (ps::command, ps::run),
    (stat::command, stat::run),
    (top::command, top::run),
    (doctor::command, doctor::run),
    (rescue::command, rescue::run),
    (guard::command, guard::run),
    (events::command, events::run),
    (watch::command, watch::run),
    (metrics::command, metrics::run),
    (config::command, config::run),
    (control::command, control::run),
    (clean::command, clean::run),
    (ballast::command, ballast::run),
    (selftest::command, selftest::run),
    (install::install_command, install::install),
    (install::uninstall_command, install::uninstall),
    (unpack::command, unpack::run),
    (selftest::scenarios::command, selftest::scenarios::run),
    (generate::command, generate::run),
    (generate::pids::command, generate::pids::run),
];

const EXAMPLES: &str = "\
Examples:
  tideover run nginx -g 'daemon off;'    run a program under the library
  tideover ps                            who is guarded, and how it goes
  tideover stat 1234                     everything about one process
  tideover doctor 1234                   what is short, and what mends it
  tideover rescue 1234                   more descriptors for a running process
  tideover selftest                      does it work on this machine?

`tideover COMMAND --help` has more.";

/// The whole command line.
pub fn command() -> Command {
    Command::new("tideover")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Keeps unmodified programs running when descriptors run out or the disk of a log is full")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(COMMANDS.iter().map(|(command, _)| command()))
        .after_help(EXAMPLES)
}

/// Parses the command line and runs the command; prints a failure and returns its exit status.
pub fn main() -> ExitCode {
    start_log();
    let mut json = false;
    let done = match command().try_get_matches() {
        Ok(matches) => {
            json = asks_for_json(&matches);
            dispatch(&matches)
        }
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&error.render().to_string()),
            // `tideover` alone prints help and ends with the status of a usage error, as git and cargo do.
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                explain(&error.render().to_string());
                return ExitCode::from(Status::Usage.code());
            }
            _ => {
                json = has_json_flag(std::env::args_os().skip(1));
                Err(Failure::usage(error.render().to_string().trim_start_matches("error: ")).with(misuse()))
            }
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                complain(&failure.text);
                if json {
                    let _ = print_json(&json!({ "error": failure.text, "exit_status": failure.status.code() }));
                }
            }
            ExitCode::from(failure.status.code())
        }
    }
}

/// Is the answer to be JSON? Then a failure is, too.
fn asks_for_json(matches: &ArgMatches) -> bool {
    matches.subcommand().is_some_and(|(_, matches)| matches!(matches.try_get_one::<bool>("json"), Ok(Some(true))))
}

/// Is there a `--json` among the words of a command line that is wrong? Those of `run` are another program's.
fn has_json_flag(words: impl Iterator<Item = OsString>) -> bool {
    let mut words = words.take_while(|word| word != "--").peekable();
    words.peek().is_some_and(|command| command != "run") && words.any(|word| word == "--json")
}

/// The exit status for a bad command line: 2, but 3 for `doctor` and `watch --once`, where 2 means that something is critical.
fn misuse() -> Status {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let is = |command: &str| words.first().is_some_and(|word| word == command);
    let checks = is("doctor") || is("watch") && words.iter().any(|word| word == "--once");
    if checks { Status::Unknown } else { Status::Usage }
}

fn dispatch(matches: &ArgMatches) -> Result<(), Failure> {
    let chosen = matches.subcommand().and_then(|(name, matches)| {
        COMMANDS.iter().find(|(command, _)| command().get_name() == name).map(|(_, run)| (run, matches))
    });
    match chosen {
        Some((run, matches)) => run(matches),
        None => Err(Failure { status: Status::Usage, text: "no command was given".to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_teaches() {
        command().debug_assert();
        for (command, _) in COMMANDS {
            let mut command = command();
            if !command.is_hide_set() {
                let help = command.render_long_help().to_string();
                assert!(help.contains("Examples:"), "{help}");
            }
        }
    }
}
