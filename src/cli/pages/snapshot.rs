//! A guarded process at one moment: its page, and what the kernel says of it. Its JSON is that of `stat` and `ps`.
#![forbid(unsafe_code)]

use crate::pages::Page;
use crate::pages::events;
use crate::pages::holds;
use crate::pages::obtainable::obtainable;
use crate::processes::connections::Connections;
use crate::processes::process;
use crate::processes::service;
use crate::show::output::safe;
use crate::show::units::rfc3339;
use serde_json::{Map, Value, json};
use tideover_contract::page::{COUNTERS, Shape, View};

/// A page, and the kernel's numbers for its process.
pub struct Snapshot<'a> {
    /// The page, with what the library has counted.
    pub page: View<'a>,
    /// Process id.
    pub pid: u32,
    /// How many descriptors are open.
    pub used: u64,
    /// Soft limit on open descriptors.
    pub soft: u64,
    /// Hard limit on open descriptors.
    pub hard: u64,
    /// How many descriptors the process can have: see [`obtainable`].
    pub obtainable: u64,
}

impl<'a> Snapshot<'a> {
    /// Takes the kernel's numbers, or those in the page if the kernel does not tell them to this user.
    pub fn take(page: &'a Page) -> Option<Snapshot<'a>> {
        let view = page.view()?;
        let (soft, hard) = process::limits(page.pid)
            .unwrap_or_else(|| (view.value("descriptors", "soft_limit"), view.value("descriptors", "hard_limit")));
        let used = process::descriptors(page.pid).unwrap_or_else(|| view.value("descriptors", "high_water"));
        let obtainable = obtainable(page.pid, (soft, hard), Some(view));
        Some(Snapshot { page: view, pid: page.pid, used, soft, hard, obtainable })
    }

    /// Name of the program, safe to print.
    pub fn program(&self) -> String {
        safe(self.page.program())
    }

    /// Its systemd unit, container, pod, script or jar; None if nothing names one.
    pub fn service(&self) -> Option<String> {
        service::remembered(self.pid, self.page.started_boot_ns())
    }

    /// Name of the user that it runs as; empty if the kernel does not tell.
    pub fn user(&self) -> String {
        process::user(self.pid).map_or_else(String::new, service::user_name)
    }

    /// Its command line, safe to print; empty if the kernel does not tell, or of a process that has none.
    pub fn command(&self) -> String {
        safe(&process::words(self.pid).join(&b' '))
    }

    /// When the process started, in nanoseconds of CLOCK_REALTIME. If the kernel hides that, when it made its page.
    pub fn started_ns(&self) -> u64 {
        let started = process::alive(self.pid).and_then(|process| process.started_ns);
        let made = (self.page.started_boot_ns(), self.page.started_ns());
        started.map_or(made.1, |started| made.1.saturating_sub(made.0.saturating_sub(started)))
    }

    /// Part of the descriptors that can be had that is in use, in percent with one decimal, at most 100: a program may have
    /// lowered its limit below what it has open.
    pub fn percent(&self) -> f64 {
        if self.obtainable == 0 {
            return 100.0;
        }
        (self.used as f64 * 1000.0 / self.obtainable as f64).round().min(1000.0) / 10.0
    }

    /// How many more descriptors can be had.
    pub fn available(&self) -> u64 {
        self.obtainable.saturating_sub(self.used)
    }

    /// Value of a counter of the page. The limits are taken from the kernel, and whether a log's disk is full from its filesystem: a process
    /// that does not write does not notice.
    pub fn counter(&self, section: &str, name: &str) -> u64 {
        match (section, name) {
            ("descriptors", "soft_limit") => self.soft,
            ("descriptors", "hard_limit") => self.hard,
            ("logs", "degraded" | "degraded_since") => match self.page.value(section, name) {
                0 => 0,
                _ if holds::have_room(self.pid) => 0,
                value => value,
            },
            _ => self.page.value(section, name),
        }
    }

    /// The JSON of `tideover stat`. Every row of [`COUNTERS`] is in it.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("pid".into(), json!(self.pid));
        object.insert("program".into(), json!(String::from_utf8_lossy(self.page.program())));
        let version = String::from_utf8_lossy(self.page.version());
        // The library writes it with the first thing that it counts.
        object.insert("version".into(), if version.is_empty() { Value::Null } else { json!(version) });
        object.insert("service".into(), json!(self.service()));
        object.insert("user".into(), json!(self.user()));
        object.insert("command".into(), json!(self.command()));
        object.insert("started".into(), json!(rfc3339(self.started_ns())));
        for row in COUNTERS {
            let section = object.entry(row.section).or_insert_with(|| self.section(row.section));
            let number = self.counter(row.section, row.name);
            let value = if row.shape == Shape::Bool { json!(number != 0) } else { json!(number) };
            section[row.name] = value;
        }
        if let Some(open) = Connections::of(self.pid) {
            object["connections"]["outgoing"] = json!(open.outgoing());
            object["connections"]["endpoints"] = open.json();
        }
        object.insert("events".into(), events::json(self.page));
        Value::Object(object)
    }

