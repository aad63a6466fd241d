//! What `watch` measures: numbers, each with its thresholds, by the one table of alerts (`system/alerts.rs`) and the policy file.
#![forbid(unsafe_code)]

use super::open_files::OpenFiles;
use crate::pages;
use crate::pages::obtainable::obtainable;
use crate::pages::snapshot::Snapshot;
use crate::processes::list::{self, ListedProcess};
use crate::processes::service;
use crate::settings::policy::{self, Policy, thresholds};
use crate::show::failure::Failure;
use crate::show::units::bytes;
use crate::system::cgroup;
use crate::system::level::{Level, Thresholds};
use crate::system::{self, Share};
use std::collections::HashMap;
use std::path::PathBuf;
use tideover_contract::glob;

/// What a number is about: the name of the alert, and the process by its id and its start; both are 0 for the system.
pub type Subject = (&'static str, u32, u64);

/// A number that was measured.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is about.
    pub subject: Subject,
    /// Name of the process; empty for the system.
    pub program: String,
    /// Its service, if one is named.
    pub service: Option<String>,
    /// Its value.
    pub value: f64,
    /// From which values on it is bad.
    pub thresholds: Thresholds,
    /// The number in a sentence.
    pub says: String,
    /// The command that helps to find or mend the cause.
    pub remedy: String,
}

/// Measures everything, again and again.
pub struct Scan {
    pages: PathBuf,
    /// Thresholds of usage, if the command line has set them.
    usage: Option<Thresholds>,
    open_files: OpenFiles,
    /// Programs to look at, as shell patterns; empty: all.
    only: String,
    /// Calls given up at the last look, by process; None before the first.
    gave_up: Option<HashMap<(u32, u64), u64>>,
}

impl Scan {
    /// Fails if there is no such folder of pages.
    pub fn new(pages: PathBuf, usage: Option<Thresholds>, only: String) -> Result<Scan, Failure> {
        pages::walk(&pages)?;
        if let Some(policy) = policy::present() {
            policy
                .mistakes
                .iter()
                .filter(|mistake| mistake.contains("alert") || mistake.contains("guard"))
                .for_each(|mistake| log::warn!("{mistake}"));
        }
        Ok(Scan { pages, usage, only, gave_up: None, open_files: OpenFiles::default() })
    }

    /// Looks at everything now.
    pub fn take(&mut self) -> Vec<Finding> {
        let all = list::all();
        let found = pages::walk(&self.pages).unwrap_or_default();
        let snapshots: Vec<Snapshot> = found.pages.iter().filter_map(Snapshot::take).collect();
        // It may be changed at any time.
        let policy = policy::present();
        let policy = policy.as_ref();
        let mut findings: Vec<Finding> =
            all.iter().filter_map(|listed| self.usage(listed, &snapshots, policy)).collect();
        findings.extend(zombies(&all, policy));
        findings.extend(self.guarded(&snapshots, &all, policy));
        let is_meant = |program: &str| self.only.is_empty() || glob::any(self.only.as_bytes(), program.as_bytes());
        findings.retain(|finding| is_meant(&finding.program));
        let meant: Vec<&ListedProcess> = all.iter().filter(|listed| is_meant(&listed.name)).collect();
        let (found, of_users) = self.open_files.look(&meant, self.only.is_empty(), policy);
        findings.extend(found);
        findings.extend(of_users);
        findings.extend(shared(policy));
        // Looked up only where there is something to tell.
        for finding in findings.iter_mut().filter(|it| it.subject.1 != 0 && it.thresholds.level(it.value) != Level::Ok)
        {
            finding.service = service::remembered(finding.subject.1, finding.subject.2);
        }
        findings
    }

