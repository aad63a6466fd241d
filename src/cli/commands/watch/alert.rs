//! Alerts with hysteresis: they are raised at once, and lowered only after some time well below the threshold.
#![forbid(unsafe_code)]

use super::findings::{Finding, Subject};
use crate::show::output::{SCHEMA, safe};
use crate::show::units::{now_ns, rfc3339};
use crate::system::level::Level;
#[cfg(test)]
use crate::system::level::Thresholds;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// An alert is lowered when its number is below this part of the threshold; one of free space, when this part of its number is above it.
const WELL_BELOW: f64 = 0.85;

/// What is told.
#[derive(Clone, Debug)]
pub struct Alert {
    id: String,
    /// When its state became this one: RFC 3339 in UTC.
    pub at: String,
    /// When it was raised.
    pub since: String,
    /// Name of this machine.
    pub host: String,
    /// `usage`, `gave_up` ...
    pub name: &'static str,
    /// `raised`, `changed`, `cleared`; `stands` for those who want to be reminded.
    pub state: &'static str,
    /// Of a changed alert, what it was before.
    pub was: Option<Level>,
    /// Of a cleared alert, what it was.
    pub level: Level,
    /// Process id; 0 for the system.
    pub pid: u32,
    /// Name of the program; empty for the system.
    pub program: String,
    /// Its service; empty if none is named.
    pub service: String,
    /// What happened, in a sentence.
    pub message: String,
    /// The command that helps.
    pub remedy: String,
    value: f64,
    subject: Subject,
}

impl Alert {
    /// The line on standard output.
    pub fn line(&self) -> String {
        format!("{} {} {} {}: {}", self.at, self.state, self.level.name(), self.name, self.message)
    }

    /// The JSON that receivers get. `dropped` alerts before this one were not delivered.
    pub fn json(&self, dropped: u64) -> Value {
        json!({
            "schema": SCHEMA, "id": self.id, "key": self.key(), "at": self.at, "since": self.since, "host": self.host,
            "alert": self.name, "state": self.state,
            "severity": self.level.name(), "pid": self.pid, "program": self.program,
            "service": self.service, "message": self.message, "value": (self.value * 10.0).round() / 10.0, "remedy": self.remedy,
            "dropped": dropped,
        })
    }

    /// What is the same in all that is told of an alert, from raised to cleared: its name, and its process by id and start.
    pub fn key(&self) -> String {
        let (name, pid, started) = self.subject;
        format!("{name}-{pid}-{started}")
    }

    /// The name of its level.
    pub fn level_name(&self) -> &'static str {
        self.level.name()
    }

    /// Would a higher soft limit help?
    pub fn calls_for_rescue(&self) -> bool {
        self.name == "usage" && self.level == Level::Critical && self.state != "cleared"
    }

    #[cfg(test)]
    pub fn example(number: u32) -> Alert {
        let finding = Finding {
            subject: ("usage", number, 1),
            program: "nginx".into(),
            service: None,
            value: 95.0,
            thresholds: Thresholds::high(70.0, 90.0),
            says: "95 of 100 descriptors in use".into(),
            remedy: "tideover rescue".into(),
        };
        Alerts::new(Duration::ZERO).update(vec![finding]).remove(0)
    }
}

/// An alert that is raised and not yet cleared.
struct Standing {
    level: Level,
    /// When it was raised.
    since: String,
    /// Since when its number has been well below the threshold, and the worst level since then.
    calm: Option<(Instant, Level)>,
    last: Finding,
}

/// All alerts that are raised and not yet cleared.
pub struct Alerts {
    calm: Duration,
    standing: HashMap<Subject, Standing>,
    /// The part of all ids that is different in each run of `watch`.
    run: String,
    host: String,
    count: u64,
}

impl Alerts {
    /// Starts without alerts. A number must be well below its threshold for the time `calm` before its alert is cleared.
    pub fn new(calm: Duration) -> Alerts {
        let run = format!("{:x}-{:x}", now_ns(), std::process::id());
        let host = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
        Alerts { calm, standing: HashMap::new(), run, host: safe(host.trim_ascii()), count: 0 }
    }

    /// Those that are raised and not yet cleared, as they are told to receivers that want to be reminded.
    pub fn standing(&mut self) -> Vec<Alert> {
        let all: Vec<_> = self.standing.values().map(|it| (it.level, it.since.clone(), it.last.clone())).collect();
        let tell = |(level, since, last): (Level, String, Finding)| Alert {
            since,
            ..self.alert(&last, "stands", level, &last.says)
        };
        all.into_iter().map(tell).collect()
    }

    /// Takes new numbers, and returns the alerts that they raise, change or clear.
    pub fn update(&mut self, findings: Vec<Finding>) -> Vec<Alert> {
        self.update_at(findings, Instant::now())
    }

