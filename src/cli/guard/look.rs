//! One look at a target, the steps that it calls for, and when to look next.
#![forbid(unsafe_code)]

use crate::guard::evidence::{Known, end_of};
use crate::guard::idle;
use crate::guard::limit::{self, Limits};
use crate::guard::park;
use crate::guard::refusal::of_descriptors;
use crate::guard::sockets::{self, Descriptors, Tcp};
use crate::guard::spin::{self, Spin};
use crate::guard::state::Parked;
use crate::guard::target::Target;
use crate::guard::tell::{Event, Teller};
use crate::processes::process;
use crate::settings::steps::Steps;
use crate::show::failure::{Failure, cause};
use crate::show::units::duration;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The longest time between two looks.
const CALM: Duration = Duration::from_secs(1);
/// The shortest, while a listener is parked.
const PARKED: Duration = Duration::from_millis(20);
/// So many descriptors a second may be opened, whatever was seen before.
const QUICK: u64 = 128;
/// While all descriptors are in use, and something could be done.
const FULL: Duration = Duration::from_millis(100);
/// A parked listener is brought back for a moment after so long, in case the program has an answer of its own.
const PROBE: Duration = Duration::from_secs(60);
/// For so long after a listener was parked, the program is known to spin.
const KNOWN: Duration = Duration::from_secs(120);

/// Looks at a target that has not ended, and does what is to be done. Sets when to look next.
pub fn look(target: &mut Target, known: &mut Known, teller: Teller) -> Result<(), Failure> {
    let wait = steps_of(target, known, teller)?;
    target.next = Instant::now() + wait;
    Ok(())
}

fn steps_of(target: &mut Target, known: &mut Known, teller: Teller) -> Result<Duration, Failure> {
    let (pid, steps) = (target.process.pid, target.steps);
    let Some(used) = process::descriptors(pid) else { return Ok(CALM) };
    let Some(mut limits) = limits_of(target, used) else { return Ok(CALM) };
    if limit::is_near(used, target.seen.growth, limits.soft) {
        limits = raise(target, used, limits, known, teller)?;
    }
    let full = used >= limits.soft;
    if !target.parked.is_empty() {
        if full && steps.park && target.parked_at.is_some_and(|at| at.elapsed() < PROBE) {
            return Ok(PARKED);
        }
        rearm(target, used, limits, teller)?;
    }
    if !full {
        target.seen.since = None;
        return Ok(interval(used, target.seen.growth, limits.soft));
    }
    if steps.idle.is_none() && !steps.park {
        return Ok(CALM / 4);
    }
    let begun = Instant::now();
    let wait = at_limit(target, limits, teller)?;
    // No target takes more than a twentieth of a processor, also if its tables are long.
    Ok(if target.parked.is_empty() { wait.max(begun.elapsed() * 20) } else { wait })
}

/// When to look next: twice before the limit would be near, at the highest growth seen, [`QUICK`] or half the limit in a second.
fn interval(used: u64, growth: u64, soft: u64) -> Duration {
    // Beyond that no limit is raised, and the products below fit.
    let soft = soft.min(1 << 40);
    let near = soft.saturating_mul(limit::NEAR) / 100;
    let rate = (soft / 2).max(growth.saturating_mul(4)).max(QUICK);
    let ms = near.saturating_sub(used).saturating_mul(1000) / rate / 2;
    // Where it is near already and can't be raised, there is nothing to be in time for.
    if near <= used { FULL } else { Duration::from_millis(ms.max(20)).min(CALM) }
}

/// The limits, read again when the number of descriptors has changed, and now and then.
fn limits_of(target: &mut Target, used: u64) -> Option<Limits> {
    let seen = &mut target.seen;
    seen.growth = used.saturating_sub(seen.used).max(seen.growth / 2);
    if seen.looks == 0 {
        seen.growth = 0;
    }
    if used != seen.used || seen.limits.is_none() || seen.looks.is_multiple_of(8) {
        seen.limits = process::limits(target.process.pid).map(|(soft, hard)| Limits { soft, hard });
    }
    seen.used = used;
    seen.looks += 1;
    seen.limits
}

