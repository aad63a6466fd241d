//! A guarded process at one moment: its page, and what the kernel says of it. Its JSON is that of `stat` and `ps`.
#![forbid(unsafe_code)]

use crate::pages::Page;
use crate::pages::events;
use crate::processes::connections::Connections;
use crate::processes::process;
use crate::show::output::safe;
use crate::show::units::rfc3339;
use serde_json::{Map, Value, json};
use tideover_contract::page::{COUNTERS, Shape, View};
use tideover_contract::select;
use tideover_contract::settings::{Id, default_value, raise};

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
}

impl<'a> Snapshot<'a> {
    /// Takes the kernel's numbers, or those in the page if the kernel does not tell them to this user.
    pub fn take(page: &'a Page) -> Option<Snapshot<'a>> {
        let view = page.view()?;
        let (soft, hard) = process::limits(page.pid)
            .unwrap_or_else(|| (view.value("descriptors", "soft_limit"), view.value("descriptors", "hard_limit")));
        let used = process::descriptors(page.pid).unwrap_or_else(|| view.value("descriptors", "high_water"));
        Some(Snapshot { page: view, pid: page.pid, used, soft, hard })
    }

    /// Name of the program, safe to print.
    pub fn program(&self) -> String {
        safe(self.page.program())
    }

    /// When the process started, in nanoseconds of CLOCK_REALTIME. If the kernel hides that, when it made its page.
    pub fn started_ns(&self) -> u64 {
        let started = process::alive(self.pid).and_then(|process| process.started_ns);
        let made = (self.page.started_boot_ns(), self.page.started_ns());
        started.map_or(made.1, |started| made.1.saturating_sub(made.0.saturating_sub(started)))
    }

    /// Part of the soft limit that is in use, in percent with one decimal, at most 100: a program may have lowered its limit
    /// below what it has open.
    pub fn percent(&self) -> f64 {
        if self.soft == 0 {
            return 100.0;
        }
        (self.used as f64 * 1000.0 / self.soft as f64).round().min(1000.0) / 10.0
    }

    /// How many descriptors can be opened before the soft limit is reached.
    pub fn available(&self) -> u64 {
        self.soft.saturating_sub(self.used)
    }

    /// Value of a counter of the page. The limits are taken from the kernel.
    pub fn counter(&self, section: &str, name: &str) -> u64 {
        match (section, name) {
            ("descriptors", "soft_limit") => self.soft,
            ("descriptors", "hard_limit") => self.hard,
            _ => self.page.value(section, name),
        }
    }

    /// The JSON of `tideover stat`. Every row of [`COUNTERS`] is in it.
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("pid".into(), json!(self.pid));
        object.insert("program".into(), json!(String::from_utf8_lossy(self.page.program())));
        object.insert("version".into(), json!(String::from_utf8_lossy(self.page.version())));
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
                        "percent": self.percent(), "available": self.available() })
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

/// How many descriptors the library lets its process have: it raises the soft limit when it is hit. `end` is how far the
/// program itself may be raised, see [`select::end`].
pub fn ceiling(view: View, soft: u64, hard: u64, end: u64) -> u64 {
    let value = |id: Id| view.setting(id as usize).map(|(value, _)| value);
    // A page that is not filled in yet is that of a library with its default settings.
    let mode = value(Id::Raise).unwrap_or(raise::AUTO);
    let cap = value(Id::RaiseCap).unwrap_or(default_value(Id::RaiseCap as usize));
    select::ceiling(soft, hard, mode, cap, || end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use std::collections::BTreeSet;
    use tideover_contract::page::{EVENT_FIELDS, FIELDS, state};

    /// The keys that users of `tideover stat --json` rely on.
    const KEYS: &str = "pid program version started events \
        descriptors.{used,soft_limit,hard_limit,percent,available,high_water,raised_from} \
        exhaustion.{emfile,enfile,recovered,gave_up,waits,wait_ns,reclaims,reclaimed,gc_runs,gc_ns,breaker_trips,breaker_open,collectors,not_collected} \
        connections.{accepted,clients,parked,unparked,shed,refused,idle_closed,outgoing,limited,connect_timeouts,ports_exhausted,phantom,endpoints} \
        logs.{degraded,degraded_since,enospc,edquot,diverted_writes,diverted_bytes,diverted_lines,dropped_bytes,recoveries,cleaned_files,cleaned_bytes,full_waits,refused} \
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
    fn percent_is_part_of_the_soft_limit() {
        let page = Page::forged(forge(7, state::LIVE, 1), 7);
        let with = |used, soft| Snapshot { page: page.view().unwrap(), pid: 7, used, soft, hard: soft };
        assert_eq!(with(812, 1024).percent(), 79.3);
        assert_eq!(with(812, 1024).available(), 212);
        assert_eq!((with(90, 64).percent(), with(90, 64).available()), (100.0, 0));
        assert_eq!(with(0, 0).percent(), 100.0);
    }

    #[test]
    fn a_guarded_process_has_what_the_library_would_raise_to() {
        let mut bytes = forge(7, state::LIVE, 1);
        let at = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).unwrap().1;
        bytes[at("settings_count")] = 30;
        let put = |bytes: &mut [u8], id: Id, value: u64| {
            bytes[at("settings") + id as usize * 8..][..8].copy_from_slice(&value.to_ne_bytes());
        };
        put(&mut bytes, Id::Raise, raise::AUTO);
        put(&mut bytes, Id::RaiseCap, 4000);
        let page = Page::forged(bytes, 7);
        assert_eq!(ceiling(page.view().unwrap(), 1024, 1 << 20, u64::MAX), 4000);
        assert_eq!(ceiling(page.view().unwrap(), 256, 1 << 20, select::FD_SETSIZE), 1024);
        assert_eq!(ceiling(page.view().unwrap(), 256, 512, u64::MAX), 512);
        put(&mut bytes, Id::Raise, raise::OFF);
        assert_eq!(ceiling(Page::forged(bytes, 7).view().unwrap(), 1024, 1 << 20, u64::MAX), 1024);
    }
}
