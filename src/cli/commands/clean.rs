//! `tideover clean`: removes the pages of processes that have ended.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag};
use crate::pages;
use crate::show::failure::{Failure, Status};
use crate::show::output::{print, print_json};
use crate::show::units::counted;
use clap::{ArgMatches, Command};
use serde_json::json;

const EXAMPLES: &str = "\
Examples:
  tideover clean
  sudo tideover clean              the pages of all users
  tideover clean --json

A process removes its page when it ends; one that is killed can't. ps and stat
remove what they come across, too. Nothing but page files, named by a process id
in a folder tideover.UID of that user, is ever removed.";

/// The command line.
pub fn command() -> Command {
    Command::new("clean")
        .about("Removes pages of processes that are gone")
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Removes the pages, and prints how many.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    let found = pages::walk(&base)?;
    let (removed, live) = (found.removed.len() as u64, found.pages.len() as u64);
    if matches.get_flag("json") {
        let errors: Vec<_> = found.kept.iter().map(|(pid, why)| json!({ "pid": pid, "error": why })).collect();
        let failed = errors.len();
        print_json(
            &json!({ "removed": removed, "pids": found.removed, "live": live, "failed": failed, "errors": errors }),
        )?;
        return if failed == 0 { Ok(()) } else { Err(Failure::without_text(Status::Failed)) };
    }
    let live = counted(live, "live process").replace("processs", "processes");
    print(&format!("Removed {} in {}; {live} left alone.\n", counted(removed, "page"), base.display()))?;
    match found.kept.first() {
        Some((pid, why)) => Err(Failure::failed(format!(
            "could not remove {}, among them that of process {pid}: {why}",
            counted(found.kept.len() as u64, "page")
        ))),
        None => Ok(()),
    }
}
