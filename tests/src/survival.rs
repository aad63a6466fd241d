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

/// Both runs of a program whose standard output is the log, by `>` or `>>`.
fn redirected(name: &str, redirection: &str, kind: Kind, run: impl Fn(&Path) -> Run) -> (Told, Told) {
    let script = format!("log=$1; shift; exec \"$@\" {redirection}\"$log\"");
    through(name, kind, |log| {
        let real = run(log);
        let shell = sh(&script).arg("sh");
        shell.arg(log).args(real.command())
    })
}

/// For programs whose standard output is a result: they fail as without the library, and no line is anywhere else.
pub fn fails_as_without(name: &str, redirection: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    let (plain, told) = redirected(name, redirection, kind, run);
    assert_eq!((told.outcome.status, &told.file), (plain.outcome.status, &plain.file), "{}", told.outcome);
    assert_eq!(told.outcome.stdout, plain.outcome.stdout);
    assert!(told.on_stderr().in_sink.is_empty(), "{}", told.outcome);
}

/// For programs whose standard output is the log: the lines are on standard error.
pub fn survives_on_stderr(name: &str, kind: Kind, run: impl Fn(&Path) -> Run) {
    let (_, told) = redirected(name, ">>", kind, run);
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
