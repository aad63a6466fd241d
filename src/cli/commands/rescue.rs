//! `tideover rescue`: raises the soft limit of running processes by prlimit(2), whatever language it is written in.
#![forbid(unsafe_code)]

use crate::commands::arguments::{globs, json_flag};
use crate::processes::list::{self, ListedProcess};
use crate::processes::process;
use crate::processes::program::{self, Program};
use crate::show::failure::{Failure, Status, cause};
use crate::show::output::{complain, print, print_json};
use crate::system::level::{Level, Thresholds};
use crate::system::{Share, sysctl};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
use tideover_contract::glob;
use tideover_contract::select;
use tideover_contract::settings::{Id, default_value, raise};

fn examples() -> String {
    let (cap, set) = (default_value(Id::RaiseCap as usize), select::FD_SETSIZE);
    format!(
        "\
Examples:
  tideover rescue 1234             to its hard limit
  sudo tideover rescue 1234        a process of another user
  tideover rescue 1234 --to 8192
  sudo tideover rescue nginx 'postgres*'    every process of these names
  sudo tideover rescue 1234 --hard --to 65536   raises its hard limit, too

Works on any process, guarded or not, static and Go programs included, without a
restart. Without --to it stops at {cap}, and at {set} in a program that uses
select(2), whose sets end there. It never lowers a limit, and leaves the hard
limit alone unless --hard says otherwise. A process that has what was asked for
is left as it is, which is no failure.

Exit status: 0 each process has what was asked for, 1 at least one has not,
2 the command line is wrong."
    )
}

/// The command line.
pub fn command() -> Command {
    Command::new("rescue")
        .about("Raises the soft limit of running processes")
        .arg(
            Arg::new("who")
                .value_name("PID or NAME")
                .num_args(1..)
                .required(true)
                .help("Process ids, or names of programs as shell patterns"),
        )
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("The new soft limit [default: the hard limit]"),
        )
        .arg(
            Arg::new("hard")
                .long("hard")
                .action(ArgAction::SetTrue)
                .help("Raise the hard limit, too, if that is too low (root only)"),
        )
        .arg(json_flag())
        .after_help(examples())
}

/// Raises the limits, and prints what they were and are.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let words: Vec<&String> = matches.get_many("who").into_iter().flatten().collect();
    let goal = Goal { to: matches.get_one("to").copied(), hard: matches.get_flag("hard") };
    let mut done = Vec::new();
    for word in words {
        match targets(word)? {
            pids if pids.is_empty() => {
                let why = format!("no process is called {word}; `ps -eo pid,comm` lists all");
                done.push((None, Err(Failure::failed(why))));
            }
            pids => done.extend(pids.into_iter().map(|pid| (Some(pid), rescue(pid, goal)))),
        }
    }
    let failed = done.iter().any(|(_, result)| result.is_err());
    if matches.get_flag("json") {
        print_json(&json(&done))?;
    } else {
        for (_, result) in &done {
            match result {
                Ok(rescue) => print(&format!("{}\n", rescue.text()))?,
                Err(failure) => complain(&failure.text),
            }
        }
    }
    if failed { Err(Failure::without_text(Status::Failed)) } else { Ok(()) }
}

/// The processes that a word of the command line means: that of the number, or all of that name but this one.
fn targets(word: &str) -> Result<Vec<u32>, Failure> {
    if word.bytes().all(|b| b.is_ascii_digit()) {
        let pid = word.parse().ok().filter(|pid| *pid > 0);
        return pid.map(|pid| vec![pid]).ok_or_else(|| Failure::usage(format!("{word} is no process id")));
    }
    let pattern = globs(word).map_err(|why| Failure::usage(format!("{word:?} is no pattern of names: {why}")))?;
    let named = |listed: &ListedProcess| {
        // The name that the kernel keeps is cut to 15 bytes.
        glob::any(pattern.as_bytes(), listed.name.as_bytes())
            || program::file_name(listed.pid).is_some_and(|name| glob::any(pattern.as_bytes(), &name))
    };
    let all = list::all();
    let ours = std::process::id();
    // Kernel threads, which have no descriptors, and zombies have no limits.
    Ok(all.iter().filter(|it| it.limits.is_some() && it.pid != ours && named(it)).map(|it| it.pid).collect())
}

