//! `tideover top`: the list of `ps`, live.
#![forbid(unsafe_code)]

mod action;
mod model;
mod panel;
mod row;
mod view;

use crate::commands::arguments::{interval, page_dir, page_dir_flag};
use crate::commands::ps;
use crate::pages;
use crate::processes::list;
use crate::show::failure::{Failure, cause};
use action::Action;
use clap::{Arg, ArgAction, ArgMatches, Command};
use model::{Model, Sort};
use panel::Panel;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{
    self, DisableMouseCapture, EnableMouseCapture, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton,
    MouseEvent, MouseEventKind,
};
use ratatui::crossterm::execute;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::mpsc::Receiver;
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
c shows service and hard limit where the screen has no room for all columns,
D, R, F, O and L ask doctor, rescue and control about it, ? shows all keys,
q leaves. A click chooses a process, or sorts by a heading.";

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

/// Has the terminal tell of the mouse until it is dropped.
struct Mouse;

impl Mouse {
    fn capture() -> io::Result<Mouse> {
        execute!(io::stdout(), EnableMouseCapture)?;
        Ok(Mouse)
    }
}

impl Drop for Mouse {
    fn drop(&mut self) {
        let _ = execute!(io::stdout(), DisableMouseCapture);
    }
}

/// While a command runs, its answer is looked for so often.
const ANSWER: Duration = Duration::from_millis(50);

fn show(terminal: &mut DefaultTerminal, base: &Path, interval: Duration, all: bool) -> io::Result<()> {
    let _mouse = Mouse::capture()?;
    let mut model = Model::default();
    let mut next = Instant::now();
    let mut answer: Option<Receiver<Panel>> = None;
    loop {
        if Instant::now() >= next {
            // If the folder is missing now, the list is empty until it is back.
            let others = if all { list::all() } else { Vec::new() };
            let (pages, outside) = ps::guarded(base).unwrap_or_default();
            model.update(&pages, &outside, &others);
            next = Instant::now() + interval;
        }
        if let Some(panel) = answer.as_ref().and_then(|answer| answer.try_recv().ok()) {
            (model.panel, model.running, answer) = (Some(panel), None, None);
        }
        if let Some((action, pid)) = model.take_todo() {
            (model.running, answer) = (Some((action, pid)), Some(action::start(action, pid, base)));
        }
        terminal.draw(|frame| view::draw(frame, &mut model))?;
        let mut wait = next.saturating_duration_since(Instant::now());
        if answer.is_some() {
            wait = wait.min(ANSWER);
        }
        if event::poll(wait)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    if !obey(&mut model, key) {
                        return Ok(());
                    }
                }
                Event::Mouse(mouse) => follow(&mut model, mouse),
                _ => continue,
            }
            // Reads the events of the process that is selected now.
            if model.detail {
                next = Instant::now();
            }
        }
    }
}

/// Does what the mouse asks for.
fn follow(model: &mut Model, mouse: MouseEvent) {
    let step = match mouse.kind {
        MouseEventKind::ScrollUp => -3,
        MouseEventKind::ScrollDown => 3,
        MouseEventKind::Down(MouseButton::Left) if model.panel.is_none() => {
            return model.click(mouse.column, mouse.row);
        }
        _ => return,
    };
    match &mut model.panel {
        Some(panel) => panel.scroll(step),
        None => model.step(step),
    }
}

/// How many lines a key moves by; None: it is for something else.
fn movement(code: KeyCode) -> Option<isize> {
    Some(match code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -10,
        KeyCode::PageDown => 10,
        KeyCode::Home => isize::MIN,
        KeyCode::End => isize::MAX,
        _ => return None,
    })
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
    if model.asked.is_some() {
        model.answer(matches!(key.code, KeyCode::Char('y' | 'Y')));
        return true;
    }
    if let Some(panel) = &mut model.panel {
        match (movement(key.code), key.code) {
            (Some(by), _) => panel.scroll(by),
            (None, KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?')) => model.panel = None,
            _ => {}
        }
        return true;
    }
    if let Some(by) = movement(key.code) {
        model.step(by);
        return true;
    }
    match key.code {
        KeyCode::Char('q') => return false,
        KeyCode::Char('?') => model.panel = Some(Panel::help()),
        KeyCode::Esc if model.detail => model.detail = false,
        KeyCode::Esc if !model.filter.is_empty() => model.filter.clear(),
        KeyCode::Esc => return false,
        KeyCode::Enter => model.detail = !model.detail,
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('r') => model.reversed = !model.reversed,
        KeyCode::Char('/') => model.typing = true,
        KeyCode::Char('c') => model.limits = !model.limits,
        KeyCode::Char(c) => match (Sort::by_key(c), Action::by_key(c)) {
            (Some(sort), _) => model.sort = sort,
            (None, Some(action)) => model.ask(action),
            (None, None) => {}
        },
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
        press(&mut model, KeyCode::Char('c'));
        assert!(model.limits);
        press(&mut model, KeyCode::Char('c'));
        assert!(!model.limits);
        // Esc goes back step by step.
        assert!(press(&mut model, KeyCode::Esc) && !model.detail);
        assert!(press(&mut model, KeyCode::Esc) && model.filter.is_empty());
        assert!(!press(&mut model, KeyCode::Esc));
    }

    #[test]
    fn an_action_that_changes_something_is_asked_about() {
        let mut model = Model::example(&[("a", 1, 30, 0), ("b", 2, 20, 0)]);
        press(&mut model, KeyCode::Down);
        press(&mut model, KeyCode::Char('D'));
        assert_eq!(model.take_todo(), Some((Action::Doctor, 2)), "doctor only looks");
        assert_eq!(model.take_todo(), None, "once");
        for (answer, done) in [('n', None), ('y', Some((Action::Rescue, 2)))] {
            press(&mut model, KeyCode::Char('R'));
            assert_eq!(model.take_todo(), None);
            press(&mut model, KeyCode::Char(answer));
            assert_eq!((model.take_todo(), model.asked), (done, None));
        }
        model.running = Some((Action::Doctor, 2));
        press(&mut model, KeyCode::Char('D'));
        assert_eq!(model.take_todo(), None, "one at a time");
        let mut empty = Model::default();
        press(&mut empty, KeyCode::Char('D'));
        assert_eq!(empty.take_todo(), None);
    }

    #[test]
    fn the_help_opens_scrolls_and_closes() {
        let mut model = Model::example(&[("a", 1, 30, 0)]);
        press(&mut model, KeyCode::Char('?'));
        let first = model.panel.clone();
        assert_eq!(first, Some(Panel::help()));
        press(&mut model, KeyCode::Down);
        assert_ne!(model.panel, first);
        assert!(press(&mut model, KeyCode::Char('D')) && model.take_todo().is_none());
        assert!(press(&mut model, KeyCode::Char('q')) && model.panel.is_none());
    }
}
