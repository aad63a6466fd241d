//! Programs that do to a library what is hardest to survive: signals, forks, cancellation, jumps, small stacks, exits. Each does
//! with the library what it does without it, or better.

use std::time::Duration;

use tideover_tests::{Page, Run, Scratch, fixture, tideover};

/// Short waits, so that what can't be had is refused soon.
fn impatient(run: Run) -> Run {
    run.env("TIDEOVER_MAX_RETRIES", "2")
        .env("TIDEOVER_INITIAL_WAIT", "5ms")
        .env("TIDEOVER_MAX_WAIT", "10ms")
        .timeout(Duration::from_secs(60))
}

#[test]
fn a_signal_handler_opens_files_while_the_main_thread_waits_for_one() {
    for retries in ["5", "0"] {
        let run = Run::new(fixture("signals")).arg("200").limit(40).timeout(Duration::from_secs(60));
        run.env("TIDEOVER_MAX_RETRIES", retries)
            .both()
            .same_but_for_messages()
            .preloaded
            .says("survived, 0 other errors")
            .says("no descriptor left (EMFILE)");
    }
}

#[test]
fn children_forked_amid_exhausted_threads_find_no_lock_held() {
    let both = impatient(Run::new(fixture("forks")).limit(40)).both();
    both.same_but_for_messages().preloaded.says("children that ended with 0: 200");
}

#[test]
fn children_forked_amid_threads_that_wait_long_find_no_lock_held() {
    let both = Run::new(fixture("forks")).limit(40).timeout(Duration::from_secs(60)).both();
    both.same_but_for_messages().preloaded.says("children that ended with 0: 200");
}

#[test]
fn a_child_that_no_fork_handler_knows_gets_the_native_error_and_leaves_its_parents_page_alone() {
    for how in ["vfork", "_Fork", "clone"] {
        let run = Run::new(fixture("vforks")).arg(how).limit(40);
        run.output().passes().says("50 of 50 children got EMFILE");
        let mut running = run.preload(true).start();
        running.wait_for("done");
        let page = running.page();
        running.finish().passes().says("50 of 50 children got EMFILE").says("parent: ok");
        for counter in ["emfile", "gave_up", "waits"] {
            assert_eq!(page.exhaustion(counter), 0, "{how}: {counter}: the parent was never refused one");
        }
        assert!(page.events().iter().all(|e| e.kind != "exhausted"), "{how}: {:?}", page.events());
    }
}

