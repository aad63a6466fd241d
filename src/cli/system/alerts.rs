//! The table of alerts: what `tideover watch` measures, from which values on it is bad, and the keys by which the policy file changes that.
#![forbid(unsafe_code)]

use crate::system::level::Thresholds;
use tideover_contract::settings::{Id, default_percent};

/// What the numbers of an alert are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Percent of a limit that is in use: much is bad.
    Used,
    /// Percent that is free: little is bad.
    Free,
    /// A number of things: many are bad.
    Count,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    /// Name of the alert; after `alert_` its key in the policy file.
    pub name: &'static str,
    /// What its numbers are.
    pub unit: Unit,
    /// From which values on it is a warning, and critical; None: it is off unless the policy file sets it.
    pub default: Option<(f64, f64)>,
    /// What is measured, for the documents.
    pub help: &'static str,
}

const fn row(name: &'static str, unit: Unit, default: Option<(f64, f64)>, help: &'static str) -> Row {
    Row { name, unit, default, help }
}

/// All alerts.
pub const ALERTS: &[Row] = &[
    row("usage", Unit::Used, Some((70.0, 90.0)), "descriptors that a process has open, of those that it can have"),
    row("log_space", Unit::Free, Some((10.0, 3.0)), "free space of a filesystem on which a process has a log open"),
    row("log_inodes", Unit::Free, Some((10.0, 3.0)), "free inodes of a filesystem on which a process has a log open"),
    row("address_space", Unit::Used, Some((90.0, 97.0)), "address space of a process, of its limit (RLIMIT_AS)"),
    row("container_memory", Unit::Used, Some((90.0, 97.0)), "memory of a container or unit, of its limit (memory.max)"),
    row("connections", Unit::Count, None, "TCP connections that a process has open, in and out"),
    row("zombies", Unit::Count, Some((10.0, 100.0)), "ended children that a process has not waited for"),
    row(
        "gave_up",
        Unit::Count,
        Some((1.0, 1.0)),
        "calls of a guarded process that found no descriptor and failed since the last look",
    ),
    row("degraded", Unit::Count, Some((1.0, 1.0)), "1 while a guarded process diverts a log"),
    row(
        "inotify_instances",
        Unit::Used,
        Some((70.0, 90.0)),
        "inotify instances of a user, of fs.inotify.max_user_instances",
    ),
    row("inotify_watches", Unit::Used, Some((70.0, 90.0)), "inotify watches of a user, of fs.inotify.max_user_watches"),
    row("files", Unit::Used, Some((70.0, 90.0)), "open files of the system, of fs.file-max"),
    row("memory", Unit::Used, Some((90.0, 97.0)), "memory of the system that is not available"),
];

/// The row of an alert; panics in tests alone, since names are constants of this program.
pub fn by_name(name: &str) -> Option<&'static Row> {
    ALERTS.iter().find(|row| row.name == name)
}

/// The row of a key of the policy file, `alert_zombies` or `alert-zombies`.
pub fn by_key(key: &str) -> Option<&'static Row> {
    let key = key.replace('-', "_");
    by_name(key.strip_prefix("alert_")?)
}

impl Row {
    /// Its thresholds, unless the policy file sets others; None: it is off.
    pub fn thresholds(&self) -> Option<Thresholds> {
        let (mut warning, mut critical) = self.default?;
        if self.name == "usage" {
            // The library's own warnings are the same.
            (warning, critical) = (default_percent(Id::FdWarn), default_percent(Id::FdCritical));
        }
        Some(self.bounds(warning, critical))
    }

    fn bounds(&self, warning: f64, critical: f64) -> Thresholds {
        Thresholds { warning, critical, low: self.unit == Unit::Free }
    }

    /// Reads a value of the policy file: `off`, `WARNING,CRITICAL`, or WARNING alone. The error says what it takes.
    pub fn parse(&self, text: &str) -> Result<Option<Thresholds>, String> {
        if text.trim() == "off" {
            return Ok(None);
        }
        let most = if self.unit == Unit::Count { 1e9 } else { 100.0 };
        let numbers: Option<Vec<f64>> = text
            .split(',')
            .map(|word| word.trim().trim_end_matches('%').parse().ok().filter(|number| (0.0..=most).contains(number)))
            .collect();
        let order = |warning: f64, critical: f64| {
            if self.unit == Unit::Free { critical <= warning } else { warning <= critical }
        };
        match numbers.as_deref() {
            Some(&[warning, critical]) if order(warning, critical) => Ok(Some(self.bounds(warning, critical))),
            Some(&[warning]) => {
                let critical = self.default.map_or(warning, |(_, critical)| critical);
                Ok(Some(self.bounds(warning, if order(warning, critical) { critical } else { warning })))
            }
            _ => Err(format!("it takes off, or WARNING,CRITICAL, {} ({})", self.accepts(), self.help)),
        }
    }

