//! What is promised to a program that logs: through an outage no line is lost, and the page tells how many went elsewhere.

use std::path::Path;
use std::time::Duration;

use crate::numbered::Account;
use crate::outage::{Fed, Told, compared, nothing_lost};
use crate::programs::sh;
use crate::{Kind, Run};

fn through(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) -> (Told, Told) {
    // Java's and perl's buffers of 8 KiB keep what did not fit and try again; the outage is longer than that.
    let each = if name.starts_with("java") || name.starts_with("perl") { 200 } else { 100 };
    compared(name, kind, each, |_, log, preload| {
        Fed::start(&run(log).preload(preload).timeout(Duration::from_secs(60)))
    })
}

/// The lines that did not get into the log are on standard output.
pub fn survives(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    let (_, told) = through(name, kind, run);
    let account = told.on_stdout();
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert!(told.outcome.succeeded(), "{}", told.outcome);
    told_in_page(&told, &account);
}

/// For programs whose standard output is the log: the lines are on standard error.
pub fn survives_on_stderr(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    survives_on_stderr_with(name, ">>", kind, run);
}

/// As [`survives_on_stderr`], with its own way to send standard output to the log: `>` or `>>`.
pub fn survives_on_stderr_with(name: &str, redirection: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    let script = format!("log=$1; shift; exec \"$@\" {redirection}\"$log\"");
    let (_, told) = through(name, kind, |log| {
        let real = run(log);
        let shell = sh(&script).arg("sh");
        shell.arg(log).args(real.command())
    });
    let account = told.on_stderr();
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert!(told.outcome.succeeded(), "{}", told.outcome);
    told_in_page(&told, &account);
}

/// For shells whose standard output has become the log: what it was before is gone, so the lines are on standard error.
pub fn survives_in_a_shell(name: &str, run: impl Fn(&Path) -> Run) {
    let (_, told) = through(name, Kind::Tmpfs, run);
    assert_eq!(told.outcome.stdout, "", "{}", told.outcome);
    let account = told.on_stderr();
    nothing_lost(&told, &account);
    account.markers_tell_all();
    assert!(told.outcome.succeeded(), "{}", told.outcome);
    told_in_page(&told, &account);
}

/// The page says what the test saw.
fn told_in_page(told: &Told, account: &Account) {
    let elsewhere = (account.in_sink.len() + account.rejoined.len()) as u64;
    assert_eq!(told.logs("diverted_lines"), elsewhere, "{account}");
    assert_eq!(told.logs("diverted_bytes"), account.sink_bytes(), "{account}");
    assert_eq!(told.logs("dropped_bytes"), 0);
    assert_eq!(told.logs("recoveries"), 1);
    assert_eq!(told.logs("degraded"), 0, "it is over");
}
