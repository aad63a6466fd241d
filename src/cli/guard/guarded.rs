//! The processes that are guarded from outside, by the states that their guards have written: for `--status`, `ps`, `top` and `metrics`.
#![forbid(unsafe_code)]

use crate::guard::park;
use crate::guard::state::{self, Counts, Process};
use crate::processes::process;
use crate::show::output::safe;
use serde_json::{Value, json};
use std::path::Path;

/// A process that is guarded from outside.
#[derive(Clone, Debug)]
pub struct Guarded {
    /// Which process.
    pub process: Process,
    /// Its name, safe to print.
    pub program: String,
    /// Process id of its guard.
    pub guard: u32,
    /// What was done.
    pub counts: Counts,
    /// Is a listener of it parked now?
    pub is_parked: bool,
    /// Is it so although its guard does not run any more? `tideover clean` brings the listener back.
    pub is_abandoned: bool,
    state: Value,
}

impl Guarded {
    /// The object of `guard --status --json`.
    pub fn json(&self) -> Value {
        let mut object = self.state.clone();
        object["abandoned"] = json!(self.is_abandoned);
        object
    }

    /// The object that `ps --json` has as `guard`.
    pub fn brief(&self) -> Value {
        let mut object = self.counts.json();
        object["pid"] = json!(self.guard);
        object["is_parked"] = json!(self.is_parked);
        object["abandoned"] = json!(self.is_abandoned);
        object
    }

    /// How its listener is now, in a word.
    pub fn now(&self) -> &'static str {
        match (self.is_parked, self.is_abandoned) {
            (_, true) => "abandoned",
            (true, false) => "parked",
            (false, false) => "listens",
        }
    }
}

/// All of them whose guard runs, and those that a guard has left parked when it was killed; by process id.
pub fn all(base: &Path) -> Vec<Guarded> {
    let mut all = Vec::new();
    for (user, folder) in state::folders(base) {
        for process in state::named(&folder, "json").into_iter().filter(|process| process.is_alive()) {
            // Of others' processes only root may say something.
            if user != 0 && process::user(process.pid) != Some(user) {
                continue;
            }
            let text = state::read(&folder, process).ok().flatten();
            let Some((state, parked)) = text.and_then(|text| state::parse(&text, process)) else { continue };
            let runs = state::is_held(&folder, process);
            let is_abandoned = !runs && parked.iter().any(|it| park::is_parked(process, it.item));
            if runs || is_abandoned {
                all.push(Guarded {
                    process,
                    program: safe(state["program"].as_str().unwrap_or("").as_bytes()),
                    guard: state["guard"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
                    counts: Counts::of(&state["counts"]),
                    is_parked: !parked.is_empty(),
                    is_abandoned,
                    state,
                });
            }
        }
    }
    all.sort_by_key(|it| it.process.pid);
    all.dedup_by_key(|it| it.process.pid);
    all
}
