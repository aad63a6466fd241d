//! `tideover watch`: measures all processes at intervals, raises and clears alerts, and sends them to receivers.
#![forbid(unsafe_code)]

mod alert;
mod ballast;
mod deliver;
mod exec;
mod findings;
mod webhook;

use crate::commands::arguments::{globs, interval, page_dir, page_dir_flag, time};
use crate::commands::rescue::{Goal, rescue};
use crate::pages::holds::{self, Fate};
use crate::show::failure::{Failure, cause};
use crate::show::output::{complain, print};
use crate::show::units::bytes;
use crate::system::level::Thresholds;
use alert::{Alert, Alerts};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use deliver::Delivery;
use findings::Scan;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tideover_contract::settings::Nanoseconds;

const EXAMPLES: &str = "\
Examples:
  sudo tideover watch --rescue
  sudo tideover watch --rescue --only 'nginx,postgres*'
  tideover watch --webhook-file /etc/tideover/webhook
  tideover watch --exec 'logger -t tideover \"$ALERT_SEVERITY $ALERT_MESSAGE\"'

It alerts when a process, guarded or not, uses too much of its descriptor limit;
when a guarded one has given up on calls, or its log's disk is full; when one
leaves zombies behind; and when the system is short of open files or memory.
Log lines that ended processes have left are put back, as by `tideover clean`.
With --ballast, the file of `tideover ballast` is given up when its filesystem is
full and made anew when there is room again; while it is not there, an alert is.
An alert is raised at once, and cleared when it has been well below its
threshold for a while; each is told once, as a line on standard output and to:

  --webhook URL  as JSON by POST (http or https), tried again until it is taken;
                 --webhook-file PATH reads the URL from a file, for each alert
  --exec CMD     a shell command, with ALERT_NAME, ALERT_STATE (raised, changed,
                 cleared), ALERT_SEVERITY, ALERT_PID, ALERT_PROGRAM, ALERT_SERVICE,
                 ALERT_MESSAGE in its environment and the JSON on its standard input

The last 1000 alerts wait for a receiver that is down; of more, the oldest are
dropped, and counted in the next one that is delivered.";

/// The command line.
pub fn command() -> Command {
    let percent = || value_parser!(u8).range(1..=100);
    Command::new("watch")
        .about("Raises and clears alerts on all processes, and can raise limits by itself")
        .args([
            Arg::new("exec").long("exec").value_name("CMD").help("Run this shell command for each alert"),
            Arg::new("webhook").long("webhook").value_name("URL").help("Post each alert there as JSON"),
            Arg::new("webhook-file")
                .long("webhook-file")
                .value_name("PATH")
                .value_parser(value_parser!(PathBuf))
                .conflicts_with("webhook")
                .help("The same to the URL in this file: those with a secret in them don't belong into a command line"),
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

/// Watches until it is killed.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let pages = page_dir(matches);
    let percent = |name: &str| f64::from(matches.get_one::<u8>(name).copied().unwrap_or(100));
    let time = |name: &str| matches.get_one::<Duration>(name).copied().unwrap_or_default();
    let usage = Thresholds { warning: percent("warning"), critical: percent("critical") };
    if usage.warning > usage.critical {
        return Err(Failure::usage("--warning can't be above --critical"));
    }
    let mut receivers = Vec::new();
    if let Some(url) = matches.get_one::<String>("webhook") {
        receivers.push(Delivery::start(webhook::Webhook::new(url)?));
    }
    if let Some(path) = matches.get_one::<PathBuf>("webhook-file") {
        receivers.push(Delivery::start(webhook::Webhook::of_file(path)?));
    }
    if let Some(words) = matches.get_one::<String>("exec") {
        receivers.push(Delivery::start(exec::Exec::new(words)));
    }
    // A folder of pages that is missing at start is a mistake in the command line; later it may come and go.
    let only = matches.get_one::<String>("only").cloned().unwrap_or_default();
    let holds = holds::base(&pages);
    let ballasts = ballast::Ballasts::of(matches)?;
    let mut scan = Scan::new(pages, usage, only)?;
    let mut alerts = Alerts::new(time("calm"));
    let rescues = matches.get_flag("rescue");
    survive_hangups()?;
    let mut findings = scan.take();
    // Only calls that give up from now on raise an alert.
    print(&format!(
        "watching, a look every {}\n",
        Nanoseconds(u64::try_from(time("interval").as_nanos()).unwrap_or(u64::MAX))
    ))?;
    loop {
        findings.extend(ballasts.look()?);
        for mut alert in alerts.update(findings) {
            if rescues && alert.calls_for_rescue() {
                match rescue(alert.pid, Goal::default()) {
                    Ok(done) => alert.message.push_str(&format!("; rescued: {}", done.text())),
                    Err(failure) => alert.message.push_str(&format!("; not rescued: {failure}")),
                }
            }
            tell(&alert, &receivers);
        }
        for log in holds::walk(&holds, true).logs.into_iter().filter(|log| log.fate == Fate::PutBack) {
            print(&format!("put back {} into {}, kept by process {}\n", bytes(log.bytes), log.path, log.pid))?;
        }
        std::thread::sleep(time("interval"));
        findings = scan.take();
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

fn tell(alert: &Alert, receivers: &[Delivery]) {
    if let Err(failure) = print(&format!("{}\n", alert.line())) {
        complain(&failure.text);
    }
    for receiver in receivers {
        receiver.enqueue(alert.clone());
    }
}
