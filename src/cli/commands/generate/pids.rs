//! Completion of process ids: `tideover pids`, which the scripts of the shells call, and what is added to the scripts that clap makes.
#![forbid(unsafe_code)]

use crate::commands::arguments::{page_dir, page_dir_flag};
use crate::pages;
use crate::processes::list;
use crate::show::failure::Failure;
use crate::show::output::{print, safe};
use clap::{Arg, ArgAction, ArgMatches, Command};
use clap_complete::Shell;
use tideover_contract::page::View;

/// The hidden command line: `pids [--all]`.
pub fn command() -> Command {
    Command::new("pids")
        .hide(true)
        .about("Lists process ids with the names of their programs, for completion")
        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("Processes without the library, too"))
        .arg(page_dir_flag())
}

/// A line for each process: id, a tab, name.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let ours = std::process::id();
    let all = if matches.get_flag("all") {
        list::all()
            .into_iter()
            .filter(|listed| listed.limits.is_some())
            .map(|listed| (listed.pid, listed.name))
            .collect()
    } else {
        let name = |view: View| safe(view.program());
        let pages = pages::walk(&page_dir(matches))?.pages;
        pages.iter().filter_map(|page| Some((page.pid, name(page.view()?)))).collect::<Vec<_>>()
    };
    let others = all.into_iter().filter(|(pid, _)| *pid != ours);
    print(&others.map(|(pid, name)| format!("{pid}\t{name}\n")).collect::<String>())
}

/// Commands that take the id of a guarded process, and those that take that of any.
const GUARDED: [&str; 4] = ["stat", "config", "control", "events"];
const ANY: [&str; 3] = ["doctor", "rescue", "guard"];

/// Adds process ids to the script that clap has made for a shell.
pub fn add(shell: Shell, script: &str) -> String {
    let (guarded, any) = (GUARDED, ANY);
    match shell {
        // The function of clap goes on to be called; words that begin with a digit are ours.
        Shell::Bash => format!(
            "{script}\n\
             _tideover_and_pids() {{\n    \
                 local current=${{COMP_WORDS[COMP_CWORD]}} all=\n    \
                 _tideover \"$@\"\n    \
                 case ${{COMP_WORDS[1]}} in\n        \
                     {}) ;;\n        \
                     {}) all=--all ;;\n        \
                     *) return ;;\n    \
                 esac\n    \
                 [[ $COMP_CWORD -ge 2 && $current != -* && ${{COMP_WORDS[COMP_CWORD-1]}} != --* ]] || return 0\n    \
                 COMPREPLY=($(compgen -W \"$(\"${{COMP_WORDS[0]}}\" pids $all 2>/dev/null | cut -f1)\" -- \"$current\"))\n\
             }}\n\
             complete -F _tideover_and_pids -o nosort -o bashdefault -o default tideover 2>/dev/null ||\n    \
                 complete -F _tideover_and_pids -o bashdefault -o default tideover\n",
            guarded.join("|"),
            any.join("|")
        ),
        Shell::Fish => {
            let line = |commands: &[&str], all: &str| {
                format!(
                    "complete -c tideover -n \"__fish_seen_subcommand_from {}\" -f -k -a \"(command tideover pids{all} 2>/dev/null)\"\n",
                    commands.join(" ")
                )
            };
            format!("{script}{}{}", line(&guarded, ""), line(&any, " --all"))
        }
        Shell::Zsh => zsh(script),
        _ => script.to_string(),
    }
}

/// The script that clap has made for zsh, with process ids.
fn zsh(script: &str) -> String {
    let function = "_tideover_pids() {\n    \
            local -a pids\n    \
            pids=(\"${(@f)$(_call_program pids tideover pids $1 2>/dev/null)}\")\n    \
            pids=(\"${(@)pids/$'\\t'/:}\")\n    \
            _describe -V 'process' pids\n\
        }\n\n";
    let mut done = String::new();
    let mut all = "";
    for line in script.lines() {
        // `(stat)` begins what clap says of a command, `':pid -- ...:_default'` is the argument.
        if let Some(command) = line.trim().strip_prefix('(').and_then(|line| line.strip_suffix(')')) {
            all = if ANY.contains(&command) { " --all" } else { "" };
        }
        let is_pid = [":pid -- ", "::pid -- ", "*::who -- "].iter().any(|start| line.contains(&format!("'{start}")));
        let is_ours = is_pid && line.contains(":_default'");
        if line.starts_with("_tideover() {") {
            done.push_str(function);
        }
        done.push_str(&if is_ours {
            line.replace(":_default'", &format!(": _tideover_pids{all}'"))
        } else {
            line.into()
        });
        done.push('\n');
    }
    done
}
