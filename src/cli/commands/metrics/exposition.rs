//! The text format of Prometheus, with its conventions: base units, names of counters that end in `_total`, HELP and TYPE once
//! for each name.
#![forbid(unsafe_code)]

use super::guards::Guards;
use super::measured::{self, Seen};
use super::others::{Other, Others};
use super::totals::{Name, Row, Totals, calls, counter, refusals};
use crate::pages::snapshot::Snapshot;
use crate::system;
use std::collections::BTreeMap;
use std::fmt::Write;
use tideover_contract::page::{COUNTERS, CounterInfo, Shape};

/// The processes of each program and service.
#[derive(Default)]
struct Now<'a>(BTreeMap<Name, Vec<&'a Snapshot<'a>>>);

/// How the values of a gauge in several processes become one number.
#[derive(Clone, Copy)]
enum Of {
    Sum,
    Highest,
    /// The lowest that is not 0.
    Earliest,
}

/// Gauges whose values are not added up.
const GAUGES: &[(&str, Of)] =
    &[("high_water", Of::Highest), ("raised_from", Of::Highest), ("degraded_since", Of::Earliest)];

/// All metrics.
pub fn text(totals: &Totals, snapshots: &[Snapshot], others: &Others, guards: &Guards, seen: &Seen) -> String {
    let sums = totals.sums();
    let mut now = Now::default();
    for snapshot in snapshots {
        now.0.entry(Name::of(snapshot)).or_default().push(snapshot);
    }
    let mut page = Exposition { text: String::new(), others };
    page.family("tideover_build_info", "gauge", "version of the tideover command; the value is 1");
    page.sample("tideover_build_info", &[("version", env!("CARGO_PKG_VERSION"))], "1");
    page.processes(&sums, &now);
    for (index, info) in COUNTERS.iter().enumerate() {
        page.counter(index, info, &sums, &now);
    }
    page.calls(&sums);
    guards.write(&mut page);
    measured::write(&mut page, seen);
    page.system();
    page.text
}

/// The text so far.
pub struct Exposition<'a> {
    text: String,
    others: &'a Others,
}

