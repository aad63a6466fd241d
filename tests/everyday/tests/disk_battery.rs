//! stdio and write(2) in every way that C has, with the library and without: no difference, whether there is space or not.

use std::path::Path;
use std::time::Duration;

use tideover_tests::{Both, Disk, Kind, Outcome, Run, Scratch, fixture, needs};

fn battery(folder: &Path, suffix: &str, prepare: &dyn Fn(Run) -> Run, preload: bool) -> Outcome {
    let run = Run::new(fixture("disk_battery")).arg(folder).arg(suffix).timeout(Duration::from_secs(60));
    prepare(run).preload(preload).output()
}

/// Compares result line by result line; the library has nothing to say.
#[track_caller]
fn no_difference(name: &str, both: &Both, may_speak: bool) {
    let (plain, preloaded) = (both.plain.theirs(), both.preloaded.theirs());
    println!("battery {name}: {} results", plain.len());
    let differing: Vec<String> = plain
        .iter()
        .zip(&preloaded)
        .filter(|(a, b)| a != b)
        .map(|(a, b)| format!("  plain {a}\n  preloaded {b}"))
        .collect();
    assert!(differing.is_empty(), "{} differences:\n{}", differing.len(), differing.join("\n"));
    let last = |lines: &[&str]| lines.last().map(|l| l.to_string());
    assert_eq!(plain.len(), preloaded.len(), "one ends early: {:?}, {:?}", last(&plain), last(&preloaded));
    assert!(plain.len() > 400, "the fixture tells of everything: {}", both.plain);
    both.same_but_for_messages();
    both.plain.passes();
    assert!(may_speak || both.preloaded.ours().is_empty(), "it has nothing to say: {}", both.preloaded);
}

/// In two fresh folders of the same name length.
fn with_space(suffix: &str, prepare: &dyn Fn(Run) -> Run) -> Both {
    let once = |preload| {
        let folder = Scratch::new();
        battery(folder.path(), suffix, prepare, preload)
    };
    Both { plain: once(false), preloaded: once(true) }
}

fn on_a_full_disk(suffix: &str, prepare: &dyn Fn(Run) -> Run) -> Both {
    let once = |preload| {
        let disk = Disk::new(Kind::Tmpfs);
        disk.fill();
        battery(disk.path(), suffix, prepare, preload)
    };
    Both { plain: once(false), preloaded: once(true) }
}

#[test]
fn with_space_and_names_of_logs() {
    no_difference("with space, logs", &with_space(".log", &|run| run), false);
}

#[test]
fn with_space_and_other_names() {
    no_difference("with space, data", &with_space(".bin", &|run| run), false);
}

#[test]
fn on_dev_full() {
    let full = Path::new("/dev/full");
    let both = Both { plain: battery(full, "", &|r| r, false), preloaded: battery(full, "", &|r| r, true) };
    no_difference("/dev/full", &both, false);
}

#[needs(mounts)]
#[test]
fn on_a_full_disk_with_names_of_data() {
    no_difference("full, data", &on_a_full_disk(".db", &|run| run), true);
}

#[needs(mounts)]
#[test]
fn on_a_full_disk_with_names_of_logs_and_diversion_off() {
    no_difference("full, off", &on_a_full_disk(".log", &|run| run.env("TIDEOVER_FALLBACK", "off")), true);
}

#[needs(mounts)]
#[test]
fn with_the_library_disabled() {
    no_difference("full, disabled", &on_a_full_disk(".log", &|run| run.env("TIDEOVER_DISABLE", "1")), false);
}

#[needs(mounts)]
#[test]
fn on_a_full_disk_with_names_of_logs_nothing_crashes() {
    // Results differ here, as they should; every group still comes to its end.
    let both = on_a_full_disk(".log", &|run| run);
    both.plain.passes();
    both.preloaded.passes();
    assert_ne!(both.plain.theirs(), both.preloaded.theirs());
    let last = |o: &Outcome| o.theirs().last().map(|l| l.to_string());
    assert_eq!(last(&both.preloaded).map(|l| l.starts_with("threads: ferror")), Some(true), "{}", both.preloaded);
    assert!(both.preloaded.stdout.ends_with("the end, not flushed by hand"), "{}", both.preloaded);
}