    fn usage(&self, listed: &ListedProcess, snapshots: &[Snapshot], policy: Option<&Policy>) -> Option<Finding> {
        let thresholds = self.usage.or_else(|| thresholds(policy, "usage", Some(&listed.name)))?;
        let (used, limits) = (listed.used?, listed.limits?);
        let snapshot = snapshots.iter().find(|snapshot| snapshot.pid == listed.pid);
        let max = obtainable(listed.pid, limits, snapshot.map(|snapshot| snapshot.page));
        let share = Share { used, max };
        Some(Finding {
            subject: ("usage", listed.pid, listed.started),
            program: listed.name.clone(),
            service: None,
            value: share.percent(),
            thresholds,
            says: format!("{used} of {max} descriptors in use ({:.0} %)", share.percent()),
            remedy: format!("tideover rescue {0}; tideover doctor {0}", listed.pid),
        })
    }

    fn guarded(&mut self, snapshots: &[Snapshot], all: &[ListedProcess], policy: Option<&Policy>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut now = HashMap::new();
        for snapshot in snapshots {
            let pid = snapshot.pid;
            let started = all.iter().find(|listed| listed.pid == pid).map_or(0, |listed| listed.started);
            let count = snapshot.counter("exhaustion", "gave_up");
            now.insert((pid, started), count);
            // What was given up before the first look of all is not news.
            let before = self.gave_up.as_ref().map_or(count, |seen| seen.get(&(pid, started)).copied().unwrap_or(0));
            let more = count.saturating_sub(before);
            let mut finding = |name, value, says, remedy| {
                let program = snapshot.program();
                let Some(thresholds) = thresholds(policy, name, Some(&program)) else { return };
                findings.push(Finding {
                    subject: (name, pid, started),
                    program,
                    service: None,
                    value,
                    thresholds,
                    says,
                    remedy,
                });
            };
            let says = format!("{more} calls found no descriptor and failed, {count} in all");
            finding("gave_up", more as f64, says, format!("tideover stat {pid}; tideover rescue {pid}"));
            let logs = |name| snapshot.counter("logs", name);
            let went = (bytes(logs("diverted_bytes")), bytes(logs("dropped_bytes")));
            let says = format!("a log's disk is full; {} of lines went elsewhere, {} are lost", went.0, went.1);
            finding("degraded", logs("degraded").min(1) as f64, says, format!("tideover doctor {pid}"));
        }
        self.gave_up = Some(now);
        findings
    }
}

fn zombies(all: &[ListedProcess], policy: Option<&Policy>) -> Vec<Finding> {
    let find = |(parent, zombies): (u32, Vec<u32>)| {
        let process = all.iter().find(|process| process.pid == parent)?;
        Some(Finding {
            subject: ("zombies", parent, process.started),
            program: process.name.clone(),
            service: None,
            value: zombies.len() as f64,
            thresholds: thresholds(policy, "zombies", Some(&process.name))?,
            says: format!("{} of its children have ended and were not waited for", zombies.len()),
            remedy: format!("tideover doctor {parent}"),
        })
    };
    list::zombies(all).into_iter().filter_map(find).collect()
}

fn shared(policy: Option<&Policy>) -> Vec<Finding> {
    let finding = |name, share: Share, says: String, remedy: &str| {
        Some(Finding {
            subject: (name, 0, 0),
            program: String::new(),
            service: None,
            value: share.percent(),
            thresholds: thresholds(policy, name, None)?,
            says: format!("{says} ({:.0} %)", share.percent()),
            remedy: remedy.to_string(),
        })
    };
    let memory = |name, share: Share| {
        let says = format!("{} of {} memory in use", bytes(share.used), bytes(share.max));
        finding(name, share, says, "tideover doctor; ps -eo pid,rss,comm --sort=-rss | head")
    };
    let files = system::files().and_then(|share| {
        let says = format!("{} of {} open files in use by all processes", share.used, share.max);
        finding("files", share, says, "tideover doctor")
    });
    let container = cgroup::memory(std::process::id()).and_then(|share| memory("container_memory", share));
    [files, system::memory().and_then(|share| memory("memory", share)), container].into_iter().flatten().collect()
}
