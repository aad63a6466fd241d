//! Arguments that several commands take.
#![forbid(unsafe_code)]

use crate::pages;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use std::path::PathBuf;
use std::time::Duration;
use tideover_contract::settings::{Kind, SECOND, parse};

/// The flag `--json`.
pub fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")
}

/// The flag `--page-dir`.
pub fn page_dir_flag() -> Arg {
    Arg::new("page-dir")
        .long("page-dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Folder that holds the pages [default: TIDEOVER_PAGE_DIR, else /dev/shm]")
}

/// The folder of pages that the command line, or else the environment, names.
pub fn page_dir(matches: &ArgMatches) -> PathBuf {
    pages::base(matches.get_one("page-dir"))
}

/// The argument `PID`.
pub fn pid_argument() -> Arg {
    Arg::new("pid")
        .value_name("PID")
        .value_parser(value_parser!(u32).range(1..))
        .help("Process id; `tideover ps` lists them")
}

/// Reads the value of a flag such as `--interval 5s`, written as durations are in settings; the error says what it takes.
pub fn time(text: &str) -> Result<Duration, String> {
    const ANY: Kind = Kind::Duration(0, 365 * 24 * 3600 * SECOND);
    parse(&ANY, text.as_bytes()).map(Duration::from_nanos).ok_or_else(|| format!("it takes {ANY}"))
}

/// Reads the time between two looks: one of 0 would keep a processor busy.
pub fn interval(text: &str) -> Result<Duration, String> {
    const ANY: Kind = Kind::Duration(10 * SECOND / 1000, 365 * 24 * 3600 * SECOND);
    parse(&ANY, text.as_bytes()).map(Duration::from_nanos).ok_or_else(|| format!("it takes {ANY}"))
}

/// Reads shell patterns that are separated by commas; the error says what is wrong with them.
pub fn globs(text: &str) -> Result<String, String> {
    match parse(&Kind::Globs, text.as_bytes()) {
        Some(_) => Ok(text.to_string()),
        None => Err(format!("it takes {}", Kind::Globs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_settings() {
        assert_eq!(time("0s"), Ok(Duration::ZERO));
        assert_eq!(time("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(time("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(interval("50ms"), Ok(Duration::from_millis(50)));
        assert!(interval("0s").unwrap_err().contains("from 10ms") && interval("9ms").is_err());
        assert_eq!((globs("nginx,[a-z]*"), globs("[a").is_err()), (Ok("nginx,[a-z]*".to_string()), true));
        assert_eq!(time("5").unwrap_err(), "it takes a duration such as 500ms, 2s, 1m, from 0s to 8760h");
    }
}