    /// What a section holds besides the counters of the table.
    fn section(&self, name: &str) -> Value {
        match name {
            "descriptors" => {
                let limits = ("soft_limit", "hard_limit");
                json!({ "used": self.used, limits.0: self.soft, limits.1: self.hard,
                        "obtainable": self.obtainable, "percent": self.percent(), "available": self.available() })
            }
            "logs" => {
                let counts = self.page.refusals().map(|(refusal, count)| (refusal.name().to_string(), json!(count)));
                json!({ "refused": Value::Object(counts.collect()) })
            }
            "exhaustion" => {
                let collectors = self.page.collectors().map(|(runtime, it)| {
                    let numbers = json!({ "runs": it.runs, "ns": it.ns, "freed": it.freed, "skipped": it.skipped });
                    (runtime.name().to_string(), numbers)
                });
                let skips = self.page.skips().map(|(skip, count)| (skip.name().to_string(), json!(count)));
                json!({ "collectors": Value::Object(collectors.collect()), "not_collected": Value::Object(skips.collect()) })
            }
            "calls" => json!({ "opened": self.page.opened(), "closed": self.page.closed() }),
            _ => json!({}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use std::collections::BTreeSet;
    use tideover_contract::page::{EVENT_FIELDS, FIELDS, state};

    /// The keys that users of `tideover stat --json` rely on.
    const KEYS: &str = "pid program version service user command started events \
        descriptors.{used,soft_limit,hard_limit,obtainable,percent,available,high_water,raised_from} \
        exhaustion.{emfile,enfile,recovered,gave_up,waits,wait_ns,reclaims,reclaimed,gc_runs,gc_ns,breaker_trips,breaker_open,collectors,not_collected} \
        connections.{accepted,clients,parked,unparked,shed,refused,idle_closed,outgoing,limited,connect_timeouts,ports_exhausted,phantom,endpoints} \
        logs.{degraded,degraded_since,enospc,edquot,other_full,diverted_writes,diverted_bytes,diverted_lines,dropped_lines,dropped_bytes,recovery_attempts,recoveries,cleaned_files,cleaned_bytes,full_waits,refused,held_bytes,put_back_bytes,not_held_bytes,rotated,ballast_bytes} \
        calls.{opened,closed,bypassed,other_limits,lost_in_messages}";

    fn expected() -> BTreeSet<String> {
        let expand = |word: &str| match word.split_once(".{") {
            Some((section, names)) => {
                names.trim_end_matches('}').split(',').map(|name| format!("{section}.{name}")).collect()
            }
            None => vec![word.to_string()],
        };
        KEYS.split_whitespace().flat_map(expand).collect()
    }

    #[test]
    fn the_keys_are_those_of_the_interface() {
        let me = std::process::id();
        let page = Page::forged(forge(me, state::LIVE, 1), me);
        let value = Snapshot::take(&page).unwrap().json();
        let mut keys = BTreeSet::new();
        for (key, value) in value.as_object().unwrap() {
            match value.as_object() {
                Some(section) => keys.extend(section.keys().map(|name| format!("{key}.{name}"))),
                None => drop(keys.insert(key.clone())),
            }
        }
        assert_eq!(keys, expected());
        assert_eq!(value["program"], "forged");
        assert_eq!(value["started"], "2023-11-14T22:13:20.000Z");
        assert_eq!(value["logs"]["degraded"], false);
        assert_eq!(value["exhaustion"]["breaker_open"], false);
        assert!(value["descriptors"]["percent"].is_f64());
    }

    #[test]
    fn events_are_told_in_order() {
        let mut bytes = forge(7, state::LIVE, 1);
        let offset = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).unwrap().1;
        let field = |name: &str| EVENT_FIELDS.iter().find(|(n, _)| *n == name).unwrap().1;
        let events = offset("events");
        bytes[offset("last_event")] = 2;
        bytes[events] = 1;
        bytes[events + field("kind")] = 3;
        bytes[events + field("error")] = 24;
        bytes[events + field("outcome")] = 4;
        bytes[events + field("call")..][..6].copy_from_slice(b"accept");
        bytes[events + field("fd")..][..4].copy_from_slice(&(-1i32).to_ne_bytes());
        bytes[events + 64] = 2;
        bytes[events + 64 + field("kind")] = 4;
        let page = Page::forged(bytes, 7);
        let events = events::json(page.view().unwrap());
        assert_eq!(
            events[0],
            json!({"at": "1970-01-01T00:00:00.000Z", "kind": "exhausted", "call": "accept", "errno": 24,
                   "fd": -1, "tries": 0, "waited_ns": 0, "outcome": "hopeless"})
        );
        assert_eq!(events[1]["kind"], "recovered");
        let lines = events::lines(page.view().unwrap());
        assert!(lines.contains("exhausted accept EMFILE hopeless"), "{lines}");
    }

    #[test]
    fn percent_is_part_of_what_can_be_had() {
        let page = Page::forged(forge(7, state::LIVE, 1), 7);
        let of = |used, soft, obtainable| Snapshot {
            page: page.view().unwrap(),
            pid: 7,
            used,
            soft,
            hard: soft,
            obtainable,
        };
        let with = |used, soft| of(used, soft, soft);
        assert_eq!(with(812, 1024).percent(), 79.3);
        assert_eq!(with(812, 1024).available(), 212);
        assert_eq!((with(90, 64).percent(), with(90, 64).available()), (100.0, 0));
        assert_eq!(with(0, 0).percent(), 100.0);
        assert_eq!((of(805, 1024, 20_000).percent(), of(805, 1024, 20_000).available()), (4.0, 19_195));
    }
}
