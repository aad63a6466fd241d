//! Leaks: kinds of descriptors of which more and more are open while the process is sampled.
#![forbid(unsafe_code)]

use super::check::Check;
use super::sampled::{Sample, SampledProcess};
use crate::processes::descriptors::Target;
use crate::show::units::duration;
use crate::system::level::Level;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// A smaller growth may be chance.
const LEAST: u64 = 3;
/// A leak that reaches the soft limit sooner is critical.
const SOON: Duration = Duration::from_secs(600);

/// A target on which more and more descriptors are open.
#[derive(Debug, PartialEq, Eq)]
struct Growth {
    what: Target,
    by: u64,
    to: u64,
}

/// A result for each kind of descriptor that grew, or one that says that none did.
pub fn of(sampled: &SampledProcess) -> Vec<Check> {
    let nothing = format!("nothing grew in {:.1} s", sampled.took.as_secs_f64());
    if sampled.samples.len() < 2 {
        return vec![Check::ok("leaks", "not looked for: --sample 2s")];
    }
    let mut checks: Vec<Check> = suspects(&sampled.samples).iter().map(|growth| check(sampled, growth)).collect();
    checks.extend(watches(sampled));
    if checks.is_empty() {
        checks.push(Check::ok("leaks", nothing));
    }
    checks
}

fn check(sampled: &SampledProcess, growth: &Growth) -> Check {
    let Growth { what: (kind, target), by, to } = growth;
    let room = sampled.limits.0.saturating_sub(sampled.last.used);
    let full = time_until(room, *by, sampled.took);
    let level = if full < SOON { Level::Critical } else { Level::Warning };
    let says = format!(
        "{kind}, {target}: grew by {by} to {to} in {:.1} s; at this rate the limit of {} is reached in {}",
        sampled.took.as_secs_f64(),
        sampled.limits.0,
        duration(u64::try_from(full.as_nanos()).unwrap_or(u64::MAX))
    );
    let pid = sampled.pid;
    let look = match *kind {
        "tcp" | "udp" | "unix" => format!("who they are: ss -anp | grep pid={pid},"),
        _ => format!("which they are: ls -l /proc/{pid}/fd"),
    };
    Check::new("leaks", level, says, vec![look, until_it_is_mended(sampled)])
}

fn watches(sampled: &SampledProcess) -> Option<Check> {
    let counts: Vec<u64> = sampled.samples.iter().map(|look| look.watches).collect();
    let by = growth(&counts)?;
    let says = format!(
        "inotify watches: grew by {by} to {} in {:.1} s; a watch is freed by inotify_rm_watch or by closing its instance",
        sampled.last.watches,
        sampled.took.as_secs_f64()
    );
    let look = format!("which they are: grep -c ^inotify /proc/{}/fdinfo/*", sampled.pid);
    Some(Check::new(
        "leaks",
        Level::Warning,
        says,
        vec![look, format!("until it is mended: restart process {}", sampled.pid)],
    ))
}

fn until_it_is_mended(sampled: &SampledProcess) -> String {
    let (soft, hard) = sampled.limits;
    let restart = format!("restart process {}", sampled.pid);
    if soft < hard {
        format!("until it is mended: tideover rescue {}, or {restart}", sampled.pid)
    } else {
        format!("until it is mended: {restart}")
    }
}

fn time_until(room: u64, by: u64, took: Duration) -> Duration {
    Duration::try_from_secs_f64(room as f64 / by.max(1) as f64 * took.as_secs_f64()).unwrap_or(Duration::MAX)
}

/// Of each kind the target that grew most; a folder only if no file in it explains its growth.
fn suspects(samples: &[Sample]) -> Vec<Growth> {
    let all: HashSet<&Target> = samples.iter().flat_map(|look| look.targets.keys()).collect();
    let mut worst: BTreeMap<&str, Growth> = BTreeMap::new();
    for target in all {
        let counts: Vec<u64> = samples.iter().map(|look| look.targets.get(target).copied().unwrap_or(0)).collect();
        let Some(by) = growth(&counts) else { continue };
        let to = counts.last().copied().unwrap_or(0);
        let folder = |what: &Target| what.1.ends_with("/*");
        let rank = |growth: &Growth| (growth.by, !folder(&growth.what), std::cmp::Reverse(growth.what.1.clone()));
        let new = Growth { what: target.clone(), by, to };
        match worst.get(target.0) {
            Some(old) if rank(old) >= rank(&new) => {}
            _ => drop(worst.insert(target.0, new)),
        }
    }
    worst.into_values().collect()
}

/// By how much a number grew; None if it fell once, or rose in less than half of the steps.
fn growth(counts: &[u64]) -> Option<u64> {
    let steps = || counts.iter().zip(counts.iter().skip(1));
    let never_fell = steps().all(|(a, b)| a <= b);
    let rose = steps().filter(|(a, b)| a < b).count();
    let by = counts.last()?.saturating_sub(*counts.first()?);
    (never_fell && by >= LEAST && rose * 2 >= counts.len() - 1).then_some(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(counts: &[(&'static str, &str, &[u64])]) -> Vec<Sample> {
        (0..counts[0].2.len())
            .map(|i| Sample {
                targets: counts.iter().map(|(kind, target, n)| ((*kind, (*target).to_string()), n[i])).collect(),
                watches: 0,
            })
            .collect()
    }

    #[test]
    fn what_rises_and_never_falls_is_suspect() {
        assert_eq!(growth(&[1, 2, 3, 4]), Some(3));
        assert_eq!(growth(&[1, 1, 9, 12]), Some(11));
        assert_eq!(growth(&[1, 1, 1, 12]), None, "one burst");
        assert_eq!(growth(&[1, 5, 4, 12]), None, "it comes and goes");
        assert_eq!(growth(&[1, 2, 3]), None, "too little");
        assert_eq!(growth(&[7]), None);
    }

    #[test]
    fn the_file_is_named_before_its_folder_and_the_folder_before_many_files() {
        let found = suspects(&samples(&[
            ("file", "/spool/a", &[1, 5, 9]),
            ("file", "/spool/*", &[3, 7, 11]),
            ("tcp", "to 10.0.0.7:6379", &[0, 10, 20]),
            ("tcp", "clients of port 80", &[90, 20, 100]),
        ]));
        let found: Vec<(&str, &str, u64)> = found.iter().map(|g| (g.what.0, &*g.what.1, g.by)).collect();
        assert_eq!(found, [("file", "/spool/a", 8), ("tcp", "to 10.0.0.7:6379", 20)]);
        let found = suspects(&samples(&[("file", "/spool/a", &[0, 1, 1]), ("file", "/spool/*", &[3, 7, 11])]));
        assert_eq!(found[0].what.1, "/spool/*");
    }

    #[test]
    fn the_rate_tells_when() {
        assert_eq!(time_until(100, 10, Duration::from_secs(2)), Duration::from_secs(20));
        assert_eq!(time_until(u64::MAX, 1, Duration::MAX), Duration::MAX);
    }
}
