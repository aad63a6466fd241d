//! `tideover events`: the events of all guarded processes in the order of their times, once or as they come.
#![forbid(unsafe_code)]

use crate::commands::arguments::{interval, json_flag, page_dir, page_dir_flag, pid_argument};
use crate::pages;
use crate::pages::events;
use crate::pages::lookup::find;
use crate::pages::snapshot::Snapshot;
use crate::show::failure::Failure;
use crate::show::output::{print, reader_goes_within, with_schema};
use crate::show::units::rfc3339;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;
use tideover_contract::page::EventView;

const EXAMPLES: &str = "\
Examples:
  tideover events
  tideover events 1234
  sudo tideover events --follow
  sudo tideover events --follow --json | jq -c 'select(.kind == \"exhausted\")'

A page keeps the last 16 events of its process. With --follow it is read five
times a second, and what has been missed of more is said as a number. With
--json each event is an object on a line of its own.";

/// The command line.
pub fn command() -> Command {
    Command::new("events")
        .about("Shows the events of guarded processes, also as they come")
        .arg(pid_argument().help("Process id [default: all guarded processes]"))
        .args([
            Arg::new("follow")
                .long("follow")
                .short('f')
                .action(ArgAction::SetTrue)
                .help("Go on, and show what comes, until killed"),
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .value_parser(interval)
                .default_value("200ms")
                .help("Time between two looks"),
            json_flag(),
            page_dir_flag(),
        ])
        .after_help(EXAMPLES)
}

/// Prints them.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    let pid = matches.get_one::<u32>("pid").copied();
    let json = matches.get_flag("json");
    if let Some(pid) = pid {
        find(&base, pid)?;
    }
    // A folder of pages that is missing at start is a mistake in the command line; later it may come and go.
    pages::walk(&base)?;
    let mut seen = Seen::default();
    loop {
        for told in seen.news(&base, pid) {
            print(&if json { format!("{}\n", with_schema(&told.json)) } else { format!("{}\n", told.line) })?;
        }
        if !matches.get_flag("follow") {
            return Ok(());
        }
        if reader_goes_within(matches.get_one::<Duration>("interval").copied().unwrap_or(Duration::from_millis(200))) {
            return Ok(());
        }
    }
}

/// The number of the last event of each process that has been told, by its id and the time when its page was made.
#[derive(Default)]
struct Seen(HashMap<(u32, u64), u64>);

/// An event, ready to be printed.
struct Told {
    at: u64,
    json: Value,
    line: String,
}

impl Seen {
    /// The events that have not been told, the oldest first.
    fn news(&mut self, base: &Path, pid: Option<u32>) -> Vec<Told> {
        let found = pages::walk(base).unwrap_or_default();
        let me = std::process::id();
        let mut all = Vec::new();
        let mut now = HashMap::new();
        for snapshot in found
            .pages
            .iter()
            .filter(|page| pid.map_or(page.pid != me, |pid| page.pid == pid))
            .filter_map(Snapshot::take)
        {
            let who = (snapshot.pid, snapshot.page.started_boot_ns());
            let mut last = self.0.get(&who).copied();
            for event in snapshot.page.events() {
                if last.is_some_and(|last| event.sequence <= last) {
                    continue;
                }
                let missed = last.map_or(event.sequence - 1, |last| event.sequence - last - 1);
                all.push(told(&snapshot, &event, missed));
                last = Some(event.sequence);
            }
            now.insert(who, last.unwrap_or(0));
        }
        self.0 = now;
        all.sort_by_key(|told| told.at);
        all
    }
}

fn told(snapshot: &Snapshot, event: &EventView, missed: u64) -> Told {
    let mut json =
        serde_json::json!({ "pid": snapshot.pid, "program": snapshot.program(), "service": snapshot.service() });
    if let (Some(to), Value::Object(from)) = (json.as_object_mut(), events::one(event)) {
        to.extend(from);
        to.insert("missed".into(), missed.into());
    }
    let service = snapshot.service().map_or_else(String::new, |service| format!(", {service}"));
    let [kind, call, error, story] = events::words(event);
    let what: Vec<String> = [kind, call, error].into_iter().filter(|word| !word.is_empty()).collect();
    let mut line = format!(
        "{} {} (process {}{service}) {}",
        rfc3339(event.at_ns),
        snapshot.program(),
        snapshot.pid,
        what.join(" ")
    );
    if !story.is_empty() {
        line.push_str(&format!(", {story}"));
    }
    if missed > 0 {
        line.push_str(&format!(" ({missed} before it were missed)"));
    }
    Told { at: event.at_ns, json, line }
}
