//! The completions that are installed for bash, zsh and fish, in real shells in a real terminal: the Tab key after `tideover stat`
//! offers the processes that are guarded.

use std::fs;
use std::path::Path;

use tideover_tests::terminal::Terminal;
use tideover_tests::{Run, Running, Scratch, fixture, program, tideover};

/// A guarded process with a page in this folder.
fn guarded(pages: &Scratch) -> Running {
    let mut running = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(true).start();
    running.say("fill");
    running.wait_for("done");
    running
}

/// The completions, as scripts/install has them made.
fn scripts() -> Scratch {
    let folder = Scratch::new();
    Run::new(tideover()).args(["generate", "completions"]).arg(folder.path()).output().passes();
    folder
}

/// A shell that was told where command and pages are; `prepare` loads the completions.
fn shell(words: &[&str], pages: &Path, prepare: &str) -> Terminal {
    let folder = tideover().parent().expect("it is in a folder").display().to_string();
    let path = format!("PATH={folder}:{}", std::env::var("PATH").unwrap_or_default());
    let pages = format!("TIDEOVER_PAGE_DIR={}", pages.display());
    let terminal = Terminal::run(&[&["env", &path, &pages, "PS1=ready:", "HISTFILE="][..], words].concat());
    terminal.type_text(prepare);
    terminal.press(&["Enter"]);
    terminal.type_text("echo pre''pared");
    terminal.press(&["Enter"]);
    terminal.wait_until("the shell", |lines| lines.contains(&"prepared"));
    terminal.press(&["C-l"]);
    terminal
}

/// After `stat` one process alone is offered, so Tab completes it; after `doctor` those that begin so.
fn completes(terminal: &Terminal, guarded: &Running) {
    let pid = guarded.pid().to_string();
    let ends = |text: String| move |lines: &[&str]| lines.iter().any(|line| line.trim_end().ends_with(&text));
    for command in ["stat", "config", "control", "events"] {
        terminal.type_text(&format!("tideover {command} "));
        terminal.press(&["Tab"]);
        terminal.wait_until(command, ends(format!("tideover {command} {pid}")));
        terminal.press(&["C-u", "C-l"]);
    }
    // Of all processes that the machine has, the one whose whole number is there.
    for command in ["doctor", "rescue"] {
        terminal.type_text(&format!("tideover {command} {pid}"));
        terminal.press(&["Tab"]);
        terminal.type_text("END");
        let whole = format!("tideover {command} {pid} END");
        terminal.wait_until(command, |lines| lines.iter().any(|line| line.contains(&whole)));
        terminal.press(&["C-u", "C-l"]);
    }
    // Flags are still completed.
    terminal.type_text("tideover stat --js");
    terminal.press(&["Tab"]);
    terminal.wait_until("flags", ends("tideover stat --json".to_string()));
}

#[test]
fn bash_completes_process_ids() {
    let (pages, scripts) = (Scratch::new(), scripts());
    let guarded = guarded(&pages);
    let bash = program("bash", "bash");
    let script = scripts.join("tideover.bash");
    let words = [bash.to_str().unwrap(), "--norc", "--noprofile"];
    completes(&shell(&words, pages.path(), &format!(". {}", script.display())), &guarded);
    guarded.finish().passes();
}

#[test]
fn zsh_completes_process_ids() {
    let (pages, scripts) = (Scratch::new(), scripts());
    let guarded = guarded(&pages);
    let zsh = program("zsh", "zsh");
    let folder = scripts.path().display();
    let prepare = format!("fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D");
    completes(&shell(&[zsh.to_str().unwrap(), "-f"], pages.path(), &prepare), &guarded);
    guarded.finish().passes();
}

#[test]
fn fish_completes_process_ids() {
    let (pages, scripts) = (Scratch::new(), scripts());
    let guarded = guarded(&pages);
    let fish = program("fish", "fish");
    let home = Scratch::new();
    let script = scripts.join("tideover.fish");
    assert!(fs::metadata(&script).is_ok());
    let home = format!("HOME={}", home.path().display());
    let words = ["env", &home, fish.to_str().unwrap(), "--no-config"];
    completes(&shell(&words, pages.path(), &format!("source {}", script.display())), &guarded);
    guarded.finish().passes();
}
