//! A disk that is full for a while, and a program that logs numbered lines before, meanwhile and after.

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::numbered::{Account, line};
use crate::{Disk, Kind, Outcome, Page, Run, Running, Scratch, tideover};

/// How long after space is free the first line is written: it must already reach the file.
pub const BACK: Duration = Duration::from_millis(150);

/// Something that logs lines by their number.
pub trait Logger {
    /// Has these lines logged; returns when that was tried, false if the program is gone.
    fn log(&mut self, numbers: RangeInclusive<u32>) -> bool;
    /// The process that writes the log.
    fn writer(&self) -> &Running;
    /// Ends the program.
    fn end(self) -> Outcome;
}

/// A program that reads what to do from its standard input: a line to be logged, or `:PATH`, a file to be made once everything
/// before it has been dealt with.
#[derive(Debug)]
pub struct Fed {
    running: Running,
    marks: Scratch,
    made: u32,
    line: fn(u32) -> String,
    mark: fn(&Path) -> String,
}

impl Fed {
    /// Starts it.
    pub fn start(run: &Run) -> Fed {
        Fed::speaking(run, line, |path| format!(":{}", path.display()))
    }

    /// Starts one with its own ways to have a line logged and a file made.
    pub fn speaking(run: &Run, line: fn(u32) -> String, mark: fn(&Path) -> String) -> Fed {
        Fed { running: run.start(), marks: Scratch::new(), made: 0, line, mark }
    }

    /// Gives it a line; false if it is gone.
    pub fn say(&mut self, text: &str) -> bool {
        self.running.offer(text)
    }

    /// Waits until it has dealt with everything so far; false if it is gone.
    ///
    /// # Panics
    /// If it takes more than 20 s.
    pub fn done(&mut self) -> bool {
        self.made += 1;
        let path = self.marks.join(&self.made.to_string());
        let text = (self.mark)(&path);
        self.running.offer(&text) && self.appears(&path)
    }

