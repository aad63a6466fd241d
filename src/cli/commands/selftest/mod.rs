//! `tideover selftest`: exhausts the descriptors of a child process, without the library and with it, and compares the two.
#![forbid(unsafe_code)]

mod child;
pub mod scenarios;
mod small_disk;

use crate::commands::arguments::json_flag;
use crate::executables::privileges::Caller;
use crate::launch::check::{self, Conditions};
use crate::launch::library::{self, Library};
use crate::pages;
use crate::pages::snapshot::Snapshot;
use crate::show::failure::Failure;
use crate::show::output::{print, print_json};
use child::{Answer, Child};
use clap::{ArgMatches, Command};
use rustix::process::{Resource, getrlimit};
use scenarios::FULL_LOG;
use serde_json::{Value, json};

const EXAMPLES: &str = "\
Examples:
  tideover selftest
  TIDEOVER_LIB=./libtideover.so tideover selftest
  docker run --rm IMAGE tideover selftest    does it work in this image?

Each line compares a small program without and with the library, under limits
lowered for it alone. Exit status 0: no check failed. A check that this machine
does not allow (a full disk of its own) is skipped.";

/// How the child should behave without the library.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// It fails; if it did not, the check would show nothing.
    Fails,
    /// It behaves as with the library.
    Same,
}

/// A row of the table of checks.
struct Check {
    says: &'static str,
    scenario: &'static str,
    limits: (u64, u64),
    plain: Plain,
}

const CHECKS: &[Check] = &[
    Check { says: "the soft limit is raised", scenario: "open-many", limits: (64, 1024), plain: Plain::Fails },
    Check { says: "a close wakes a waiting open", scenario: "close-wakes-open", limits: (32, 32), plain: Plain::Fails },
    Check { says: "opendir and spawn wait, too", scenario: "composite", limits: (32, 32), plain: Plain::Fails },
    Check { says: "a hopeless open fails at once", scenario: "hopeless", limits: (32, 32), plain: Plain::Same },
    Check { says: "accept with nobody waiting", scenario: "phantom", limits: (32, 32), plain: Plain::Fails },
    Check { says: "a client waits for a descriptor", scenario: "client-waits", limits: (32, 32), plain: Plain::Fails },
    Check { says: "a log on a full disk", scenario: FULL_LOG, limits: (256, 256), plain: Plain::Fails },
];

/// The last check uses the scenario of another: a child that has waited must have a page that counts it.
const PAGE_CHECK: &str = "the page counts it";
const PAGE_SCENARIO: (&str, (u64, u64)) = ("close-wakes-open", (32, 32));

/// The result of a check.
struct CheckResult {
    name: &'static str,
    status: Status,
    plain: String,
    guarded: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    Failed,
    Skipped,
}

/// The command line.
pub fn command() -> Command {
    Command::new("selftest")
        .about("Exhausts a child on purpose and shows each feature working on this machine")
        .arg(json_flag())
        .after_help(EXAMPLES)
}

/// Runs all checks. Fails if one of them failed.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let library = library::find()?;
    // The child is this command itself; one that is linked statically (`make dist`) can't be guarded.
    let itself = std::env::current_exe().unwrap_or_default();
    check::check(&itself, &Conditions { library: &library, caller: Caller::me(), path: None })?;
    let json = matches.get_flag("json");
    if !json {
        print(&format!("{}\n\n         {:31} {:23} with it\n", library.path.display(), "", "without the library"))?;
    }
    let mut results = Vec::new();
    for check in CHECKS {
        results.push(compare(check, &library));
        print_last(json, &results)?;
    }
    results.push(page(&library));
    print_last(json, &results)?;
    let failed = results.iter().filter(|result| result.status == Status::Failed).count();
    let skipped = results.iter().filter(|result| result.status == Status::Skipped).count();
    if json {
        let checks: Vec<Value> = results.iter().map(CheckResult::json).collect();
        print_json(&json!({ "library": library.path.to_string_lossy(), "ok": failed == 0, "checks": checks }))?;
    }
    match failed {
        0 => Ok(()),
        // The object says all of it; a second one would not be JSON any more.
        _ if json => Err(Failure::without_text(crate::show::failure::Status::Failed)),
        _ => Err(Failure::failed(format!(
            "{failed} of {} checks failed, {skipped} skipped; TIDEOVER_LOG=debug tideover selftest shows what the library says",
            results.len()
        ))),
    }
}

fn print_last(json: bool, results: &[CheckResult]) -> Result<(), Failure> {
    match results.last() {
        Some(v) if !json => print(&format!("{:8} {:31} {:23} {}\n", v.word(), v.name, v.plain, v.guarded)),
        _ => Ok(()),
    }
}

impl CheckResult {
    fn word(&self) -> &'static str {
        match self.status {
            Status::Ok => "OK",
            Status::Failed => "FAILED",
            Status::Skipped => "skipped",
        }
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "status": self.word().to_lowercase(), "plain": self.plain, "guarded": self.guarded })
    }
}

/// Why a check can't be made on this machine; None if it can.
fn obstacle(check: &Check) -> Option<String> {
    let (hard, allowed) = (check.limits.1, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
    if allowed < hard {
        return Some(format!("needs a hard limit of {hard}, has {allowed}"));
    }
    (check.scenario == FULL_LOG && !small_disk::is_possible())
        .then(|| "needs a mount namespace (unshare -m)".to_string())
}

fn compare(check: &Check, library: &Library) -> CheckResult {
    let name = check.says;
    if let Some(reason) = obstacle(check) {
        return CheckResult { name, status: Status::Skipped, plain: reason, guarded: String::new() };
    }
    let plain = Child::start(check.scenario, check.limits, library, false).answer();
    let guarded = Child::start(check.scenario, check.limits, library, true).answer();
    let meaningful = plain.ok == (check.plain == Plain::Same);
    let status = if guarded.ok && meaningful { Status::Ok } else { Status::Failed };
    CheckResult { name, status, plain: plain.says, guarded: guarded.says }
}

fn page(library: &Library) -> CheckResult {
    let (scenario, limits) = PAGE_SCENARIO;
    let mut child = Child::start(scenario, limits, library, true);
    let answer = child.wait_for_answer();
    let (ok, guarded) = match read_page(child.pid()) {
        Ok(page) => counts(&page, &answer),
        Err(reason) => (false, reason),
    };
    child.finish();
    let status = if ok { Status::Ok } else { Status::Failed };
    CheckResult { name: PAGE_CHECK, status, plain: "no page".to_string(), guarded }
}

fn read_page(pid: u32) -> Result<pages::Page, String> {
    let base = pages::base(None);
    let found = pages::walk(&base).map_err(|failure| failure.text)?;
    let page = found.pages.into_iter().find(|page| page.pid == pid);
    page.ok_or_else(|| format!("no page of the child in {}", base.display()))
}

fn counts(page: &pages::Page, answer: &Answer) -> (bool, String) {
    let Some(snapshot) = Snapshot::take(page) else { return (false, "an unreadable page".to_string()) };
    let (emfile, recovered) = (snapshot.counter("exhaustion", "emfile"), snapshot.counter("exhaustion", "recovered"));
    let waits = snapshot.counter("exhaustion", "waits");
    let ok = answer.ok && emfile > 0 && recovered > 0 && waits > 0 && snapshot.soft == PAGE_SCENARIO.1.0;
    (ok, format!("emfile {emfile}, recovered {recovered}, waits {waits}"))
}
