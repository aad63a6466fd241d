//! `tideover stat`: everything about one guarded process.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag, pid_argument};
use crate::guard::guarded;
use crate::pages::events;
use crate::pages::lookup::{find, not_guarded};
use crate::pages::snapshot::Snapshot;
use crate::processes::connections::Connections;
use crate::processes::sink;
use crate::show::failure::Failure;
use crate::show::output::{print, print_json, safe};
use crate::show::table::{Align, Table};
use crate::show::units::{ago, bytes, duration, rfc3339};
use clap::{ArgMatches, Command};
use std::path::Path;
use tideover_contract::page::{COUNTERS, CounterInfo, Shape, View};
use tideover_contract::settings::{self, Id};

const EXAMPLES: &str = "\
Examples:
  tideover stat 1234
  tideover stat $(pgrep -o nginx)
  tideover stat 1234 --json | jq .exhaustion.recovered";

/// So many characters of a command line are shown, of a line of 80 with its name; `--json` has more.
const LINE: usize = 71;

/// The command line.
pub fn command() -> Command {
    Command::new("stat")
        .about("Shows everything about one guarded process")
        .arg(pid_argument().required(true))
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Prints everything about the process.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let pid = matches.get_one::<u32>("pid").copied().unwrap_or_default();
    let base = page_dir(matches);
    let page = find(&base, pid).map_err(|failure| from_outside(&base, pid).unwrap_or(failure))?;
    let Some(snapshot) = Snapshot::take(&page) else { return Err(not_guarded(pid)) };
    if matches.get_flag("json") { print_json(&snapshot.json()) } else { print(&text(&snapshot)) }
}

/// Says of a process that is guarded from outside where that is seen; None: it is not.
fn from_outside(base: &Path, pid: u32) -> Option<Failure> {
    let it = guarded::all(base).into_iter().find(|it| it.process.pid == pid)?;
    Some(Failure::failed(format!(
        "process {pid} ({}) has not the library and counts nothing; process {} guards it from outside: tideover guard --status",
        it.program, it.guard
    )))
}

/// Where lines of its logs go; None if that is set, or can't be seen.
fn sink_of(snapshot: &Snapshot) -> Option<String> {
    let (value, _) = snapshot.page.setting(Id::Fallback as usize)?;
    (value == settings::sink::AUTO).then(|| sink::automatic(snapshot.pid)).flatten()
}

/// Everything about the process, as text.
pub fn text(snapshot: &Snapshot) -> String {
    let page = snapshot.page;
    let mut text = format!(
        "{} (process {})\n{}, since {} ({})\n",
        snapshot.program(),
        snapshot.pid,
        version(page),
        rfc3339(snapshot.started_ns()),
        ago(snapshot.started_ns())
    );
    for (name, value) in [
        ("service", snapshot.service().unwrap_or_default()),
        ("user", snapshot.user()),
        ("command", snapshot.command()),
    ] {
        if !value.is_empty() {
            text.push_str(&format!("{name:8} {}\n", value.chars().take(LINE).collect::<String>()));
        }
    }
    for section in sections() {
        let rows = rows(snapshot, section);
        // A section in which nothing happened takes one line, so that the others are seen.
        if rows.iter().all(|row| row.1 == "0" || row.1 == "no") {
            text.push_str(&format!("\n{section}: nothing so far\n"));
            continue;
        }
        let mut table = Table::new(&[("", Align::Left), ("", Align::Right), ("", Align::Left)]);
        for (name, value, help) in rows {
            table.row([format!("  {}", name.replace('_', " ")), value, help]);
        }
        text.push_str(&format!("\n{section}\n{}", table.wrapped(80, 2)));
        if section == "logs"
            && let Some(sink) = sink_of(snapshot)
        {
            text.push_str(&format!("  while a log is diverted, its lines go to {sink}\n"));
        }
    }
    let events = events::lines(page);
    text.push_str(&if events.is_empty() {
        "\nevents: none so far\n".to_string()
    } else {
        format!("\nevents\n{events}")
    });
    text
}

/// The sections of the table, each once: counters that came later stand at its end, since the place of none may change.
fn sections() -> Vec<&'static str> {
    let mut sections = Vec::new();
    for row in COUNTERS {
        if !sections.contains(&row.section) {
            sections.push(row.section);
        }
    }
    sections
}

