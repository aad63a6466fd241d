//! `tideover guard`: carries running programs over their descriptor limit from outside.
#![forbid(unsafe_code)]

use crate::commands::arguments::{globs, json_flag, page_dir, page_dir_flag, time};
use crate::guard::evidence::Known;
use crate::guard::guarded::{self, Guarded};
use crate::guard::guarding::Guard;
use crate::guard::look::prospects;
use crate::guard::names::Names;
use crate::guard::tell::Teller;
use crate::guard::{refusal, state};
use crate::processes::process;
use crate::settings::steps::Steps;
use crate::show::failure::{Failure, Status, cause};
use crate::show::output::{complain, print, print_json};
use crate::show::table::{Align, Table};
use crate::show::units::short_count;
use crate::system::ballasts::Ballasts;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  sudo tideover guard nginx 'postgres*'
  sudo tideover guard --idle 5m --park myserver
  sudo tideover guard --dry-run --idle 5m --park 1234
  sudo tideover guard --ballast /var/log myserver
  tideover guard --status

For programs that run already, static ones and Go. Nothing is loaded into them,
they are not stopped, and healthy they pay nothing. Whoever can be restarted is
better off with `tideover run`, which acts inside of the failing call.

At 80 % of its soft limit a target's limit is doubled by prlimit(2), up to its
hard limit; not past 1024 if an object of it uses select(2). At the limit, when
clients wait to be accepted, and only if asked for:

  --idle T  ends the input of clients that have been idle for longest (at least
            T): to the program it is as if they had closed
  --park    when the program has spun for a second, its listener is taken off
            its epoll set's events, until a descriptor is free. Only for plain
            level-triggered sets that know the listener by its number, and
            without EPOLLEXCLUSIVE

--ballast gives the file of `tideover ballast` up when its filesystem is full.
What guards have done is also in `tideover ps`, `top` and `metrics`. With
`tideover watch --guard`, the policy file names the programs.

SIGINT and SIGTERM put everything back. After kill -9 the next guard does, or
`tideover clean`. New processes of a name are found within a second or two.

Not in it: diverting logs of running programs when their disk is full. That
takes ptrace(2), and a guard that is killed meanwhile could take the program
with it. A burst that fills a table between two looks is seen too late.

Exit status: 0 it was stopped, or all processes have ended; 1 there is nothing
that can be guarded; 2 the command line is wrong.";

/// A name that means more processes than this is a mistake, unless `--all` says otherwise.
const MANY: usize = 100;

