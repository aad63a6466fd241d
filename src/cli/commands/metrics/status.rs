//! The data of the web page: the processes that need attention most, and the last events of all processes.
#![forbid(unsafe_code)]

use crate::pages::snapshot::Snapshot;
use crate::show::units::{now_ns, rfc3339};
use crate::system;
use serde_json::{Value, json};
use tideover_contract::page::{kind_name, outcome_name};

/// At most so many processes and events are sent, since a browser may ask every second.
const PROCESSES: usize = 200;
const EVENTS: usize = 40;

/// The answer to /api/status.
pub fn json(snapshots: &[Snapshot]) -> Value {
    let mut order: Vec<&Snapshot> = snapshots.iter().collect();
    let rank = |s: &Snapshot| (s.counter("logs", "degraded") > 0, (s.percent() * 10.0) as u64);
    order.sort_by(|a, b| rank(b).cmp(&rank(a)).then(a.pid.cmp(&b.pid)));
    let files = system::files().unwrap_or_default();
    json!({
        "at": rfc3339(now_ns()),
        "version": env!("CARGO_PKG_VERSION"),
        "open_files": { "used": files.used, "limit": files.max },
        "guarded": snapshots.len(),
        "processes": order.into_iter().take(PROCESSES).map(process).collect::<Vec<Value>>(),
        "events": events(snapshots),
    })
}

/// The keys of `tideover stat --json` that the web page needs.
fn process(snapshot: &Snapshot) -> Value {
    let mut whole = snapshot.json();
    json!({
        "pid": whole["pid"], "program": whole["program"].take(), "service": whole["service"].take(),
        "descriptors": whole["descriptors"].take(),
        "exhaustion": whole["exhaustion"].take(), "logs": whole["logs"].take(),
    })
}

/// The events of all processes, the latest first.
fn events(snapshots: &[Snapshot]) -> Vec<Value> {
    let mut all: Vec<_> =
        snapshots.iter().flat_map(|snapshot| snapshot.page.events().map(move |event| (event, snapshot))).collect();
    all.sort_by_key(|(event, _)| std::cmp::Reverse(event.at_ns));
    let shown = all.into_iter().take(EVENTS).map(|(event, snapshot)| {
        json!({
            "at": rfc3339(event.at_ns), "pid": snapshot.pid, "program": snapshot.program(), "service": snapshot.service(),
            "kind": kind_name(event.kind), "call": String::from_utf8_lossy(event.call),
            "outcome": outcome_name(event.outcome), "waited_ns": event.waited_ns,
        })
    });
    shown.collect()
}
