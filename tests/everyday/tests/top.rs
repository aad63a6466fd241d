//! `tideover top` in a real terminal: tmux shows it, types, and tells what is on the screen.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tideover_tests::{Run, Running, Scratch, fixture, program, tideover};

/// A tmux server of its own, ended when dropped.
struct Terminal {
    socket: std::path::PathBuf,
    _home: Scratch,
}

impl Terminal {
    /// Of 80 columns and 24 lines.
    fn run(words: &[&str]) -> Terminal {
        let home = Scratch::new();
        let terminal = Terminal { socket: home.join("tmux"), _home: home };
        let mut all = vec!["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"];
        // What is left on the screen when it has ended.
        let command = format!("{}; echo ended with $?; sleep 1000", words.join(" "));
        all.push(&command);
        terminal.tmux(&all);
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let mut tmux = Command::new(program("tmux", "tmux"));
        tmux.arg("-S").arg(&self.socket).args(words).env("LC_ALL", "C.UTF-8").env_remove("TMUX");
        let output = tmux.output().expect("tmux runs");
        assert!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// The screen, once it is as it should be.
    fn wait_until(&self, what: &str, is: impl Fn(&[&str]) -> bool) -> String {
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

fn guarded(pages: &Scratch, path: &Path, words: &[&str]) -> Running {
    let mut running = Run::new(path).limit(64).page_dir(pages.path()).preload(true).start();
    for word in words {
        running.say(word);
        running.wait_for("done");
    }
    running
}

#[test]
fn it_lists_sorts_filters_and_shows_what_happened() {
    let pages = Scratch::new();
    let calm_path = pages.join("calm");
    fs::copy(fixture("ebb"), &calm_path).unwrap();
    let mut ebb = guarded(&pages, &fixture("ebb"), &["fill"]);
    let calm = guarded(&pages, &calm_path, &["drain"]);
    let folder = pages.path().to_str().unwrap().to_string();
    let command = tideover();
    let top = Terminal::run(&[command.to_str().unwrap(), "top", "--interval", "100ms", "--page-dir", &folder]);
    let line = |running: &Running, rest: &str| format!("{:>7} {rest}", running.pid());

    // The fuller first: the screen as it should be, line by line.
    let screen = top.wait_until("both", |lines| lines.first().is_some_and(|line| line.contains("2 of 2 guarded")));
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    assert_eq!(lines[0], "tideover 2 of 2 guarded, nearest 100 %, gave up 1, full disks 0, by usage");
    assert_eq!(lines[1], "    PID PROGRAM   USE                USED    SOFT EXHAUST RECOVER GAVE UP LOGS");
    assert_eq!(lines[2], line(&ebb, "ebb       ########## 100%      64      64       1       0       1 ok"));
    assert_eq!(lines[3], line(&calm, "calm      ----------   5%       3      64       0       0       0 ok"));
    assert_eq!(lines[23], "q leave  s sort  r reverse  / filter  Enter detail  arrows choose");
    assert!(lines.iter().all(|line| line.chars().count() <= 80));

    top.press(&["r"]);
    top.wait_until("the other way round", |lines| lines[2].contains(" calm ") && lines[3].contains(" ebb "));
    top.press(&["r", "n"]);
    top.wait_until("by name", |lines| lines[0].ends_with("by name") && lines[2].contains(" calm "));
    top.press(&["/", "e", "b", "Enter"]);
    top.wait_until("filtered", |lines| {
        lines[0].contains("1 of 2") && lines[2].contains(" ebb ") && lines[3].is_empty()
    });

    top.press(&["Enter"]);
    let heading = format!(" ebb (process {}): 64 of 64, hard limit 64 ", ebb.pid());
    top.wait_until("the detail", |lines| {
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        has(&heading) && has("exhausted open EMFILE hopeless") && has("\u{2588}")
    });
    // It is live.
    ebb.say("drain");
    top.wait_until("recovered", |lines| lines[2].contains("----------   5%       3      64"));

    top.press(&["q"]);
    top.wait_until("the terminal as it was", |lines| lines.first() == Some(&"ended with 0"));
    ebb.finish().passes();
    calm.finish().passes();
}

#[test]
fn without_a_terminal_it_prints_once() {
    let pages = Scratch::new();
    let ebb = guarded(&pages, &fixture("ebb"), &["fill"]);
    let of = |command: &str| {
        let run = Run::new(tideover()).args([command, "--page-dir"]).arg(pages.path());
        run.output().passes().stdout.clone()
    };
    assert_eq!(of("top"), of("ps"));
    assert!(of("top").contains("ebb"), "{}", of("top"));
    ebb.finish();
}

#[test]
fn a_folder_that_is_not_there_is_said_before_the_screen_is_taken() {
    let command = tideover();
    let top = Terminal::run(&[command.to_str().unwrap(), "top", "--page-dir", "/nonexistent"]);
    let screen = top.wait_until("a message", |lines| lines.iter().any(|line| line.contains("ended with 1")));
    assert!(screen.contains("cannot look for pages in /nonexistent"), "{screen}");
}
