//! The processes that names on the command line mean, also those that start later: a restarted service, a new worker.
#![forbid(unsafe_code)]

use crate::processes::program;
use crate::processes::{each, process};
use crate::settings::policy::{self, GivenGuard};
use crate::settings::steps::Steps;
use std::collections::HashMap;
use tideover_contract::glob;

/// How often a new process is asked for its name, a second apart: it may execute another program soon.
const YOUNG: u32 = 5;
/// After so many looks, any process is asked again.
const RARELY: u32 = 10;

/// Names, and the processes that were asked for theirs.
pub struct Names {
    rules: Vec<Rule>,
    /// Do the rules come from the policy file? Its hash when they were read.
    policy: Option<u64>,
    /// How often each process was seen.
    seen: HashMap<u32, u32>,
}

/// What may be done to the processes of a name. Of several rules for a process, the last counts.
struct Rule {
    /// A shell pattern, or several with commas between them.
    pattern: String,
    /// None: they are left alone.
    steps: Option<Steps>,
}

impl Names {
    /// The shell patterns of the command line.
    pub fn new(patterns: Vec<String>, steps: Steps) -> Names {
        let rules = patterns.into_iter().map(|pattern| Rule { pattern, steps: Some(steps) }).collect();
        Names { rules, policy: None, seen: HashMap::new() }
    }

    /// The names in the policy file, which is read again whenever it has changed.
    pub fn of_policy() -> Names {
        let mut names = Names { rules: Vec::new(), policy: Some(0), seen: HashMap::new() };
        names.reload();
        names
    }

    /// Will there be none, whatever happens?
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.policy.is_none()
    }

    /// Reads the policy file again, if the names are from there. True: other processes may be meant now. A file that is missing, or not to
    /// be believed, names nobody.
    pub fn reload(&mut self) -> bool {
        let Some(before) = self.policy else { return false };
        let now = policy::present();
        let hash = now.as_ref().map_or(0, |policy| policy.hash);
        if hash == before {
            return false;
        }
        let given = now.map(|policy| policy.guards).unwrap_or_default();
        let rule = |it: GivenGuard| Some(Rule { pattern: it.program?, steps: it.steps });
        self.rules = given.into_iter().filter_map(rule).collect();
        self.policy = Some(hash);
        self.seen.clear();
        true
    }

    /// What may be done to a process, by its name; None: it is not named, or to be left alone.
    pub fn steps_of(&self, pid: u32) -> Option<Steps> {
        let names = names_of(pid);
        let is = |rule: &&Rule| names.iter().any(|name| glob::any(rule.pattern.as_bytes(), name));
        self.rules.iter().rev().find(is)?.steps
    }

    /// The processes of these names among those that are new, or have not been asked for long.
    pub fn look(&mut self) -> Vec<(u32, Steps)> {
        if self.rules.is_empty() {
            return Vec::new();
        }
        let pids = each::pids();
        let before = std::mem::take(&mut self.seen);
        let mut found = Vec::new();
        for pid in pids {
            let times = before.get(&pid).map_or(0, |times| times.saturating_add(1));
            self.seen.insert(pid, times);
            if times < YOUNG || times.is_multiple_of(RARELY) {
                found.extend(self.steps_of(pid).map(|steps| (pid, steps)));
            }
        }
        found
    }
}

/// The names of a process: that which the kernel keeps, which is cut to 15 bytes, and that of its file.
fn names_of(pid: u32) -> Vec<Vec<u8>> {
    let kept = process::file(pid, "comm").map(|name| name.trim_ascii_end().to_vec());
    kept.into_iter().chain(program::file_name(pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_when_it_gets_its_name() {
        let mut names = Names::new(vec!["slee[p]".to_string()], Steps::default());
        names.look();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !names.look().contains(&(child.id(), Steps::default())) {
            assert!(std::time::Instant::now() < end);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Names::new(Vec::new(), Steps::default()).is_empty());
        assert!(names.look().iter().all(|it| it.0 != child.id()));
    }
}