impl Exposition<'_> {
    /// Begins a metric.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Adds a sample of the metric that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        let escape = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.text, "{name}{labels} {value}");
    }

    /// Adds a gauge, with a sample for each program and service.
    fn gauge(&mut self, name: &str, help: &str, now: &Now, value: impl Fn(&[&Snapshot]) -> String) {
        self.family(name, "gauge", help);
        for (who, processes) in &now.0 {
            self.sample(name, &who.labels(), &value(processes));
        }
    }

    /// Adds samples of processes without the library to the family that was begun last.
    fn unguarded(&mut self, name: &str, value: impl Fn(&[Other]) -> String) {
        for (who, processes) in self.others {
            let labels = [who.labels(), vec![("guarded", "0")]].concat();
            self.sample(name, &labels, &value(processes));
        }
    }

    fn processes(&mut self, sums: &BTreeMap<Name, Box<Row>>, now: &Now) {
        self.family("tideover_processes", "gauge", "guarded processes");
        for who in sums.keys() {
            let count = now.0.get(who).map_or(0, Vec::len);
            self.sample("tideover_processes", &who.labels(), &count.to_string());
        }
        self.unguarded("tideover_processes", |of| of.len().to_string());
        let used = |of: &[&Snapshot]| sum(of.iter().map(|s| s.used)).to_string();
        self.gauge("tideover_descriptors_used", "descriptors open now", now, used);
        self.unguarded("tideover_descriptors_used", |of| sum(of.iter().map(|it| it.used)).to_string());
        let ratio = |of: &[&Snapshot]| worst(of.iter().map(|s| (s.used, s.obtainable)));
        let help = "part of what it can have that the process has in use that is nearest to it";
        self.gauge("tideover_descriptors_used_ratio", help, now, ratio);
        self.unguarded("tideover_descriptors_used_ratio", |of| worst(of.iter().map(|it| (it.used, it.obtainable))));
        let available = |of: &[&Snapshot]| of.iter().map(|s| s.available()).min().unwrap_or(0).to_string();
        let help = "descriptors that the process that is nearest to what it can have can have besides";
        self.gauge("tideover_descriptors_available", help, now, available);
        let left = |of: &[Other]| of.iter().map(|it| it.obtainable.saturating_sub(it.used)).min().unwrap_or(0);
        self.unguarded("tideover_descriptors_available", |of| left(of).to_string());
        let obtainable = |of: &[&Snapshot]| sum(of.iter().map(|s| s.obtainable)).to_string();
        let help = "descriptors that can be had: soft limits, as far as the library raises them";
        self.gauge("tideover_descriptors_obtainable", help, now, obtainable);
        self.unguarded("tideover_descriptors_obtainable", |of| sum(of.iter().map(|it| it.obtainable)).to_string());
    }

    /// Adds a row of [`COUNTERS`].
    fn counter(&mut self, index: usize, info: &CounterInfo, sums: &BTreeMap<Name, Box<Row>>, now: &Now) {
        let (name, seconds) = name(info);
        let shown = |number: u64| if seconds { format!("{:.9}", number as f64 / 1e9) } else { number.to_string() };
        let help = info.help.replace("nanoseconds", "seconds");
        if info.shape == Shape::Counter {
            self.family(&name, "counter", &help);
            for (who, row) in sums {
                self.sample(&name, &who.labels(), &shown(counter(row, index)));
            }
            return;
        }
        let rule = GAUGES.iter().find(|gauge| gauge.0 == info.name).map_or(Of::Sum, |gauge| gauge.1);
        let value = |of: &[&Snapshot]| {
            let all = of.iter().map(|snapshot| snapshot.counter(info.section, info.name));
            shown(match rule {
                Of::Sum => sum(all),
                Of::Highest => all.max().unwrap_or(0),
                Of::Earliest => all.filter(|&n| n > 0).min().unwrap_or(0),
            })
        };
        let help = if info.shape == Shape::Bool { format!("processes for which this is so: {help}") } else { help };
        self.gauge(&name, &help, now, value);
        match info.name {
            "soft_limit" => self.unguarded(&name, |of| sum(of.iter().map(|it| it.limits.0)).to_string()),
            "hard_limit" => self.unguarded(&name, |of| sum(of.iter().map(|it| it.limits.1)).to_string()),
            _ => {}
        }
    }

    fn calls(&mut self, sums: &BTreeMap<Name, Box<Row>>) {
        for (name, help, which) in [
            ("tideover_calls_opened_total", "calls that made a descriptor", 0),
            ("tideover_calls_closed_total", "descriptors closed", 1),
        ] {
            self.family(name, "counter", help);
            for (who, row) in sums {
                let (opened, closed) = calls(row);
                self.sample(name, &who.labels(), &[opened, closed][which].to_string());
            }
        }
        let name = "tideover_logs_refused_total";
        self.family(
            name,
            "counter",
            "writes on a full disk that got the true error, by the reason why the file is no log",
        );
        for (who, row) in sums {
            for (refusal, count) in refusals(row) {
                let labels = [who.labels(), vec![("reason", refusal.name())]].concat();
                self.sample(name, &labels, &count.to_string());
            }
        }
    }

    fn system(&mut self) {
        let Some(files) = system::files() else { return };
        self.family("tideover_system_open_files", "gauge", "open files of the whole system");
        self.sample("tideover_system_open_files", &[], &files.used.to_string());
        self.family("tideover_system_open_files_limit", "gauge", "fs.file-max, at which ENFILE begins");
        self.sample("tideover_system_open_files_limit", &[], &files.max.to_string());
    }
}

