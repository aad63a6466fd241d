//! Every call that makes a descriptor, thin or composite, with its twins: fails natively at the limit, and is carried over it.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use tideover_tests::{Both, Run, Scratch, fixture, needs, program};

/// Calls that succeed natively with every descriptor taken: posix_spawn's file actions close the number that they open on.
const NEVER_EXHAUSTED: &[&str] = &["posix_spawn", "posix_spawnp"];

/// Runs fixtures/calls.c, which prints a line per call.
fn calls(prepare: impl Fn(Run) -> Run) -> Both {
    let scratch = Scratch::new();
    let source = scratch.write("catalog.msg", "$set 1\n1 found\n");
    let catalog = scratch.join("catalog.cat");
    let made = Command::new(program("gencat", "libc-dev-bin")).arg(&catalog).arg(&source).status();
    assert!(made.is_ok_and(|status| status.success()) && fs::metadata(&catalog).is_ok(), "gencat makes a catalog");
    let run = Run::new(fixture("calls")).env("CALLS_CATALOG", &catalog).env("TMPDIR", scratch.path());
    let both = prepare(run).both();
    both.plain.passes();
    both.preloaded.passes();
    both
}

fn results(output: &str) -> BTreeMap<&str, &str> {
    output.lines().filter_map(|line| line.split_once(' ')).collect()
}

/// Asserts that each call failed for want of a descriptor in the plain run and succeeded in the preloaded one.
fn assert_rescued(both: &Both) {
    let plain = results(&both.plain.stdout);
    let preloaded = results(&both.preloaded.stdout);
    assert!(plain.len() > 80, "the fixture tells of every call: {}", both.plain);
    let mut wrong = vec![];
    for (call, &before) in &plain {
        let after = preloaded.get(call).copied().unwrap_or("nothing");
        let fails_natively = before == "EMFILE" || before.starts_with("EAI");
        match (before, after) {
            ("absent", "absent") => {}
            ("ok", "ok") if NEVER_EXHAUSTED.contains(call) => {}
            (_, "ok") if fails_natively => {}
            _ => wrong.push(format!("{call}: {before} plain, {after} preloaded")),
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), both.preloaded);
}

#[needs(handles)]
#[test]
fn every_call_outlasts_exhaustion_that_another_thread_ends() {
    assert_rescued(&calls(|run| run.limit(32)));
}

#[needs(handles)]
#[test]
fn every_call_passes_a_soft_limit_of_32() {
    assert_rescued(&calls(|run| run.soft(32).hard(64)));
}

#[test]
fn every_call_alone_at_the_hard_limit_reports_the_error_that_libc_reports() {
    let both = calls(|run| run.limit(32).env("CALLS_ALONE", "1"));
    let (plain, preloaded) = (results(&both.plain.stdout), results(&both.preloaded.stdout));
    let changed: Vec<String> = plain
        .iter()
        .filter(|(call, error)| preloaded.get(*call) != Some(error))
        .map(|(call, error)| format!("{call}: {error} plain, {:?} preloaded", preloaded.get(call)))
        .collect();
    assert!(changed.is_empty(), "{}\n{}", changed.join("\n"), both.preloaded);
    let exhausted = plain.values().filter(|&&e| e == "EMFILE" || e.starts_with("EAI")).count();
    assert!(exhausted > 80, "nearly all of them fail: {}", both.plain);
}
