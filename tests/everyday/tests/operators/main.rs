//! What an operator runs on a machine with many services: whose pages are believed, what the commands say of processes that
//! they may not look into, and what their answers promise to scripts.

mod answers;
mod belief;
mod faults;
mod names;
mod obeys;
mod policy;
mod schema;
mod sight;

use serde_json::Value;
use tideover_tests::running::tell;
use tideover_tests::{Outcome, Run, Running, Scratch, fixture, tideover};

/// The command with these words.
fn command(words: &[&str]) -> Run {
    Run::new(tideover()).args(words)
}

/// The command with these words, and a folder of pages.
fn of_pages(pages: &Scratch, words: &[&str]) -> Run {
    command(words).arg("--page-dir").arg(pages.path())
}

/// The JSON on standard output.
#[track_caller]
fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("no JSON, {error}: {outcome}"))
}

/// A guarded program at its limit of 64: one call has given up.
fn full(pages: &Scratch) -> Running {
    let mut running = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut running, "fill");
    running
}
