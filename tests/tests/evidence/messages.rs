//! What the library says, when, and that it arrives.

use tideover_tests::{Disk, Kind, Outcome, Run, fixture, needs};

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