fn raise(target: &mut Target, used: u64, limits: Limits, known: &mut Known, teller: Teller) -> Result<Limits, Failure> {
    let pid = target.process.pid;
    // Asked anew: somebody else may have set them since, also the hard limit, which prlimit(2) writes as well.
    let Some((soft, hard)) = process::limits(pid) else { return Ok(limits) };
    let limits = Limits { soft, hard };
    target.seen.limits = Some(limits);
    if !limit::is_near(used, target.seen.growth, soft) {
        return Ok(limits);
    }
    let unchanged = |target: &mut Target, text: String| -> Result<Limits, Failure> {
        if target.is_news(&text) {
            tell(
                teller,
                target,
                "not_raised",
                format!("not raised: {text}"),
                &json!({ "reason": text, "used": used }),
            )?;
        }
        Ok(limits)
    };
    if limits.soft >= limits.hard {
        let why = limit::why_not(pid, limits, &crate::guard::evidence::End { limit: u64::MAX, why: String::new() });
        return unchanged(target, why);
    }
    let end = end_of(pid, known);
    let Some(soft) = limit::next(limits, &end) else {
        return unchanged(target, limit::why_not(pid, limits, &end));
    };
    // Between this and prlimit(2) lie microseconds; a process that has ended keeps its number until its parent has waited for it.
    if target.has_ended() {
        return Ok(limits);
    }
    if let Err(error) = limit::raise_to(pid, limits, soft) {
        let right = if error == rustix::io::Errno::PERM {
            "; another user's limits take CAP_SYS_RESOURCE, which root in a container often lacks"
        } else {
            ""
        };
        return unchanged(target, format!("prlimit(2) says: {}{right}", cause(&error.into())));
    }
    target.counts.raised += 1;
    let raised = Limits { soft, ..limits };
    target.seen.limits = Some(raised);
    let text =
        format!("soft limit was {}, is {soft} (hard limit {}); {used} descriptors in use", limits.soft, limits.hard);
    tell(
        teller,
        target,
        "raised",
        text,
        &json!({ "was": limits.soft, "is": soft, "hard": limits.hard, "used": used }),
    )?;
    write(target);
    Ok(raised)
}

fn rearm(target: &mut Target, used: u64, limits: Limits, teller: Teller) -> Result<(), Failure> {
    let rearmed = target.bring_back();
    write(target);
    target.seen.since = None;
    if rearmed == 0 {
        return Ok(());
    }
    let text = format!("listens again; {used} of {} descriptors in use", limits.soft);
    tell(teller, target, "rearmed", text, &json!({ "items": rearmed, "used": used }))
}

/// All descriptors are in use, and the limit is as high as it may be.
fn at_limit(target: &mut Target, limits: Limits, teller: Teller) -> Result<Duration, Failure> {
    let (pid, steps) = (target.process.pid, target.steps);
    if let Some(why) = of_descriptors(pid) {
        once(target, teller, "not_parked", &why)?;
        return Ok(CALM);
    }
    let Some(descriptors) = sockets::descriptors(pid, limits.soft) else { return Ok(CALM) };
    let tcp = Tcp::of(&descriptors, &sockets::tcp(pid));
    if descriptors.below < limits.soft || tcp.waiting() == 0 {
        target.seen.since = None;
        return Ok(FULL);
    }
    if let Some(longer) = steps.idle {
        let done = idle::end(&target.pidfd, &tcp, longer, &mut target.seen.ended);
        if let Some((_, first)) = done.first() {
            let (count, waiting) = (done.len() as u64, tcp.waiting());
            target.counts.idle_ended += count;
            let longest = duration(u64::try_from(first.as_nanos()).unwrap_or(u64::MAX));
            let text =
                format!("ended {count} idle clients, the longest idle for {longest}; {waiting} wait to be accepted");
            let numbers: Vec<i32> = done.iter().map(|it| it.0).collect();
            tell(teller, target, "idle_ended", text, &json!({ "descriptors": numbers, "waiting": waiting }))?;
            write(target);
            return Ok(FULL / 2);
        }
        if target.seen.ended.is_in_vain() {
            once(
                target,
                teller,
                "idle_in_vain",
                "no more idle clients are ended: it has closed none of those that were",
            )?;
        }
    }
    if steps.park {
        park_if_it_spins(target, &descriptors, &tcp, teller)?;
    }
    Ok(if target.parked.is_empty() { FULL } else { PARKED })
}

fn park_if_it_spins(target: &mut Target, descriptors: &Descriptors, tcp: &Tcp, teller: Teller) -> Result<(), Failure> {
    let pid = target.process.pid;
    let known = target.rearmed_at.is_some_and(|at| at.elapsed() < KNOWN);
    let items = match spin::look(&mut target.seen.since, pid, descriptors, tcp, known) {
        Spin::No => return Ok(()),
        Spin::Unparkable(why) => return once(target, teller, "not_parked", why),
        Spin::Yes(items) => items,
    };
    if let Some(other) = items.iter().find_map(|it| park::shared_with(pid, it.set)) {
        return once(target, teller, "not_parked", &format!("process {other} has the same epoll set"));
    }
    let before = target.counts;
    target.counts.parked += items.len() as u64;
    target.parked = items;
    // Without a record, nothing is parked: a guard that is killed could not be made good.
    if let Err(why) = target.write() {
        target.parked.clear();
        target.counts = before;
        return once(target, teller, "not_parked", &format!("its state can't be written: {why}"));
    }
    let failed: Vec<Parked> =
        target.parked.iter().copied().filter(|it| park::park(&target.pidfd, *it).is_err()).collect();
    target.parked.retain(|it| !failed.contains(it));
    target.counts.parked -= failed.len() as u64;
    write(target);
    if target.parked.is_empty() {
        return once(target, teller, "not_parked", "its epoll set changes while it is looked at");
    }
    target.parked_at = Some(Instant::now());
    let waiting = tcp.waiting();
    let numbers: Vec<i32> = target.parked.iter().map(|it| it.item.number).collect();
    let text = format!(
        "spins at its limit, all descriptors are in use: its listener is parked until one is free; {waiting} clients wait"
    );
    tell(teller, target, "parked", text, &json!({ "descriptors": numbers, "waiting": waiting }))
}