/// The command line.
pub fn command() -> Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).help(help);
    Command::new("guard")
        .about("Carries running programs over their descriptor limit from outside")
        .arg(
            Arg::new("who")
                .value_name("PID or NAME")
                .num_args(1..)
                .required_unless_present_any(["status", "ballast"])
                .help("Process ids, or names of programs as shell patterns, also of those that start later"),
        )
        .args([
            Arg::new("idle")
                .long("idle")
                .value_name("TIME")
                .value_parser(time)
                .help("At the limit, end clients that have been idle for at least so long, the longest idle first"),
            flag("park", "At the limit, park the listener of a program that spins"),
            Arg::new("ballast")
                .long("ballast")
                .value_name("PATH")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Give this ballast up when its filesystem is full, and make it anew when there is room; can be repeated"),
            flag("all", "Also names that mean more than 100 processes"),
            flag("dry-run", "Say what could be done for each target, and why not; do nothing"),
            flag("status", "Show what the guards that run have done").conflicts_with_all(["who", "ballast"]),
        ])
        .args([json_flag().help("Print an object in JSON for each event"), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Guards until it is stopped.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    let json = matches.get_flag("json");
    if matches.get_flag("status") {
        return status(&guarded::all(&base), json);
    }
    let words: Vec<&String> = matches.get_many("who").into_iter().flatten().collect();
    let (pids, patterns) = split(&words)?;
    let steps = Steps { idle: matches.get_one::<Duration>("idle").copied(), park: matches.get_flag("park") };
    let limit = if matches.get_flag("all") { usize::MAX } else { MANY };
    let ballasts = Ballasts::at(matches.get_many::<PathBuf>("ballast").into_iter().flatten())?;
    let mut names = Names::new(patterns.clone(), steps);
    let named: Vec<u32> = names.look().into_iter().map(|(pid, _)| pid).collect();
    if named.len() > limit {
        return Err(Failure::usage(format!(
            "{} mean {} processes; --all guards more than {MANY}",
            patterns.join(", "),
            named.len()
        )));
    }
    if matches.get_flag("dry-run") {
        return dry_run(pids.iter().chain(&named).copied(), steps, json);
    }
    state::raise_own_limit();
    let stop = stop_signals()?;
    let folder = state::folder(&base).map_err(Failure::failed)?;
    let mut guard = Guard::new(folder, if json { Teller::Json } else { Teller::Text }, names, ballasts, limit);
    for pid in pids {
        guard.add(pid, steps, true)?;
    }
    for pid in named {
        guard.add(pid, steps, false)?;
    }
    if guard.is_over() {
        return Err(Failure::failed("no process can be guarded; --dry-run says why"));
    }
    guard.run(&stop)
}

/// The process ids and the patterns among the words of the command line.
fn split(words: &[&String]) -> Result<(Vec<u32>, Vec<String>), Failure> {
    let (mut pids, mut patterns) = (Vec::new(), Vec::new());
    for word in words {
        if word.bytes().all(|b| b.is_ascii_digit()) {
            let pid = word.parse().ok().filter(|pid| *pid > 0);
            pids.push(pid.ok_or_else(|| Failure::usage(format!("{word} is no process id")))?);
        } else {
            let pattern =
                globs(word).map_err(|why| Failure::usage(format!("{word:?} is no pattern of names: {why}")))?;
            patterns.push(pattern);
        }
    }
    Ok((pids, patterns))
}

/// Says for each process what could be done.
fn dry_run(pids: impl Iterator<Item = u32>, steps: Steps, json: bool) -> Result<(), Failure> {
    let (mut known, mut answers, mut refused) = (Known::default(), Vec::new(), 0);
    for pid in pids {
        let (name, why) = (process::name(pid), refusal::of(pid));
        let lines = if why.is_some() { Vec::new() } else { prospects(pid, steps, &mut known) };
        refused += usize::from(why.is_some());
        if json {
            answers.push(json!({ "pid": pid, "program": name, "refused": why, "steps": lines }));
            continue;
        }
        match why {
            Some(why) => complain(&format!("process {pid} ({name}) is left alone: {why}")),
            None => print(&format!("{name} (process {pid})\n  {}\n", lines.join("\n  ")))?,
        }
        answers.push(Value::Null);
    }
    if json {
        print_json(&json!({ "processes": answers }))?;
    }
    match answers.len() {
        0 => Err(Failure::failed("no process is called so; `ps -eo pid,comm` lists all")),
        all if all == refused => Err(Failure::without_text(Status::Failed)),
        _ => Ok(()),
    }
}

/// What guards that run have done.
fn status(all: &[Guarded], json: bool) -> Result<(), Failure> {
    if json {
        let targets: Vec<Value> = all.iter().map(Guarded::json).collect();
        return print_json(&json!({ "targets": targets }));
    }
    if all.is_empty() {
        return print("No process is guarded from outside.\n");
    }
    print(&table(all, usize::MAX))
}

/// The table of `--status`, which `ps` has, too, of at most so many columns.
pub fn table(all: &[Guarded], width: usize) -> String {
    let mut table = Table::new(&[
        ("GUARD", Align::Right),
        ("PID", Align::Right),
        ("PROGRAM", Align::Left),
        ("USED", Align::Right),
        ("SOFT", Align::Right),
        ("RAISED", Align::Right),
        ("IDLE", Align::Right),
        ("PARKED", Align::Right),
        ("REARMED", Align::Right),
        ("NOW", Align::Left),
    ]);
    for it in all {
        let pid = it.process.pid;
        let known = |number: Option<u64>| number.map_or_else(|| "?".to_string(), short_count);
        table.row([
            it.guard.to_string(),
            pid.to_string(),
            it.program.clone(),
            known(process::descriptors(pid)),
            known(process::limits(pid).map(|(soft, _)| soft)),
            short_count(it.counts.raised),
            short_count(it.counts.idle_ended),
            short_count(it.counts.parked),
            short_count(it.counts.rearmed),
            it.now().to_string(),
        ]);
    }
    let mut text = table.render(width, 1, 2);
    if all.iter().any(|it| it.is_abandoned) {
        text.push_str(
            "abandoned: its guard was killed and has left its listener parked; `tideover clean` brings it back.\n",
        );
    }
    text
}

/// A socket that becomes readable when a signal comes that ends the guard. SIGHUP, which comes when the terminal goes, does not end it,
/// and SIGTSTP (^Z) does not stop it: listeners would stay parked.
pub fn stop_signals() -> Result<UnixStream, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
    let failed = |error: std::io::Error| Failure::failed(format!("cannot handle signals: {}", cause(&error)));
    let (read, write) = UnixStream::pair().map_err(failed)?;
    for signal in [SIGINT, SIGTERM, SIGQUIT] {
        signal_hook::low_level::pipe::register(signal, write.try_clone().map_err(failed)?).map_err(failed)?;
    }
    for signal in [SIGHUP, SIGTSTP] {
        signal_hook::flag::register(signal, std::sync::Arc::default()).map_err(failed)?;
    }
    // The ends that the handlers write to stay open.
    drop(write);
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_process_ids_or_names() {
        let words = ["12".to_string(), "nginx".to_string()];
        assert_eq!(split(&words.iter().collect::<Vec<_>>()).unwrap(), (vec![12], vec!["nginx".to_string()]));
        for bad in ["0", "99999999999", "[a"] {
            assert_eq!(split(&[&bad.to_string()]).unwrap_err().status, Status::Usage);
        }
    }
}
