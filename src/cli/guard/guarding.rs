//! The targets of one guard: taking them, looking at each in time, letting go of those that have ended.
#![forbid(unsafe_code)]

use crate::guard::evidence::{Known, end_of};
use crate::guard::look::{Steps, look};
use crate::guard::names::Names;
use crate::guard::state::Process;
use crate::guard::target::Target;
use crate::guard::tell::{Event, Teller};
use crate::processes::process;
use crate::show::failure::Failure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two looks for new processes of a name.
const NAMES: Duration = Duration::from_secs(1);
/// Looks that are due so soon are taken at once: fewer wake-ups.
const TOGETHER: Duration = Duration::from_millis(10);

/// A guard.
pub struct Guard {
    folder: PathBuf,
    steps: Steps,
    teller: Teller,
    names: Names,
    /// By names, no more processes are taken than this.
    most: usize,
    targets: BTreeMap<u32, Target>,
    /// Processes that were refused; each is told once.
    refused: HashSet<Process>,
    known: Known,
}

impl Guard {
    /// A guard without targets.
    pub fn new(folder: PathBuf, steps: Steps, teller: Teller, names: Names, most: usize) -> Guard {
        let (targets, refused, known) = (BTreeMap::new(), HashSet::new(), Known::default());
        Guard { folder, steps, teller, names, most, targets, refused, known }
    }

    /// Is there nothing to guard, and will there be nothing?
    pub fn is_over(&self) -> bool {
        self.targets.is_empty() && self.names.is_empty()
    }

    /// Takes a process, or says why not: always if it was named by its number, else once.
    pub fn add(&mut self, pid: u32, by_number: bool) -> Result<(), Failure> {
        if self.targets.contains_key(&pid) {
            return Ok(());
        }
        let program = process::name(pid);
        let tell = |kind, text, more| self.teller.tell(&Event { kind, pid: Some(pid), program: &program, text, more });
        let held = if !by_number && self.targets.len() >= self.most {
            Err(format!("{} are guarded already; --all guards more", self.targets.len()))
        } else {
            Target::hold(pid, &self.folder)
        };
        match held {
            Ok((target, recovered)) => {
                if let Some(recovered) = recovered {
                    let text = "listens again, after a guard was killed that had parked it".to_string();
                    tell("rearmed", text, json!({ "items": recovered.rearmed }))?;
                }
                // Symbols take milliseconds to read; when the limit is near, they are known.
                end_of(pid, &mut self.known);
                tell("guarding", "is guarded".to_string(), json!({}))?;
                self.targets.insert(pid, target);
            }
            Err(why) => {
                let is_new = Process::now(pid).is_none_or(|process| self.refused.insert(process));
                if by_number || is_new {
                    tell("refused", format!("is left alone: {why}"), json!({ "reason": why }))?;
                }
            }
        }
        Ok(())
    }

    /// Guards until the socket can be read, or nothing is left to guard. Then everything is put back.
    pub fn run(mut self, stop: &UnixStream) -> Result<(), Failure> {
        let mut names_next = Instant::now() + NAMES;
        while !self.is_over() {
            let soon = Instant::now() + TOGETHER;
            for target in self.targets.values_mut().filter(|target| target.next <= soon) {
                look(target, self.steps, &mut self.known, self.teller)?;
            }
            if !self.names.is_empty() && names_next <= soon {
                for pid in self.names.look() {
                    self.add(pid, false)?;
                }
                names_next = Instant::now() + NAMES;
                self.refused.retain(|process| process.is_alive());
            }
            let wakes = self.targets.values().map(|target| target.next);
            let next = wakes.chain((!self.names.is_empty()).then_some(names_next)).min();
            if self.wait(stop, next.unwrap_or(names_next))? {
                break;
            }
        }
        self.put_back()
    }

    /// Waits until then, and lets go of the targets that have ended. True: it is to stop.
    fn wait(&mut self, stop: &UnixStream, until: Instant) -> Result<bool, Failure> {
        let left = until.saturating_duration_since(Instant::now());
        let time = Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(1), tv_nsec: left.subsec_nanos().into() };
        let mut asked = vec![PollFd::new(stop, PollFlags::IN)];
        asked.extend(self.targets.values().map(|target| PollFd::new(&target.pidfd, PollFlags::IN)));
        // EINTR is that of SIGHUP.
        let ready = poll(&mut asked, Some(&time)).unwrap_or(0);
        if ready == 0 {
            return Ok(false);
        }
        let stopped = !asked[0].revents().is_empty();
        let ended: Vec<u32> =
            self.targets.keys().zip(&asked[1..]).filter(|it| !it.1.revents().is_empty()).map(|it| *it.0).collect();
        for pid in ended {
            if let Some(target) = self.targets.remove(&pid) {
                self.tell(&target, "gone", "has ended")?;
            }
        }
        Ok(stopped)
    }

    fn put_back(mut self) -> Result<(), Failure> {
        for target in self.targets.values_mut() {
            let items = target.bring_back();
            if items > 0 {
                let event = Event {
                    kind: "rearmed",
                    pid: Some(target.process.pid),
                    program: &target.program,
                    text: "listens again: the guard ends".to_string(),
                    more: json!({ "items": items }),
                };
                self.teller.tell(&event)?;
            }
        }
        Ok(())
    }

    fn tell(&self, target: &Target, kind: &'static str, text: &str) -> Result<(), Failure> {
        let (pid, program, more) = (Some(target.process.pid), target.program.as_str(), target.counts.json());
        self.teller.tell(&Event { kind, pid, program, text: text.to_string(), more })
    }
}
