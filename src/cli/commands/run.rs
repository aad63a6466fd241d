//! `tideover run`: starts a program with the library.
#![forbid(unsafe_code)]

use crate::before_exec::rust_startup;
use crate::executables::privileges::Caller;
use crate::executables::search;
use crate::launch::check::{self, Conditions};
use crate::launch::library;
use crate::launch::preload;
use crate::launch::sanitizer;
use crate::settings::file;
use crate::settings::origin_variable;
use crate::settings::overrides::{self, Override};
use crate::show::failure::{Failure, Status, cause};
use clap::builder::OsStringValueParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use rustix::process::{Resource, getrlimit};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use tideover_contract::settings::SETTINGS;

const EXAMPLES: &str = "\
Examples:
  tideover run nginx -g 'daemon off;'
  tideover run --max-retries 10 --initial-wait 100ms -- python3 crawl.py
  tideover run --config ~/app/tideover.toml java -jar app.jar
  docker: ENTRYPOINT [\"tideover\", \"run\", \"--\"]

Durations are written 500ms, 2s, 1m. A setting can also be an environment
variable (TIDEOVER_MAX_RETRIES=10) or a key of the TOML file (max_retries = 10).
Flags beat the file, the file beats the environment.

Exit status: the program's own; 2 if a flag, file or variable holds a bad value,
126 if the program cannot be guarded or executed, 127 if it is not found. In
these three cases nothing was started.";

/// The command line, with a flag for each setting.
pub fn command() -> Command {
    let settings = SETTINGS.iter().map(|setting| {
        let default =
            if setting.default.is_empty() { String::new() } else { format!(", by default {}", setting.default) };
        Arg::new(setting.name)
            .long(setting.name.replace('_', "-"))
            .value_name("VALUE")
            .value_parser(OsStringValueParser::new())
            // A negative number is a value, which is refused with the accepted range, and not an unknown flag.
            .allow_negative_numbers(true)
            .help(setting.help)
            .long_help(format!("{}\n({}{default})", setting.help, setting.kind))
            .help_heading(group(setting.name))
    });
    Command::new("run")
        .about("Runs a program under the library")
        .long_about(
            "Runs a program under libtideover.so: finds the library, sets LD_PRELOAD and the
\
             settings, and becomes the program. A program in which the library could not act
\
             (static, set-uid, other architecture or libc) is refused, with what to do.
\
             A hard limit below 256 descriptors is warned of: it can't be raised from here.",
        )
        .override_usage("tideover run [--SETTING VALUE]... [--config FILE] [--] CMD [ARGS]...")
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("TOML file with settings, such as max_retries = 10"),
        )
        .args(settings)
        .arg(
            Arg::new("cmd")
                .value_name("CMD")
                .value_parser(OsStringValueParser::new())
                .num_args(1..)
                .required(true)
                .trailing_var_arg(true)
                .help("The program and its arguments"),
        )
        .after_help(EXAMPLES)
}

/// Settings of one kind, by the beginnings of their names, under a heading of `--help`.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Where the library acts", &["disable", "only", "except"]),
    (
        "When descriptors run out",
        &["max_retries", "initial_wait", "backoff", "max_wait", "jitter", "breaker", "raise", "gc", "fd_"],
    ),
    (
        "Servers",
        &[
            "accept",
            "shed",
            "max_clients",
            "over_limit",
            "idle_timeout",
            "max_lifetime",
            "max_per_client",
            "rate_per_client",
        ],
    ),
    ("Outgoing connections", &["max_connections", "max_per_endpoint", "connect_timeout"]),
    ("Messages and the page", &["page", "log_file", "log_format", "log_level"]),
    (
        "Logs and full disks",
        &["logs", "fallback", "hold", "recovery", "cleanup", "truncate", "rotate", "on_full", "full_wait"],
    ),
];

fn group(setting: &str) -> &'static str {
    let of = |starts: &[&str]| starts.iter().any(|start| setting.starts_with(start));
    match GROUPS.iter().find(|(_, starts)| of(starts)) {
        Some((heading, _)) => heading,
        None if setting == "log" => "Messages and the page",
        None => "Other settings",
    }
}