/// Tells why a step is not taken, once.
fn once(target: &mut Target, teller: Teller, kind: &'static str, why: &str) -> Result<(), Failure> {
    if target.is_news(&format!("{kind}: {why}")) {
        tell(teller, target, kind, format!("{}: {why}", kind.replace('_', " ")), &json!({ "reason": why }))?;
    }
    Ok(())
}

/// Writes the state; what is parked was written before, and what fails here is a number for --status.
fn write(target: &Target) {
    if let Err(why) = target.write() {
        log::warn!("the state of process {} can't be written: {why}", target.process.pid);
    }
}

fn tell(teller: Teller, target: &Target, kind: &'static str, text: String, more: &Value) -> Result<(), Failure> {
    let event = Event { kind, pid: Some(target.process.pid), program: &target.program, text, more: more.clone() };
    teller.tell(&event)
}

/// What could be done for a process now, and why not: lines for people.
pub fn prospects(pid: u32, steps: Steps, known: &mut Known) -> Vec<String> {
    let Some((soft, hard)) = process::limits(pid) else { return vec!["its limits can't be read".to_string()] };
    let limits = Limits { soft, hard };
    let used = process::descriptors(pid).unwrap_or(0);
    let end = end_of(pid, known);
    let mut lines = vec![format!("{used} descriptors in use, soft limit {soft}, hard limit {hard}")];
    lines.push(match limit::next(limits, &end) {
        Some(_) => {
            let highest = std::iter::successors(Some(limits), |&limits| {
                limit::next(limits, &end).map(|soft| Limits { soft, ..limits })
            });
            let highest = highest.last().map_or(soft, |limits| limits.soft);
            let why = if end.why.is_empty() { String::new() } else { format!("; no further: {}", end.why) };
            format!("raise: from {} % of the soft limit on, in steps up to {highest}{why}", limit::NEAR)
        }
        None => format!("raise: no, {}", limit::why_not(pid, limits, &end)),
    });
    if steps.idle.is_none() && !steps.park {
        return lines;
    }
    if let Some(why) = of_descriptors(pid) {
        lines.push(format!("idle, park: no, {why}"));
        return lines;
    }
    let descriptors = sockets::descriptors(pid, soft).unwrap_or_default();
    let tcp = Tcp::of(&descriptors, &sockets::tcp(pid));
    if tcp.listeners.is_empty() {
        lines.push("idle, park: no, it has no TCP listener".to_string());
        return lines;
    }
    if steps.idle.is_some() {
        lines.push(format!("idle: {} clients of its listeners are connected and quiet", tcp.quiet.len()));
    }
    if steps.park {
        lines.extend(parkable(pid, &descriptors, &tcp));
    }
    lines
}

fn parkable(pid: u32, descriptors: &Descriptors, tcp: &Tcp) -> Vec<String> {
    let mut lines = Vec::new();
    for set in &descriptors.sets {
        for item in park::items(pid, *set) {
            if !tcp.listeners.iter().any(|it| (it.0, it.1) == (item.number, item.inode)) {
                continue;
            }
            let what = format!("listener {} in epoll set {set}", item.number);
            let shared = || park::shared_with(pid, *set).map(|other| format!("process {other} has the same epoll set"));
            lines.push(match park::why_not(item).map(ToString::to_string).or_else(shared) {
                Some(why) => format!("park: no, {what}: {why}"),
                None => format!("park: {what}"),
            });
        }
    }
    if lines.is_empty() {
        lines.push("park: no, none of its epoll sets watches a listener".to_string());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_closer_as_the_limit_does() {
        assert_eq!(interval(10, 0, 100), Duration::from_millis(273));
        assert_eq!(interval(70, 0, 100), Duration::from_millis(39));
        assert_eq!(interval(79, 50, 100), Duration::from_millis(20), "it grows fast");
        assert_eq!(interval(4, 0, 1024), Duration::from_millis(795));
        assert_eq!(interval(90, 0, 100), FULL);
        assert_eq!(interval(1, 0, u64::MAX), Duration::from_millis(799));
    }
}
