//! `tideover generate`: writes man pages and completions, which are made from the command line and the tables.
#![forbid(unsafe_code)]

mod manual;
pub mod pids;

use crate::commands;
use crate::show::failure::{Failure, cause};
use crate::system::replace::{readable, replace};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_complete::{Generator, Shell};
use std::path::{Path, PathBuf};
use tideover_contract::settings::{Kind, SETTINGS, sink};

/// The hidden command line: `generate man|completions DIR`.
pub fn command() -> Command {
    Command::new("generate")
        .hide(true)
        .about("Writes man pages or completions into a folder")
        .arg(Arg::new("what").required(true).value_parser(["man", "completions"]))
        .arg(Arg::new("folder").required(true).value_parser(value_parser!(PathBuf)))
}

/// Writes the man pages or the completions.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let folder = matches.get_one::<PathBuf>("folder").map_or(Path::new("."), PathBuf::as_path);
    let written = match matches.get_one::<String>("what").map(String::as_str) {
        Some("man") => manual::write(commands::command(), folder),
        _ => completions(folder),
    };
    written.map_err(|error| Failure::failed(format!("cannot write into {}: {}", folder.display(), cause(&error))))
}

fn completions(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut completable(), "tideover", &mut script);
        let script = pids::add(shell, &String::from_utf8_lossy(&script));
        replace(&folder.join(shell.file_name("tideover")), script.as_bytes(), readable())?;
    }
    Ok(())
}

/// The command line without hidden commands, and with the words that settings accept.
fn completable() -> Command {
    let shown = commands::command();
    let commands: Vec<Command> = shown.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    let commands =
        commands.into_iter().map(|command| if command.get_name() == "run" { with_words(command) } else { command });
    Command::new("tideover").version(env!("CARGO_PKG_VERSION")).disable_help_subcommand(true).subcommands(commands)
}

fn with_words(run: Command) -> Command {
    let run = SETTINGS.iter().fold(run, |run, setting| {
        run.mut_arg(setting.name, |flag| match setting.kind {
            Kind::Choice(words) => flag.value_parser(PossibleValuesParser::new(words)),
            Kind::Flag => flag.value_parser(["on", "off"]),
            Kind::Sink => flag.value_parser(PossibleValuesParser::new(sink::WORDS)),
            Kind::Path => flag.value_hint(ValueHint::AnyPath),
            _ => flag.value_hint(ValueHint::Other),
        })
    });
    run.mut_arg("cmd", |cmd| cmd.value_hint(ValueHint::CommandWithArguments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_know_every_command_and_setting() {
        let folder = tempfile::tempdir().unwrap();
        completions(folder.path()).unwrap();
        for name in ["tideover.bash", "_tideover", "tideover.fish"] {
            let text = std::fs::read_to_string(folder.path().join(name)).unwrap();
            for command in completable().get_subcommands() {
                assert!(text.contains(command.get_name()), "{name} lacks {}", command.get_name());
            }
            for setting in SETTINGS {
                assert!(text.contains(&setting.name.replace('_', "-")), "{name} lacks {}", setting.name);
            }
            assert!(
                text.contains("force")
                    && text.contains("tideover_pids") | text.contains("tideover pids") | text.contains("pids $all"),
                "{name}"
            );
            assert!(!text.contains("selftest-child"), "{name}");
        }
    }
}
