//! The list of all processes: how near each is to its limit, and which ones leave zombies behind.
#![forbid(unsafe_code)]

use crate::processes::each;
use crate::processes::process;
use crate::show::output::safe;
use std::collections::BTreeMap;

/// A process as it is listed in /proc.
#[derive(Clone, Debug)]
pub struct ListedProcess {
    /// Process id.
    pub pid: u32,
    /// Its name, safe to print.
    pub name: String,
    /// Number of open descriptors; None if this user may not count them, or it is a zombie.
    pub used: Option<u64>,
    /// Soft and hard limit on open descriptors.
    pub limits: Option<(u64, u64)>,
    /// When it started, in ticks since boot. Together with the process id it identifies a process.
    pub started: u64,
    zombie: bool,
    parent: u32,
}

/// Every process that this user can see.
pub fn all() -> Vec<ListedProcess> {
    each::ask(&each::pids(), listed)
}

fn listed(pid: u32) -> Option<ListedProcess> {
    let mut listed = parse(pid, &process::file(pid, "stat")?)?;
    if !listed.zombie {
        listed.used = process::descriptors(pid);
        // Kernel threads have none open and need no limits.
        listed.limits = listed.used.filter(|used| *used > 0).and_then(|_| process::limits(pid));
    }
    Some(listed)
}

/// /proc/PID/stat: the name stands in parentheses and may hold more of them; state and parent follow.
fn parse(pid: u32, stat: &[u8]) -> Option<ListedProcess> {
    let start = stat.iter().position(|&b| b == b'(')? + 1;
    let end = stat.iter().rposition(|&b| b == b')').filter(|end| *end >= start)?;
    let rest = String::from_utf8_lossy(&stat[end + 1..]).into_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(ListedProcess {
        pid,
        name: safe(&stat[start..end]),
        used: None,
        limits: None,
        started: fields.get(19)?.parse().ok()?,
        zombie: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
    })
}

/// Process ids of zombies, by the process ids of their parents.
pub fn zombies(all: &[ListedProcess]) -> BTreeMap<u32, Vec<u32>> {
    let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in all.iter().filter(|process| process.zombie) {
        parents.entry(process.parent).or_default().push(process.pid);
    }
    parents
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_zombie_are_seen() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let (me, pid) = (std::process::id(), child.id());
        let all = loop {
            let all = all();
            if zombies(&all).get(&me).is_some_and(|zombies| zombies.contains(&pid)) {
                break all;
            }
            std::thread::yield_now();
        };
        let found = all.iter().find(|process| process.pid == me).unwrap();
        assert!(found.used.unwrap() > 2 && found.limits.is_some() && found.started > 0);
        child.wait().unwrap();
    }

    #[test]
    fn names_may_hold_anything() {
        let rest = "S 12 ".to_string() + &(5..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let found = parse(7, format!("7 (a) Z 1 (\x1b[2J) {rest}\n").as_bytes()).unwrap();
        assert_eq!((&*found.name, found.parent, found.zombie, found.started), ("a) Z 1 (?[2J", 12, false, 22));
        for odd in [&b""[..], b")(", b"7 (x) ", b"7 (x"] {
            assert!(parse(7, odd).is_none());
        }
    }
}