/// Becomes the program; returns only if that failed.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let file = matches.get_one::<PathBuf>("config");
    let given = settings(matches, file)?;
    let words: Vec<&OsString> = matches.get_many("cmd").into_iter().flatten().collect();
    let (name, arguments) = words.split_first().ok_or_else(|| Failure::usage("no program to run was given"))?;
    let path = std::env::var_os("PATH");
    let file_to_run = search::find(name, path.clone())?;
    let library = library::find()?;
    let is_sanitized = check::check(&file_to_run, &Conditions { library: &library, caller: Caller::me(), path })?;

    if !given.iter().any(|g| SETTINGS[g.index].name == "log" && (g.value == "off" || g.value == "error")) {
        warn_of_a_low_limit();
    }
    let mut program = std::process::Command::new(&file_to_run);
    program.arg0(name).args(arguments);
    let inherited = std::env::var_os("LD_PRELOAD");
    program.env("LD_PRELOAD", preload::with(&library.path, inherited.as_deref()));
    if is_sanitized && let Some(options) = sanitizer::options(inherited.as_deref()) {
        program.env(sanitizer::VARIABLE, options);
    }
    program.envs(given.iter().map(|g| (SETTINGS[g.index].env, &g.value)));
    match origin_variable::encode(&given, file.map(PathBuf::as_path)) {
        Some(text) => program.env(origin_variable::VARIABLE, text),
        None => program.env_remove(origin_variable::VARIABLE),
    };
    log::info!("running {} with {}", file_to_run.display(), library.path.display());
    rust_startup::pass_on(&mut program);
    let error = program.exec();
    let status = if error.kind() == ErrorKind::NotFound { Status::NotFound } else { Status::Refused };
    Err(Failure { status, text: format!("cannot run {}: {}", file_to_run.display(), cause(&error)) })
}

/// Warns of a low hard limit, which the library can't raise: programs reach it sooner or later.
fn warn_of_a_low_limit() {
    const LOW: u64 = 256;
    if let Some(hard) = getrlimit(Resource::Nofile).maximum.filter(|&hard| hard < LOW) {
        log::warn!(
            "the hard limit on descriptors is {hard}, which is low; to help: `ulimit -n 1024` as root, LimitNOFILE=1024 in its \
             systemd unit, or docker run --ulimit nofile=1024"
        );
    }
}

fn settings(matches: &ArgMatches, file: Option<&PathBuf>) -> Result<Vec<Override>, Failure> {
    let flags = SETTINGS.iter().enumerate();
    let flags =
        flags.filter_map(|(i, s)| matches.get_one::<OsString>(s.name).map(|value| (i, value.clone()))).collect();
    let file = file.map_or(Ok(Vec::new()), |path| file::read(path))?;
    overrides::merge(flags, file, |name| std::env::var_os(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<ArgMatches, clap::Error> {
        command().try_get_matches_from([&["run"], words].concat())
    }

    #[test]
    fn every_setting_has_a_flag() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            let matches = parse(&[&overrides::flag(index), "x", "true"]).unwrap();
            assert_eq!(matches.get_one::<OsString>(setting.name).unwrap(), "x", "{}", setting.name);
        }
        command().debug_assert();
    }

    #[test]
    fn help_has_the_settings_in_groups() {
        let help = command().render_help().to_string();
        for (heading, starts) in GROUPS {
            let start = help.find(&format!("\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}: {help}"));
            let rest = &help[start + heading.len() + 3..];
            let body = rest.split("\n\n").next().unwrap();
            let first = SETTINGS.iter().find(|setting| setting.name.starts_with(starts[0])).unwrap();
            assert!(body.contains(&format!("--{} ", first.name.replace('_', "-"))), "{heading}: {body}");
        }
        assert!(SETTINGS.iter().all(|setting| group(setting.name) != "Other settings"));
    }

    #[test]
    fn the_programs_own_flags_are_its_own() {
        for words in [&["ls", "--color", "-l", "--"][..], &["--", "ls", "--color", "-l", "--"]] {
            let matches = parse(words).unwrap();
            let cmd: Vec<&OsString> = matches.get_many("cmd").unwrap().collect();
            assert_eq!(cmd, ["ls", "--color", "-l", "--"]);
        }
        let matches = parse(&["--raise", "off", "x", "--raise", "auto"]).unwrap();
        assert_eq!(matches.get_one::<OsString>("raise").unwrap(), "off");
    }

    #[test]
    fn a_misspelt_flag_is_not_taken_for_the_program() {
        let error = parse(&["--max-retry", "3", "ls"]).unwrap_err().to_string();
        assert!(error.contains("--max-retries"), "{error}");
        assert!(parse(&[]).is_err());
        let text = settings(&parse(&["--jitter", "-1", "ls"]).unwrap(), None).unwrap_err().text;
        assert!(text.contains("a number from 0.0 to 1.0"), "{text}");
    }
}
