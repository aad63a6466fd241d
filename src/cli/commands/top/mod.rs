//! `tideover top`: the list of `ps`, live.
#![forbid(unsafe_code)]

mod model;
mod view;

use crate::commands::arguments::{interval, page_dir, page_dir_flag};
use crate::commands::ps;
use crate::pages;
use crate::processes::list;
use crate::show::failure::{Failure, cause};
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::{Model, Sort};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  tideover top
  sudo tideover top                the processes of all users
  sudo tideover top --all          every process, guarded or not
  tideover top --interval 5s
  tideover top | cat               once, without a terminal: as tideover ps

Keys: arrows or j and k choose a process, Enter shows its events and a graph,
s sorts by the next column, r the other way round, / filters by name or pid,
q leaves.";

/// The command line.
pub fn command() -> Command {
    Command::new("top")
        .about("Shows guarded processes live")
        .arg(
            Arg::new("interval")
                .long("interval")
                .value_name("TIME")
                .default_value("1s")
                .value_parser(interval)
                .help("Time between two updates"),
        )
        .arg(
            Arg::new("all")
                .long("all")
                .short('a')
                .action(ArgAction::SetTrue)
                .help("Processes without the library, too"),
        )
        .arg(page_dir_flag())
        .after_help(EXAMPLES)
}

/// Shows the list until a key ends it; if standard input or output is no terminal, prints it once.
pub fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let base = page_dir(matches);
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return ps::show(&base);
    }
    let interval = matches.get_one::<Duration>("interval").copied().unwrap_or_default().max(Duration::from_millis(50));
    // A failure to read the folder is said before the terminal's screen is taken over.
    pages::walk(&base)?;
    let failed = |error: io::Error| Failure::failed(format!("the terminal can't be used: {}", cause(&error)));
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let done = show(&mut terminal, &base, interval, matches.get_flag("all"));
    ratatui::restore();
    done.map_err(failed)
}

fn show(terminal: &mut DefaultTerminal, base: &Path, interval: Duration, all: bool) -> io::Result<()> {
    let mut model = Model::default();
    let mut next = Instant::now();
    loop {
        if Instant::now() >= next {
            // If the folder is missing now, the list is empty until it is back.
            let others = if all { list::all() } else { Vec::new() };
            model.update(&pages::walk(base).unwrap_or_default().pages, &others);
            next = Instant::now() + interval;
        }
        terminal.draw(|frame| view::draw(frame, &mut model))?;
        if event::poll(next.saturating_duration_since(Instant::now()))?
            && let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            if !obey(&mut model, key) {
                return Ok(());
            }
            // Reads the events of the process that is selected now.
            if model.detail {
                next = Instant::now();
            }
        }
    }
}

/// Does what a key asks for; false if it ends the program.
fn obey(model: &mut Model, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return !matches!(key.code, KeyCode::Char('c' | 'd'));
    }
    if model.typing {
        match key.code {
            KeyCode::Enter => model.typing = false,
            KeyCode::Esc => {
                model.typing = false;
                model.filter.clear();
            }
            KeyCode::Backspace => drop(model.filter.pop()),
            KeyCode::Char(c) if model.filter.len() < 40 => model.filter.push(c),
            _ => {}
        }
        return true;
    }
    match key.code {
        KeyCode::Char('q') => return false,
        KeyCode::Esc if model.detail => model.detail = false,
        KeyCode::Esc if !model.filter.is_empty() => model.filter.clear(),
        KeyCode::Esc => return false,
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-10),
        KeyCode::PageDown => model.step(10),
        KeyCode::Home => model.step(isize::MIN),
        KeyCode::End => model.step(isize::MAX),
        KeyCode::Enter => model.detail = !model.detail,
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('r') => model.reversed = !model.reversed,
        KeyCode::Char('/') => model.typing = true,
        KeyCode::Char(c) => {
            if let Some(sort) = Sort::by_key(c) {
                model.sort = sort;
            }
        }
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(model: &mut Model, code: KeyCode) -> bool {
        obey(model, KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_do_what_help_says() {
        let mut model = Model::default();
        assert!(!press(&mut model, KeyCode::Char('q')));
        assert!(!obey(&mut model, KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(press(&mut model, KeyCode::Char('/')));
        for c in "quit".chars() {
            assert!(press(&mut model, KeyCode::Char(c)), "it is typed");
        }
        press(&mut model, KeyCode::Backspace);
        press(&mut model, KeyCode::Enter);
        assert_eq!((&*model.filter, model.typing), ("qui", false));
        press(&mut model, KeyCode::Enter);
        assert!(model.detail);
        // Esc goes back step by step.
        assert!(press(&mut model, KeyCode::Esc) && !model.detail);
        assert!(press(&mut model, KeyCode::Esc) && model.filter.is_empty());
        assert!(!press(&mut model, KeyCode::Esc));
    }
}