    fn update_at(&mut self, findings: Vec<Finding>, now: Instant) -> Vec<Alert> {
        let mut told = Vec::new();
        let mut before = std::mem::take(&mut self.standing);
        for mut finding in findings {
            let old = before.remove(&finding.subject);
            finding.service = finding.service.or_else(|| old.as_ref()?.last.service.clone());
            let was = old.as_ref().map_or(Level::Ok, |standing| standing.level);
            let calm = old.as_ref().and_then(|standing| standing.calm);
            let (is, calm) = next_level(&finding, was, calm, self.calm, now);
            let mut since = old.map_or_else(String::new, |standing| standing.since);
            if is != was {
                let (state, level) = match (was, is) {
                    (Level::Ok, _) => ("raised", is),
                    (_, Level::Ok) => ("cleared", was),
                    _ => ("changed", is),
                };
                let mut alert = self.alert(&finding, state, level, &finding.says);
                if was == Level::Ok {
                    since.clone_from(&alert.at);
                }
                alert.since.clone_from(&since);
                alert.was = Some(was).filter(|_| state == "changed");
                told.push(alert);
            }
            if is != Level::Ok {
                self.standing.insert(finding.subject, Standing { level: is, since, calm, last: finding });
            }
        }
        // A process that is not among the findings any more has ended, or has no such number any more.
        for (_, standing) in before {
            let says = if standing.last.subject.1 == 0 {
                "it is not seen any more"
            } else {
                "it has ended, or has none any more"
            };
            let alert = self.alert(&standing.last, "cleared", standing.level, says);
            told.push(Alert { since: standing.since, ..alert });
        }
        told
    }

    fn alert(&mut self, finding: &Finding, state: &'static str, level: Level, says: &str) -> Alert {
        self.count += 1;
        let (name, pid, _) = finding.subject;
        let who = match &finding.service {
            _ if pid == 0 => "the system".to_string(),
            Some(service) => format!("{} (process {pid}, {service})", finding.program),
            None => format!("{} (process {pid})", finding.program),
        };
        let at = rfc3339(now_ns());
        Alert {
            id: format!("{}-{}", self.run, self.count),
            since: at.clone(),
            at,
            host: self.host.clone(),
            name,
            state,
            was: None,
            level,
            pid,
            program: finding.program.clone(),
            service: finding.service.clone().unwrap_or_default(),
            message: format!("{who}: {says}"),
            value: finding.value,
            remedy: finding.remedy.clone(),
            subject: finding.subject,
        }
    }
}

/// The new level of an alert, and since when its number has been well below the threshold.
fn next_level(
    finding: &Finding,
    was: Level,
    calm: Option<(Instant, Level)>,
    long_enough: Duration,
    now: Instant,
) -> (Level, Option<(Instant, Level)>) {
    let plain = finding.thresholds.level(finding.value);
    if plain >= was {
        return (plain, None);
    }
    let well = finding.thresholds.sooner(WELL_BELOW).level(finding.value);
    if well >= was {
        return (was, None);
    }
    // The alert is lowered to the worst level of the time in which it was well below the threshold.
    let (since, worst) = calm.map_or((now, well), |(since, worst)| (since, worst.max(well)));
    if now.saturating_duration_since(since) >= long_enough { (worst, None) } else { (was, Some((since, worst))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(value: f64) -> Finding {
        Finding {
            subject: ("usage", 7, 1),
            program: "nginx".into(),
            service: None,
            value,
            thresholds: Thresholds::high(70.0, 90.0),
            says: String::new(),
            remedy: String::new(),
        }
    }

    /// What is told of these numbers, one a second.
    fn told(calm: u64, values: &[f64]) -> Vec<String> {
        let mut alerts = Alerts::new(Duration::from_secs(calm));
        let start = Instant::now();
        let tell = |alert: Alert| format!("{} {}", alert.state, alert.level.name());
        let mut look = |(i, value): (usize, &f64)| {
            let found = if value.is_nan() { vec![] } else { vec![finding(*value)] };
            alerts
                .update_at(found, start + Duration::from_secs(i as u64))
                .into_iter()
                .map(tell)
                .collect::<Vec<_>>()
                .join(", ")
        };
        values.iter().enumerate().map(&mut look).collect()
    }

    #[test]
    fn it_is_raised_at_once_and_cleared_after_a_calm_time() {
        assert_eq!(
            told(2, &[10.0, 75.0, 95.0, 10.0, 10.0, 10.0]),
            ["", "raised warning", "changed critical", "", "", "cleared critical"]
        );
        assert_eq!(told(0, &[95.0, 10.0, 95.0]), ["raised critical", "cleared critical", "raised critical"]);
    }

    #[test]
    fn a_number_that_swings_around_its_threshold_is_told_once() {
        let swings: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 91.0 } else { 80.0 }).collect();
        assert_eq!(
            told(3, &swings).into_iter().filter(|told| !told.is_empty()).collect::<Vec<_>>(),
            ["raised critical"]
        );
        // A number that falls far, but not for long, is told once, too.
        let swings: Vec<f64> = (0..40).map(|i| if i % 3 == 0 { 91.0 } else { 10.0 }).collect();
        assert_eq!(
            told(3, &swings).into_iter().filter(|told| !told.is_empty()).collect::<Vec<_>>(),
            ["raised critical"]
        );
    }

    #[test]
    fn it_is_lowered_to_the_worst_of_the_calm_time() {
        assert_eq!(told(2, &[95.0, 10.0, 71.0, 10.0]), ["raised critical", "", "", "changed warning"]);
        assert_eq!(told(1, &[75.0, 62.0, 62.0, 62.0]), ["raised warning", "", "", ""], "not well below");
    }

    #[test]
    fn a_process_that_ends_takes_its_alert_along() {
        assert_eq!(told(60, &[95.0, f64::NAN, f64::NAN]), ["raised critical", "cleared critical", ""]);
    }

    #[test]
    fn every_alert_has_an_id_of_its_own() {
        let (a, b) = (Alert::example(1), Alert::example(2));
        assert_ne!(a.json(0)["id"], b.json(0)["id"]);
        assert!(a.calls_for_rescue());
        assert_eq!(a.json(3)["dropped"], 3);
        assert!(a.line().contains("raised critical usage: nginx (process 1): 95 of 100 descriptors in use"));
    }
}
