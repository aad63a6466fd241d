//! The targets of one guard: taking them, looking at each in time, letting go of those that have ended.
#![forbid(unsafe_code)]

use crate::guard::evidence::{Known, end_of};
use crate::guard::look::look;
use crate::guard::names::Names;
use crate::guard::state::Process;
use crate::guard::target::Target;
use crate::guard::tell::{Event, Teller};
use crate::processes::process;
use crate::settings::steps::Steps;
use crate::show::failure::Failure;
use crate::system::ballasts::{Ballasts, Done, Tended};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Time between two looks for new processes of a name, at the policy file and at ballasts.
const ROUND: Duration = Duration::from_secs(1);
/// Looks that are due so soon are taken at once: fewer wake-ups.
const TOGETHER: Duration = Duration::from_millis(10);
/// For so long from its start a guard waits for locks that another one has, which may have been killed just now.
const PATIENCE: Duration = Duration::from_millis(200);

/// A guard.
pub struct Guard {
    folder: PathBuf,
    teller: Teller,
    names: Names,
    ballasts: Ballasts,
    /// By names, no more processes are taken than this.
    most: usize,
    targets: BTreeMap<u32, Target>,
    /// Processes that were refused; each is told once.
    refused: HashSet<Process>,
    /// What was last told of a ballast that is missing.
    missing: HashMap<PathBuf, String>,
    known: Known,
    begun: Instant,
}

impl Guard {
    /// A guard without targets, whose state is in this folder.
    pub fn new(folder: PathBuf, teller: Teller, names: Names, ballasts: Ballasts, most: usize) -> Guard {
        let (targets, refused, missing, known) = (BTreeMap::new(), HashSet::new(), HashMap::new(), Known::default());
        Guard { folder, teller, names, ballasts, most, targets, refused, missing, known, begun: Instant::now() }
    }

    /// Is there nothing to guard, and will there be nothing?
    pub fn is_over(&self) -> bool {
        self.targets.is_empty() && self.has_no_rounds()
    }

    fn has_no_rounds(&self) -> bool {
        self.names.is_empty() && self.ballasts.is_empty()
    }

    /// Takes a process, or says why not: always if it was named by its number, else once.
    pub fn add(&mut self, pid: u32, steps: Steps, by_number: bool) -> Result<(), Failure> {
        if self.targets.contains_key(&pid) {
            return Ok(());
        }
        let program = process::name(pid);
        let tell = |kind, text, more| self.teller.tell(&Event { kind, pid: Some(pid), program: &program, text, more });
        let held = if !by_number && self.targets.len() >= self.most {
            Err(format!("{} are guarded already; --all guards more", self.targets.len()))
        } else {
            Target::hold(pid, steps, &self.folder, self.begun + PATIENCE)
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
        let mut round = Instant::now();
        while !self.is_over() {
            let soon = Instant::now() + TOGETHER;
            for target in self.targets.values_mut().filter(|target| target.next <= soon) {
                look(target, &mut self.known, self.teller)?;
            }
            if !self.has_no_rounds() && round <= soon {
                self.look_around()?;
                round = Instant::now() + ROUND;
            }
            let wakes = self.targets.values().map(|target| target.next);
            let next = wakes.chain((!self.has_no_rounds()).then_some(round)).min();
            if self.wait(stop, next.unwrap_or(round))? {
                break;
            }
        }
        self.put_back()
    }

    /// Looks for new processes, at the policy file, and at ballasts.
    fn look_around(&mut self) -> Result<(), Failure> {
        if self.names.reload() {
            self.obey_policy()?;
        }
        for (pid, steps) in self.names.look() {
            self.add(pid, steps, false)?;
        }
        self.refused.retain(|process| process.is_alive());
        for tended in self.ballasts.tend() {
            self.tell_of(&tended)?;
        }
        Ok(())
    }

    /// The policy file has changed: targets that it names no more are let go, the others get the steps that it gives them now.
    fn obey_policy(&mut self) -> Result<(), Failure> {
        self.refused.clear();
        let pids: Vec<u32> = self.targets.keys().copied().collect();
        for pid in pids {
            match (self.names.steps_of(pid), self.targets.get_mut(&pid)) {
                (Some(steps), Some(target)) => target.steps = steps,
                (None, _) => {
                    if let Some(target) = self.targets.remove(&pid) {
                        self.tell(&target, "released", "is let go: the policy file does not name it any more")?;
                    }
                }
                (_, None) => {}
            }
        }
        Ok(())
    }

    /// Tells what was done with a ballast, and once why one is missing.
    fn tell_of(&mut self, tended: &Tended) -> Result<(), Failure> {
        let path = tended.path.display().to_string();
        let tell =
            |kind, text| self.teller.tell(&Event { kind, pid: None, program: "", text, more: json!({ "path": path }) });
        match (tended.done, &tended.missing) {
            (Some(done), missing) => {
                let kind = if matches!(done, Done::GaveUp(_)) { "ballast_given_up" } else { "ballast_made" };
                tell(kind, done.text(&tended.path))?;
                self.missing.extend(missing.iter().map(|why| (tended.path.clone(), why.clone())));
            }
            (None, Some(why)) if self.missing.get(&tended.path) != Some(why) => {
                tell("ballast_missing", format!("{path}: {why}"))?;
                self.missing.insert(tended.path.clone(), why.clone());
            }
            (None, None) => drop(self.missing.remove(&tended.path)),
            (None, Some(_)) => {}
        }
        Ok(())
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
