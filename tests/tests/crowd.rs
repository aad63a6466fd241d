//! Ten thousand processes on the machine: each command that looks at all of them answers, in bounded time and memory.

use std::time::{Duration, Instant};

use tideover_tests::running::tell;
use tideover_tests::{Run, Scratch, fixture, tideover};

const MANY: usize = 10_000;

#[test]
fn every_command_answers_among_ten_thousand_processes() {
    let pages = Scratch::new();
    let mut ebb = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut ebb, "fill");
    let mut crowd = Run::new(fixture("crowd")).arg(MANY.to_string()).timeout(Duration::from_secs(300)).start();
    crowd.wait_for("there");
    let pid = ebb.pid().to_string();
    let answer = |words: &[&str]| {
        // Less than 128 KiB for each process.
        let run = Run::new("prlimit").arg("--as=1280000000").arg(tideover()).args(words);
        let start = Instant::now();
        let said = run.arg("--page-dir").arg(pages.path()).timeout(Duration::from_secs(60)).output();
        println!("{words:?}: {:?}", start.elapsed());
        said.does_not_say("panicked");
        said
    };
    answer(&["ps"]).passes().says(&pid);
    answer(&["events"]).passes().says(&format!("ebb (process {pid}) exhausted"));
    answer(&["stat", &pid]).passes().says("gave up");
    answer(&["clean"]).passes();
    let metrics = answer(&["metrics", "--all"]);
    let crowded = metrics.passes().stdout.lines().find(|line| line.starts_with("tideover_processes{program=\"crowd\""));
    let count = crowded.and_then(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
    assert!(count.is_some_and(|count| count > MANY), "{count:?}");
    metrics.says("tideover_descriptors_used{program=\"ebb\"} 64\n");
    let watch = answer(&["watch", "--once", "--only", "ebb"]);
    assert_eq!(watch.code(), Some(2), "{watch}");
    watch.says("critical usage: ebb");
    let doctor = answer(&["doctor", &pid]);
    assert!(doctor.code().is_some_and(|code| code <= 3), "{doctor}");
    crowd.finish().passes();
    ebb.finish();
}
