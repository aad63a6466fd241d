//! What only a look into processes can tell (`processes/measured.rs`): space and inodes under logs, memory against its limits, TCP
//! connections, zombies, inotify. The numbers are those of `watch`; of several processes of a program, that of the worst.
#![forbid(unsafe_code)]

use super::exposition::Exposition;
use super::totals::Name;
use crate::pages::Found;
use crate::pages::snapshot::Snapshot;
use crate::processes::list::{self, ListedProcess};
use crate::processes::measured::{Measured, Measurements};
use crate::processes::service;
use crate::settings::policy::{self, Policy, thresholds};
use crate::show::failure::Failure;
use crate::system::{Share, sysctl};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A process into which was looked, guarded or not.
#[derive(Debug, Default)]
struct Of {
    measured: Measured,
    zombies: u64,
    /// Warning and critical, if the policy sets thresholds of connections for this program.
    connections: Option<(f64, f64)>,
}

/// The processes of each program and service, those with the library apart.
type Groups = BTreeMap<(Name, bool), Vec<Of>>;

/// What was found at the last look.
#[derive(Debug, Default)]
pub struct Seen {
    groups: Groups,
    /// Instances and watches by user.
    inotify: BTreeMap<u32, (u64, u64)>,
}

/// Looks now and then. A scrape that comes while another one looks is told what was found before: a look can take long, where a log lies on
/// a network filesystem whose server is gone.
#[derive(Default)]
pub struct Looks {
    measurements: Mutex<Measurements>,
    seen: Mutex<Arc<Seen>>,
}

impl Looks {
    /// What is known of guarded processes, and with `all` of the others. `walk` finds the pages, if it is time to look.
    pub fn seen(&self, all: bool, walk: impl FnOnce() -> Result<Found, Failure>) -> Result<Arc<Seen>, Failure> {
        if let Ok(mut measurements) = self.measurements.try_lock()
            && measurements.is_due()
        {
            let found = walk()?;
            let snapshots: Vec<Snapshot> = found.pages.iter().filter_map(Snapshot::take).collect();
            let fresh = Arc::new(look(&mut measurements, &snapshots, all));
            *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn look(measurements: &mut Measurements, snapshots: &[Snapshot], all: bool) -> Seen {
    let listed = list::all();
    let guarded: BTreeMap<u32, &Snapshot> = snapshots.iter().map(|snapshot| (snapshot.pid, snapshot)).collect();
    let is_told = |process: &ListedProcess| {
        guarded.contains_key(&process.pid) || all && process.used.is_some() && process.pid != std::process::id()
    };
    measurements.take(&listed.iter().collect::<Vec<_>>(), is_told);
    let zombies = list::zombies(&listed);
    let policy = policy::present();
    let mut groups = Groups::new();
    for process in listed.iter().filter(|process| is_told(process)) {
        let Some(measured) = measurements.processes.get(&process.pid).cloned() else { continue };
        let name = guarded.get(&process.pid).map_or_else(
            || Name {
                program: process.name.clone(),
                service: service::remembered(process.pid, process.started).unwrap_or_default(),
            },
            |snapshot| Name::of(snapshot),
        );
        let of = Of {
            measured,
            zombies: zombies.get(&process.pid).map_or(0, |zombies| zombies.len() as u64),
            connections: limit(policy.as_ref(), &process.name),
        };
        groups.entry((name, guarded.contains_key(&process.pid))).or_default().push(of);
    }
    Seen { groups, inotify: measurements.inotify.clone() }
}

fn limit(policy: Option<&Policy>, program: &str) -> Option<(f64, f64)> {
    thresholds(policy, "connections", Some(program)).map(|it| (it.warning, it.critical))
}

fn part(share: Option<Share>) -> Option<f64> {
    share.map(|share| share.percent() / 100.0)
}

fn least(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::min)
}

fn most(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// A gauge by program and service: its name, what it is, and its value of several processes; None: they have none.
type Gauge = (&'static str, &'static str, fn(&[Of]) -> Option<f64>);

const GAUGES: &[Gauge] = &[
    (
        "tideover_log_space_free_ratio",
        "part that is free of the filesystem with least space on which a log is open",
        |of| least(of.iter().filter_map(|it| Some(it.measured.space.as_ref()?.percent() / 100.0))),
    ),
    ("tideover_log_space_free_bytes", "bytes that are free on that filesystem", |of| {
        let rooms = of.iter().filter_map(|it| it.measured.space.as_ref());
        rooms.min_by(|a, b| a.percent().total_cmp(&b.percent())).map(|room| room.free as f64)
    }),
    ("tideover_log_inodes_free_ratio", "part of the inodes that is free where fewest are of those filesystems", |of| {
        least(of.iter().filter_map(|it| Some(it.measured.inodes.as_ref()?.percent() / 100.0)))
    }),
    ("tideover_address_space_used_ratio", "part of its limit on address space (RLIMIT_AS) that a process uses", |of| {
        most(of.iter().filter_map(|it| part(it.measured.address_space)))
    }),
    (
        "tideover_container_memory_used_ratio",
        "part of its limit on memory (memory.max) that the container or unit uses",
        |of| most(of.iter().filter_map(|it| part(it.measured.group_memory))),
    ),
    ("tideover_tcp_connections", "TCP connections that the process with most has open, in and out", |of| {
        most(of.iter().filter_map(|it| it.measured.connections.map(|count| count as f64)))
    }),
    ("tideover_tcp_connections_warning", "alert_connections of the policy file, from which on it is a warning", |of| {
        least(of.iter().filter_map(|it| Some(it.connections?.0)))
    }),
    ("tideover_tcp_connections_critical", "alert_connections of the policy file, from which on it is critical", |of| {
        least(of.iter().filter_map(|it| Some(it.connections?.1)))
    }),
    ("tideover_zombies", "ended children that the process with most has not waited for", |of| {
        most(of.iter().map(|it| it.zombies as f64))
    }),
];

/// Writes the gauges.
pub fn write(page: &mut Exposition, seen: &Seen) {
    for (name, help, value) in GAUGES {
        page.family(name, "gauge", help);
        for ((who, guarded), of) in &seen.groups {
            let Some(value) = value(of) else { continue };
            let mut labels = who.labels();
            if !guarded {
                labels.push(("guarded", "0"));
            }
            page.sample(name, &labels, &shown(name, value));
        }
    }
    inotify(page, &seen.inotify);
}

fn shown(name: &str, value: f64) -> String {
    if name.ends_with("_ratio") { format!("{value:.6}") } else { format!("{value:.0}") }
}

fn inotify(page: &mut Exposition, users: &BTreeMap<u32, (u64, u64)>) {
    for (what, which) in [("instances", 0), ("watches", 1)] {
        let name = format!("tideover_inotify_{what}");
        page.family(&name, "gauge", &format!("inotify {what} of a user, as far as they can be seen"));
        for (user, numbers) in users.iter().filter(|(_, numbers)| numbers.0 > 0) {
            let count = [numbers.0, numbers.1][which];
            page.sample(&name, &[("user", &user.to_string())], &count.to_string());
        }
        let sysctl_name = format!("fs.inotify.max_user_{what}");
        let Some(limit) = sysctl(&sysctl_name) else { continue };
        let name = format!("{name}_limit");
        page.family(&name, "gauge", &format!("{sysctl_name}, how many a user can have"));
        page.sample(&name, &[], &limit.to_string());
    }
}
