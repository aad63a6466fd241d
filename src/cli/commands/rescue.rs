//! `tideover rescue`: raises the soft limit of a running process by prlimit(2), whatever language it is written in.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, pid_argument};
use crate::processes::process;
use crate::processes::program::Program;
use crate::show::failure::{Failure, cause};
use crate::show::output::{print, print_json};
use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::json;
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

Works on any process, guarded or not, static and Go programs included, without a
restart. Without --to it stops at {cap}, and at {set} in a program that uses
select(2), whose sets end there. It never lowers a limit, and never touches the
hard limit."
    )
}

/// The command line.
pub fn command() -> Command {
    Command::new("rescue")
        .about("Raises the soft limit of a running process")
        .arg(pid_argument().required(true))
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("The new soft limit [default: the hard limit]"),
        )
        .arg(json_flag())
        .after_help(examples())
}

/// Raises the limit, and prints what it was and is.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let pid = matches.get_one::<u32>("pid").copied().unwrap_or_default();
    let rescue = rescue(pid, matches.get_one("to").copied())?;
    if matches.get_flag("json") { print_json(&rescue.json()) } else { print(&format!("{}\n", rescue.text())) }
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
        format!(
            "{} (process {}): soft limit was {}, is {} (hard limit {}){used}",
            self.program, self.pid, self.was, self.is, self.hard
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({ "pid": self.pid, "program": self.program, "soft_limit": { "was": self.was, "is": self.is },
                "hard_limit": self.hard, "used": self.used })
    }
}

/// Raises the soft limit of a process to `to`, or if that is None as far as [`select::ceiling`] allows.
pub fn rescue(pid: u32, to: Option<u64>) -> Result<Rescue, Failure> {
    if process::alive(pid).is_none() {
        return Err(Failure::failed(format!("there is no process {pid}")));
    }
    let name = process::name(pid);
    let refuse = |why: String| Failure::failed(format!("cannot raise the limit of process {pid} ({name}): {why}"));
    let (soft, hard) =
        process::limits(pid).ok_or_else(|| refuse(format!("/proc/{pid}/limits can't be read; {}", as_root(pid))))?;
    let target = new_limit(soft, hard, to, Program::of(pid).end()).map_err(|why| refuse(why.text(pid)))?;
    let limit = Rlimit { current: Some(target), maximum: (hard != u64::MAX).then_some(hard) };
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let was = prlimit(id, Resource::Nofile, limit).map_err(|error| match error {
        Errno::PERM | Errno::ACCESS => refuse(format!("not permitted; {}", as_root(pid))),
        error => refuse(cause(&error.into())),
    })?;
    let was = was.current.unwrap_or(u64::MAX);
    let is = process::limits(pid).map_or(target, |(soft, _)| soft);
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
}

impl Refused {
    fn text(&self, pid: u32) -> String {
        let raise_hard = |n: u64| {
            format!(
                "only root may raise that: sudo prlimit --pid {pid} --nofile={n}:{n}; for good: LimitNOFILE={n} in its systemd unit, or docker run --ulimit nofile={n}"
            )
        };
        match *self {
            Refused::BeyondHard { hard, to } => {
                format!("{to} is beyond its hard limit, which is {hard}; {}", raise_hard(to))
            }
            Refused::AtHard(hard) => format!(
                "its soft limit is its hard limit already, {hard}; {}",
                raise_hard(hard.saturating_mul(4).min(default_value(Id::RaiseCap as usize)))
            ),
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

fn new_limit(soft: u64, hard: u64, to: Option<u64>, end: u64) -> Result<u64, Refused> {
    let cap = default_value(Id::RaiseCap as usize);
    match to {
        Some(to) if to > hard => Err(Refused::BeyondHard { hard, to }),
        Some(to) if to <= soft => Err(Refused::Lower { soft, to }),
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
        assert_eq!(new_limit(64, 4096, Some(64), u64::MAX), Err(Refused::Lower { soft: 64, to: 64 }));
        assert_eq!(new_limit(2000, 4096, None, select::FD_SETSIZE), Err(Refused::Select(2000)));
        assert_eq!(new_limit(64, 4096, None, select::AS_IT_IS), Err(Refused::Table(64)));
        assert_eq!(new_limit(64, 4096, Some(4000), select::AS_IT_IS), Ok(4000), "told to");
        assert_eq!(new_limit(1 << 20, 1 << 30, None, u64::MAX), Err(Refused::Lower { soft: 1 << 20, to: 524_288 }));
    }

    #[test]
    fn a_refusal_names_the_command_that_would_do_it() {
        let text = Refused::AtHard(64).text(7);
        assert!(text.contains("sudo prlimit --pid 7 --nofile=256:256") && text.contains("LimitNOFILE=256"), "{text}");
        assert!(rescue(4_000_000_000, None).err().unwrap().text.contains("there is no process"));
    }
}