    fn appears(&self, path: &Path) -> bool {
        let end = Instant::now() + Duration::from_secs(20);
        while !path.exists() {
            if self.running.ended() {
                return path.exists();
            }
            assert!(Instant::now() < end, "it does not go on: {:?}", self.running);
            thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Logger for Fed {
    fn log(&mut self, numbers: RangeInclusive<u32>) -> bool {
        let line = self.line;
        numbers.into_iter().all(|n| self.running.offer(&line(n))) && self.done()
    }

    fn writer(&self) -> &Running {
        &self.running
    }

    fn end(self) -> Outcome {
        self.running.finish()
    }
}

/// What is left after an outage.
#[derive(Debug)]
pub struct Told {
    /// How the program ended.
    pub outcome: Outcome,
    /// What is in the log, rotated siblings before it.
    pub file: String,
    /// The page, just before the end; None if it has none.
    pub page: Option<Page>,
    /// How many lines were to be logged.
    pub lines: u32,
}

impl Told {
    /// Where the lines have come to, with this as what came out elsewhere.
    pub fn account(&self, elsewhere: &str) -> Account {
        Account::new(&self.file, elsewhere)
    }

    /// Where the lines have come to, with standard output as the other place.
    pub fn on_stdout(&self) -> Account {
        self.account(&self.outcome.stdout)
    }

    /// Where the lines have come to, with what of standard error is not the library's as the other place.
    pub fn on_stderr(&self) -> Account {
        self.account(&self.outcome.theirs().iter().fold(String::new(), |all, l| all + l + "\n"))
    }

    /// A counter of the page's section on logs.
    ///
    /// # Panics
    /// If there is no page.
    pub fn logs(&self, name: &str) -> u64 {
        self.page.as_ref().expect("a preloaded program has a page").counter("logs", name)
    }

    /// All numbers.
    pub fn all(&self) -> RangeInclusive<u32> {
        1..=self.lines
    }
}

/// The content of a log with its rotated siblings `NAME.1` ..., oldest first; bytes that are not UTF-8 are replaced.
pub fn log_with_siblings(log: &Path) -> String {
    let folder = log.parent().expect("a log is in a folder");
    let name = log.file_name().and_then(|n| n.to_str()).expect("UTF-8");
    let mut all: Vec<(u32, PathBuf)> = fs::read_dir(folder)
        .expect("the folder is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| {
            let suffix = file.strip_prefix(name)?;
            let age = if suffix.is_empty() { 0 } else { suffix.strip_prefix('.')?.parse().ok()? };
            Some((age, folder.join(&file)))
        })
        .collect();
    all.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    // A line that was cut in one of them does not go on in the next.
    all.iter().map(|(_, path)| ended(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default()))).collect()
}

/// `tideover clean` in a folder of pages: what it printed.
///
/// # Panics
/// If it fails.
pub fn clean(pages: &Path) -> String {
    let output = Command::new(tideover()).args(["clean", "--page-dir"]).arg(pages).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A text whose last line is ended.
pub fn ended(text: &str) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{newline}")
}

/// `each` lines, then the disk is filled, `each` lines, then it is freed, [`BACK`] passes, and `each` lines.
pub fn outage<L: Logger>(disk: &Disk, log: &Path, each: u32, mut logger: L) -> Told {
    let phase = |logger: &mut L, k: u32| logger.log(k * each + 1..=(k + 1) * each);
    phase(&mut logger, 0);
    disk.fill();
    phase(&mut logger, 1);
    disk.free();
    thread::sleep(BACK);
    phase(&mut logger, 2);
    let page = Page::read(logger.writer().page_dir(), logger.writer().pid());
    let outcome = logger.end();
    Told { outcome, file: log_with_siblings(log), page, lines: 3 * each }
}

/// A program through an outage on a disk of its own: without the library, with it. `start` gets the log's path and whether to
/// preload. Asserts that the plain program loses lines, and prints how many of each.
pub fn compared<L: Logger>(name: &str, kind: Kind, each: u32, start: impl Fn(&Disk, &Path, bool) -> L) -> (Told, Told) {
    let told = |preload: bool| {
        let disk = Disk::new(kind);
        fs::set_permissions(disk.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("it is ours");
        let log = disk.join("app.log");
        fs::write(&log, "").expect("there is space");
        fs::set_permissions(&log, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("it is ours");
        let logger = start(&disk, &log, preload);
        outage(&disk, &log, each, logger)
    };
    let plain = told(false);
    let lost = plain.on_stdout().lost(plain.all()).len();
    let end = |told: &Told| told.outcome.code().map_or("signal".to_string(), |code| format!("exit {code}"));
    println!("{name:<34} {kind:<7?} plain: lost {lost:3} of {}, {}", plain.lines, end(&plain));
    assert!(lost > 0, "it should have lost lines: {}\n{}", plain.outcome, plain.on_stdout());
    let preloaded = told(true);
    println!("{name:<34} {kind:<7?} preloaded: {}", end(&preloaded));
    (plain, preloaded)
}

/// The whole of what is promised for lines given to the program as they are to stand in the log, with `elsewhere` as the other
/// place: none lost, none doubled, in order, byte for byte, back in the file with the first line after the outage, and the
/// library's line in the file tells how many went elsewhere.
#[track_caller]
pub fn nothing_lost(told: &Told, account: &Account) {
    nothing_lost_in_any_form(told, account);
    account.byte_for_byte(told.all());
}

/// The same for programs that put something of their own around each line.
#[track_caller]
pub fn nothing_lost_in_any_form(told: &Told, account: &Account) {
    println!("{:<42} {}", "", account.places());
    assert!(!told.outcome.timed_out, "{}", told.outcome);
    account.complete(told.all(), 1).in_order();
    assert!(account.is_put_back(), "lines that went elsewhere are put back\n{account}");
    account.file_is_whole(told.all());
    let each = told.lines / 3;
    account.back_in_the_file(2 * each + 1..=told.lines);
    assert_eq!(account.markers.len(), 1, "one line of ours per outage: {account}");
}
