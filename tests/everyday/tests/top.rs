//! `tideover top` in a real terminal: tmux shows it, types, and tells what is on the screen.

use std::fs;
use std::path::Path;

use tideover_tests::terminal::Terminal;
use tideover_tests::{Run, Running, Scratch, fixture, tideover};

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
    assert_eq!(lines[23], "q leave  ? help  s sort  r reverse  / filter  Enter detail  c columns");
    assert!(lines.iter().all(|line| line.chars().count() <= 80));

    top.press(&["c"]);
    let screen = top.wait_until("service and hard limit", |lines| lines[1].contains("SERVICE"));
    let lines: Vec<&str> = screen.lines().map(str::trim_end).collect();
    assert!(lines[1].ends_with("   USED    SOFT    HARD LOGS"), "{screen}");
    assert!(lines[2].ends_with("########## 100%      64      64      64 ok"), "{screen}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80));
    top.press(&["c"]);
    top.wait_until("the counts again", |lines| lines[1].ends_with("EXHAUST RECOVER GAVE UP LOGS"));

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

/// Two processes in `top`, the one with more open descriptors first; `pages` is their folder.
fn two(pages: &Scratch) -> (Running, Running, Terminal) {
    let calm_path = pages.join("calm");
    fs::copy(fixture("ebb"), &calm_path).unwrap();
    let mut ebb = Run::new(fixture("ebb")).soft(64).hard(128).page_dir(pages.path()).preload(true).start();
    ebb.say("fill");
    ebb.wait_for("done");
    let calm = guarded(pages, &calm_path, &["drain"]);
    let folder = pages.path().to_str().unwrap().to_string();
    let command = tideover();
    let top = Terminal::run(&[command.to_str().unwrap(), "top", "--interval", "100ms", "--page-dir", &folder]);
    top.wait_until("both", |lines| lines.first().is_some_and(|line| line.contains("2 of 2 guarded")));
    (ebb, calm, top)
}

#[test]
fn commands_are_run_for_the_process_that_is_chosen() {
    let pages = Scratch::new();
    let (ebb, calm, top) = two(&pages);
    let has = |lines: &[&str], text: &str| lines.iter().any(|line| line.contains(text));
    top.press(&["?"]);
    top.wait_until("the help", |lines| has(lines, " keys (Esc closes) ") && has(lines, "rescue: raise its soft limit"));
    top.press(&["Escape"]);
    top.wait_until("the list", |lines| lines[2].contains(" ebb ") && lines[3].contains(" calm "));
    top.press(&["Down", "D"]);
    let title = format!(" tideover doctor {} (Esc closes) ", calm.pid());
    top.wait_until("what doctor says", |lines| lines[1].contains(&title) && has(lines, "soft limit"));
    top.press(&["q", "Up", "O"]);
    top.wait_until("what control says", |lines| has(lines, &format!("ebb (process {}) was told on", ebb.pid())));
    top.press(&["Escape"]);
    top.wait_until("the list again", |lines| lines[2].contains(" ebb "));
    top.press(&["Down", "R"]);
    let question = format!("raise the soft limit of calm (process {})? y: yes", calm.pid());
    top.wait_until("the question", |lines| lines[23] == question);
    top.press(&["n"]);
    top.wait_until("not done", |lines| lines[23].starts_with("q leave"));
    top.press(&["R", "y"]);
    top.wait_until("what rescue says", |lines| {
        lines[1].contains(&format!("tideover rescue {}", calm.pid())) && has(lines, "soft limit")
    });
    top.press(&["q", "q"]);
    top.wait_until("the terminal as it was", |lines| lines.first() == Some(&"ended with 0"));
    ebb.finish().passes();
    calm.finish().passes();
}

#[test]
fn the_mouse_chooses_and_sorts() {
    let pages = Scratch::new();
    let (ebb, calm, top) = two(&pages);
    // Button 0 pressed in this column and line, from 1, as xterm tells it (SGR 1006).
    let click = |column: u16, line: u16| top.type_text(&format!("\x1b[<0;{column};{line}M\x1b[<0;{column};{line}m"));
    click(10, 2);
    top.wait_until("by name", |lines| lines[0].ends_with("by name") && lines[2].contains(" calm "));
    click(10, 2);
    top.wait_until("the other way round", |lines| lines[0].ends_with("by name, reversed"));
    click(5, 4);
    top.press(&["Enter"]);
    let heading = format!(" calm (process {})", calm.pid());
    top.wait_until("the detail", |lines| lines.iter().any(|line| line.contains(&heading)));
    // The wheel.
    top.type_text("\x1b[<64;5;4M");
    let heading = format!(" ebb (process {})", ebb.pid());
    top.wait_until("the first", |lines| lines.iter().any(|line| line.contains(&heading)));
    top.press(&["q"]);
    top.wait_until("the terminal as it was", |lines| lines.first() == Some(&"ended with 0"));
    // It tells of the mouse no more.
    assert_eq!(top.tmux(&["display-message", "-p", "#{mouse_any_flag}#{mouse_button_flag}"]).trim(), "00");
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
