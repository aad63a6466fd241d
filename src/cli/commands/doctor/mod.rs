//! `tideover doctor`: checks a process or the system for what is short or soon will be, and names commands that help.
#![forbid(unsafe_code)]

mod check;
mod disks;
mod inotify;
mod leaks;
mod library;
mod limits;
mod process;
mod sampled;
mod system;

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag, pid_argument, time};
use crate::show::failure::{Failure, Status};
use crate::show::output::{print, print_json};
use crate::system::level::Level;
use check::Check;
use clap::{Arg, ArgMatches, Command};
use sampled::SampledProcess;
use serde_json::{Value, json};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  tideover doctor                  the system
  tideover doctor 1234             a process, guarded or not
  tideover doctor 1234 --sample 60s    finds slower leaks
  tideover doctor 1234 --json | jq '.checks[] | select(.status != \"ok\")'

Exit status, as monitoring plugins have it: 0 all checks are OK, 1 the worst is
a WARNING, 2 it is CRITICAL, 3 some could not be made, which is said as UNKNOWN
with what it takes to see it.";

/// The command line.
pub fn command() -> Command {
    Command::new("doctor")
        .about("Checks a process or the system, and says what mends what it finds")
        .arg(pid_argument().help("Process id, guarded or not [default: the system]"))
        .arg(
            Arg::new("sample")
                .long("sample")
                .value_name("TIME")
                .default_value("2s")
                .value_parser(time)
                .help("How long to sample the process, to see what grows"),
        )
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Makes the checks. The worst result is the exit status.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let sample = matches.get_one::<Duration>("sample").copied().unwrap_or_default();
    let pages = page_dir(matches);
    let report = match matches.get_one::<u32>("pid") {
        Some(&pid) => {
            let sampled = SampledProcess::take(pid, sample, &pages).map_err(|failure| failure.with(Status::Unknown))?;
            Report { heading: sampled.heading(), checks: process::checks(&sampled), more: Some(sampled) }
        }
        None => Report { heading: "This system".to_string(), checks: system::checks(&pages), more: None },
    };
    let unknown = |failure: Failure| failure.with(Status::Unknown);
    if matches.get_flag("json") { print_json(&report.json()) } else { print(&report.text()) }.map_err(unknown)?;
    match report.worst() {
        Level::Ok => Ok(()),
        Level::Warning => Err(Failure::without_text(Status::Warning)),
        Level::Unknown => Err(Failure::without_text(Status::Unknown)),
        Level::Critical => Err(Failure::without_text(Status::Critical)),
    }
}

struct Report {
    heading: String,
    checks: Vec<Check>,
    more: Option<SampledProcess>,
}

impl Report {
    fn worst(&self) -> Level {
        self.checks.iter().map(|check| check.level).max().unwrap_or(Level::Ok)
    }

    fn text(&self) -> String {
        let checks: String = self.checks.iter().map(Check::text).collect();
        let more = self.more.as_ref().map_or_else(String::new, SampledProcess::inventory);
        format!("{}\n\n{checks}{more}", self.heading)
    }

    fn json(&self) -> Value {
        let mut value = self.more.as_ref().map_or_else(|| json!({}), SampledProcess::json);
        value["status"] = json!(self.worst().name());
        value["checks"] = self.checks.iter().map(Check::json).collect();
        value
    }
}
