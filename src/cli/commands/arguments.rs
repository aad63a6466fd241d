//! Arguments that several commands take.
#![forbid(unsafe_code)]

use crate::pages;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use std::path::PathBuf;
use std::time::Duration;

/// `--json`.
pub fn json_flag() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")
}

/// `--page-dir`.
pub fn page_dir_flag() -> Arg {
    Arg::new("page-dir")
        .long("page-dir")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .help("Folder that holds the pages [default: TIDEOVER_PAGE_DIR, else /dev/shm]")
}

/// The folder that the command line names.
pub fn page_dir(matches: &ArgMatches) -> PathBuf {
    pages::base(matches.get_one("page-dir"))
}

/// `PID`.
pub fn pid_argument() -> Arg {
    Arg::new("pid")
        .value_name("PID")
        .value_parser(value_parser!(u32).range(1..))
        .help("Process id; `tideover ps` lists them")
}

/// Reads the value of a flag such as `--interval 5s`; the error says what is wrong with it.
pub fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}
