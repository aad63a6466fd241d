//! What `watch` says of what is found by looking into processes (`processes/measured.rs`).
#![forbid(unsafe_code)]

use super::findings::Finding;
use crate::processes::list::ListedProcess;
use crate::processes::measured::{Measured, Measurements, Room};
use crate::settings::policy::{Policy, thresholds};
use crate::show::units::{bytes, duration};
use crate::system::{self, Share};
use std::collections::BTreeMap;

/// Looks into processes now and then.
#[derive(Default)]
pub struct OpenFiles {
    measured: Measurements,
}

impl OpenFiles {
    /// What is found about processes, and about the system. `all`: every process is looked at, and not those of some names alone.
    pub fn look(
        &mut self,
        processes: &[&ListedProcess],
        all: bool,
        policy: Option<&Policy>,
    ) -> (Vec<Finding>, Vec<Finding>) {
        if self.measured.is_due() {
            self.measured.take(processes, |listed| thresholds(policy, "connections", Some(&listed.name)).is_some());
        }
        // A process that has ended since is not looked at any more.
        let found = processes.iter().filter_map(|listed| {
            let measured = self.measured.processes.get(&listed.pid).filter(|it| it.started == listed.started)?;
            Some(of_process(listed, measured, policy))
        });
        let users = if all { of_users(&self.measured.inotify, policy) } else { Vec::new() };
        (found.flatten().collect(), users)
    }
}

fn of_process(listed: &ListedProcess, measured: &Measured, policy: Option<&Policy>) -> Vec<Finding> {
    let doctor = || format!("tideover doctor {}", listed.pid);
    let finding = |name, value: f64, says: String, remedy: String| {
        let thresholds = thresholds(policy, name, Some(&listed.name))?;
        let subject = (name, listed.pid, listed.started);
        Some(Finding { subject, program: listed.name.clone(), service: None, value, thresholds, says, remedy })
    };
    let share = |name, share: &Option<Share>, what: &str, remedy: &dyn Fn(&Share) -> String| {
        let share = share.as_ref()?;
        let (used, max, percent) = (bytes(share.used), bytes(share.max), share.percent());
        let says = what.replacen("{}", &format!("{used} of {max}"), 1);
        finding(name, percent, format!("{says} ({percent:.0} %)"), remedy(share))
    };
    let raise =
        |share: &Share| format!("sudo prlimit --pid {} --as={}; {}", listed.pid, share.max.saturating_mul(2), doctor());
    [
        measured.space.as_ref().and_then(|room| finding("log_space", room.percent(), space(room), doctor())),
        measured.inodes.as_ref().and_then(|room| finding("log_inodes", room.percent(), inodes(room), doctor())),
        share("address_space", &measured.address_space, "{} address space in use", &raise),
        measured.connections.and_then(|count| {
            finding("connections", count as f64, format!("{count} TCP connections are open"), doctor())
        }),
        share("container_memory", &measured.group_memory, "its container or unit uses {} memory", &|_| doctor()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn space(room: &Room) -> String {
    let until = room.until.map_or_else(String::new, |until| {
        format!(", full in {} at the present rate", duration(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)))
    });
    let (free, size, path) = (bytes(room.free), bytes(room.size), &room.path);
    format!("{free} of {size} free on the filesystem of its log {path} ({:.0} %){until}", room.percent())
}

fn inodes(room: &Room) -> String {
    let (free, size, path) = (room.free, room.size, &room.path);
    format!("{free} of {size} inodes free on the filesystem of its log {path} ({:.0} %)", room.percent())
}

/// inotify of each user, whom the third part of the subject names.
fn of_users(users: &BTreeMap<u32, (u64, u64)>, policy: Option<&Policy>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (user, (instances, watches)) in users {
        for (name, used, limit) in [
            ("inotify_instances", *instances, "fs.inotify.max_user_instances"),
            ("inotify_watches", *watches, "fs.inotify.max_user_watches"),
        ] {
            let (Some(max), Some(thresholds)) = (system::sysctl(limit), thresholds(policy, name, None)) else {
                continue;
            };
            let share = Share { used, max };
            findings.push(Finding {
                subject: (name, 0, u64::from(*user)),
                program: String::new(),
                service: None,
                value: share.percent(),
                thresholds,
                says: format!("{used} of {max} {} of user {user} ({:.0} %)", name.replace('_', " "), share.percent()),
                remedy: format!("tideover doctor; sudo sysctl -w {limit}={}", max.saturating_mul(4)),
            });
        }
    }
    findings
}
