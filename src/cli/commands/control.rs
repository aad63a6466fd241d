//! `tideover control`: tells the library in a running process to pass everything through, to act again, or to read the policy
//! again, by a word in its page.
#![forbid(unsafe_code)]

use crate::commands::arguments::{json_flag, page_dir, page_dir_flag, pid_argument};
use crate::pages::folder::write_control;
use crate::pages::lookup::find;
use crate::show::failure::Failure;
use crate::show::output::{print, print_json, safe};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use std::time::{Duration, Instant};
use tideover_contract::page::control;

const EXAMPLES: &str = "\
Examples:
  tideover control 1234 off        everything is passed through, as without it
  tideover control 1234 on         the library acts again
  tideover control 1234 reload     it reads the policy file again

The library looks at the word when a call finds no descriptor or a full disk, when
usage nears a limit, and while a listener waits for a descriptor; never else, since that would cost every call something. If it has not looked
within a second, that is said, and it obeys the next time.";

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The command line.
pub fn command() -> Command {
    Command::new("control")
        .about("Has the library in a running process stop acting, or act again")
        .arg(pid_argument().required(true))
        .arg(
            Arg::new("word")
                .value_name("off|on|reload")
                .required(true)
                .value_parser(PossibleValuesParser::new(control::WORDS.iter().copied().filter(|word| !word.is_empty())))
                .hide_possible_values(true)
                .help("What the library is to do: off, on, or reload (read the policy file again)"),
        )
        .args([json_flag(), page_dir_flag()])
        .after_help(EXAMPLES)
}

/// Writes the word, and waits for a moment until the library has obeyed.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let pid = matches.get_one::<u32>("pid").copied().unwrap_or_default();
    let word = matches.get_one::<String>("word").map_or("", String::as_str);
    let what = control::WORDS.iter().position(|known| *known == word).unwrap_or(0) as u8;
    let base = page_dir(matches);
    let page = find(&base, pid)?;
    let before = page.view().map_or(0, |view| view.control().0);
    let number = control::word(before, what);
    write_control(&base, &page, number)?;
    let until = Instant::now() + PATIENCE;
    let obeyed = loop {
        let now = find(&base, pid)?;
        if now.view().is_some_and(|view| view.control().1 == number) {
            break true;
        }
        if Instant::now() >= until {
            break false;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let program = page.view().map_or_else(String::new, |view| safe(view.program()));
    if matches.get_flag("json") {
        return print_json(&json!({ "pid": pid, "program": program, "told": word, "obeyed": obeyed }));
    }
    let says = if obeyed { "and has obeyed" } else { "and obeys when a call next finds no descriptor or a full disk" };
    print(&format!("{program} (process {pid}) was told {word}, {says}\n"))
}