/// The name of a counter's metric, and whether its value is converted from nanoseconds to seconds, the base unit.
fn name(info: &CounterInfo) -> (String, bool) {
    let (stem, seconds) = match info.name {
        "degraded_since" => ("degraded_since_seconds".to_string(), true),
        "held_bytes" => return ("tideover_log_held_bytes".to_string(), false),
        name => name.strip_suffix("_ns").map_or((name.to_string(), false), |stem| (format!("{stem}_seconds"), true)),
    };
    let total = if info.shape == Shape::Counter { "_total" } else { "" };
    (format!("tideover_{}_{stem}{total}", info.section), seconds)
}

/// The highest part of what can be had that a process has in use.
fn worst(shares: impl Iterator<Item = (u64, u64)>) -> String {
    let worst = shares.map(|(used, obtainable)| used as f64 / obtainable.max(1) as f64).fold(0.0, f64::max);
    format!("{worst:.6}")
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Page, forge};
    use tideover_contract::page::state;

    fn two() -> String {
        let pages: Vec<Page> = [(7, 10u64), (8, 30)]
            .map(|(pid, ms)| {
                let mut bytes = forge(pid, state::LIVE, 1);
                for (name, value) in [
                    ("emfile", ms),
                    ("wait_ns", ms * 1_000_000),
                    ("degraded_since", ms * 1_000_000_000),
                    ("degraded", 1),
                ] {
                    let at = COUNTERS.iter().position(|counter| counter.name == name).unwrap();
                    bytes[128 + at * 8..][..8].copy_from_slice(&value.to_ne_bytes());
                }
                bytes[64..77].copy_from_slice(b"a \"b\\c\n\x00\x00\x00\x00\x00\x00");
                Page::forged(bytes, pid)
            })
            .into();
        let snapshots: Vec<Snapshot> = pages
            .iter()
            .map(|page| Snapshot {
                page: page.view().unwrap(),
                pid: page.pid,
                used: 8 * u64::from(page.pid),
                soft: 64,
                hard: 128,
                obtainable: 64,
            })
            .collect();
        let mut totals = Totals::default();
        totals.update(&snapshots);
        text(&totals, &snapshots, &Others::new(), &Guards::default(), &Seen::default())
    }

    #[test]
    fn processes_of_a_program_become_one_line() {
        let text = two();
        for line in [
            "tideover_exhaustion_emfile_total{program=\"a \\\"b\\\\c?\"} 40",
            "tideover_exhaustion_wait_seconds_total{program=\"a \\\"b\\\\c?\"} 0.040000000",
            "tideover_descriptors_used{program=\"a \\\"b\\\\c?\"} 120",
            "tideover_descriptors_used_ratio{program=\"a \\\"b\\\\c?\"} 1.000000",
            "tideover_descriptors_available{program=\"a \\\"b\\\\c?\"} 0",
            "tideover_descriptors_obtainable{program=\"a \\\"b\\\\c?\"} 128",
            "tideover_descriptors_soft_limit{program=\"a \\\"b\\\\c?\"} 128",
            "tideover_logs_degraded_since_seconds{program=\"a \\\"b\\\\c?\"} 10.000000000",
            "tideover_logs_degraded{program=\"a \\\"b\\\\c?\"} 2",
            "tideover_processes{program=\"a \\\"b\\\\c?\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.contains("# TYPE tideover_exhaustion_emfile_total counter\n"), "{text}");
    }

    #[test]
    fn every_name_is_described_once_before_its_samples_and_has_a_base_unit() {
        let text = two();
        let mut described = Vec::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap().to_string();
                assert!(!described.contains(&name), "{name} twice");
                described.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(described.last().map(String::as_str), Some(name));
            }
        }
        assert!(described.len() > COUNTERS.len());
        assert!(!described.iter().any(|name| name.contains("_ns")), "{described:?}");
        let document = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guard.md");
        let document = std::fs::read_to_string(document).unwrap();
        let guards: Vec<&String> = described.iter().filter(|name| name.starts_with("tideover_guard_")).collect();
        assert_eq!(guards.len(), 7);
        for name in guards {
            assert!(document.contains(&format!("| `{name}` |")), "docs/guard.md lacks {name}");
        }
    }
}
