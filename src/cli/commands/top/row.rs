//! The row of a process in `top`: of one with the library, of one that is guarded from outside, of any other.
#![forbid(unsafe_code)]

use crate::guard::guarded::Guarded;
use crate::guard::state::Process;
use crate::pages::obtainable::obtainable;
use crate::pages::snapshot::Snapshot;
use crate::processes::list::ListedProcess;
use crate::processes::process;
use crate::processes::service;
use crate::system::Share;

/// The row of a process.
#[derive(Clone, Debug)]
pub struct Row {
    /// Process id.
    pub pid: u32,
    /// Name of the program, safe to print.
    pub program: String,
    /// Its service; empty if none is named.
    pub service: String,
    /// Has it the library?
    pub guarded: bool,
    /// How many descriptors are open.
    pub used: u64,
    /// Soft and hard limit.
    pub limits: (u64, u64),
    /// Part of the soft limit in use, in percent.
    pub percent: f64,
    /// Calls that found no descriptor.
    pub exhausted: u64,
    /// Calls that found no descriptor and then succeeded.
    pub recovered: u64,
    /// Calls whose error was passed on.
    pub gave_up: u64,
    /// Is a log's disk full?
    pub full: bool,
    /// Bytes of log lines that went elsewhere.
    pub diverted: u64,
    /// Its last events, as lines of text; read only for the row whose detail is shown. Of a process that is guarded from outside: what its
    /// guard has done.
    pub events: String,
    /// Of a process that is guarded from outside: `guard`, `parked` or `abandoned`; empty of others.
    pub outside: &'static str,
    /// When it started, in a unit of its kind of row: with the process id it identifies a process.
    pub started: u64,
}

impl Row {
    /// The row of a process with the library.
    pub fn of(snapshot: &Snapshot) -> Row {
        let exhaustion = |name| snapshot.counter("exhaustion", name);
        let logs = |name| snapshot.counter("logs", name);
        Row {
            pid: snapshot.pid,
            program: snapshot.program(),
            service: snapshot.service().unwrap_or_default(),
            guarded: true,
            used: snapshot.used,
            limits: (snapshot.soft, snapshot.hard),
            percent: snapshot.percent(),
            exhausted: exhaustion("emfile").saturating_add(exhaustion("enfile")),
            recovered: exhaustion("recovered"),
            gave_up: exhaustion("gave_up"),
            full: logs("degraded") > 0,
            diverted: logs("diverted_bytes"),
            events: String::new(),
            outside: "",
            started: snapshot.page.started_boot_ns(),
        }
    }

    /// The row of a process without the library; None of one without descriptors, such as a kernel thread.
    pub fn of_other(process: &ListedProcess) -> Option<Row> {
        let (used, limits) = (process.used?, process.limits?);
        let share = Share { used, max: obtainable(process.pid, limits, None) };
        Some(Row {
            pid: process.pid,
            program: process.name.clone(),
            service: service::remembered(process.pid, process.started).unwrap_or_default(),
            guarded: false,
            used,
            limits,
            percent: share.percent().min(100.0),
            exhausted: 0,
            recovered: 0,
            gave_up: 0,
            full: false,
            diverted: 0,
            events: String::new(),
            outside: "",
            started: process.started,
        })
    }

    /// The row of a process that is guarded from outside; None if it has ended.
    pub fn of_outside(it: &Guarded) -> Option<Row> {
        let Process { pid, started_ns } = it.process;
        let (limits, counts) = (process::limits(pid)?, it.counts);
        let used = process::descriptors(pid).unwrap_or(0);
        let share = Share { used, max: obtainable(pid, limits, None) };
        let times = |n: u64, what: &str| format!("{what} {n} {}", if n == 1 { "time" } else { "times" });
        let ended = format!("{} idle clients ended", counts.idle_ended);
        let done =
            [times(counts.raised, "raised"), ended, times(counts.parked, "parked"), times(counts.rearmed, "re-armed")];
        Some(Row {
            pid,
            program: it.program.clone(),
            service: service::remembered(pid, started_ns).unwrap_or_default(),
            guarded: true,
            used,
            limits,
            percent: share.percent().min(100.0),
            exhausted: 0,
            recovered: 0,
            gave_up: 0,
            full: false,
            diverted: 0,
            events: format!("guarded from outside by process {}\n{}\n", it.guard, done.join(", ")),
            outside: if it.is_parked { it.now() } else { "guard" },
            started: started_ns,
        })
    }
}
