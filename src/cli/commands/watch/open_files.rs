//! What `watch` learns by looking into processes: the filesystems of their logs, inotify, connections, and memory. That takes a system call
//! for each descriptor, so it is done for at most a twentieth of the time; in between, what was found last stands.
#![forbid(unsafe_code)]

use super::findings::Finding;
use crate::processes::connections::Connections;
use crate::processes::descriptors::{Watched, watched};
use crate::processes::list::ListedProcess;
use crate::processes::process;
use crate::settings::policy::{Policy, thresholds};
use crate::show::units::{bytes, duration};
use crate::system::{self, Share, cgroup};
use rustix::fs::{StatVfs, statvfs};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// After a look, the next comes when so many times its own time has gone by.
const PART: u32 = 20;
/// The rate at which a filesystem fills up is that of so long.
const WINDOW: Duration = Duration::from_secs(60);
/// A shorter time says nothing about a rate.
const LEAST: Duration = Duration::from_millis(500);

/// Looks into processes now and then.
#[derive(Default)]
pub struct OpenFiles {
    /// When it looked last, and how long that took.
    last: Option<(Instant, Duration)>,
    found: Vec<Finding>,
    shared: Vec<Finding>,
    /// Free bytes of filesystems, by st_dev, in the last [`WINDOW`].
    free: HashMap<u64, VecDeque<(Instant, u64)>>,
}

impl OpenFiles {
    /// What is found about processes, and about the system. `all`: every process is looked at, and not those of some names alone.
    pub fn look(
        &mut self,
        processes: &[&ListedProcess],
        all: bool,
        policy: Option<&Policy>,
    ) -> (Vec<Finding>, Vec<Finding>) {
        let start = Instant::now();
        if self.last.is_none_or(|(at, took)| start.duration_since(at) >= took * PART) {
            self.found.clear();
            let mut inotify: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            let mut groups: BTreeMap<Vec<u8>, &ListedProcess> = BTreeMap::new();
            for listed in processes.iter().filter(|listed| listed.used.is_some_and(|used| used > 0)) {
                if let Some(seen) = watched(listed.pid) {
                    self.logs(listed, &seen, policy);
                    if let Some(owner) = process::owner(listed.pid) {
                        let sum = inotify.entry(owner).or_default();
                        *sum = (sum.0 + seen.instances, sum.1 + seen.watches);
                    }
                }
                self.found.extend(address_space(listed, policy));
                self.found.extend(connections(listed, policy));
                if let Some(group) = process::file(listed.pid, "cgroup") {
                    let first = groups.entry(group).or_insert(listed);
                    if (listed.started, listed.pid) < (first.started, first.pid) {
                        *first = listed;
                    }
                }
            }
            // The group of this command is measured as a part of the system.
            groups.remove(&process::file(std::process::id(), "cgroup").unwrap_or_default());
            self.found.extend(groups.into_values().filter_map(|listed| group_memory(listed, policy)));
            self.shared = if all { of_users(&inotify, policy) } else { Vec::new() };
            self.last = Some((start, start.elapsed()));
        }
        // A process that has ended since is not looked at any more.
        let alive: HashMap<u32, u64> = processes.iter().map(|listed| (listed.pid, listed.started)).collect();
        self.found.retain(|finding| alive.get(&finding.subject.1) == Some(&finding.subject.2));
        (self.found.clone(), self.shared.clone())
    }

    /// The filesystems of a process's logs: of several, the one with the least space, and the one with the fewest inodes.
    fn logs(&mut self, listed: &ListedProcess, seen: &Watched, policy: Option<&Policy>) {
        let (mut space, mut inodes): (Option<Finding>, Option<Finding>) = (None, None);
        for (device, log) in &seen.logs {
            let Ok(stat) = statvfs(&log.by) else { continue };
            let until = self.until_full(*device, free_bytes(&stat));
            let least =
                |known: &Option<Finding>, finding: &Finding| known.as_ref().is_none_or(|it| finding.value < it.value);
            if let Some(finding) = log_space(listed, &log.path, &stat, until, policy).filter(|it| least(&space, it)) {
                space = Some(finding);
            }
            if let Some(finding) = log_inodes(listed, &log.path, &stat, policy).filter(|it| least(&inodes, it)) {
                inodes = Some(finding);
            }
        }
        self.found.extend(space.into_iter().chain(inodes));
    }

