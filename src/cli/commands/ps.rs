//! `tideover ps`: the list of guarded processes.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag};
use crate::commands::guard;
use crate::guard::guarded::{self, Guarded};
use crate::pages::snapshot::Snapshot;
use crate::pages::{self, Page};
use crate::show::failure::Failure;
use crate::show::output::{print, print_json};
use crate::show::table::{Align, Table};
use crate::show::units::{short_bytes, short_count};
use clap::{ArgMatches, Command};
use rustix::process::geteuid;
use std::io::IsTerminal;
use std::path::Path;

const EXAMPLES: &str = "\
Examples:
  tideover ps
  sudo tideover ps                 the processes of all users
  tideover ps --json | jq '.[] | select(.exhaustion.gave_up > 0) | .pid'

Columns: descriptors used, soft and hard limit; calls that found no descriptor,
of these the ones that then succeeded and the ones whose error was passed on;
full while a log's disk is full; bytes of log that went elsewhere.

Below them stand the processes that a `tideover guard` has from outside, as by
`tideover guard --status`: how often their soft limit was raised, idle clients
ended, their listener parked and brought back, and how it is now. In JSON they
are elements of the list that have the key guard, and counters of 0.";

/// The command line.
pub fn command() -> Command {
    Command::new("ps").about("Lists guarded processes").args([json_flag(), page_dir_flag()]).after_help(EXAMPLES)
}

/// Prints the list.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    if matches.get_flag("json") {
        let (pages, outside) = guarded(&base)?;
        let inside = pages.iter().filter_map(Snapshot::take).map(|snapshot| snapshot.json());
        let outside = outside.iter().filter_map(|it| {
            let page = pages::without_counts(it.process.pid)?;
            let mut object = Snapshot::take(&page)?.json();
            object["guard"] = it.brief();
            Some(object)
        });
        return print_json(&inside.chain(outside).collect());
    }
    show(&base)
}

/// Prints the list for people.
pub fn show(base: &Path) -> Result<(), Failure> {
    let (pages, outside) = guarded(base)?;
    let snapshots: Vec<Snapshot> = pages.iter().filter_map(Snapshot::take).collect();
    if snapshots.is_empty() && outside.is_empty() {
        let whose = if geteuid().is_root() { "" } else { " of yours (root sees all users')" };
        return print(&format!(
            "No guarded process{whose} in {}. Start one with `tideover run PROGRAM`.\n",
            base.display()
        ));
    }
    let mut text = if snapshots.is_empty() { String::new() } else { table(&snapshots, width()) };
    if !outside.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        text.push_str(&format!("{gap}Guarded from outside:\n{}", guard::table(&outside, width())));
    }
    print(&text)
}

/// Columns of the terminal, at least 80. Where there is none, a line is as long as it needs to be.
fn width() -> usize {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return usize::MAX;
    }
    rustix::termios::tcgetwinsize(&stdout).map_or(80, |size| usize::from(size.ws_col)).max(80)
}

/// All guarded processes except this one, which is guarded itself in an image that sets LD_PRELOAD for all programs: those that have the
/// library, and those that have not and are guarded from outside.
pub fn guarded(base: &Path) -> Result<(Vec<Page>, Vec<Guarded>), Failure> {
    let mut pages = pages::walk(base)?.pages;
    let mut outside = guarded::all(base);
    outside.retain(|it| pages.iter().all(|page| page.pid != it.process.pid));
    pages.retain(|page| page.pid != std::process::id());
    Ok((pages, outside))
}

/// The list as a table of at most so many columns, which are at least 80. The service stands beside the program where both fit,
/// else in its place where it says more: five services are called python3.
pub fn table(snapshots: &[Snapshot], width: usize) -> String {
    let services: Vec<String> = snapshots.iter().map(|snapshot| snapshot.service().unwrap_or_default()).collect();
    let named = services.iter().any(|service| !service.is_empty());
    let whole = rows(snapshots, &services, named);
    let text = whole.render(usize::MAX, 1, 1);
    if text.lines().all(|line| line.chars().count() <= width) {
        return text;
    }
    let none = vec![String::new(); snapshots.len()];
    let narrow = if width < 100 { rows(snapshots, &none, false) } else { rows(snapshots, &services, named) };
    narrow.render(width, 1, if width < 100 { 1 } else { 2 })
}

fn rows(snapshots: &[Snapshot], services: &[String], with_services: bool) -> Table {
    use Align::{Left, Right};
    let columns = [
        ("PID", Right),
        ("PROGRAM", Left),
        ("SERVICE", Left),
        ("USED", Right),
        ("SOFT", Right),
        ("HARD", Right),
        ("EXHAUSTED", Right),
        ("RECOVERED", Right),
        ("GAVE UP", Right),
        ("LOGS", Left),
        ("DIVERTED", Right),
    ];
    let shown = |i: &usize| with_services || *i != SERVICE;
    let columns: Vec<_> = columns.into_iter().enumerate().filter(|(i, _)| shown(i)).map(|(_, column)| column).collect();
    let mut table = Table::new(&columns);
    for (snapshot, service) in snapshots.iter().zip(services) {
        let exhaustion = |name| snapshot.counter("exhaustion", name);
        let logs = |name| snapshot.counter("logs", name);
        let cells = [
            snapshot.pid.to_string(),
            snapshot.program(),
            service.clone(),
            short_count(snapshot.used),
            short_count(snapshot.soft),
            short_count(snapshot.hard),
            short_count(exhaustion("emfile").saturating_add(exhaustion("enfile"))),
            short_count(exhaustion("recovered")),
            short_count(exhaustion("gave_up")),
            if logs("degraded") == 0 { "ok" } else { "full" }.to_string(),
            short_bytes(logs("diverted_bytes")),
        ];
        table.row(cells.into_iter().enumerate().filter(|(i, _)| shown(i)).map(|(_, cell)| cell));
    }
    table
}

/// Place of the column of services.
const SERVICE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use tideover_contract::page::state;

    #[test]
    fn the_widest_row_fits_a_terminal_of_80_columns() {
        let mut bytes = forge(4_194_304, state::LIVE, 1);
        // Every counter at its highest, and a long name.
        bytes[64..512].fill(0xff);
        bytes[64..128].fill(b'n');
        let page = Page::forged(bytes, 4_194_304);
        let view = page.view().unwrap();
        let snapshot =
            Snapshot { page: view, pid: page.pid, used: 1_000_000, soft: 1 << 30, hard: u64::MAX, obtainable: 1 << 30 };
        let text = table(&[snapshot], 80);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.starts_with("    PID PROGRAM"), "{text}");
    }
}
