//! `tideover stat`: everything about one guarded process.
#![forbid(unsafe_code)]

use crate::connections::Connections;
use crate::events;
use crate::failure::Failure;
use crate::output::{print, print_json, safe};
use crate::pageless;
use crate::pages::{self, Page};
use crate::process;
use crate::program::Program;
use crate::ps::{json_flag, page_dir, page_dir_flag};
use crate::snapshot::Snapshot;
use crate::table::{Align, Table};
use crate::units::{ago, bytes, duration, rfc3339};
use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::process::geteuid;
use std::path::Path;
use tideover_contract::page::{COUNTERS, Shape};

const EXAMPLES: &str = "\
Examples:
  tideover stat 1234
  tideover stat $(pgrep -o nginx)
  tideover stat 1234 --json | jq .exhaustion.recovered";

/// The command line.
pub fn command() -> Command {
    Command::new("stat")
        .about("Shows everything about one guarded process")
        .arg(pid_argument().required(true))
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// `PID`.
pub fn pid_argument() -> Arg {
    Arg::new("pid")
        .value_name("PID")
        .value_parser(value_parser!(u32).range(1..))
        .help("Process id; `tideover ps` lists them")
}

/// Prints it.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let pid = matches.get_one::<u32>("pid").copied().unwrap_or_default();
    let page = find(&page_dir(matches), pid)?;
    let Some(snapshot) = Snapshot::take(&page) else { return Err(not_guarded(pid)) };
    if matches.get_flag("json") { print_json(&snapshot.json()) } else { print(&text(&snapshot)) }
}

/// The page of a process, or a failure that says why there is none and what to do.
pub fn find(base: &Path, pid: u32) -> Result<Page, Failure> {
    let found = pages::walk(base)?;
    if let Some(page) = found.pages.into_iter().find(|page| page.pid == pid) {
        return Ok(page);
    }
    if process::alive(pid).is_none() {
        return Err(Failure::failed(format!("there is no process {pid}; `tideover ps` lists the guarded ones")));
    }
    if process::owner(pid).is_some_and(|owner| owner != geteuid().as_raw()) && !geteuid().is_root() {
        return Err(Failure::failed(format!("process {pid} is another user's; ask with sudo tideover stat {pid}")));
    }
    Err(not_guarded(pid))
}

fn not_guarded(pid: u32) -> Failure {
    let name = process::name(pid);
    if let Some(why) = Program::of(pid).out_of_reach() {
        return Failure::failed(format!(
            "process {pid} ({name}) can't be guarded: {why}; `tideover doctor {pid}` works"
        ));
    }
    if pageless::has_loaded(pid) {
        return Failure::failed(format!("process {pid} ({name}) has the library {}", pageless::WITHOUT_PAGE));
    }
    Failure::failed(format!(
        "process {pid} ({name}) is not guarded; start it with `tideover run`, or name the folder of its page with --page-dir"
    ))
}

/// Everything, for people.
pub fn text(snapshot: &Snapshot) -> String {
    let page = snapshot.page;
    let mut text = format!(
        "{} (process {})\ntideover {}, since {} ({})\n",
        snapshot.program(),
        snapshot.pid,
        safe(page.version()),
        rfc3339(snapshot.started_ns()),
        ago(snapshot.started_ns())
    );
    let mut sections: Vec<&str> = COUNTERS.iter().map(|row| row.section).collect();
    sections.dedup();
    for section in sections {
        let rows = rows(snapshot, section);
        // A section in which nothing happened would only hide those in which something did.
        if rows.iter().all(|row| row.1 == "0" || row.1 == "no") {
            text.push_str(&format!("\n{section}: nothing so far\n"));
            continue;
        }
        let mut table = Table::new(&[("", Align::Left), ("", Align::Right), ("", Align::Left)]);
        for (name, value, help) in rows {
            table.row([format!("  {}", name.replace('_', " ")), value, help]);
        }
        text.push_str(&format!("\n{section}\n{}", table.wrapped(80, 2)));
    }
    let events = events::lines(page);
    text.push_str(&if events.is_empty() {
        "\nevents: none so far\n".to_string()
    } else {
        format!("\nevents\n{events}")
    });
    text
}

