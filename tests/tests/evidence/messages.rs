//! What the library says, when, and that it arrives.

use std::fs;

use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, fixture, needs};

fn usage(words: &[&str], limit: u64) -> Run {
    Run::new(fixture("evidence_usage")).args(words).limit(limit)
}

/// The number of descriptors in the first warning, or critical line.
fn announced(outcome: &Outcome, level: &str) -> Option<u64> {
    let start = outcome.ours().into_iter().find_map(|line| line.split_once(level))?.1;
    start.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// With three descriptors before it begins the program has `opened` + 3 of `limit`.
fn warned(value: &str, more: &[(&str, &str)], opened: u64, limit: u64) -> Option<u64> {
    let run = usage(&[&opened.to_string()], limit).env("TIDEOVER_FD_WARN", value).preload(true);
    let run = more.iter().fold(run, |run, (name, value)| run.env(name, value));
    announced(run.output().passes(), "warning")
}

#[test]
fn the_warning_comes_at_its_value_and_not_before() {
    for (value, limit, at) in
        [("0.5", 100, 50), ("0.3", 200, 60), ("0.7", 64, 45), ("0.85", 300, 255), ("0.1", 100, 10)]
    {
        let critical = [("TIDEOVER_FD_CRITICAL", "0.95")];
        assert_eq!(warned(value, &critical, at - 3 - 1, limit), None, "{value} of {limit}: one fewer");
        assert_eq!(warned(value, &critical, at - 3, limit), Some(at), "{value} of {limit}");
    }
}

#[test]
fn a_low_warning_comes_at_its_value_too() {
    for (value, limit, at) in [("0.05", 100, 5), ("0.1", 64, 7)] {
        assert_eq!(warned(value, &[], at - 3 - 1, limit), None, "{value} of {limit}: one fewer");
        assert_eq!(warned(value, &[], at - 3, limit), Some(at), "{value} of {limit}");
    }
}

#[test]
fn a_warning_above_nine_tenths_comes_at_its_value_too() {
    let critical = [("TIDEOVER_FD_CRITICAL", "0.99")];
    assert_eq!(warned("0.95", &critical, 91, 200), None);
    assert_eq!(warned("0.95", &critical, 187, 200), Some(190));
}

#[test]
fn a_warning_comes_at_its_value_where_a_high_number_is_taken() {
    let run = |opened: &str| usage(&[opened, "high"], 300).env("TIDEOVER_FD_WARN", "0.5").preload(true).output();
    assert_eq!(announced(run("145").passes(), "warning"), None);
    assert_eq!(announced(run("146").passes(), "warning"), Some(150));
}

#[test]
fn a_warning_comes_for_descriptors_of_every_kind() {
    let run = usage(&["40", "pipes"], 100).env("TIDEOVER_FD_WARN", "0.5").preload(true);
    let at = announced(run.output().passes(), "warning");
    assert!(at.is_some_and(|at| (50..=51).contains(&at)), "{at:?}");
}

#[needs(mounts)]
#[test]
fn a_log_with_the_number_of_a_closed_folder_is_a_log() {
    for way in ["opendir", "fdopendir", "close"] {
        let outcome = |preload: bool| {
            let disk = Disk::new(Kind::Tmpfs);
            let run = Run::new(fixture("evidence_directories")).arg(disk.log()).arg(disk.join("filler")).arg(way);
            run.preload(preload).output()
        };
        outcome(false).passes().says("same number, 50 failed");
        outcome(true).passes().says("same number, 0 failed");
    }
}

/// A program whose descriptors are used up, and the text of its TIDEOVER_LOG_FILE afterwards.
fn log_of(how: &str, preload: bool, change: &dyn Fn(Run) -> Run) -> (Outcome, String) {
    let scratch = Scratch::new();
    let log = scratch.join("tideover.log");
    fs::write(&log, "").expect("a file");
    let run = Run::new(fixture("evidence_messages")).arg(how).arg(&log).limit(64).env("TIDEOVER_LOG_FILE", &log);
    let outcome = change(run.env("TIDEOVER_FD_WARN", "0").env("TIDEOVER_FD_CRITICAL", "0")).preload(preload).output();
    let text = fs::read_to_string(&log).unwrap_or_default();
    (outcome, text)
}

const NO_DESCRIPTOR: &str = "open: no descriptor left (EMFILE)";

/// Found by reading: the message about EMFILE comes when no descriptor is left to open the file with.
#[test]
fn the_log_file_has_the_message_once_a_descriptor_is_closed() {
    let (plain, _) = log_of("close", false, &|run| run);
    plain.passes().says("opened 61, failed: EMFILE").says("lines after a close: 0");
    let (outcome, text) = log_of("close", true, &|run| run);
    // It has all its descriptors: none is kept for the file.
    outcome.passes().says("opened 61, failed: EMFILE").says("lines after a close: 1");
    assert!(text.contains(NO_DESCRIPTOR) && text.lines().count() == 1, "{text:?} {outcome}");
}

#[test]
fn the_log_file_has_the_message_when_the_program_ends_at_its_limit() {
    for how in ["exit", "_exit", "exec"] {
        let (outcome, text) = log_of(how, true, &|run| run.hard(100).env("TIDEOVER_RAISE", "off"));
        outcome.passes().says("opened 61, failed: EMFILE");
        assert!(text.contains(NO_DESCRIPTOR) && text.lines().count() == 1, "{how}: {text:?} {outcome}");
    }
}

#[test]
fn what_waits_for_a_descriptor_is_said_once_by_the_process_whose_it_is() {
    let (outcome, text) = log_of("fork", true, &|run| run);
    outcome.passes();
    assert_eq!(text.matches(NO_DESCRIPTOR).count(), 1, "{text:?} {outcome}");
}

#[test]
fn what_waits_for_a_descriptor_is_on_stderr_meanwhile() {
    let (outcome, _) = log_of("exit", true, &|run| run);
    assert!(outcome.ours().iter().any(|line| line.contains(NO_DESCRIPTOR)), "{outcome}");
}