/// One object for each process under `processes`; of a single one, its keys also at the top, where they have always been.
fn json(done: &[(Option<u32>, Result<Rescue, Failure>)]) -> serde_json::Value {
    let object = |(pid, result): &(Option<u32>, Result<Rescue, Failure>)| match result {
        Ok(rescue) => rescue.json(),
        Err(failure) => json!({ "pid": pid, "error": failure.text }),
    };
    let processes: Vec<serde_json::Value> = done.iter().map(object).collect();
    let mut whole = if let [one] = processes.as_slice() { one.clone() } else { json!({}) };
    whole["processes"] = json!(processes);
    whole
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Goal {
    /// The new soft limit; None: as far as [`select::ceiling`] allows.
    pub to: Option<u64>,
    /// Raise the hard limit, too?
    pub hard: bool,
}

/// What was done.
pub struct Rescue {
    pid: u32,
    program: String,
    was: u64,
    is: u64,
    hard: u64,
    used: Option<u64>,
}

impl Rescue {
    /// What was done, in one line.
    pub fn text(&self) -> String {
        let used = self.used.map_or_else(String::new, |used| format!("; {used} descriptors in use"));
        let limit = if self.was == self.is {
            format!("soft limit is {} already", self.is)
        } else {
            format!("soft limit was {}, is {}", self.was, self.is)
        };
        format!("{} (process {}): {limit} (hard limit {}){used}", self.program, self.pid, self.hard)
    }

    fn json(&self) -> serde_json::Value {
        json!({ "pid": self.pid, "program": self.program, "soft_limit": { "was": self.was, "is": self.is },
                "hard_limit": self.hard, "used": self.used })
    }
}

/// Raises the soft limit of a process. That it is as high already as it can and need be is no failure; that it can't be
/// raised although the process is short is one.
pub fn rescue(pid: u32, goal: Goal) -> Result<Rescue, Failure> {
    if process::alive(pid).is_none() {
        return Err(Failure::failed(format!("there is no process {pid}")));
    }
    let name = process::name(pid);
    let refuse = |why: String| Failure::failed(format!("cannot raise the limit of process {pid} ({name}): {why}"));
    let (soft, hard) =
        process::limits(pid).ok_or_else(|| refuse(format!("/proc/{pid}/limits can't be read; {}", as_root(pid))))?;
    let used = process::descriptors(pid);
    let is_short = used.is_none_or(|used| Thresholds::usage().level(Share { used, max: soft }.percent()) != Level::Ok);
    let as_it_is = |program| Ok(Rescue { pid, program, was: soft, is: soft, hard, used });
    let kernel = sysctl("fs.nr_open").unwrap_or(u64::MAX);
    let new_hard = new_hard(hard, goal, kernel).map_err(|why| refuse(why.text(pid)))?;
    let target = match new_limit(soft, new_hard, goal.to, Program::of(pid).end()) {
        Ok(target) if target == soft && new_hard == hard => return as_it_is(name),
        Ok(target) => target,
        Err(Refused::AtHard(_)) if !is_short => return as_it_is(name),
        Err(Refused::Lower { .. }) if goal.to.is_none() => return as_it_is(name),
        Err(why) => return Err(refuse(why.text(pid))),
    };
    let limit = Rlimit { current: Some(target), maximum: (new_hard != u64::MAX).then_some(new_hard) };
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let was = prlimit(id, Resource::Nofile, limit).map_err(|error| match error {
        // The kernel takes no limit at all whose hard part is above this.
        Errno::PERM if new_hard > kernel => refuse(Refused::BeyondKernel { to: new_hard, kernel }.text(pid)),
        Errno::PERM if new_hard > hard => refuse(format!(
            "raising a hard limit takes CAP_SYS_RESOURCE, which root in a container often lacks; {}, outside of it",
            as_root(pid)
        )),
        Errno::PERM | Errno::ACCESS => refuse(format!("not permitted; {}", as_root(pid))),
        error => refuse(cause(&error.into())),
    })?;
    let was = was.current.unwrap_or(u64::MAX);
    let (is, hard) = process::limits(pid).unwrap_or((target, new_hard));
    Ok(Rescue { pid, program: name, was, is, hard, used: process::descriptors(pid) })
}

fn as_root(pid: u32) -> String {
    format!("sudo tideover rescue {pid}")
}

/// Why the limit is left as it is.
#[derive(Debug, PartialEq, Eq)]
enum Refused {
    BeyondHard { hard: u64, to: u64 },
    AtHard(u64),
    Lower { soft: u64, to: u64 },
    Select(u64),
    Table(u64),
    BeyondKernel { to: u64, kernel: u64 },
}

impl Refused {
    fn text(&self, pid: u32) -> String {
        let kernel = sysctl("fs.nr_open").unwrap_or(u64::MAX);
        let first = |n: u64| {
            if n > kernel {
                format!("fs.nr_open is {kernel}, so first: sudo sysctl -w fs.nr_open={n}; ")
            } else {
                String::new()
            }
        };
        let raise_hard = |n: u64| {
            format!(
                "only root may raise that: {}sudo prlimit --pid {pid} --nofile={n}:{n}; for good: LimitNOFILE={n} in its systemd unit, or docker run --ulimit nofile={n}",
                first(n)
            )
        };
        match *self {
            Refused::BeyondHard { hard, to } => {
                format!("{to} is beyond its hard limit, which is {hard}; {}", raise_hard(to))
            }
            Refused::BeyondKernel { to, kernel } => {
                format!("{to} is beyond fs.nr_open, which is {kernel}; sudo sysctl -w fs.nr_open={to}, then again")
            }
            Refused::AtHard(hard) => {
                let more = hard.saturating_mul(4).min(default_value(Id::RaiseCap as usize));
                // Never advice that the kernel would refuse; nothing is left to advise but to raise its own limit.
                let more = if more > kernel && kernel > hard { kernel } else { more.max(hard.saturating_mul(2)) };
                format!("its soft limit is its hard limit already, {hard}; {}", raise_hard(more))
            }
            Refused::Lower { soft, to } => {
                format!("its soft limit is {soft} already, and {to} would not be more; rescue never lowers a limit")
            }
            Refused::Select(soft) => format!(
                "its soft limit is {soft}, and it uses select(2), which corrupts memory with numbers past {}; where it never selects on files, say --to N",
                select::FD_SETSIZE
            ),
            Refused::Table(soft) => format!(
                "its soft limit is {soft}, and it calls getdtablesize(3), so it may have a table of so many; where it has none, say --to N"
            ),
        }
    }
}

/// The hard limit that is asked for: the one that there is, unless `--hard` asks for more.
fn new_hard(hard: u64, goal: Goal, kernel: u64) -> Result<u64, Refused> {
    match goal {
        Goal { hard: false, .. } => Ok(hard),
        Goal { to: Some(to), .. } if to > kernel && to > hard => Err(Refused::BeyondKernel { to, kernel }),
        Goal { to: Some(to), .. } => Ok(hard.max(to)),
        Goal { to: None, .. } => Ok(hard.max(default_value(Id::RaiseCap as usize).min(kernel))),
    }
}

fn new_limit(soft: u64, hard: u64, to: Option<u64>, end: u64) -> Result<u64, Refused> {
    let cap = default_value(Id::RaiseCap as usize);
    match to {
        Some(to) if to > hard => Err(Refused::BeyondHard { hard, to }),
        Some(to) if to < soft => Err(Refused::Lower { soft, to }),
        Some(to) => Ok(to),
        None if soft >= hard => Err(Refused::AtHard(hard)),
        None if end == select::AS_IT_IS => Err(Refused::Table(soft)),
        None if soft >= end => Err(Refused::Select(soft)),
        None if soft >= cap => Err(Refused::Lower { soft, to: cap }),
        None => Ok(select::ceiling(soft, hard, raise::AUTO, cap, || end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_as_far_as_is_safe_and_no_further_than_told() {
        assert_eq!(new_limit(64, 4096, None, u64::MAX), Ok(4096));
        assert_eq!(new_limit(64, 4096, Some(100), u64::MAX), Ok(100));
        assert_eq!(new_limit(64, 1 << 30, None, u64::MAX), Ok(524_288));
        assert_eq!(new_limit(64, 4096, None, select::FD_SETSIZE), Ok(1024));
        assert_eq!(new_limit(64, 4096, Some(4000), select::FD_SETSIZE), Ok(4000), "told to");
        assert_eq!(new_limit(64, 4096, Some(4097), u64::MAX), Err(Refused::BeyondHard { hard: 4096, to: 4097 }));
        assert_eq!(new_limit(64, 64, None, u64::MAX), Err(Refused::AtHard(64)));
        assert_eq!(new_limit(64, 4096, Some(64), u64::MAX), Ok(64), "it has that already");
        assert_eq!(new_limit(64, 4096, Some(63), u64::MAX), Err(Refused::Lower { soft: 64, to: 63 }));
        assert_eq!(new_limit(2000, 4096, None, select::FD_SETSIZE), Err(Refused::Select(2000)));
        assert_eq!(new_limit(64, 4096, None, select::AS_IT_IS), Err(Refused::Table(64)));
        assert_eq!(new_limit(64, 4096, Some(4000), select::AS_IT_IS), Ok(4000), "told to");
        assert_eq!(new_limit(1 << 20, 1 << 30, None, u64::MAX), Err(Refused::Lower { soft: 1 << 20, to: 524_288 }));
    }

    #[test]
    fn a_refusal_names_the_command_that_would_do_it() {
        let text = Refused::AtHard(64).text(7);
        assert!(text.contains("sudo prlimit --pid 7 --nofile=256:256") && text.contains("LimitNOFILE=256"), "{text}");
        let kernel = sysctl("fs.nr_open").unwrap();
        for hard in [kernel / 2, kernel] {
            let text = Refused::AtHard(hard).text(7);
            let advised = |n: u64| text.contains(&format!("--nofile={n}:{n}"));
            assert!(
                advised(kernel) || text.contains("first: sudo sysctl -w fs.nr_open=") || hard * 4 < kernel,
                "{text}"
            );
        }
        let to = kernel + 1;
        assert!(Refused::BeyondHard { hard: 64, to }.text(7).contains(&format!("sudo sysctl -w fs.nr_open={to}")));
        let goal = Goal { to: Some(to), hard: true };
        assert_eq!(new_hard(64, goal, kernel), Err(Refused::BeyondKernel { to, kernel }));
        assert_eq!(new_hard(64, Goal { to: Some(128), hard: true }, kernel), Ok(128));
        assert_eq!(new_hard(64, Goal { to: Some(128), hard: false }, kernel), Ok(64));
        assert!(rescue(4_000_000_000, Goal::default()).err().unwrap().text.contains("there is no process"));
    }
}
