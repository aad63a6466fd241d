//! `tideover watch`: measures all processes at intervals, raises and clears alerts, and sends them to receivers.
#![forbid(unsafe_code)]

mod alert;
mod ballast;
mod deliver;
mod exec;
mod findings;
mod format;
mod guards;
mod headers;
mod open_files;
mod receivers;
mod webhook;

use crate::commands::arguments::{globs, interval, page_dir, page_dir_flag, time};
use crate::commands::guard::stop_signals;
use crate::commands::rescue::{Goal, rescue};
use crate::guard::tell::Teller;
use crate::pages::holds::{self, Fate};
use crate::show::failure::{Failure, Status, cause};
use crate::show::output::{complain, explain, print};
use crate::show::units::bytes;
use crate::system::ballasts::Ballasts;
use crate::system::level::{Level, Thresholds};
use alert::{Alert, Alerts};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use deliver::Delivery;
use findings::{Finding, Scan};
use guards::Guards;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use tideover_contract::settings::Nanoseconds;

/// How long `--once` waits for its receivers.
const DELIVERED: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  sudo tideover watch --rescue
  sudo tideover watch --rescue --only 'nginx,postgres*'
  sudo tideover watch --guard
  tideover watch --webhook-file /etc/tideover/webhook
  tideover watch --format alertmanager --webhook http://localhost:9093/api/v2/alerts
  tideover watch --format slack --webhook-file /etc/tideover/slack
  tideover watch --format pagerduty --routing-key-file /etc/tideover/pagerduty \
    --webhook https://events.pagerduty.com/v2/enqueue
  tideover watch --once --format json
  tideover watch --exec 'logger -t tideover \"$ALERT_SEVERITY $ALERT_MESSAGE\"'

It alerts when a process, guarded or not, uses too much of its descriptor limit;
when a guarded one has given up on calls, or its log's disk is full; when space
or inodes are short under a process's logs, its address space or its container's
memory is near the limit, or it leaves zombies behind; when a user is short of
inotify instances or watches; and when the system is short of open files or
memory. Keys of the policy file such as alert_zombies and alert_log_space, for
all or some programs, set the thresholds (docs/policy.md lists them).
Log lines that ended processes have left are put back, as by `tideover clean`.
With --guard, it is a `tideover guard`, too, of the programs for which the policy
file has the key guard: raise, park, idle 5m, a list of these, or off.
The file is read again when it changes; SIGINT and SIGTERM put everything back.
With --ballast, the file of `tideover ballast` is given up when its filesystem is
full and made anew when there is room again; while it is not there, an alert is.
An alert is raised at once, and cleared when it has been well below its
threshold for a while; each is told once, as a line on standard output and to:

  --webhook URL  as JSON by POST (http or https), tried again until it is taken;
                 --webhook-file PATH reads the URL from a file, for each alert;
                 --header and --header-file add headers, --format says what
                 shape the JSON has
  --exec CMD     a shell command, with ALERT_NAME, ALERT_STATE (raised, changed,
                 cleared), ALERT_SEVERITY, ALERT_PID, ALERT_PROGRAM, ALERT_SERVICE,
                 ALERT_MESSAGE in its environment and the JSON on its standard input

The last 1000 alerts wait for a receiver that is down; of more, the oldest are
dropped, and counted in the next one that is delivered. A receiver that refuses
one, redirects it or does not answer in time is named with what helps, and the
watch goes on.

With --once it looks once, tells what is bad now, and ends: with exit status 0
if nothing is, 1 for a warning, 2 if something is critical, and 3 if it could not
look, or a receiver did not take all within a minute.";

