//! A process that is held: by its pidfd, its start time and the lock that keeps a second guard away.
#![forbid(unsafe_code)]

use crate::guard::idle::Ended;
use crate::guard::limit::Limits;
use crate::guard::park;
use crate::guard::refusal;
use crate::guard::spin::Since;
use crate::guard::state::{self, Counts, Lock, Parked, Process, Recovered};
use crate::processes::process;
use crate::settings::steps::Steps;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A process that is guarded. When it is dropped, everything is put back.
pub struct Target {
    /// Which process.
    pub process: Process,
    /// Its name, safe to print.
    pub program: String,
    /// Readable when the process has ended.
    pub pidfd: OwnedFd,
    /// What may be done to it.
    pub steps: Steps,
    /// What was done.
    pub counts: Counts,
    /// The items that are parked.
    pub parked: Vec<Parked>,
    /// Since when.
    pub parked_at: Option<Instant>,
    /// When it was last brought back.
    pub rearmed_at: Option<Instant>,
    /// When to look next.
    pub next: Instant,
    /// What the last look saw.
    pub seen: Seen,
    folder: PathBuf,
    _lock: Lock,
}

/// What looks remember.
#[derive(Default)]
pub struct Seen {
    /// Descriptors in use.
    pub used: u64,
    /// Most that were added between two looks; forgotten by halves.
    pub growth: u64,
    /// Its limits.
    pub limits: Option<Limits>,
    /// Number of looks.
    pub looks: u64,
    /// The last reasons that were told, each once.
    pub told: Vec<String>,
    /// Since when it spins.
    pub since: Option<Since>,
    /// Clients that were ended.
    pub ended: Ended,
}

impl Target {
    /// Takes hold of a process, and brings back what a guard before has left parked in it. Until then a lock that another guard has is asked
    /// for again. The error says why it is left alone.
    pub fn hold(pid: u32, steps: Steps, folder: &Path, until: Instant) -> Result<(Target, Option<Recovered>), String> {
        let gone = || "there is no such process".to_string();
        let process = Process::now(pid).ok_or_else(gone)?;
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = pidfd_open(id, PidfdFlags::empty()).map_err(|_| gone())?;
        if let Some(why) = refusal::of(pid) {
            return Err(why);
        }
        // The process that the pidfd holds is the one that was looked at only if that is alive still.
        if !process.is_alive() {
            return Err(gone());
        }
        let lock = patiently(|| Lock::take(folder, process), until)?;
        let recovered = state::recover_one(folder, geteuid().as_raw(), process);
        if let Some(why) = recovered.as_ref().and_then(|recovered| recovered.failed.as_ref()) {
            return Err(format!("a listener that a killed guard has parked can't be brought back: {why}"));
        }
        let target = Target {
            process,
            program: process::name(pid),
            pidfd,
            steps,
            counts: Counts::default(),
            parked: Vec::new(),
            parked_at: None,
            rearmed_at: None,
            next: Instant::now(),
            seen: Seen::default(),
            folder: folder.to_path_buf(),
            _lock: lock,
        };
        target.write().map_err(|why| format!("its state can't be written: {why}"))?;
        Ok((target, recovered))
    }

    /// Has the process ended? If not, its number is its own still.
    pub fn has_ended(&self) -> bool {
        let mut asked = [PollFd::new(&self.pidfd, PollFlags::IN)];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut asked, Some(&zero)), Ok(0))
    }

    /// Writes down what is parked and what was done.
    pub fn write(&self) -> Result<(), String> {
        state::write(&self.folder, self.process, &self.program, self.counts, &self.parked)
            .map_err(|error| crate::show::failure::cause(&error))
    }

    /// Is this to be told, since it is new?
    pub fn is_news(&mut self, text: &str) -> bool {
        let news = !self.seen.told.iter().any(|told| told == text);
        if news {
            if self.seen.told.len() > 16 {
                self.seen.told.clear();
            }
            self.seen.told.push(text.to_string());
        }
        news
    }

    /// Brings all items back; returns how many were parked still. What could not be brought back stays in the list, and written down.
    pub fn bring_back(&mut self) -> u64 {
        let mut rearmed = 0;
        let process = self.process;
        self.parked.retain(|parked| match park::bring_back(process, *parked) {
            Ok(was_parked) => {
                rearmed += u64::from(was_parked);
                false
            }
            Err(why) => {
                log::warn!("cannot bring back a listener of process {}: {why}", process.pid);
                true
            }
        });
        if self.parked.is_empty() {
            self.parked_at = None;
        }
        self.rearmed_at = Some(Instant::now());
        self.counts.rearmed += rearmed;
        rearmed
    }
}

/// A guard that was killed a moment ago may still hold its locks: a service manager starts the next one at once. That lasts as long for one
/// lock as for a thousand, so all are waited for together.
fn patiently<T>(take: impl Fn() -> Result<T, String>, until: Instant) -> Result<T, String> {
    loop {
        match take() {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            answer => return answer,
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.parked.is_empty() {
            self.bring_back();
        }
        if self.parked.is_empty() {
            state::remove(&self.folder, self.process);
        }
    }
}
