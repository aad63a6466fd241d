//! Long storms, short here: TIDEOVER_STRESS=SECONDS and TIDEOVER_KILLS=COUNT make them long (`make hazards`: two minutes, a thousand).

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use tideover_tests::{Outcome, Run, Scratch, fixture, tideover};

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// 32 threads make all kinds of hooked calls, among signals, forks and cancellations.
#[test]
fn nothing_odd_comes_of_all_calls_at_once() {
    let seconds = setting("TIDEOVER_STRESS", 3);
    for (limit, retries) in [(40, "5"), (60, "1")] {
        let scratch = Scratch::new();
        let run = Run::new(fixture("stress")).arg(seconds.to_string()).arg(scratch.path()).limit(limit);
        let run = run.env("TIDEOVER_MAX_RETRIES", retries).env("TIDEOVER_INITIAL_WAIT", "5ms");
        let run = run.env("TIDEOVER_MAX_WAIT", "50ms").timeout(Duration::from_secs(60 + 2 * seconds));
        run.output().passes().says("calls many").says("odd 0");
        run.preload(true).output().passes().says("calls many").says("odd 0");
    }
}

fn ask(command: &str, dir: &Path) -> Outcome {
    Run::new(tideover()).args([command, "--page-dir"]).arg(dir).output()
}

/// Killed at any moment of its life, also in the middle of a wait: no page is left that looks alive, nothing is locked.
#[test]
fn processes_killed_at_random_leave_nothing_that_ps_shows_as_alive() {
    let kills = setting("TIDEOVER_KILLS", 150);
    let pages = Scratch::new();
    let mut seed = 7_u64;
    for round in 0..kills.div_ceil(5) {
        let start = |_| {
            let run = Run::new(fixture("threads")).args(["/etc/passwd", "100000"]).limit(40 + round % 30);
            run.page_dir(pages.path()).preload(true).timeout(Duration::from_secs(60)).start()
        };
        let victims: Vec<_> = (0..5).map(start).collect();
        for victim in victims {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            thread::sleep(Duration::from_micros((seed >> 33) % 12_000));
            victim.signal(libc::SIGKILL);
            let outcome = victim.finish();
            assert_eq!(outcome.code(), None, "it was killed: {outcome}");
        }
    }
    let told = ask("ps", pages.path());
    told.passes().does_not_say("threads");
    // A living one is shown, among what the dead have left.
    let alive = Run::new(fixture("limit")).args(["200", "--stay"]).soft(64).hard(4096);
    let mut alive = alive.page_dir(pages.path()).preload(true).start();
    alive.wait_for("limit was");
    ask("ps", pages.path()).passes().says(&alive.pid().to_string());
    alive.finish().passes().says("opened 200");
    ask("clean", pages.path()).passes();
    let left = fs::read_dir(pages.path()).expect("it is there").flatten();
    let left: Vec<_> = left.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten()).collect();
    assert!(left.is_empty(), "{left:?}");
}
