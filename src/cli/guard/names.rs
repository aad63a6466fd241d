//! The processes that names on the command line mean, also those that start later: a restarted service, a new worker.
#![forbid(unsafe_code)]

use crate::processes::program;
use crate::processes::{each, process};
use std::collections::HashMap;
use tideover_contract::glob;

/// How often a new process is asked for its name, a second apart: it may execute another program soon.
const YOUNG: u32 = 5;
/// After so many looks, any process is asked again.
const RARELY: u32 = 10;

/// Names, and the processes that were asked for theirs.
pub struct Names {
    patterns: Vec<String>,
    /// How often each process was seen.
    seen: HashMap<u32, u32>,
}

impl Names {
    /// Shell patterns of names.
    pub fn new(patterns: Vec<String>) -> Names {
        Names { patterns, seen: HashMap::new() }
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The processes of these names among those that are new, or have not been asked for long.
    pub fn look(&mut self) -> Vec<u32> {
        let pids = each::pids();
        let before = std::mem::take(&mut self.seen);
        let mut found = Vec::new();
        for pid in pids {
            let times = before.get(&pid).map_or(0, |times| times.saturating_add(1));
            self.seen.insert(pid, times);
            if (times < YOUNG || times.is_multiple_of(RARELY)) && is_called(pid, &self.patterns) {
                found.push(pid);
            }
        }
        found
    }
}

/// Is a process called so, by the name that the kernel keeps, which is cut to 15 bytes, or by its file?
fn is_called(pid: u32, patterns: &[String]) -> bool {
    let is = |name: &[u8]| patterns.iter().any(|pattern| glob::any(pattern.as_bytes(), name));
    process::file(pid, "comm").is_some_and(|name| is(name.trim_ascii_end()))
        || program::file_name(pid).is_some_and(|name| is(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_when_it_gets_its_name() {
        let mut names = Names::new(vec!["slee[p]".to_string()]);
        names.look();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !names.look().contains(&child.id()) {
            assert!(std::time::Instant::now() < end);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Names::new(Vec::new()).is_empty() && !names.look().contains(&child.id()));
    }
}
