//! The events of a page, as JSON and as lines of text.
#![forbid(unsafe_code)]

use crate::show::output::safe;
use crate::show::table::{Align, Table};
use crate::show::units::{duration, now_ns, rfc3339};
use serde_json::{Value, json};
use tideover_contract::page::{EventView, View, kind_name, outcome_name};

/// `events[]` of `tideover stat --json`, oldest first.
pub fn json(page: View) -> Value {
    page.events().map(|event| one(&event)).collect()
}

/// One event.
pub fn one(event: &EventView) -> Value {
    json!({
        "at": rfc3339(event.at_ns),
        "kind": kind_name(event.kind),
        "call": String::from_utf8_lossy(event.call),
        "errno": event.errno,
        "fd": event.fd,
        "tries": event.tries,
        "waited_ns": event.waited_ns,
        "outcome": outcome_name(event.outcome),
    })
}

/// A line per event, of at most 80 columns.
pub fn lines(page: View) -> String {
    let columns = [Align::Left, Align::Left, Align::Left, Align::Left, Align::Left].map(|align| ("", align));
    let mut table = Table::new(&columns);
    for event in page.events() {
        let [kind, call, error, story] = words(&event);
        table.row([format!("  {}", time_of_day(event.at_ns)), kind, call, error, story]);
    }
    table.render(80, 1, 4)
}

/// The time of day in UTC with milliseconds; if the day is not today, month and day, and the time without seconds.
fn time_of_day(ns: u64) -> String {
    let (at, now) = (rfc3339(ns), rfc3339(now_ns()));
    if at.get(..10) == now.get(..10) { at.get(11..23) } else { at.get(5..16) }.unwrap_or_default().replace('T', " ")
}

/// An event in words, for `stat`, `top` and `events`: its kind, the call, the error, and what became of it. All but the first may be
/// empty.
pub fn words(event: &EventView) -> [String; 4] {
    [kind_name(event.kind).to_string(), safe(event.call), error_name(event.errno), story(event)]
}

fn story(event: &EventView) -> String {
    let mut parts = Vec::new();
    if event.outcome != 0 {
        parts.push(outcome_name(event.outcome).replace('_', " "));
    }
    if event.waited_ns > 0 {
        let after = format!("after {}", duration(event.waited_ns));
        match parts.last_mut() {
            Some(outcome) => *outcome = format!("{outcome} {after}"),
            None => parts.push(after),
        }
    }
    if event.tries > 0 {
        parts.push(format!("{} {}", event.tries, if event.tries == 1 { "retry" } else { "retries" }));
    }
    if event.fd >= 0 {
        parts.push(format!("fd {}", event.fd));
    }
    parts.join(", ")
}

/// Name of an error, `EMFILE`; empty for none.
fn error_name(errno: i32) -> String {
    match errno {
        0 => String::new(),
        libc::EMFILE => "EMFILE".to_string(),
        libc::ENFILE => "ENFILE".to_string(),
        libc::ENOSPC => "ENOSPC".to_string(),
        libc::EDQUOT => "EDQUOT".to_string(),
        libc::EAGAIN => "EAGAIN".to_string(),
        libc::EADDRNOTAVAIL => "EADDRNOTAVAIL".to_string(),
        other => format!("errno {other}"),
    }
}
