//! One of the library's own system calls fails, in turn: whatever the host then does, it does with a right answer, as without the
//! library or as with it. fixtures/inject.c is a debugger that knows our calls by where they are made from.
//!
//! TIDEOVER_FAULTS=N tries N of each program's calls (40 unless set), spread over its life; `all` tries each with each error.

use std::time::Duration;

use tideover_tests::{Disk, Kind, Outcome, Run, fixture, library, needs, program};

const ERRORS: &[i32] = &[libc::EPERM, libc::EINTR, libc::ENOMEM, libc::ENOSYS];

/// `run`'s program with its `nth` own call failing; 0: none.
fn inject(nth: usize, error: i32, what: &[&str], prepare: impl Fn(Run) -> Run) -> Outcome {
    let run = Run::new(fixture("inject")).arg(nth.to_string()).arg(error.to_string()).args(what);
    let run =
        run.env("INJECT_PRELOAD", library()).env("TIDEOVER_INITIAL_WAIT", "20ms").env("TIDEOVER_MAX_RETRIES", "2");
    prepare(run.timeout(Duration::from_secs(60))).output()
}

/// Lets calls fail one after the other, and has each outcome judged.
#[track_caller]
fn each_call(what: &[&str], prepare: impl Fn(Run) -> Run, judge: impl Fn(&Outcome)) {
    let none = inject(0, 0, what, &prepare);
    judge(&none);
    let told = none.stderr.lines().find_map(|line| line.strip_prefix("own calls: ")).expect("the debugger says");
    let calls: usize = told.trim().parse().expect("a number");
    assert!(calls > 5, "the library does something here: {none}");
    let wanted = std::env::var("TIDEOVER_FAULTS").unwrap_or_else(|_| "40".to_string());
    let (step, errors) = match wanted.parse::<usize>() {
        Ok(some) => (calls.div_ceil(some.max(1)), 1),
        Err(_) => (1, ERRORS.len()),
    };
    let mut failed = 0;
    for nth in (1..=calls).step_by(step) {
        for more in 0..errors {
            let outcome = inject(nth, ERRORS[(nth / step + more) % ERRORS.len()], what, &prepare);
            assert!(!outcome.timed_out, "it hangs when call {nth} fails: {outcome}");
            assert!(outcome.code().is_some(), "it is killed when call {nth} fails: {outcome}");
            judge(&outcome);
            failed += usize::from(outcome.stderr.contains(", failed: system call "));
        }
    }
    println!("{calls} own calls, {failed} failed in turn");
    assert!(failed > 5, "calls did fail");
}

#[test]
fn programs_that_lack_nothing_do_not_notice() {
    let session = "echo a; ls /etc | sort | md5sum; cat < /etc/passwd | wc -l; exit 3";
    for (name, args) in
        [("bash", vec!["-c", session]), ("python3", vec!["-c", "import os; print(os.popen('echo b').read())"])]
    {
        let path = program(name, name);
        let what: Vec<&str> = std::iter::once(path.to_str().expect("text")).chain(args).collect();
        let plain = Run::new(what[0]).args(&what[1..]).output();
        each_call(
            &what,
            |run| run,
            |outcome| {
                assert_eq!((outcome.code(), &outcome.stdout), (plain.code(), &plain.stdout), "{outcome}");
            },
        );
    }
}

#[test]
fn a_program_past_its_soft_limit_gets_its_files_or_the_native_error() {
    let limit = fixture("limit");
    let what = [limit.to_str().expect("text"), "200"];
    for (soft, hard) in [(64, 4096), (64, 64)] {
        each_call(
            &what,
            |run| run.soft(soft).hard(hard),
            |outcome| {
                let text = &outcome.stdout;
                let had = text
                    .strip_prefix("opened ")
                    .and_then(|t| t.split(' ').next())
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0);
                let native = (58..=64).contains(&had) && text.contains("Too many open files");
                assert!(had == 200 || native, "{outcome}");
            },
        );
    }
}

#[test]
fn threads_at_the_limit_get_their_files_or_the_native_error() {
    let threads = fixture("threads");
    each_call(
        &[threads.to_str().expect("text"), "/etc/passwd", "2"],
        |run| run.limit(64),
        |outcome| {
            let native = outcome.stdout.contains("refused: Too many open files");
            assert!(outcome.stdout.contains(" 0 refused") || native, "{outcome}");
        },
    );
}

#[needs(mounts)]
#[test]
fn a_logger_on_a_full_disk_goes_on_or_gets_the_native_error() {
    let append = fixture("disk_append");
    for how in ["write", "line"] {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.join("app.log");
        disk.fill();
        let what = [append.to_str().expect("text"), how, log.to_str().expect("text")];
        let lines = "a line of text\n".repeat(9);
        each_call(
            &what,
            |run| run.stdin(&lines),
            |outcome| {
                // It counts what was refused to it; all else is on a standard stream, or was dropped and said so.
                let refused: usize =
                    outcome.theirs().iter().find_map(|l| l.split(" failed").next()?.parse().ok()).unwrap_or(99);
                let kept = [&outcome.stdout, &outcome.stderr]
                    .map(|text| text.matches("a line of text\n").count())
                    .iter()
                    .sum::<usize>();
                // A reader that refuses a line loses it: dropped, and counted.
                let dropped = outcome.stderr.contains("dropped")
                    || (outcome.stderr.contains("failed: system call 1\n") && kept == 8);
                assert!(kept <= 9 && (kept + refused >= 9 || dropped), "{kept} kept, {refused} refused: {outcome}");
            },
        );
    }
}
