//! A terminal in which a program is run: tmux shows it, types, and tells what is on the screen.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Scratch, program};

/// A tmux server of its own, ended when dropped.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
    _home: Scratch,
}

impl Terminal {
    /// Of 80 columns and 24 lines.
    ///
    /// # Panics
    /// If tmux can't be run.
    pub fn run(words: &[&str]) -> Terminal {
        let home = Scratch::new();
        let terminal = Terminal { socket: home.join("tmux"), _home: home };
        let mut all = vec!["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"];
        // What is left on the screen when it has ended.
        let command = format!("{}; echo ended with $?; sleep 1000", words.join(" "));
        all.push(&command);
        terminal.tmux(&all);
        terminal
    }

    /// Runs a command of tmux on it, and returns what that prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = Command::new(program("tmux", "tmux"));
        tmux.arg("-S").arg(&self.socket).args(words).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = tmux.output().expect("tmux runs");
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by the names that tmux has for them.
    pub fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a text as it is.
    pub fn type_text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    /// The screen, once it is as it should be.
    ///
    /// # Panics
    /// If it is not so within 30 s.
    pub fn wait_until(&self, what: &str, is: impl Fn(&[&str]) -> bool) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.tmux(&["capture-pane", "-p"]);
            if is(&screen.lines().collect::<Vec<_>>()) {
                return screen;
            }
            assert!(Instant::now() < end, "{what}: never on the screen:\n{screen}");
            std::thread::sleep(Duration::from_millis(30));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
    }
}