    /// Notes how much is free on a filesystem, and returns when it will be full at the rate of the last minute; None: it does not fill up.
    fn until_full(&mut self, device: u64, free: u64) -> Option<Duration> {
        let now = Instant::now();
        let known = self.free.entry(device).or_default();
        while known.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            known.pop_front();
        }
        known.push_back((now, free));
        let (at, before) = *known.front()?;
        time_until_full(now.duration_since(at), before, free)
    }
}

fn time_until_full(passed: Duration, before: u64, free: u64) -> Option<Duration> {
    let taken = before.checked_sub(free).filter(|taken| *taken > 0 && passed >= LEAST)?;
    Duration::try_from_secs_f64(free as f64 * passed.as_secs_f64() / taken as f64).ok()
}

fn free_bytes(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize })
}

/// A finding about a process, if its alert is not off.
fn finding(
    name: &'static str,
    listed: &ListedProcess,
    value: f64,
    policy: Option<&Policy>,
    says: String,
    remedy: String,
) -> Option<Finding> {
    let thresholds = thresholds(policy, name, Some(&listed.name))?;
    let subject = (name, listed.pid, listed.started);
    Some(Finding { subject, program: listed.name.clone(), service: None, value, thresholds, says, remedy })
}

fn log_space(
    listed: &ListedProcess,
    path: &str,
    stat: &StatVfs,
    until: Option<Duration>,
    policy: Option<&Policy>,
) -> Option<Finding> {
    let (free, size) = (stat.f_bavail, stat.f_blocks);
    let percent = (size > 0).then(|| free as f64 * 100.0 / size as f64)?;
    let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
    let until = until.map_or_else(String::new, |until| {
        format!(", full in {} at the present rate", duration(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX)))
    });
    let says = format!(
        "{} of {} free on the filesystem of its log {path} ({percent:.0} %){until}",
        bytes(free.saturating_mul(unit)),
        bytes(size.saturating_mul(unit))
    );
    finding("log_space", listed, percent, policy, says, format!("tideover doctor {}", listed.pid))
}

fn log_inodes(listed: &ListedProcess, path: &str, stat: &StatVfs, policy: Option<&Policy>) -> Option<Finding> {
    // Filesystems that make inodes as needed report 0.
    let percent = (stat.f_files > 0).then(|| stat.f_favail as f64 * 100.0 / stat.f_files as f64)?;
    let says = format!(
        "{} of {} inodes free on the filesystem of its log {path} ({percent:.0} %)",
        stat.f_favail, stat.f_files
    );
    finding("log_inodes", listed, percent, policy, says, format!("tideover doctor {}", listed.pid))
}

fn address_space(listed: &ListedProcess, policy: Option<&Policy>) -> Option<Finding> {
    let share = process::address_space(listed.pid)?;
    let says = format!("{} of {} address space in use ({:.0} %)", bytes(share.used), bytes(share.max), share.percent());
    let remedy = format!("sudo prlimit --pid {} --as={}; tideover doctor {0}", listed.pid, share.max.saturating_mul(2));
    finding("address_space", listed, share.percent(), policy, says, remedy)
}

fn connections(listed: &ListedProcess, policy: Option<&Policy>) -> Option<Finding> {
    // The tables of sockets are long, so they are read only for programs with a limit.
    thresholds(policy, "connections", Some(&listed.name))?;
    let count = Connections::of(listed.pid)?.count();
    let says = format!("{count} TCP connections are open");
    finding("connections", listed, count as f64, policy, says, format!("tideover doctor {}", listed.pid))
}

fn group_memory(listed: &ListedProcess, policy: Option<&Policy>) -> Option<Finding> {
    let share = cgroup::memory(listed.pid)?;
    let says = format!(
        "its container or unit uses {} of {} memory ({:.0} %)",
        bytes(share.used),
        bytes(share.max),
        share.percent()
    );
    let remedy = format!("tideover doctor {}", listed.pid);
    finding("container_memory", listed, share.percent(), policy, says, remedy)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_until_full_is_that_at_the_present_rate() {
        let until = |seconds, before, free| time_until_full(Duration::from_secs(seconds), before, free);
        assert_eq!(until(10, 100, 50), Some(Duration::from_secs(10)));
        assert_eq!(until(10, 100, 0), Some(Duration::ZERO));
        assert_eq!((until(10, 50, 100), until(10, 50, 50), until(0, 100, 50)), (None, None, None));
    }
}
