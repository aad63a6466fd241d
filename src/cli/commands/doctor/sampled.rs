//! The process that is checked: what it has open, in several samples over some time.
#![forbid(unsafe_code)]

use crate::pages::obtainable::obtainable;
use crate::pages::{self, Page};
use crate::processes::descriptors::{OpenDescriptors, Target};
use crate::processes::list::{self, ListedProcess};
use crate::processes::process;
use crate::processes::program::Program;
use crate::settings::policy::{self, Policy};
use crate::show::failure::{Failure, cause};
use crate::show::table::{Align, Table};
use rustix::process::geteuid;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// How many samples are taken.
const SAMPLES: u32 = 6;

/// What may leak, as found in one sample.
pub struct Sample {
    /// How many descriptors there are, by kind and target.
    pub targets: HashMap<Target, u64>,
    /// How many inotify watches there are.
    pub watches: u64,
}

/// A process, with everything that the checks look at.
pub struct SampledProcess {
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// The program that it runs.
    pub program: Program,
    /// Soft and hard limit on open descriptors.
    pub limits: (u64, u64),
    /// Its descriptors in the first sample.
    pub first: OpenDescriptors,
    /// Its descriptors in the last sample.
    pub last: OpenDescriptors,
    /// All samples, with the first and the last.
    pub samples: Vec<Sample>,
    /// How long sampling took.
    pub took: Duration,
    /// Process ids of its children that were zombies all the time.
    pub zombies: Vec<u32>,
    /// All processes of the system, at the end.
    pub all: Vec<ListedProcess>,
    /// Its page, if it has one.
    pub page: Option<Page>,
    /// The policy file of the machine, which may set thresholds.
    pub policy: Option<Policy>,
}

impl SampledProcess {
    /// Samples a process for some time.
    pub fn take(pid: u32, sample: Duration, pages: &Path) -> Result<SampledProcess, Failure> {
        let name = process::name(pid);
        if process::alive(pid).is_none() {
            return Err(Failure::failed(format!("there is no process {pid}")));
        }
        let take = || {
            OpenDescriptors::of(pid).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Failure::failed(format!("process {pid} ({name}) ended meanwhile")),
                _ => Failure::failed(format!(
                    "cannot look into process {pid} ({name}): {}; sudo tideover doctor {pid}",
                    cause(&error)
                )),
            })
        };
        let zombies = |all: &[ListedProcess]| list::zombies(all).remove(&pid).unwrap_or_default();
        let before = zombies(&list::all());
        let start = Instant::now();
        let first = take()?;
        let mut samples = vec![Sample::of(&first)];
        let mut last = None;
        if !sample.is_zero() {
            for look in 1..SAMPLES {
                let at = sample * look / (SAMPLES - 1);
                std::thread::sleep(at.saturating_sub(start.elapsed()));
                let census = take()?;
                samples.push(Sample::of(&census));
                last = Some(census);
            }
        }
        let took = start.elapsed();
        let all = list::all();
        let mut lasting = zombies(&all);
        lasting.retain(|zombie| before.contains(zombie));
        let limits = process::limits(pid).ok_or_else(|| {
            Failure::failed(format!("cannot read the limits of process {pid} ({name}); sudo tideover doctor {pid}"))
        })?;
        let page = pages::walk(pages).ok().and_then(|found| found.pages.into_iter().find(|page| page.pid == pid));
        let program = Program::of(pid);
        let last = match last {
            Some(last) => last,
            None => take()?,
        };
        let (zombies, policy) = (lasting, policy::present());
        Ok(SampledProcess { pid, name, program, limits, first, last, samples, took, zombies, all, page, policy })
    }

    /// The heading of the report: name, process id, user.
    pub fn heading(&self) -> String {
        let user = process::owner(self.pid).filter(|user| *user != geteuid().as_raw());
        let user = user.map_or_else(String::new, |user| format!(" of user {user}"));
        format!("{} (process {}){user}, watched for {:.1} s", self.name, self.pid, self.took.as_secs_f64())
    }

    /// A text with descriptors by kind, connections by state, and the targets on which most are open.
    pub fn inventory(&self) -> String {
        let list = |counts: Vec<(&str, u64)>| {
            let mut counts = counts;
            counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
            counts.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ")
        };
        if self.last.unseen == self.last.used {
            return format!("\n{} descriptors\n", self.last.used);
        }
        let kinds = list(self.last.kinds.iter().map(|(name, n)| (*name, *n)).collect());
        let mut text = format!("\n{} descriptors: {kinds}\n", self.last.used);
        if !self.last.tcp.is_empty() {
            text.push_str(&format!("tcp: {}\n", list(self.last.tcp.iter().map(|(name, n)| (*name, *n)).collect())));
        }
        if self.last.watches > 0 {
            text.push_str(&format!("inotify: {} watches\n", self.last.watches));
        }
        let mut table = Table::new(&[("COUNT", Align::Right), ("KIND", Align::Left), ("OPEN ON", Align::Left)]);
        for ((kind, target), count) in self.last.top(8) {
            table.row([count.to_string(), (*kind).to_string(), crate::show::output::safe(target.as_bytes())]);
        }
        text + "\n" + &table.render(80, 2, 2)
    }

    /// Name, process id, limits, descriptors by kind, connections by state and targets, as JSON.
    pub fn json(&self) -> Value {
        let counts = |map: &std::collections::BTreeMap<&'static str, u64>| -> Value {
            Value::Object(map.iter().map(|(name, n)| ((*name).to_string(), json!(n))).collect::<Map<_, _>>())
        };
        let top = self
            .last
            .top(20)
            .into_iter()
            .map(|((kind, target), count)| json!({ "kind": kind, "target": target, "count": count }));
        json!({
            "pid": self.pid, "program": self.name, "guarded": self.page.is_some(),
            "sampled_ns": u64::try_from(self.took.as_nanos()).unwrap_or(u64::MAX),
            "descriptors": {
                "used": self.last.used, "unseen": self.last.unseen,
                "obtainable": obtainable(self.pid, self.limits, self.page.as_ref().and_then(Page::view)),
                "soft_limit": self.limits.0, "hard_limit": self.limits.1,
                "kinds": counts(&self.last.kinds), "tcp": counts(&self.last.tcp),
                "inotify_watches": self.last.watches, "top": top.collect::<Vec<_>>(),
            },
        })
    }
}

impl Sample {
    fn of(census: &OpenDescriptors) -> Sample {
        Sample { targets: census.targets.clone(), watches: census.watches }
    }
}
