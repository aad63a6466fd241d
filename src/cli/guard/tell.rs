//! What the guard tells: a line for people, or an object in JSON, one a line.
#![forbid(unsafe_code)]

use crate::show::failure::Failure;
use crate::show::output::{explain, print, with_schema};
use crate::show::units::{now_ns, rfc3339};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicU64, Ordering};

/// Events that were not told since the last one that was.
static UNTOLD: AtomicU64 = AtomicU64::new(0);

/// How events are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Teller {
    /// As lines on standard output.
    Text,
    /// As JSON on standard output.
    Json,
    /// As lines on standard error, since standard output has something else.
    Beside,
}

/// An event about a process.
pub struct Event<'a> {
    /// What happened: `guarding`, `refused`, `raised`, `not_raised`, `idle_ended`, `parked`, `not_parked`, `rearmed`, `gone`,
    /// `released`, `ballast_given_up`, `ballast_made`, `ballast_missing`.
    pub kind: &'static str,
    /// Process id; None for an event about no single process.
    pub pid: Option<u32>,
    /// Name of the process; empty for an event about none.
    pub program: &'a str,
    /// The sentence for people.
    pub text: String,
    /// Keys besides those of every event.
    pub more: Value,
}

impl Teller {
    /// Tells an event; drops and counts it while nobody reads what is told, or its disk is full, since a guard that waits or ends would
    /// leave processes alone, and listeners parked.
    pub fn tell(self, event: &Event<'_>) -> Result<(), Failure> {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let to = if self == Teller::Beside { stderr.as_fd() } else { stdout.as_fd() };
        let mut asked = [PollFd::from_borrowed_fd(to, PollFlags::OUT)];
        if poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(0) {
            UNTOLD.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let untold = UNTOLD.swap(0, Ordering::Relaxed);
        if untold > 0 {
            log::warn!("{untold} events were not told, since nobody read them");
        }
        let line = self.line(event);
        if self == Teller::Beside {
            explain(&line);
        } else if print(&line).is_err() {
            UNTOLD.fetch_add(untold + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The event as a line.
    fn line(self, event: &Event<'_>) -> String {
        if self != Teller::Json {
            return match event.pid {
                Some(pid) => format!("{} (process {pid}): {}\n", event.program, event.text),
                None => format!("{}\n", event.text),
            };
        }
        let mut object = Map::new();
        object.insert("at".into(), json!(rfc3339(now_ns())));
        object.insert("event".into(), json!(event.kind));
        if let Some(pid) = event.pid {
            object.insert("pid".into(), json!(pid));
            object.insert("program".into(), json!(event.program));
        }
        object.insert("text".into(), json!(event.text));
        if let Value::Object(more) = &event.more {
            object.extend(more.clone());
        }
        format!("{}\n", with_schema(&Value::Object(object)))
    }
}
