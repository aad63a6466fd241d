//! `tideover unpack`: puts the library and the entrypoint script into a folder, also while programs use the ones that are there.
//! The init container of contrib/kubernetes and the first service of contrib/compose are this command.
#![forbid(unsafe_code)]

use crate::commands::arguments::json_flag;
use crate::launch::library;
use crate::show::failure::{Failure, cause};
use crate::show::output::{print, print_json};
use crate::system::replace::replace;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  tideover unpack /tideover            in an init container, into its volume
  tideover unpack --command /opt/tideover

Writes libtideover.so and docker-entrypoint.sh. Each file is written beside the
one that is there and then takes its name: programs that run keep the library
that they have mapped, and none can map one that is cut short.";

/// Name of the script's file.
const SCRIPT: &str = "docker-entrypoint.sh";
const SCRIPT_TEXT: &str = include_str!("../../../scripts/docker-entrypoint.sh");

/// The command line.
pub fn command() -> Command {
    Command::new("unpack")
        .about("Puts the library and the entrypoint script into a folder, such as a volume")
        .args([
            Arg::new("folder")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The folder; it is made if it is not there"),
            Arg::new("command").long("command").action(ArgAction::SetTrue).help("Put this command there, too"),
            json_flag(),
        ])
        .after_help(EXAMPLES)
}

/// Writes the files.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let folder: &PathBuf = matches.get_one("folder").ok_or_else(|| Failure::usage("no folder was given"))?;
    let library = library::find()?;
    let mut files =
        vec![(library::NAME, read(&library.path)?, 0o644), (SCRIPT, SCRIPT_TEXT.as_bytes().to_vec(), 0o755)];
    if matches.get_flag("command") {
        files.push(("tideover", read(&std::env::current_exe().unwrap_or_default())?, 0o755));
    }
    let failed = |path: &Path, error: &std::io::Error| {
        Failure::failed(format!("cannot write {}: {}", path.display(), cause(error)))
    };
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    let mut written = Vec::new();
    for (name, content, mode) in files {
        let path = folder.join(name);
        replace(&path, &content, Permissions::from_mode(mode)).map_err(|error| failed(&path, &error))?;
        written.push(path.display().to_string());
    }
    if matches.get_flag("json") {
        return print_json(&json!({ "written": written }));
    }
    print(&written.iter().map(|path| format!("{path}\n")).collect::<String>())
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::failed(format!("cannot read {}: {}", path.display(), cause(&error))))
}