    fn accepts(&self) -> &'static str {
        match self.unit {
            Unit::Used => "percent in use from 0 to 100, the first not above the second",
            Unit::Free => "percent free from 0 to 100, the first not below the second",
            Unit::Count => "numbers, the first not above the second",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system::level::Level;
    use std::path::Path;

    #[test]
    fn values_are_one_or_two_numbers_in_order() {
        let read = |name: &str, text: &str| {
            by_name(name).unwrap().parse(text).map(|it| it.map(|it| (it.warning, it.critical)))
        };
        assert_eq!(read("zombies", "1"), Ok(Some((1.0, 100.0))));
        assert_eq!(read("zombies", "500"), Ok(Some((500.0, 500.0))));
        assert_eq!(read("connections", "1000,2000"), Ok(Some((1000.0, 2000.0))));
        assert_eq!(read("log_space", "20%, 5%"), Ok(Some((20.0, 5.0))));
        assert_eq!(read("log_space", "2"), Ok(Some((2.0, 2.0))));
        assert_eq!(read("usage", "off"), Ok(None));
        for (name, bad) in [
            ("log_space", "5,20"),
            ("usage", "90,70"),
            ("usage", "101"),
            ("zombies", "many"),
            ("zombies", "1,2,3"),
            ("zombies", "-1"),
        ] {
            assert!(read(name, bad).unwrap_err().starts_with("it takes off, or WARNING,CRITICAL"), "{name} {bad}");
        }
        let free = by_name("log_space").unwrap().thresholds().unwrap();
        assert_eq!([free.level(11.0), free.level(10.0), free.level(3.0)], [Level::Ok, Level::Warning, Level::Critical]);
        assert!(by_key("alert-log-space").is_some() && by_key("log_space").is_none());
    }

    #[test]
    fn the_rules_for_prometheus_have_these_thresholds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let rules = std::fs::read_to_string(root.join("contrib/prometheus/tideover.rules.yml")).unwrap();
        let of_limit = |what: &str| format!("{what} / ignoring(user) group_left() {what}_limit");
        let metrics = [
            ("log_space", "tideover_log_space_free_ratio".to_string()),
            ("log_inodes", "tideover_log_inodes_free_ratio".to_string()),
            ("address_space", "tideover_address_space_used_ratio".to_string()),
            ("container_memory", "tideover_container_memory_used_ratio".to_string()),
            ("zombies", "tideover_zombies".to_string()),
            ("inotify_instances", of_limit("tideover_inotify_instances")),
            ("inotify_watches", of_limit("tideover_inotify_watches")),
        ];
        for (alert, metric) in metrics {
            let row = by_name(alert).unwrap();
            let (warning, critical) = row.default.unwrap();
            let sign = if row.unit == Unit::Free { "<=" } else { ">=" };
            let scale = if row.unit == Unit::Count { 1.0 } else { 100.0 };
            for threshold in [warning, critical] {
                let line = format!("expr: {metric} {sign} {}\n", threshold / scale);
                assert!(rules.contains(&line), "{line}");
            }
        }
        assert!(by_name("connections").unwrap().default.is_none(), "its thresholds are metrics of their own");
    }

    #[test]
    fn the_documents_have_this_table() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let policy = std::fs::read_to_string(root.join("docs/policy.md")).unwrap();
        let json = std::fs::read_to_string(root.join("docs/json.md")).unwrap();
        for row in ALERTS {
            let default = row.default.map_or("off".to_string(), |(warning, critical)| format!("{warning}, {critical}"));
            let line = format!("| `alert_{}` | {} | {default} |", row.name, row.help);
            assert!(policy.contains(&line), "docs/policy.md lacks {line}");
            assert!(json.contains(&format!("`{}`", row.name)), "docs/json.md lacks {}", row.name);
        }
    }
}