/// The command line.
pub fn command() -> Command {
    let percent = || value_parser!(u8).range(1..=100);
    Command::new("watch")
        .about("Raises and clears alerts on all processes, and can raise limits by itself")
        .args(receivers::flags())
        .args([
            Arg::new("rescue")
                .long("rescue")
                .action(ArgAction::SetTrue)
                .help("Raise the soft limit of a process whose usage is critical, as `tideover rescue` does"),
            Arg::new("ballast")
                .long("ballast")
                .value_name("PATH")
                .action(ArgAction::Append)
                .value_parser(value_parser!(PathBuf))
                .help("Give this ballast up when its filesystem is full, and make it anew when there is room; can be repeated"),
            Arg::new("guard")
                .long("guard")
                .action(ArgAction::SetTrue)
                .conflicts_with("once")
                .help("Guard the programs that the policy file names from outside, as `tideover guard` does"),
            Arg::new("only")
                .long("only")
                .value_name("PROGRAMS")
                .default_value("")
                .value_parser(globs)
                .hide_default_value(true)
                .help("Programs to watch, as shell patterns by comma [default: all]"),
            Arg::new("warning")
                .long("warning")
                .value_name("PERCENT")
                .value_parser(percent())
                .default_value(Thresholds::usage().warning.to_string())
                .help("Usage of descriptors that is a warning"),
            Arg::new("critical")
                .long("critical")
                .value_name("PERCENT")
                .value_parser(percent())
                .default_value(Thresholds::usage().critical.to_string())
                .help("Usage of descriptors that is critical"),
            Arg::new("once")
                .long("once")
                .action(ArgAction::SetTrue)
                .help("Look once, and end with an exit status that says what was found"),
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .value_parser(interval)
                .default_value("5s")
                .help("Time between two measurements"),
            Arg::new("calm")
                .long("calm")
                .value_name("TIME")
                .value_parser(time)
                .default_value("30s")
                .help("How long a number must be well below its threshold before its alert is cleared"),
        ])
        .arg(page_dir_flag())
        .after_help(EXAMPLES)
}

/// Watches until it is killed, or looks once.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if !matches.get_flag("once") {
        return Watch::new(matches)?.forever();
    }
    // 2, the status of mistakes, means here that something is critical.
    let looked =
        Watch::new(matches).and_then(|mut watch| watch.once()).map_err(|failure| failure.with(Status::Unknown))?;
    match looked {
        None => Ok(()),
        Some(status) => Err(Failure::without_text(status)),
    }
}

/// Everything that the command line has asked for.
struct Watch {
    scan: Scan,
    alerts: Alerts,
    receivers: Vec<Delivery>,
    holds: PathBuf,
    ballasts: Ballasts,
    /// The folder of pages, for the guard that was asked for.
    guards: Option<PathBuf>,
    interval: Duration,
    rescues: bool,
    /// Standard output has an object for each alert, and nothing else.
    json: bool,
}

impl Watch {
    fn new(matches: &ArgMatches) -> Result<Watch, Failure> {
        let pages = page_dir(matches);
        let percent = |name: &str| f64::from(matches.get_one::<u8>(name).copied().unwrap_or(100));
        let time = |name: &str| matches.get_one::<Duration>(name).copied().unwrap_or_default();
        let usage = Thresholds::high(percent("warning"), percent("critical"));
        // What the command line says beats the policy file.
        let said =
            ["warning", "critical"].iter().any(|flag| matches.value_source(flag) == Some(ValueSource::CommandLine));
        if usage.warning > usage.critical {
            return Err(Failure::usage("--warning can't be above --critical"));
        }
        // A folder of pages that is missing at start is a mistake in the command line; later it may come and go.
        let only = matches.get_one::<String>("only").cloned().unwrap_or_default();
        let receivers = receivers::start(matches)?;
        let holds = holds::base(&pages);
        let scan = Scan::new(pages.clone(), said.then_some(usage), only)?;
        let alerts = Alerts::new(time("calm"));
        let json = matches.get_one::<String>("format").is_some_and(|format| format == "json");
        Ok(Watch {
            scan,
            alerts,
            receivers,
            holds,
            ballasts: Ballasts::at(matches.get_many::<PathBuf>("ballast").into_iter().flatten())?,
            guards: matches.get_flag("guard").then_some(pages),
            interval: time("interval"),
            rescues: matches.get_flag("rescue"),
            json,
        })
    }

