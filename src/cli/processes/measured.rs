//! What is learned by looking into processes: the filesystems of their logs, inotify, connections, and memory. `watch` and `metrics` ask
//! for the same numbers. That takes a system call for each descriptor, so it is done for at most a twentieth of the time; in between, what
//! was found last stands.
#![forbid(unsafe_code)]

use crate::processes::connections::Connections;
use crate::processes::descriptors::{Watched, WatchedLog, watched};
use crate::processes::each;
use crate::processes::list::ListedProcess;
use crate::processes::process;
use crate::processes::sockets::Sockets;
use crate::system::{Share, cgroup};
use rustix::fs::{StatVfs, statvfs};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// After a look, the next comes when so many times its own time has gone by.
const PART: u32 = 20;
/// The rate at which a filesystem fills up is that of so long.
const WINDOW: Duration = Duration::from_secs(60);
/// A shorter time says nothing about a rate.
const LEAST: Duration = Duration::from_millis(500);

/// What is free on the filesystem of a log: bytes or inodes.
#[derive(Clone, Debug)]
pub struct Room {
    /// Path of the log as the process knows it, safe to print.
    pub path: String,
    /// How much of it is free for users other than root.
    pub free: u64,
    /// How much there is, free or not; never 0.
    pub size: u64,
    /// When it will be full at the rate of the last minute; None: it does not fill up, or that is not known.
    pub until: Option<Duration>,
}

impl Room {
    /// How much of it is free, in percent.
    pub fn percent(&self) -> f64 {
        self.free as f64 * 100.0 / self.size as f64
    }
}

/// What was found in a process. None: there is no limit, or nothing of that kind, or this user may not see it.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// When the process started, in ticks since boot.
    pub started: u64,
    /// Bytes on the filesystem of a log, of several filesystems that with the smallest part free.
    pub space: Option<Room>,
    /// Inodes, likewise.
    pub inodes: Option<Room>,
    /// Address space in bytes, of RLIMIT_AS.
    pub address_space: Option<Share>,
    /// TCP connections, in and out; None also if they were not asked for.
    pub connections: Option<u64>,
    /// Memory of its container or unit in bytes, of memory.max; only for the process of it that started first.
    pub group_memory: Option<Share>,
}

/// Looks into processes now and then.
#[derive(Default)]
pub struct Measurements {
    /// When it looked last, and how long that took.
    last: Option<(Instant, Duration)>,
    /// What was found, by process id.
    pub processes: BTreeMap<u32, Measured>,
    /// How many inotify instances each user has, and how many watches there are in them.
    pub inotify: BTreeMap<u32, (u64, u64)>,
    /// Free bytes of filesystems, by st_dev, in the last [`WINDOW`].
    free: HashMap<u64, VecDeque<(Instant, u64)>>,
}

/// What one process says of itself.
struct Look {
    pid: u32,
    watched: Option<Watched>,
    owner: Option<u32>,
    address_space: Option<Share>,
    group: Option<Vec<u8>>,
}

fn look(pid: u32) -> Option<Look> {
    let (watched, owner) = (watched(pid), process::owner(pid));
    Some(Look { pid, watched, owner, address_space: process::address_space(pid), group: process::file(pid, "cgroup") })
}

impl Measurements {
    /// Is it time to look again?
    pub fn is_due(&self) -> bool {
        self.last.is_none_or(|(at, took)| at.elapsed() >= took * PART)
    }

