//! All checks of the system, in the order of the report.
#![forbid(unsafe_code)]

use super::check::Check;
use super::{disks, inotify, limits};
use crate::executables::elf::Elf;
use crate::launch::library;
use crate::pages::obtainable::obtainable;
use crate::pages::snapshot::Snapshot;
use crate::pages::{self, Page};
use crate::processes::list::{self, ListedProcess};
use crate::show::failure::Failure;
use crate::system::level::{Level, Thresholds};
use crate::system::{Share, sockstat, sysctl};
use rustix::process::{Resource, getrlimit};
use std::path::Path;
use tideover_contract::select::FD_SETSIZE;
use tideover_contract::settings::{Id, default_value};

/// Makes all checks.
pub fn checks(pages: &Path) -> Vec<Check> {
    let all = list::all();
    let walked = pages::walk(pages);
    let found: &[Page] = walked.as_ref().map_or(&[], |found| &found.pages);
    let snapshots: Vec<Snapshot> = found.iter().filter_map(Snapshot::take).collect();
    let mut checks = limits::shared(std::process::id());
    checks.push(defaults());
    checks.push(near_the_limit(&all, &snapshots));
    checks.push(zombies(&all));
    checks.extend(inotify::of(&all, None));
    checks.extend(orphans());
    for folder in ["/var/log", "/tmp"] {
        checks.extend(disks::disk("disk", Path::new(folder), &format!("{folder}/")));
    }
    checks.push(library());
    checks.push(guarded(walked.as_ref().err(), &snapshots));
    checks
}

/// The limits that programs get that are started by this user.
fn defaults() -> Check {
    let limit = getrlimit(Resource::Nofile);
    let (soft, hard) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let nr_open = sysctl("fs.nr_open").unwrap_or(1 << 20);
    let descriptors = default_value(Id::RaiseCap as usize);
    let says = format!("what is started from here gets {soft}, at most {hard}; fs.nr_open is {nr_open}");
    let remedy = vec![
        format!("for a service: LimitNOFILE={} under [Service] in its unit", descriptors.min(nr_open)),
        format!("for logins: echo '* hard nofile {descriptors}' | sudo tee /etc/security/limits.d/90-tideover.conf"),
        format!("for containers: docker run --ulimit nofile={FD_SETSIZE}:{descriptors}"),
    ];
    let level = match hard {
        ..1024 => Level::Critical,
        1024..4096 => Level::Warning,
        _ => Level::Ok,
    };
    Check::new("limits here", level, says, remedy)
}

/// The processes that use most of what they can have.
fn near_the_limit(all: &[ListedProcess], snapshots: &[Snapshot]) -> Check {
    let share = |process: &ListedProcess| {
        let page = snapshots.iter().find(|snapshot| snapshot.pid == process.pid).map(|snapshot| snapshot.page);
        Some(Share { used: process.used?, max: obtainable(process.pid, process.limits?, page) })
    };
    let seen: Vec<(&ListedProcess, Share)> =
        all.iter().filter_map(|process| Some((process, share(process)?))).collect();
    let usage = Thresholds::usage();
    let mut near: Vec<&(&ListedProcess, Share)> =
        seen.iter().filter(|(_, share)| share.percent() >= usage.warning).collect();
    near.sort_by(|a, b| b.1.percent().total_cmp(&a.1.percent()));
    let Some((_, worst)) = near.first() else {
        let says =
            format!("none of {} processes uses {} % of the descriptors that it can have", seen.len(), usage.warning);
        return Check::ok("near limit", says);
    };
    let line = |(process, share): &&(&ListedProcess, Share)| {
        format!("{} (process {}) {} of {}", process.name, process.pid, share.used, share.max)
    };
    let says = near.iter().take(5).map(line).collect::<Vec<_>>().join(", ");
    let remedy =
        near.iter().take(5).map(|(process, _)| format!("tideover doctor {0}; tideover rescue {0}", process.pid));
    Check::new("near limit", usage.level(worst.percent()), says, remedy.collect())
}

fn zombies(all: &[ListedProcess]) -> Check {
    let mut parents: Vec<(u32, usize)> =
        list::zombies(all).into_iter().map(|(parent, list)| (parent, list.len())).collect();
    parents.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: usize = parents.iter().map(|(_, count)| count).sum();
    let Some(&(pid, most)) = parents.first() else { return Check::ok("zombies", "none") };
    let name = all.iter().find(|process| process.pid == pid).map_or("?", |process| &process.name);
    // At any time a few processes have ended and their parents are about to wait for them.
    let level = match total {
        ..10 => Level::Ok,
        10..1000 => Level::Warning,
        _ => Level::Critical,
    };
    let says = format!("{total}, {most} of them children of {name} (process {pid})");
    Check::new("zombies", level, says, vec![format!("tideover doctor {pid}")])
}

/// TCP sockets that no process has open any more, and the number of them from which on the kernel resets them.
fn orphans() -> Option<Check> {
    let max = sysctl("net.ipv4.tcp_max_orphans")?;
    let share = Share { used: sockstat("TCP", "orphan")?, max };
    let mut check =
        Check::share("tcp", share, "orphans", super::check::set("net.ipv4.tcp_max_orphans", max.saturating_mul(2)));
    if let (Some(used), Some(closing)) = (sockstat("TCP", "inuse"), sockstat("TCP", "tw")) {
        check.says = format!("{used} sockets in use, {closing} in TIME_WAIT, {}", check.says);
    }
    Some(check)
}

fn library() -> Check {
    let warn =
        |says| Check::new("library", Level::Warning, says, vec!["TIDEOVER_LIB=/full/path/libtideover.so".to_string()]);
    match library::find() {
        Ok(library) => {
            let own = std::fs::File::open("/proc/self/exe").ok().and_then(Elf::read);
            match own.and_then(|own| library.foreign_to(&own, "this command")) {
                Some(foreign) => warn(foreign),
                None => Check::ok("library", library.path.display().to_string()),
            }
        }
        Err(failure) => warn(failure.text),
    }
}

fn guarded(unread: Option<&Failure>, snapshots: &[Snapshot]) -> Check {
    if let Some(failure) = unread {
        let remedy = vec!["tideover doctor --page-dir DIR".to_string()];
        return Check::new("guarded", Level::Warning, failure.text.clone(), remedy);
    }
    let (mut full, mut gave_up) = (Vec::new(), Vec::new());
    for snapshot in snapshots {
        let who = format!("{} (process {})", snapshot.program(), snapshot.pid);
        if snapshot.counter("logs", "degraded") > 0 {
            full.push(who);
        } else if snapshot.counter("exhaustion", "gave_up") > 0 {
            gave_up.push(who);
        }
    }
    let count = snapshots.len();
    let list = |who: &[String]| who.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    let (level, says) = match (full.is_empty(), gave_up.is_empty()) {
        (false, _) => {
            (Level::Critical, format!("of {count} guarded processes, a log's disk is full of {}", list(&full)))
        }
        (true, false) => {
            (Level::Warning, format!("of {count} guarded processes, calls have given up in {}", list(&gave_up)))
        }
        _ => (Level::Ok, format!("{count} processes, nothing given up, no log's disk full")),
    };
    Check::new("guarded", level, says, vec!["tideover ps; tideover doctor PID".to_string()])
}
