//! What can be done with the selected process: another command is run for it, and its words are shown.
#![forbid(unsafe_code)]

use super::panel::Panel;
use crate::show::output::safe;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A command for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `tideover doctor PID`
    Doctor,
    /// `tideover rescue PID`
    Rescue,
    /// `tideover control PID off`
    Off,
    /// `tideover control PID on`
    On,
    /// `tideover control PID reload`
    Reload,
}

/// Each with its key, the words before and after the process id, and the question that is asked first; empty: none is.
const ACTIONS: [(Action, char, &str, &str, &str); 5] = [
    (Action::Doctor, 'D', "doctor", "", ""),
    (Action::Rescue, 'R', "rescue", "", "raise the soft limit of"),
    (Action::Off, 'F', "control", "off", "have the library pass everything through in"),
    (Action::On, 'O', "control", "on", ""),
    (Action::Reload, 'L', "control", "reload", ""),
];

impl Action {
    /// The one of a key.
    pub fn by_key(key: char) -> Option<Action> {
        ACTIONS.iter().find(|row| row.1 == key).map(|row| row.0)
    }

    /// What is asked before it is done; None: nothing.
    pub fn question(self) -> Option<&'static str> {
        Some(self.row().4).filter(|question| !question.is_empty())
    }

    /// The words of its command line, without the name of the command.
    pub fn words(self, pid: u32) -> Vec<String> {
        let (_, _, command, more, _) = self.row();
        let words = [command.to_string(), pid.to_string(), more.to_string()];
        words.into_iter().filter(|word| !word.is_empty()).collect()
    }

    fn row(self) -> &'static (Action, char, &'static str, &'static str, &'static str) {
        ACTIONS.iter().find(|row| row.0 == self).unwrap_or(&ACTIONS[0])
    }
}

/// Runs a command in the background. The channel gives what it has said, when it has ended.
pub fn start(action: Action, pid: u32, pages: &Path) -> Receiver<Panel> {
    let (done, receiver) = channel();
    let words = action.words(pid);
    let title = format!("tideover {}", words.join(" "));
    let itself = std::env::current_exe().unwrap_or_else(|_| "tideover".into());
    let mut command = Command::new(itself);
    command.args(words).env("TIDEOVER_PAGE_DIR", pages).stdin(Stdio::null());
    std::thread::spawn(move || {
        let text = match command.output() {
            Ok(output) => [output.stdout, output.stderr].concat(),
            Err(error) => format!("it can't be run: {error}").into_bytes(),
        };
        // Nobody waits for it any more if the screen is gone.
        let _ = done.send(Panel::new(title, text.split(|&byte| byte == b'\n').map(safe)));
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_a_command_line_that_there_is() {
        for (action, key, ..) in ACTIONS {
            assert_eq!(Action::by_key(key), Some(action));
            let words = [vec!["tideover".to_string()], action.words(7)].concat();
            assert!(crate::commands::command().try_get_matches_from(&words).is_ok(), "{words:?}");
        }
        assert!(Action::Off.question().is_some() && Action::Doctor.question().is_none());
    }
}