#[test]
fn threads_are_cancelled_in_hooked_calls_as_they_are_without_hooks() {
    let scratch = Scratch::new();
    let run = Run::new(fixture("cancel")).limit(40).env("TMPDIR", scratch.path()).timeout(Duration::from_secs(120));
    // Long enough to be cancelled in a wait, short enough for the calls that are no cancellation points.
    let both = run.env("TIDEOVER_INITIAL_WAIT", "100ms").env("TIDEOVER_MAX_WAIT", "100ms").both();
    both.plain.passes();
    both.preloaded.passes();
    let (plain, preloaded): (Vec<_>, Vec<_>) =
        (both.plain.stdout.lines().collect(), both.preloaded.stdout.lines().collect());
    assert!(plain.len() > 40, "{}", both.plain);
    assert_eq!(plain.len(), preloaded.len(), "{}", both.preloaded);
    let mut wrong = vec![];
    for (before, after) in plain.iter().zip(&preloaded) {
        // Where nothing blocks natively, the wait for a descriptor is one that is cancelled, where the call is a cancellation
        // point; or it is none and ends with the native error.
        let waited = before.contains("-at-limit blocked: EMFILE") && after.ends_with("blocked: cancelled, cleaned up");
        if before != after && !waited {
            wrong.push(format!("{before}  (plain)\n{after}  (preloaded)"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), both.preloaded);
}

#[test]
fn a_thousand_jumps_out_of_a_waiting_open_leave_nothing_held() {
    let run = Run::new(fixture("longjmps")).args(["limit", "/dev/null"]).limit(40).timeout(Duration::from_secs(60));
    let both = run.both();
    both.plain.passes().says("1000 opens, ").says("afterwards: EMFILE");
    both.preloaded.passes().says("1000 opens, jumped out of").says("afterwards: ok");
}

#[test]
fn a_thousand_jumps_out_of_an_open_that_waits_in_the_kernel_leave_nothing_held() {
    let scratch = Scratch::new();
    let fifo = scratch.join("fifo");
    Run::new(tideover_tests::program("mkfifo", "coreutils")).arg(&fifo).output().passes();
    let run = Run::new(fixture("longjmps")).arg("fifo").arg(&fifo).limit(40).timeout(Duration::from_secs(60));
    let both = run.both();
    both.plain.passes().says("1000 opens, jumped out of").says("afterwards: EMFILE");
    both.preloaded.passes().says("1000 opens, jumped out of").says("afterwards: ok");
}

#[test]
fn a_thread_with_a_stack_of_16_kib_waits_for_a_descriptor() {
    let both = Run::new(fixture("small_stack")).limit(40).both();
    both.plain.passes().says("open: EMFILE").says("survived");
    both.preloaded.passes().says("open: ok").says("survived");
}

#[test]
fn a_thread_with_a_stack_of_16_kib_is_told_of_exhaustion() {
    // The longest way: wait, give up, format the message, write it.
    let both = Run::new(fixture("small_stack")).limit(40).env("TIDEOVER_MAX_RETRIES", "0").both();
    both.same_but_for_messages().preloaded.says("open: EMFILE").says("survived");
    assert!(!both.preloaded.ours().is_empty(), "it was said: {}", both.preloaded);
}

#[test]
fn a_program_that_closes_everything_goes_on_opening() {
    for how in ["each", "close_range", "closefrom", "syscall"] {
        let run = Run::new(fixture("close_all")).arg(how).soft(64).hard(4096);
        let both = run.both();
        assert_eq!(both.plain.stdout, both.preloaded.stdout);
        both.plain.passes();
        both.preloaded.passes();
    }
}

#[test]
fn closing_every_number_of_a_million_is_not_slowed_down() {
    // Docker gives processes 2^20 or even 2^30 numbers; where the limit is lower, closing what can't be open costs the same.
    let run = Run::new(fixture("close_all")).args(["each", "1048576"]).timeout(Duration::from_secs(60));
    let figure = |text: &str, name: &str| -> f64 {
        let line = text.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.trim().parse().expect("a number")
    };
    // The best of three: the machine may be busy.
    let best = |preload: bool| {
        let texts: Vec<String> = (0..3)
            .map(|_| {
                let outcome = run.clone().preload(preload).output();
                outcome.passes();
                outcome.stderr
            })
            .collect();
        let least = |name: &str| texts.iter().map(|t| figure(t, name)).fold(f64::INFINITY, f64::min);
        (least("ms "), least("kib "))
    };
    let (plain, preloaded) = (best(false), best(true));
    assert!(preloaded.0 <= 3.0 * plain.0 + 20.0, "{} ms plain, {} ms preloaded", plain.0, preloaded.0);
    assert!(preloaded.1 <= plain.1 + 2048.0, "{} KiB plain, {} KiB preloaded", plain.1, preloaded.1);
}

#[test]
fn a_process_ends_while_its_threads_look_for_descriptors() {
    for how in ["return", "exit", "quick_exit", "pthread_exit"] {
        for retries in ["5", "0"] {
            let run = Run::new(fixture("exiting")).arg(how).limit(40).env("TIDEOVER_MAX_RETRIES", retries);
            run.env("TIDEOVER_INITIAL_WAIT", "50ms").env("TIDEOVER_MAX_WAIT", "100ms").both().same_but_for_messages();
        }
    }
}

#[test]
fn the_page_is_gone_when_the_process_is() {
    let dir = Scratch::new();
    for how in ["return", "exit", "_exit", "_Exit", "quick_exit"] {
        let mut running = Run::new(fixture("ends")).arg(how).page_dir(dir.path()).preload(true).start();
        running.wait_for("ready");
        let path = Page::path(dir.path(), running.pid());
        assert!(path.exists(), "{how}: it has a page");
        running.say("now");
        assert_eq!(running.finish().code(), Some(7), "{how}");
        assert!(!path.exists(), "{how}: {} is left", path.display());
    }
}

#[test]
fn the_page_of_a_killed_process_is_pruned_by_readers() {
    for how in ["abort", "kill", "segv", "exit_group"] {
        let dir = Scratch::new();
        let mut running = Run::new(fixture("ends")).arg(how).page_dir(dir.path()).preload(true).start();
        running.wait_for("ready");
        let path = Page::path(dir.path(), running.pid());
        assert!(path.exists(), "{how}: it has a page");
        let ps = || Run::new(tideover()).arg("ps").page_dir(dir.path()).output();
        let alive = ps();
        assert!(alive.passes().stdout.contains(&running.pid().to_string()), "{how}: {alive}");
        let pid = running.pid();
        running.say("now");
        running.finish();
        let gone = ps();
        assert!(!gone.passes().stdout.contains(&pid.to_string()), "{how}: {gone}");
        assert!(!path.exists(), "{how}: {} is left", path.display());
    }
}

#[test]
fn a_program_that_executes_another_leaves_one_page() {
    let dir = Scratch::new();
    let mut running = Run::new(fixture("ends")).arg("exec").page_dir(dir.path()).preload(true).start();
    running.wait_for("ready");
    assert_eq!(running.page().view().program(), b"ends");
    running.say("now");
    running.wait_for("executed");
    let name = String::from_utf8_lossy(running.page().view().program()).into_owned();
    assert!(["sh", "dash", "bash"].contains(&name.as_str()), "the page is the new program's: {name}");
    running.say("end");
    assert_eq!(running.finish().code(), Some(7));
}
