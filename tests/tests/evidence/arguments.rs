//! Every hook with bad arguments: what it returns, errno, and the signal, if one ends the program, are those of the libc.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use tideover_tests::network::own_network;
use tideover_tests::{Run, Scratch, fixture, needs, workspace};

/// Hooks that the sweep does not call, and why.
const LEFT_OUT: &[(&str, &str)] = &[
    ("_Exit", "ends the program"),
    ("_exit", "ends the program"),
    ("exit", "ends the program"),
    ("quick_exit", "ends the program"),
    ("pthread_exit", "ends the thread"),
    ("pthread_cancel", "a thread id that is none is undefined, and no pointer of the caller's"),
    ("vfork", "has no arguments"),
    ("__vfork", "has no arguments"),
    ("openat2", "this libc has none to compare with; it is called by syscall(2)"),
];

fn sweep(what: &str) -> Run {
    let run = Run::new(fixture("evidence_bad_arguments")).soft(1024).hard(20_000).env("TIDEOVER_LOG", "off");
    if what == "names" { run.arg(what) } else { run.arg(".").arg(what) }.timeout(Duration::from_secs(200))
}

/// The lines of a run, but for functions that only the library has.
fn lines(what: &str, preload: bool, settings: &[(&str, &str)]) -> Vec<String> {
    let scratch = Scratch::new();
    let run = settings.iter().fold(sweep(what).folder(scratch.path()), |run, (name, value)| run.env(name, value));
    let outcome = run.preload(preload).output();
    outcome.passes();
    outcome.stdout.lines().filter(|line| !line.starts_with("openat2")).map(String::from).collect()
}

/// Calls that answer otherwise on purpose: they tell the soft limit, which is raised before.
const OTHERWISE: &[&str] =
    &["sysconf: 1024; preloaded: 16384", "__sysconf: 1024; preloaded: 16384", "getdtablesize: 1024; preloaded: 16384"];

/// Compares a sweep without the library with one with it.
fn compare(what: &str, settings: &[(&str, &str)]) {
    // Some arguments are names of hosts, and the time that a name server takes is chance.
    own_network();
    let (plain, preloaded) = (lines(what, false, settings), lines(what, true, settings));
    assert_eq!(plain.len(), preloaded.len(), "as many calls");
    assert!(plain.len() > if what == "full" || what.is_empty() { 3000 } else { 20 }, "{} calls", plain.len());
    let differences: Vec<String> = plain
        .iter()
        .zip(&preloaded)
        .filter(|(plain, preloaded)| plain != preloaded)
        .map(|(plain, preloaded)| format!("{plain}; preloaded: {}", preloaded.rsplit(": ").next().unwrap_or("")))
        .filter(|difference| !OTHERWISE.contains(&difference.as_str()))
        .collect();
    assert!(differences.is_empty(), "{} of {} differ:\n{}", differences.len(), plain.len(), differences.join("\n"));
}

#[needs(netns)]
#[test]
fn bad_arguments_are_answered_as_by_the_libc() {
    compare("", &[]);
}

#[needs(netns)]
#[test]
fn bad_arguments_are_answered_as_by_the_libc_when_no_descriptor_is_left() {
    compare("full", &[]);
}

#[needs(netns)]
#[test]
fn a_disabled_library_reads_no_argument() {
    let settings = [("TIDEOVER_DISABLE", "1")];
    for what in ["select", "pselect", "poll", "ppoll", "epoll_", "write", "connect", "accept"] {
        compare(what, &settings);
    }
}

#[test]
fn unreadable_sets_are_efault_and_not_the_end() {
    let unreadable = ["unmapped", "unreadable", "kernel memory", "not canonical"];
    for preload in [false, true] {
        for line in lines("select", preload, &[]).into_iter().chain(lines("pselect", preload, &[])) {
            let is_set = ["argument 2", "argument 3", "argument 4"].iter().any(|word| line.contains(word));
            if is_set && unreadable.iter().any(|word| line.contains(word)) {
                assert!(line.ends_with("-1 EFAULT"), "preload: {preload}; {line}");
            }
        }
    }
}

#[test]
fn the_sweep_calls_every_hook() {
    let names = sweep("names").output();
    let called: BTreeSet<&str> = names.passes().stdout.lines().chain(LEFT_OUT.iter().map(|(name, _)| *name)).collect();
    let exports = fs::read_to_string(workspace().join("src/shim/exports.txt")).expect("the list of hooks");
    let forgotten: Vec<&str> =
        exports.split_whitespace().filter(|name| !name.starts_with("tideover_") && !called.contains(name)).collect();
    assert!(forgotten.is_empty(), "tests/fixtures/evidence_bad_arguments.h has no {forgotten:?}");
}
