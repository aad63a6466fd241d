//! inotify instances and watches. They are limited for each user, and calls fail with EMFILE or ENOSPC, which mislead.
#![forbid(unsafe_code)]

use super::check::{Check, set};
use crate::processes::descriptors;
use crate::processes::list::ListedProcess;
use crate::processes::process;
use crate::system::{self, Share};
use std::collections::BTreeMap;

/// What distributions and editors advise for fs.inotify.max_user_watches.
const ENOUGH_WATCHES: u64 = 512 << 10;

/// A user's instances and watches, and the process with most watches.
#[derive(Default)]
struct User {
    instances: u64,
    watches: u64,
    most: (u64, u32, String),
}

/// Checks those of one user, or of the user who has most.
pub fn of(all: &[ListedProcess], user: Option<u32>) -> Vec<Check> {
    let mut users: BTreeMap<u32, User> = BTreeMap::new();
    for listed in all.iter().filter(|listed| listed.used.is_some_and(|used| used > 0)) {
        let Some(owner) = process::owner(listed.pid) else { continue };
        if user.is_some_and(|user| user != owner) {
            continue;
        }
        let (instances, watches) = descriptors::inotify(listed.pid);
        let entry = users.entry(owner).or_default();
        entry.instances += instances;
        entry.watches += watches;
        entry.most = std::mem::take(&mut entry.most).max((watches, listed.pid, listed.name.clone()));
    }
    let limit = |name: &str| system::sysctl(&format!("fs.inotify.{name}"));
    let mut checks = Vec::new();
    if let (Some(max), Some((owner, worst))) =
        (limit("max_user_instances"), users.iter().max_by_key(|(_, u)| u.instances))
    {
        let what = format!("instances of user {owner}");
        let remedy = set("fs.inotify.max_user_instances", max.saturating_mul(4).max(1024));
        checks.push(Check::share("inotify", Share { used: worst.instances, max }, &what, remedy));
    }
    if let (Some(max), Some((owner, worst))) = (limit("max_user_watches"), users.iter().max_by_key(|(_, u)| u.watches))
    {
        let (most, pid, name) = &worst.most;
        let culprit = if *most == 0 { String::new() } else { format!(", {most} of them by {name} (process {pid})") };
        let what = format!("watches of user {owner}{culprit}");
        let remedy = set("fs.inotify.max_user_watches", max.saturating_mul(4).max(ENOUGH_WATCHES));
        checks.push(Check::share("inotify", Share { used: worst.watches, max }, &what, remedy));
    }
    checks
}
