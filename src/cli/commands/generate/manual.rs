//! The man pages: tideover(1), one for each command, and tideover(7) for the library, made from the command line and the tables.
#![forbid(unsafe_code)]

use crate::system::replace::{readable, replace};
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tideover_contract::page::COUNTERS;
use tideover_contract::refusal::Refusal;
use tideover_contract::settings::SETTINGS;

const VERSION: &str = concat!("tideover ", env!("CARGO_PKG_VERSION"));
const MANUAL: &str = "tideover";

/// Writes all man pages into a folder.
pub fn write(mut all: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    // `tideover help COMMAND` is --help by another name, and needs no page of its own.
    all = all.disable_help_subcommand(true);
    // Completes usage lines and adds --help.
    all.build();
    let date = date();
    let shown: Vec<&Command> = all.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let names: Vec<String> = shown.iter().map(|command| format!("tideover-{}", command.get_name())).collect();
    for (command, name) in shown.iter().zip(&names) {
        put(&folder.join(format!("{name}.1")), &page(command, name, &date, &["tideover"])?)?;
    }
    let others: Vec<&str> = names.iter().map(String::as_str).collect();
    put(&folder.join("tideover.1"), &page(&all, "tideover", &date, &others)?)?;
    put(&folder.join("tideover.7"), &library(&date, &others)?)
}

fn put(path: &Path, page: &[u8]) -> io::Result<()> {
    replace(path, page, readable())
}

