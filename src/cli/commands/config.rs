//! `tideover config`: the settings in effect, and where each came from.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag, pid_argument};
use crate::pages::lookup::find;
use crate::processes::process::Environment;
use crate::processes::sink;
use crate::settings::effective::{self, Effective};
use crate::settings::policy;
use crate::settings::steps::KEY;
use crate::show::failure::{Failure, Status};
use crate::show::output::{print, print_json, safe};
use crate::show::table::{Align, Table};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::json;
use tideover_contract::glob;
use tideover_contract::settings::{Id, SETTINGS};

const EXAMPLES: &str = "\
Examples:
  tideover config                  what a program started now would get
  tideover config 1234             what process 1234 has
  tideover config --check --program nginx    what the policy file gives nginx
  tideover config --verbose        with what each setting means and accepts
  TIDEOVER_MAX_WAIT=5 tideover config   says why a value is refused";

/// The command line.
pub fn command() -> Command {
    Command::new("config")
        .about("Shows effective settings, and where each came from")
        .arg(pid_argument())
        .arg(
            Arg::new("verbose")
                .long("verbose")
                .short('v')
                .action(ArgAction::SetTrue)
                .help("Say what each setting means and accepts"),
        )
        .args([
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["pid", "verbose"])
                .help("Check the policy file: TIDEOVER_CONFIG, else /etc/tideover.toml"),
            Arg::new("program").long("program").value_name("NAME").conflicts_with("pid").help(
                "What a program of this name gets; with --check, what the policy file gives it, and by which line",
            ),
            json_flag(),
            page_dir_flag(),
        ])
        .after_help(EXAMPLES)
}

/// Prints the settings.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let json = matches.get_flag("json");
    if matches.get_flag("check") {
        return check(matches.get_one::<String>("program"), json);
    }
    if let Some(&pid) = matches.get_one::<u32>("pid") {
        let page = find(&page_dir(matches), pid)?;
        let Some(view) = page.view() else { return Ok(()) };
        let settings = effective::from_page(pid, view, Environment::of(pid).as_ref());
        return if json {
            let program = String::from_utf8_lossy(view.program());
            print_json(
                &json!({ "pid": pid, "program": program, "settings": list(&settings), "sink": sink_of(pid, &settings) }),
            )
        } else {
            let sink = sink_of(pid, &settings).map_or_else(String::new, |sink| {
                format!("\nIf the disk of a log were full now, its lines would go to {sink}.\n")
            });
            print(&format!("{} (process {pid})\n\n{}{sink}", safe(view.program()), text(&settings, matches)))
        };
    }
    let program = matches.get_one::<String>("program").map(String::as_bytes);
    let settings = effective::from_environment(|name| std::env::var_os(name), policy::present().as_ref(), program);
    let unknown_variables = effective::unknown_variables(std::env::vars_os().map(|(name, _)| name));
    if json {
        let unknown: Vec<&String> = unknown_variables.iter().map(|(name, _)| name).collect();
        return print_json(&json!({ "settings": list(&settings), "unknown": unknown }));
    }
    let mut text = text(&settings, matches);
    for (name, near) in unknown_variables {
        let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        text.push_str(&format!("{name} is no setting{hint}\n"));
    }
    print(&text)
}

/// Where lines of a log would go; None if the user has named a place, or the process can't be seen into.
fn sink_of(pid: u32, settings: &[Effective]) -> Option<String> {
    let is_auto = settings.iter().any(|row| row.index == Id::Fallback as usize && row.value == "auto");
    is_auto.then(|| sink::automatic(pid)).flatten()
}

/// Checks the policy file, and prints what it gives to all programs, or to those of a name.
fn check(program: Option<&String>, json: bool) -> Result<(), Failure> {
    let path = policy::path();
    let policy = policy::read(&path)?;
    let is_for = |pattern: &Option<String>| match (program, pattern) {
        (Some(program), Some(pattern)) => glob::matches(pattern.as_bytes(), program.as_bytes()),
        _ => true,
    };
    let given = policy.given.iter().map(|it| (SETTINGS[it.index].name.to_string(), &it.value, &it.program, it.line));
    let alerts = policy.alerts.iter().map(|it| (format!("alert_{}", it.row.name), &it.value, &it.program, it.line));
    let guards = policy.guards.iter().map(|it| (KEY.to_string(), &it.value, &it.program, it.line));
    let mut given: Vec<(String, &String, &Option<String>, u32)> =
        given.chain(alerts).chain(guards).filter(|(_, _, pattern, _)| is_for(pattern)).collect();
    given.sort_by_key(|(_, _, _, line)| *line);
    if json {
        let given = given.iter().map(
            |(name, value, program, line)| json!({ "name": name, "value": value, "program": program, "line": line }),
        );
        let file = path.display().to_string();
        print_json(&json!({ "file": file, "settings": given.collect::<Vec<_>>(), "mistakes": policy.mistakes }))?;
        return if policy.mistakes.is_empty() { Ok(()) } else { Err(Failure::without_text(Status::Failed)) };
    }
    let mut table = Table::new(&["LINE", "PROGRAM", "SETTING", "VALUE"].map(|heading| (heading, Align::Left)));
    for (name, value, program, line) in given {
        let program = program.clone().unwrap_or_else(|| "(all)".to_string());
        table.row([line.to_string(), safe(program.as_bytes()), name, safe(value.as_bytes())]);
    }
    print(&format!("{}\n\n{}", path.display(), table.render(80, 2, 3)))?;
    if policy.mistakes.is_empty() { Ok(()) } else { Err(Failure::failed(policy.mistakes.join("\n"))) }
}

fn list(settings: &[Effective]) -> serde_json::Value {
    settings.iter().map(Effective::json).collect()
}

fn text(settings: &[Effective], matches: &ArgMatches) -> String {
    let headings = ["SETTING", "VALUE", "FROM"].map(|heading| (heading, Align::Left));
    let mut text = if matches.get_flag("verbose") {
        settings.iter().map(paragraph).collect::<Vec<_>>().join("\n")
    } else {
        let mut table = Table::new(&headings);
        for row in settings {
            table.row([SETTINGS[row.index].name.to_string(), value(row), row.origin()]);
        }
        table.render(80, 2, 1)
    };
    for refusal in settings.iter().filter_map(Effective::refusal) {
        text.push_str(&format!("{refusal}\n"));
    }
    text
}

fn value(row: &Effective) -> String {
    if row.value.is_empty() { "(none)".to_string() } else { row.value.clone() }
}

fn paragraph(row: &Effective) -> String {
    let setting = &SETTINGS[row.index];
    format!(
        "{} = {} ({})\n    {}\n    {}, in the environment as {}\n",
        setting.name,
        value(row),
        row.origin(),
        setting.help,
        setting.kind,
        setting.env
    )
}