    /// Looks into these processes. Connections are counted for those that are asked for: the tables of sockets are long.
    pub fn take(&mut self, processes: &[&ListedProcess], counts: impl Fn(&ListedProcess) -> bool) {
        let start = Instant::now();
        let listed: HashMap<u32, &ListedProcess> =
            processes.iter().filter(|it| it.used.is_some_and(|used| used > 0)).map(|it| (it.pid, *it)).collect();
        let pids: Vec<u32> = listed.keys().copied().collect();
        let (mut rooms, mut tables) = (HashMap::new(), HashMap::new());
        let mut groups: HashMap<Vec<u8>, &ListedProcess> = HashMap::new();
        self.processes.clear();
        self.inotify.clear();
        for look in each::ask(&pids, look) {
            let process = listed[&look.pid];
            let mut found =
                Measured { started: process.started, address_space: look.address_space, ..Measured::default() };
            if let Some(seen) = &look.watched {
                self.logs(seen, &mut rooms, &mut found);
                if let Some(owner) = look.owner {
                    let sum = self.inotify.entry(owner).or_default();
                    *sum = (sum.0 + seen.instances, sum.1 + seen.watches);
                }
                found.connections = (seen.unseen == 0 && counts(process))
                    .then(|| Connections::among(&seen.sockets, sockets(look.pid, seen, &mut tables)).count());
            }
            if let Some(group) = look.group {
                let first = groups.entry(group).or_insert(process);
                if (process.started, process.pid) < (first.started, first.pid) {
                    *first = process;
                }
            }
            self.processes.insert(look.pid, found);
        }
        // The group of this command is measured as a part of the system.
        groups.remove(&process::file(std::process::id(), "cgroup").unwrap_or_default());
        for first in groups.into_values() {
            if let Some(found) = self.processes.get_mut(&first.pid) {
                found.group_memory = cgroup::memory(first.pid);
            }
        }
        self.last = Some((start, start.elapsed()));
    }

    /// The filesystems of a process's logs: of several, the one with the least space, and the one with the fewest inodes.
    fn logs(&mut self, seen: &Watched, rooms: &mut HashMap<u64, (Option<Room>, Option<Room>)>, found: &mut Measured) {
        for (device, log) in &seen.logs {
            let (space, inodes) = rooms.entry(*device).or_insert_with(|| self.room(*device, log)).clone();
            let of = |room: Option<Room>| room.map(|room| Room { path: log.path.clone(), ..room });
            let least = |known: Option<Room>, other: Option<Room>| {
                known.into_iter().chain(other).min_by(|a, b| a.percent().total_cmp(&b.percent()))
            };
            found.space = least(found.space.take(), of(space));
            found.inodes = least(found.inodes.take(), of(inodes));
        }
    }

    /// Bytes and inodes of a filesystem. Those that make inodes as needed report 0.
    fn room(&mut self, device: u64, log: &WatchedLog) -> (Option<Room>, Option<Room>) {
        let Ok(stat) = statvfs(&log.by) else { return (None, None) };
        let until = self.until_full(device, free_bytes(&stat));
        let room = |free, size, until| (size > 0).then(|| Room { path: String::new(), free, size, until });
        let space = room(free_bytes(&stat), stat.f_blocks.saturating_mul(unit(&stat)), until);
        (space, room(stat.f_favail, stat.f_files, None))
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

/// The sockets of the network namespace of a process; read once for each namespace, and not for a process without sockets.
fn sockets<'a>(pid: u32, seen: &Watched, tables: &'a mut HashMap<PathBuf, Sockets>) -> &'a Sockets {
    let namespace = match std::fs::read_link(format!("/proc/{pid}/ns/net")) {
        _ if seen.sockets.is_empty() => PathBuf::new(),
        Ok(namespace) => namespace,
        Err(_) => PathBuf::from(pid.to_string()),
    };
    let read = |namespace: &PathBuf| {
        if namespace.as_os_str().is_empty() { Sockets::default() } else { Sockets::seen_by(pid) }
    };
    tables.entry(namespace).or_insert_with_key(read)
}

fn time_until_full(passed: Duration, before: u64, free: u64) -> Option<Duration> {
    let taken = before.checked_sub(free).filter(|taken| *taken > 0 && passed >= LEAST)?;
    Duration::try_from_secs_f64(free as f64 * passed.as_secs_f64() / taken as f64).ok()
}

fn unit(stat: &StatVfs) -> u64 {
    if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize }
}

fn free_bytes(stat: &StatVfs) -> u64 {
    stat.f_bavail.saturating_mul(unit(stat))
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
