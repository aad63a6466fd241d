//! `tideover clean`: removes the pages of processes that have ended, and puts back the log lines that they have left.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag};
use crate::pages;
use crate::pages::holds::{self, HeldLog};
use crate::show::failure::{Failure, Status};
use crate::show::output::{print, print_json};
use crate::show::units::{bytes, counted};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};

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
its next program does that, too. Lines of a log that is gone are dropped.";

/// The command line.
pub fn command() -> Command {
    Command::new("clean")
        .about("Removes pages of processes that are gone, and puts back their log lines")
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Removes the pages, puts lines back, and prints how many.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    let found = pages::walk(&base)?;
    let (removed, live) = (found.removed.len() as u64, found.pages.len() as u64);
    let held: Vec<HeldLog> = holds::walk(&holds::base(&base), true).into_iter().filter(|log| !log.is_live).collect();
    if matches.get_flag("json") {
        let errors: Vec<_> = found.kept.iter().map(|(pid, why)| json!({ "pid": pid, "error": why })).collect();
        let failed = errors.len();
        let logs = |back: bool| -> Vec<Value> {
            let wanted = held.iter().filter(|log| log.kept.is_none() == back);
            wanted
                .map(|log| json!({ "pid": log.pid, "path": log.path, "bytes": log.bytes, "reason": log.kept }))
                .collect()
        };
        print_json(&json!({ "removed": removed, "pids": found.removed, "live": live, "failed": failed,
                            "errors": errors, "put_back": logs(true), "held": logs(false) }))?;
        return if failed == 0 { Ok(()) } else { Err(Failure::without_text(Status::Failed)) };
    }
    let live = counted(live, "live process").replace("processs", "processes");
    print(&format!("Removed {} in {}; {live} left alone.\n", counted(removed, "page"), base.display()))?;
    for log in &held {
        print(&match &log.kept {
            None => format!("Put back {} into {}, kept by process {}.\n", bytes(log.bytes), log.path, log.pid),
            Some(why) => format!("{} of {} stay kept: {why}.\n", bytes(log.bytes), log.path),
        })?;
    }
    match found.kept.first() {
        Some((pid, why)) => Err(Failure::failed(format!(
            "could not remove {}, among them that of process {pid}: {why}",
            counted(found.kept.len() as u64, "page")
        ))),
        None => Ok(()),
    }
}