/// The date of the man pages: SOURCE_DATE_EPOCH if it is set (<https://reproducible-builds.org>), otherwise today.
fn date() -> String {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let time = given.map_or_else(SystemTime::now, |seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    humantime::format_rfc3339_seconds(time).to_string().chars().take(10).collect()
}

fn header(name: &str, section: &str, date: &str, about: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("TH", [name.to_uppercase().as_str(), section, date, VERSION, MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{name} - {about}"))]);
    roff
}

fn page(command: &Command, name: &str, date: &str, others: &[&str]) -> io::Result<Vec<u8>> {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let mut roff = header(name, "1", date, &format!("{}{}", about[..1].to_lowercase(), &about[1..]));
    roff.control("SH", ["SYNOPSIS"]);
    let usage = command.clone().render_usage().to_string();
    verbatim(&mut roff, usage.trim_start_matches("Usage:").trim());
    roff.control("SH", ["DESCRIPTION"]);
    let description = command.get_long_about().map_or_else(|| format!("{about}."), ToString::to_string);
    paragraphs(&mut roff, &description);

    let mut page = Vec::new();
    roff.to_writer(&mut page)?;
    let man = Man::new(command.clone());
    if command.get_arguments().any(|argument| !argument.is_hide_set()) {
        man.render_options_section(&mut page)?;
    }
    let mut roff = Roff::new();
    if command.has_subcommands() {
        roff.control("SH", ["COMMANDS"]);
        for shown in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            item(&mut roff, bold(format!("tideover-{}(1)", shown.get_name())), &sentence(shown));
        }
    }
    if let Some(examples) = command.get_after_help() {
        roff.control("SH", ["EXAMPLES"]);
        verbatim(&mut roff, examples.to_string().trim_start_matches("Examples:\n"));
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (status, means) in exit_statuses(command.get_name()) {
        item(&mut roff, bold(*status), means);
    }
    see_also(&mut roff, others.iter().map(|other| format!("{other}(1)")).chain(["tideover(7)".to_string()]));
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// The exit statuses of a command, as [`crate::show::failure::Status`] has them.
fn exit_statuses(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "run" => &[
            ("2", "A flag, a file or a variable holds a bad value; nothing was started."),
            ("126", "The program was found and can't be guarded or executed; nothing was started."),
            ("127", "The program was not found."),
            ("other", "That of the program."),
        ],
        "doctor" => &[
            ("0", "All checks are OK."),
            ("1", "The worst is a WARNING."),
            ("2", "The worst is CRITICAL."),
            ("3", "Some checks could not be made (UNKNOWN), and nothing is CRITICAL; or the command line is wrong."),
        ],
        "watch" => &[
            ("0", "With --once: nothing is bad. With --guard: it was stopped, and everything was put back."),
            ("1", "With --once: the worst alert is a warning. Else: it could not start."),
            ("2", "With --once: the worst alert is critical. Else: the command line or a file holds a bad value."),
            ("3", "With --once: it could not look, a receiver did not take all alerts, or the command line is wrong."),
        ],
        "rescue" => &[
            ("0", "Each process has what was asked for."),
            ("1", "At least one has not; standard error, or with --json its error, says why."),
            ("2", "The command line is wrong."),
        ],
        "guard" => &[
            ("0", "It was stopped, or all processes have ended."),
            ("1", "There is nothing that can be guarded; its events, or standard error, say why."),
            ("2", "The command line is wrong."),
        ],
        _ => &[
            ("0", "It has done what was asked for."),
            ("1", "It could not; standard error says why, and with --json standard output, too."),
            ("2", "The command line, a file or a variable holds a bad value."),
        ],
    }
}

fn sentence(command: &Command) -> String {
    command.get_about().map(|about| format!("{about}.")).unwrap_or_default()
}

/// tideover(7): the library, however it is loaded into a program.
fn library(date: &str, others: &[&str]) -> io::Result<Vec<u8>> {
    let about = "keeps unmodified programs running when descriptors run out or the disk of a log is full";
    let mut roff = header("tideover", "7", date, about);
    roff.control("SH", ["SYNOPSIS"]);
    verbatim(&mut roff, "tideover run PROGRAM ...\nLD_PRELOAD=/path/of/libtideover.so PROGRAM ...");
    roff.control("SH", ["DESCRIPTION"]);
    paragraphs(
        &mut roff,
        "libtideover.so is preloaded into programs that nobody can change. When a call finds no descriptor (EMFILE, ENFILE), the \
         library raises the soft limit towards the hard limit, has registered reclaimers close what they can spare, waits where \
         waiting can help, and tries again; if all is in vain, the program gets the original error, and one line on standard error \
         says what was tried and what would help.\n\n\
         When a write to a log finds its disk full (ENOSPC, EDQUOT), the line goes to standard output, and back to the file as soon \
         as there is space. Only files that are clearly text logs are treated so; all others get the true error.",
    );
    roff.control("SH", ["ENVIRONMENT"]);
    paragraphs(
        &mut roff,
        "Read once, when the program starts; ignored in set-uid programs. Each is also a flag of tideover-run(1) and a key of its \
         TOML file. A bad value gives one warning, and the default is used; with bad exceptions, no log is diverted.",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "none" } else { setting.default };
        item(&mut roff, bold(setting.env), &format!("{}. Accepts {}. Default: {default}.", setting.help, setting.kind));
    }
    roff.control("SH", ["COUNTERS"]);
    paragraphs(
        &mut roff,
        "In the shared page of each program; tideover-stat(1) prints them with --json under these keys.",
    );
    for counter in COUNTERS {
        item(&mut roff, bold(format!("{}.{}", counter.section, counter.name)), &format!("{}.", counter.help));
    }
    roff.control("SH", ["FILES THAT ARE NOT TAKEN FOR LOGS"]);
    paragraphs(
        &mut roff,
        "For each write that failed and was not diverted, one of these reasons is counted (logs.refused).",
    );
    for refusal in Refusal::ALL {
        item(&mut roff, bold(refusal.name()), &format!("{}.", refusal.text()));
    }
    files(&mut roff);
    see_also(
        &mut roff,
        ["ld.so(8)", "getrlimit(2)", "systemd.exec(5)", "tideover(1)"]
            .map(String::from)
            .into_iter()
            .chain(others.iter().map(|other| format!("{other}(1)"))),
    );
    let mut page = Vec::new();
    roff.to_writer(&mut page)?;
    Ok(page)
}

/// The files that the library makes or reads.
fn files(roff: &mut Roff) {
    roff.control("SH", ["FILES"]);
    item(roff, italic("/dev/shm/tideover.UID/PID"), "The page of a process; TIDEOVER_PAGE_DIR names another folder.");
    item(
        roff,
        italic("/etc/tideover.toml"),
        "The policy of the machine: settings for all programs, and in tables [program.\"PATTERN\"] for some; TIDEOVER_CONFIG names another. \
         It belongs to root or to the user of the program, and nobody else may write to it. tideover-config(1) checks it.",
    );
    item(roff, italic("/etc/ld.so.preload"), "Names the library after tideover-install(1), for every program.");
}

fn paragraphs(roff: &mut Roff, text: &str) {
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph.split_whitespace().collect::<Vec<_>>().join(" "))]);
    }
}

fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn item(roff: &mut Roff, term: Inline, text: &str) {
    roff.control("TP", []);
    roff.text([term]);
    roff.text([roman(text)]);
}

fn see_also(roff: &mut Roff, names: impl Iterator<Item = String>) {
    roff.control("SH", ["SEE ALSO"]);
    let names: Vec<String> = names.collect();
    roff.text([roman(names.join(", "))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_and_setting_is_in_the_manual() {
        let folder = tempfile::tempdir().unwrap();
        write(crate::commands::command(), folder.path()).unwrap();
        let read = |name: &str| {
            fs::read_to_string(folder.path().join(name)).unwrap().replace("\\-", "-").replace("\\*(Aq", "'")
        };
        let contents = read("tideover.1");
        for command in crate::commands::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("tideover-{}", command.get_name());
            assert!(contents.contains(&name), "{name}");
            let page = read(&format!("{name}.1"));
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                assert!(
                    argument.get_long().is_none_or(|long| page.contains(&format!("--{long}"))),
                    "{name}: {argument}"
                );
            }
            assert!(page.contains("EXAMPLES"), "{name}");
            assert!(page.contains("EXIT STATUS"), "{name}");
        }
        let library = read("tideover.7");
        for setting in SETTINGS {
            assert!(library.contains(setting.env) && library.contains(setting.help), "{}", setting.env);
        }
    }
}
