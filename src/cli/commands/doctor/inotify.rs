//! inotify instances and watches. They are limited for each user, and calls fail with EMFILE or ENOSPC, which mislead: so the
//! report says who has them.
#![forbid(unsafe_code)]

use super::check::{Check, set};
use crate::processes::descriptors;
use crate::processes::list::ListedProcess;
use crate::processes::process;
use crate::system::{self, Share};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// What distributions and editors advise for fs.inotify.max_user_watches.
const ENOUGH_WATCHES: u64 = 512 << 10;
/// So many processes are named, those with most.
const NAMED: usize = 3;

/// A process with its instances and watches.
struct Holder<'a> {
    process: &'a ListedProcess,
    instances: u64,
    watches: u64,
}

/// Checks those of one user, or of the user who has most.
pub fn of(all: &[ListedProcess], user: Option<u32>) -> Vec<Check> {
    let users = by_user(all, user);
    let instances = |holder: &Holder| holder.instances;
    let watches = |holder: &Holder| holder.watches;
    [
        check(&users, "instances", "fs.inotify.max_user_instances", 1024, instances),
        check(&users, "watches", "fs.inotify.max_user_watches", ENOUGH_WATCHES, watches),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The kernel counts them for the user who has made them: the real one.
fn by_user(all: &[ListedProcess], user: Option<u32>) -> BTreeMap<u32, Vec<Holder<'_>>> {
    let mut users: BTreeMap<u32, Vec<Holder>> = BTreeMap::new();
    for listed in all.iter().filter(|listed| listed.used.is_some_and(|used| used > 0)) {
        let Some(owner) = process::owner(listed.pid).filter(|owner| user.is_none_or(|user| user == *owner)) else {
            continue;
        };
        let Some((instances, watches)) = descriptors::inotify(listed.pid) else { continue };
        users.entry(owner).or_default().push(Holder { process: listed, instances, watches });
    }
    users
}

fn check(
    users: &BTreeMap<u32, Vec<Holder>>,
    noun: &str,
    limit: &str,
    enough: u64,
    count: fn(&Holder) -> u64,
) -> Option<Check> {
    let max = system::sysctl(limit)?;
    let sum = |holders: &Vec<Holder>| holders.iter().map(count).sum::<u64>();
    let (owner, holders) = users.iter().max_by_key(|(_, holders)| sum(holders))?;
    let remedy = set(limit, max.saturating_mul(4).max(enough));
    let what = format!("{noun} of user {owner}{}", most(holders, count));
    Some(Check::share("inotify", Share { used: sum(holders), max }, &what, remedy))
}

/// `, 60 of them by code (process 12), 20 by dockerd (process 7)`; nothing if nobody has any.
fn most(holders: &[Holder], count: fn(&Holder) -> u64) -> String {
    let mut with: Vec<&Holder> = holders.iter().filter(|holder| count(holder) > 0).collect();
    with.sort_by_key(|holder| (Reverse(count(holder)), holder.process.pid));
    let named = with.iter().take(NAMED).enumerate().map(|(i, holder)| {
        let of_them = if i == 0 { " of them" } else { "" };
        format!(", {}{of_them} by {} (process {})", count(holder), holder.process.name, holder.process.pid)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processes::list;

    #[test]
    fn those_who_have_most_are_named_first() {
        let all = list::all();
        let process = all.iter().find(|listed| listed.pid == std::process::id()).unwrap();
        let named: Vec<ListedProcess> = ["a", "b", "c", "d", "e"]
            .iter()
            .zip(10..)
            .map(|(name, pid)| {
                let mut named = process.clone();
                (named.pid, named.name) = (pid, (*name).into());
                named
            })
            .collect();
        let counts = [0, 5, 60, 7, 1];
        let holders: Vec<Holder> =
            named.iter().zip(counts).map(|(process, instances)| Holder { process, instances, watches: 0 }).collect();
        assert_eq!(
            most(&holders, |holder| holder.instances),
            ", 60 of them by c (process 12), 7 by d (process 13), 5 by b (process 11)"
        );
        assert_eq!(most(&holders, |holder| holder.watches), "");
    }

    #[test]
    fn instances_of_a_process_are_told_to_be_its_own() {
        let me = std::process::id();
        let mut inotify = std::process::Command::new("tail");
        let tail = inotify.args(["-f", "/etc/passwd"]).stdout(std::process::Stdio::null()).spawn();
        let mut tail = tail.expect("tail is one of Debian's essential programs");
        while descriptors::inotify(tail.id()).is_some_and(|counts| counts.0 == 0) && tail.try_wait().unwrap().is_none()
        {
            std::thread::yield_now();
        }
        let all: Vec<ListedProcess> = list::all().into_iter().filter(|listed| listed.pid == tail.id()).collect();
        let checks = of(&all, process::owner(me));
        let says = |i: usize| checks[i].says.clone();
        let by = format!("1 of them by tail (process {})", tail.id());
        assert!(says(0).contains(&by) && says(0).contains("instances of user"), "{}", says(0));
        assert!(says(1).contains(&by) && says(1).contains("watches of user"), "{}", says(1));
        tail.kill().unwrap();
        tail.wait().unwrap();
    }
}
