//! `tideover ballast`: makes, shows and removes a file that keeps space for a full disk.
#![forbid(unsafe_code)]

use crate::show::failure::{Failure, cause};
use crate::show::output::print;
use crate::show::units::bytes;
use crate::system::ballast::{self, Found, Open};
use crate::system::ballasts::{failed, look, path_of};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::{Path, PathBuf};
use tideover_contract::ballast::SIZES;
use tideover_contract::settings::{Kind, parse};

const EXAMPLES: &str = "\
Examples:
  sudo tideover ballast /var/log 200M
  tideover ballast /srv/app/logs 20M     as the user of the program
  tideover ballast /var/log              is it there?
  tideover ballast --remove /var/log

The file is called tideover.ballast; PATH is its folder, or its whole path. It
takes real blocks. It is given up, that is cut to its first 4 KiB, when the
filesystem is full: by a guarded program that runs as the owner of the file and
writes to a file in that folder or below, at its first write that fails; or by
`tideover watch --ballast PATH` and `guard --ballast PATH`, which make it anew
when there is room again.
It is not made if less than 5 % of the filesystem, or 100 MiB, would stay free.";

/// The command line.
pub fn command() -> Command {
    Command::new("ballast")
        .about("Keeps space for a full disk, in a file that is given up when it is needed")
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Folder that the file is in, or path of the file"),
        )
        .arg(Arg::new("size").value_name("SIZE").value_parser(size).help("Make it, so large: 64K, 200M, 1G"))
        .arg(
            Arg::new("remove").long("remove").action(ArgAction::SetTrue).conflicts_with("size").help("Remove the file"),
        )
        .after_help(EXAMPLES)
}

fn size(text: &str) -> Result<u64, String> {
    const ANY: Kind = Kind::SizeOr("off", SIZES.0, SIZES.1);
    let size = parse(&ANY, text.as_bytes()).filter(|&size| size > 0);
    size.ok_or_else(|| "it takes a size such as 64K, 200M, 1G, from 64K to 1024G".to_string())
}

/// Makes, shows or removes it.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let given = matches.get_one::<PathBuf>("path").cloned().unwrap_or_default();
    let path = path_of(&given)?;
    let removes = matches.get_flag("remove");
    match (look(&path)?, matches.get_one::<u64>("size").copied()) {
        (Found::Other(why), _) => Err(failed(&path, &format!("it is left alone: {why}"))),
        (Found::Nothing, None) => Err(failed(&path, "there is no ballast")),
        (_, None) if removes => remove(&path),
        (Found::Unfinished, None) => Err(failed(&path, "making it was not finished")),
        (Found::Ballast(open), None) => show(&path, &open),
        (Found::Ballast(open), Some(size)) if open.size == size => {
            if open.is_given_up() {
                open.refill().map_err(|why| failed(&path, &why))?;
            }
            show(&path, &open)
        }
        (Found::Nothing, Some(size)) => make(&path, size),
        (Found::Ballast(mut open), Some(size)) => {
            open.resize(size).map_err(|why| failed(&path, &why))?;
            kept(&path, size)
        }
        (Found::Unfinished, Some(size)) => {
            std::fs::remove_file(&path).map_err(|error| failed(&path, &cause(&error)))?;
            make(&path, size)
        }
    }
}

fn make(path: &Path, size: u64) -> Result<(), Failure> {
    ballast::make(path, size).map_err(|why| failed(path, &why))?;
    kept(path, size)
}

fn kept(path: &Path, size: u64) -> Result<(), Failure> {
    let free = bytes(ballast::free(path));
    print(&format!("{}: {} are kept, {free} are free besides\n", path.display(), bytes(size)))
}

fn remove(path: &Path) -> Result<(), Failure> {
    std::fs::remove_file(path).map_err(|error| failed(path, &cause(&error)))?;
    print(&format!("{}: removed\n", path.display()))
}

fn show(path: &Path, open: &Open) -> Result<(), Failure> {
    let says = if open.is_given_up() {
        format!("was given up on a full disk; `tideover ballast {} {}` makes it anew", path.display(), open.size)
    } else {
        format!("{} are kept", bytes(open.size))
    };
    print(&format!("{}: {says}\n", path.display()))
}
