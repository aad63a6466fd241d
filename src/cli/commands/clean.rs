//! `tideover clean`: removes the pages of processes that have ended, and puts back the log lines that they have left.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag};
use crate::guard::state::{self, Recovered};
use crate::pages;
use crate::pages::Found;
use crate::pages::holds::{self, Fate, Walked};
use crate::show::failure::{Failure, Status};
use crate::show::output::{print, print_json};
use crate::show::units::{bytes, counted};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  tideover clean
  sudo tideover clean              the pages of all users
  tideover clean --json

A process removes its page when it ends; one that is killed can't. ps and stat
remove what they come across, too. Nothing but page files, named by a process id
in a folder tideover.UID of that user, is ever removed.

Log lines that a process had kept because its log's disk was full (TIDEOVER_HOLD)
when it ended or was killed are put back into the log, if there is room by now;
its next program does that, too. Lines of a log that is gone are dropped.

A listener that a `tideover guard` had parked when it was killed listens again.";

/// The command line.
pub fn command() -> Command {
    Command::new("clean")
        .about("Removes pages of processes that are gone, and puts back their log lines")
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Removes the pages, puts lines back, and prints how many. What could not be done is a failure.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    let rearmed = state::recover(&base);
    let done = Done { found: pages::walk(&base)?, held: holds::walk(&holds::base(&base), true), rearmed, base };
    if matches.get_flag("json") {
        print_json(&done.json())?;
        return if done.failures().is_empty() { Ok(()) } else { Err(Failure::without_text(Status::Failed)) };
    }
    print(&done.text())?;
    let failures = done.failures();
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures.join("\ntideover: "))) }
}

/// What was done, and what could not be.
struct Done {
    base: PathBuf,
    found: Found,
    held: Walked,
    rearmed: Vec<Recovered>,
}

impl Done {
    fn text(&self) -> String {
        let live = match self.found.pages.len() {
            1 => "1 live process".to_string(),
            live => format!("{live} live processes"),
        };
        let removed = counted(self.found.removed.len() as u64, "page");
        let mut text = format!("Removed {removed} in {}; {live} left alone.\n", self.base.display());
        for log in &self.held.logs {
            let (bytes, path, pid) = (bytes(log.bytes), &log.path, log.pid);
            text.push_str(&match &log.fate {
                Fate::PutBack => format!("Put back {bytes} into {path}, kept by process {pid}.\n"),
                Fate::Kept(why) => format!("{bytes} of {path} stay kept: {why}.\n"),
                Fate::Dropped => format!("Dropped {bytes} of {path}, kept by process {pid}: the log is gone.\n"),
                Fate::Live | Fate::Failed(_) => continue,
            });
        }
        for Recovered { pid, rearmed, .. } in self.rearmed.iter().filter(|it| it.rearmed > 0) {
            let listeners = counted(*rearmed, "listener");
            text.push_str(&format!("Brought back {listeners} of process {pid}, parked by a guard that was killed.\n"));
        }
        text
    }

    fn json(&self) -> Value {
        let errors = self.found.kept.iter().map(|page| json!({ "pid": page.pid, "error": page.text(&self.base) }));
        let logs = |wanted: fn(&Fate) -> bool| -> Value {
            let logs = self.held.logs.iter().filter(|log| wanted(&log.fate));
            logs.map(|log| json!({ "pid": log.pid, "path": log.path, "bytes": log.bytes, "reason": reason(&log.fate) }))
                .collect()
        };
        json!({
            "removed": self.found.removed.len(), "pids": self.found.removed, "live": self.found.pages.len(),
            "failed": self.found.kept.len(), "errors": errors.collect::<Vec<_>>(),
            "put_back": logs(|fate| *fate == Fate::PutBack),
            "held": logs(|fate| matches!(fate, Fate::Kept(_) | Fate::Failed(_))),
            "dropped": logs(|fate| *fate == Fate::Dropped),
            "unremoved_holds": self.held.unremoved,
            "rearmed": self.rearmed.iter().map(|it| json!({ "pid": it.pid, "items": it.rearmed })).collect::<Vec<_>>(),
        })
    }

    /// What could not be done, each with its reason and what helps.
    fn failures(&self) -> Vec<String> {
        let pages = self.found.kept.iter().map(|page| format!("cannot remove {}", page.text(&self.base)));
        let logs = self.held.logs.iter().filter_map(|log| match &log.fate {
            Fate::Failed(why) => Some(format!("cannot put back {} into {}: {why}", bytes(log.bytes), log.path)),
            _ => None,
        });
        let holds = self.held.unremoved.iter().map(|text| format!("cannot remove {text}"));
        let listeners = self.rearmed.iter().filter_map(|it| {
            let why = it.failed.as_ref()?;
            Some(format!(
                "cannot bring back a listener of process {}, parked by a guard that was killed: {why}",
                it.pid
            ))
        });
        pages.chain(logs).chain(holds).chain(listeners).collect()
    }
}

/// Why lines are not in their log; None: they are, or nothing more is to be said.
fn reason(fate: &Fate) -> Option<&str> {
    match fate {
        Fate::Kept(why) | Fate::Failed(why) => Some(why),
        Fate::Dropped => Some("the log is gone"),
        Fate::PutBack | Fate::Live => None,
    }
}