/// The version of the library, which writes it with the first thing that it counts.
fn version(page: View) -> String {
    match page.version() {
        b"" => "guarded, with nothing to count so far".to_string(),
        version => format!("tideover {}", safe(version)),
    }
}

/// Name, value and meaning of a row.
type Row = (String, String, String);

/// The rows of a section: first what is not in the table of counters, then the counters.
fn rows(snapshot: &Snapshot, section: &str) -> Vec<Row> {
    let open = if section == "connections" { Connections::of(snapshot.pid) } else { None };
    let mut rows = beside_the_counters(snapshot, section, open.as_ref());
    for counter in COUNTERS.iter().filter(|counter| counter.section == section) {
        let value = match (counter.name, &open) {
            ("outgoing", Some(open)) => open.outgoing(),
            _ => snapshot.counter(section, counter.name),
        };
        rows.push(counter_row(counter, value));
    }
    rows
}

fn beside_the_counters(snapshot: &Snapshot, section: &str, open: Option<&Connections>) -> Vec<Row> {
    let page = snapshot.page;
    let mut rows: Vec<Row> = Vec::new();
    let mut row = |name: &str, value: u64, help: &str| rows.push((name.into(), value.to_string(), help.into()));
    match section {
        "descriptors" => {
            row("used", snapshot.used, &format!("open now, {:.1} % of what can be had", snapshot.percent()));
            row("obtainable", snapshot.obtainable, "can be had: the soft limit, as far as the library raises it");
            row("available", snapshot.available(), "of these not in use");
        }
        "connections" => {
            for (endpoint, count) in open.into_iter().flat_map(Connections::lines) {
                let help = if endpoint.starts_with("to ") { "connections open now" } else { "clients now" };
                row(&endpoint, count, help);
            }
        }
        "calls" => {
            row("opened", page.opened(), "calls that made a descriptor");
            row("closed", page.closed(), "descriptors closed");
        }
        "logs" => {
            for (refusal, count) in page.refusals() {
                row("not a log", count, &format!("full disk, true error: {}", refusal.text()));
            }
        }
        "exhaustion" => {
            for (runtime, it) in page.collectors().filter(|(_, it)| it.runs > 0) {
                let help = format!("collections: {} descriptors came back in {}", it.freed, duration(it.ns));
                row(runtime.name(), it.runs, &help);
            }
            for (skip, count) in page.skips() {
                row("not collected", count, skip.text());
            }
        }
        _ => {}
    }
    rows
}

fn counter_row(counter: &CounterInfo, value: u64) -> Row {
    let shown = match counter.name {
        _ if counter.shape == Shape::Bool => if value == 0 { "no" } else { "yes" }.to_string(),
        "degraded_since" if value > 0 => ago(value),
        name if name.ends_with("_ns") => duration(value),
        name if name.ends_with("_bytes") && value > 0 => bytes(value),
        _ => value.to_string(),
    };
    let help = match counter.name {
        "soft_limit" => "soft limit on open descriptors",
        "hard_limit" => "hard limit on open descriptors",
        "outgoing" => "outgoing TCP sockets open now",
        _ => counter.help.trim_start_matches("nanoseconds "),
    };
    (counter.name.trim_end_matches("_ns").to_string(), shown, help.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Page, forge};
    use tideover_contract::page::state;

    #[test]
    fn quiet_sections_take_one_line() {
        let mut bytes = forge(7, state::LIVE, 1);
        let at = COUNTERS.iter().position(|c| c.name == "wait_ns").unwrap();
        bytes[128 + at * 8..][..8].copy_from_slice(&1_500_000_000u64.to_ne_bytes());
        let page = Page::forged(bytes, 7);
        let snapshot = Snapshot { page: page.view().unwrap(), pid: 7, used: 12, soft: 64, hard: 64, obtainable: 64 };
        let text = text(&snapshot);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("logs: nothing so far"), "{text}");
        assert!(text.contains("1.50 s  slept, all threads"), "{text}");
        assert!(text.contains("18.8 % of what can be had"), "{text}");
        assert!(text.contains("events: none so far"), "{text}");
        assert_eq!(text.matches("\nlogs").count(), 1, "{text}");
    }
}