    /// Until it is killed; with a guard, until it is stopped, which puts everything back.
    fn forever(&mut self) -> Result<(), Failure> {
        let Some(base) = &self.guards else {
            survive_hangups()?;
            return self.watch(&mut |interval| {
                std::thread::sleep(interval);
                false
            });
        };
        let stop = stop_signals()?;
        let guards = Guards::start(base, if self.json { Teller::Beside } else { Teller::Text })?;
        let watched = self.watch(&mut |interval| guards.has_ended() || is_readable_within(&stop, interval));
        watched.and(guards.end())
    }

    /// Looks again and again. `wait` waits for the interval, and answers whether to stop.
    fn watch(&mut self, wait: &mut dyn FnMut(Duration) -> bool) -> Result<(), Failure> {
        let mut findings = self.scan.take();
        // Only calls that give up from now on raise an alert.
        let interval = Nanoseconds(u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX));
        self.say(&format!("watching, a look every {interval}\n"))?;
        let mut reminded = Instant::now();
        loop {
            findings.extend(ballast::look(&self.ballasts, &mut |line| self.say(line))?);
            self.look(findings);
            if reminded.elapsed() >= format::AGAIN {
                reminded = Instant::now();
                let standing = self.alerts.standing();
                self.receivers.iter().for_each(|receiver| receiver.remind(&standing));
            }
            for log in holds::walk(&self.holds, true).logs.into_iter().filter(|log| log.fate == Fate::PutBack) {
                self.say(&format!("put back {} into {}, kept by process {}\n", bytes(log.bytes), log.path, log.pid))?;
            }
            if wait(self.interval) {
                return Ok(());
            }
            findings = self.scan.take();
        }
    }

    /// Tells what is bad now. The exit status; None if nothing is.
    fn once(&mut self) -> Result<Option<Status>, Failure> {
        let mut findings = self.scan.take();
        findings.extend(ballast::look(&self.ballasts, &mut |line| self.say(line))?);
        let worst = self.look(findings);
        if worst == Level::Ok {
            self.say("no alerts\n")?;
        }
        let taken: Vec<bool> = self.receivers.iter().map(|receiver| receiver.finish(DELIVERED)).collect();
        if taken.contains(&false) {
            return Ok(Some(Status::Unknown));
        }
        Ok(match worst {
            Level::Critical => Some(Status::Critical),
            Level::Warning => Some(Status::Warning),
            _ => None,
        })
    }

    /// Tells what is raised, changed or cleared; returns the worst level of these.
    fn look(&mut self, findings: Vec<Finding>) -> Level {
        let mut worst = Level::Ok;
        for mut alert in self.alerts.update(findings) {
            if self.rescues && alert.calls_for_rescue() {
                match rescue(alert.pid, Goal::default()) {
                    Ok(done) => alert.message.push_str(&format!("; rescued: {}", done.text())),
                    Err(failure) => alert.message.push_str(&format!("; not rescued: {failure}")),
                }
            }
            worst = worst.max(alert.level);
            self.tell(&alert);
        }
        worst
    }

    fn tell(&self, alert: &Alert) {
        let line = if self.json { alert.json(0).to_string() } else { alert.line() };
        if let Err(failure) = print(&format!("{line}\n")) {
            complain(&failure.text);
        }
        for receiver in &self.receivers {
            receiver.enqueue(alert.clone());
        }
    }

    /// Says what is no alert: on standard error, where standard output is JSON.
    fn say(&self, line: &str) -> Result<(), Failure> {
        if !self.json {
            return print(line);
        }
        explain(line);
        Ok(())
    }
}

/// Waits so long, or until the socket can be read: true.
fn is_readable_within(socket: &UnixStream, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&left)) {
            Ok(ready) => return ready > 0,
            // EINTR is that of SIGHUP.
            Err(_) if Instant::now() < end => {}
            Err(_) => return false,
        }
    }
}

/// SIGHUP, which a daemon gets to read its configuration again, and any command when its terminal goes, must not end the watch.
/// There is nothing to read again at that moment: the file of --webhook-file is read for each alert.
fn survive_hangups() -> Result<(), Failure> {
    let ignored = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGHUP, ignored)
        .map(|_| ())
        .map_err(|error| Failure::failed(format!("cannot handle SIGHUP: {}", cause(&error))))
}
