//! What guards have done from outside, by program and service, which never falls while this process runs; see `totals`.
#![forbid(unsafe_code)]

use super::exposition::Exposition;
use super::totals::Name;
use crate::guard::guarded::Guarded;
use crate::guard::state::Counts;
use crate::processes::service;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// At most about so many programs and services without a process are remembered, as in `totals`.
const REMEMBERED: usize = 1000;

/// A process as one guard has it: the next guard counts it anew.
type Who = (u32, u64, u32);

/// Name and help of a metric, and its value.
type Metric<T> = (&'static str, &'static str, fn(&T) -> u64);

/// The sums, and how the processes are now.
#[derive(Default)]
pub struct Guards {
    living: HashMap<Who, (Name, Counts)>,
    ended: BTreeMap<Name, Counts>,
    now: BTreeMap<Name, Now>,
}

/// Processes of a program and service.
#[derive(Clone, Copy, Debug, Default)]
struct Now {
    processes: u64,
    parked: u64,
    abandoned: u64,
}

impl Guards {
    /// Takes all that are guarded from outside now. What is missing by now was let go, or has ended.
    pub fn update(&mut self, all: &[Guarded]) {
        self.now.clear();
        let mut living = HashMap::new();
        for it in all {
            let (pid, started) = (it.process.pid, it.process.started_ns);
            let service = service::remembered(pid, started).unwrap_or_default();
            let name = Name { program: it.program.clone(), service };
            let now = self.now.entry(name.clone()).or_default();
            now.processes += u64::from(!it.is_abandoned);
            now.parked += u64::from(it.is_parked);
            now.abandoned += u64::from(it.is_abandoned);
            living.insert((pid, started, it.guard), (name, it.counts));
        }
        for (who, (name, counts)) in std::mem::replace(&mut self.living, living) {
            if !self.living.contains_key(&who) {
                add(self.ended.entry(name).or_default(), counts);
            }
        }
        if self.ended.len() > REMEMBERED {
            let living: BTreeSet<&Name> = self.living.values().map(|(name, _)| name).collect();
            self.ended.retain(|name, _| living.contains(name));
        }
    }

    /// Adds the metrics.
    pub fn write(&self, page: &mut Exposition) {
        let gauges: [Metric<Now>; 3] = [
            ("tideover_guard_processes", "processes that a tideover guard has from outside", |now| now.processes),
            ("tideover_guard_processes_parked", "of these, processes whose listener is parked now", |now| now.parked),
            (
                "tideover_guard_processes_abandoned",
                "processes whose listener is parked and whose guard was killed; tideover clean brings it back",
                |now| now.abandoned,
            ),
        ];
        for (name, help, value) in gauges {
            page.family(name, "gauge", help);
            for (who, now) in &self.now {
                page.sample(name, &who.labels(), &value(now).to_string());
            }
        }
        let mut sums = self.ended.clone();
        for (name, counts) in self.living.values() {
            add(sums.entry(name.clone()).or_default(), *counts);
        }
        let counters: [Metric<Counts>; 4] = [
            ("tideover_guard_raised_total", "times that a soft limit was raised from outside", |it| it.raised),
            ("tideover_guard_idle_ended_total", "idle clients whose input was ended from outside", |it| it.idle_ended),
            ("tideover_guard_parked_total", "items of epoll sets that were parked from outside", |it| it.parked),
            ("tideover_guard_rearmed_total", "items of epoll sets that were brought back", |it| it.rearmed),
        ];
        for (name, help, value) in counters {
            page.family(name, "counter", help);
            for (who, counts) in &sums {
                page.sample(name, &who.labels(), &value(counts).to_string());
            }
        }
    }
}

/// Adds without overflow, since a state may be forged.
fn add(to: &mut Counts, more: Counts) {
    to.raised = to.raised.saturating_add(more.raised);
    to.idle_ended = to.idle_ended.saturating_add(more.idle_ended);
    to.parked = to.parked.saturating_add(more.parked);
    to.rearmed = to.rearmed.saturating_add(more.rearmed);
}