/// Name, value and meaning of each row of a section.
fn rows(snapshot: &Snapshot, section: &str) -> Vec<(String, String, String)> {
    let page = snapshot.page;
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let mut row = |name: &str, value: String, help: &str| rows.push((name.into(), value, help.into()));
    let mut outgoing = None;
    match section {
        "descriptors" => {
            row("used", snapshot.used.to_string(), &format!("open now, {:.1} % of the soft limit", snapshot.percent()));
            row("available", snapshot.available().to_string(), "left before the soft limit");
        }
        "connections" => {
            let open = Connections::of(snapshot.pid);
            for (endpoint, count) in open.iter().flat_map(Connections::lines) {
                let help = if endpoint.starts_with("to ") { "connections open now" } else { "clients now" };
                row(&endpoint, count.to_string(), help);
            }
            outgoing = open.map(|open| open.outgoing());
        }
        "calls" => {
            row("opened", page.opened().to_string(), "calls that made a descriptor");
            row("closed", page.closed().to_string(), "descriptors closed");
        }
        "logs" => {
            for (refusal, count) in page.refusals() {
                row("not a log", count.to_string(), &format!("full disk, true error: {}", refusal.text()));
            }
        }
        "exhaustion" => {
            for (runtime, it) in page.collectors().filter(|(_, it)| it.runs > 0) {
                let help = format!("collections: {} descriptors came back in {}", it.freed, duration(it.ns));
                row(runtime.name(), it.runs.to_string(), &help);
            }
            for (skip, count) in page.skips() {
                row("not collected", count.to_string(), skip.text());
            }
        }
        _ => {}
    }
    for counter in COUNTERS.iter().filter(|counter| counter.section == section) {
        let value = match (counter.name, outgoing) {
            ("outgoing", Some(outgoing)) => outgoing,
            _ => snapshot.counter(section, counter.name),
        };
        let shown = match counter.name {
            _ if counter.shape == Shape::Bool => if value == 0 { "no" } else { "yes" }.to_string(),
            "degraded_since" if value > 0 => ago(value),
            name if name.ends_with("_ns") => duration(value),
            name if name.ends_with("_bytes") && value > 0 => bytes(value),
            _ => value.to_string(),
        };
        let name = counter.name.trim_end_matches("_ns");
        let help = match counter.name {
            "soft_limit" => "soft limit on open descriptors",
            "hard_limit" => "hard limit on open descriptors",
            "outgoing" => "outgoing TCP sockets open now",
            _ => counter.help.trim_start_matches("nanoseconds "),
        };
        row(name, shown, help);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use tideover_contract::page::state;

    #[test]
    fn quiet_sections_take_one_line() {
        let mut bytes = forge(7, state::LIVE, 1);
        let at = COUNTERS.iter().position(|c| c.name == "wait_ns").unwrap();
        bytes[128 + at * 8..][..8].copy_from_slice(&1_500_000_000u64.to_ne_bytes());
        let page = Page::forged(bytes, 7);
        let snapshot = Snapshot { page: page.view().unwrap(), pid: 7, used: 12, soft: 64, hard: 64 };
        let text = text(&snapshot);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("logs: nothing so far"), "{text}");
        assert!(text.contains("1.50 s  slept, all threads"), "{text}");
        assert!(text.contains("18.8 % of the soft limit"), "{text}");
        assert!(text.contains("events: none so far"), "{text}");
    }

    #[test]
    fn a_process_without_a_page_is_explained() {
        let base = tempfile::tempdir().unwrap();
        let text = find(base.path(), std::process::id()).err().unwrap().text;
        assert!(text.contains("is not guarded") && text.contains("tideover run"), "{text}");
        let text = find(base.path(), 4_000_000_000).err().unwrap().text;
        assert!(text.contains("there is no process 4000000000"), "{text}");
    }
}
