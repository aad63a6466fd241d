//! The engine: what is tried for a call that finds no descriptor, in which order, and what the caller gets in the end.

use std::time::Duration;

use tideover_tests::page::Event;
use tideover_tests::programs::TOO_MANY;
use tideover_tests::{Both, Outcome, Page, Run, Scratch, fixture, program, shared_library, workspace};

/// Runs a fixture that says `done` and then waits: its page as it was then, and how it ended.
fn done(run: &Run) -> (Page, Outcome) {
    let mut running = run.clone().preload(true).start();
    running.wait_for("done");
    let page = running.page();
    (page, running.finish())
}

/// Short waits: a hopeless case is over in some 100 ms.
fn impatient(run: Run) -> Run {
    run.env("TIDEOVER_MAX_RETRIES", "3").env("TIDEOVER_INITIAL_WAIT", "20ms").env("TIDEOVER_MAX_WAIT", "40ms")
}

fn exhausted(args: &str) -> Run {
    impatient(Run::new(fixture("exhausted")).args(args.split(' ')).limit(32))
}

// The soft limit.

#[test]
fn the_soft_limit_is_raised_when_it_is_needed_and_only_then() {
    let modest = Run::new(fixture("limit")).arg("10").soft(64).hard(4096).both();
    modest.same().preloaded.says("limit was 64, is 64");

    let greedy = Run::new(fixture("limit")).arg("200").soft(64).hard(4096).both();
    greedy.rescued(TOO_MANY).plain.says("limit was 64, is 64");
    let line = greedy.preloaded.stdout.lines().last().expect("two lines").to_string();
    let raised: u64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number");
    assert!((201..=1024).contains(&raised), "raised in steps, not at once to the hard limit: {line}");
}

#[test]
fn the_page_tells_of_the_raised_limit() {
    let mut running = Run::new(fixture("limit")).args(["200", "--stay"]).soft(64).hard(4096).preload(true).start();
    running.wait_for("limit was");
    let page = running.page();
    running.finish().passes();
    assert_eq!(page.counter("descriptors", "raised_from"), 64);
    assert_eq!(page.counter("descriptors", "hard_limit"), 4096);
    assert!(page.counter("descriptors", "soft_limit") > 200);
    assert_eq!(page.exhaustion("gave_up"), 0);
    assert_eq!(page.exhaustion("recovered"), page.exhaustion("emfile"));
}

#[test]
fn the_soft_limit_is_not_raised_past_the_cap_or_when_told_not_to() {
    let greedy = || Run::new(fixture("limit")).arg("300").soft(64).hard(4096).preload(true);
    greedy().env("TIDEOVER_RAISE", "off").output().fails().says("opened 61 of 300").says("limit was 64, is 64");
    greedy().env("TIDEOVER_RAISE_CAP", "100").output().fails().says("opened 97 of 300").says("limit was 64, is 100");
}

#[test]
fn a_program_that_uses_select_is_kept_below_1024_descriptors() {
    let greedy = || Run::new(fixture("limit_select")).arg("1500").soft(64).hard(4096);
    greedy().both().plain.fails().says("opened 61 of 1500");
    greedy().preload(true).output().fails().says("opened 1021 of 1500").says("is 1024");
    greedy().preload(true).env("TIDEOVER_RAISE", "force").output().passes().says("opened 1500 of 1500");
    // The control: the same program without select goes past it.
    Run::new(fixture("limit")).arg("1500").soft(64).hard(4096).both().rescued(TOO_MANY);
}

#[test]
fn python_is_a_known_interpreter_and_goes_past_1024_descriptors() {
    let script = "import os; print(len([os.open('/dev/null', 0) for _ in range(1500)]))";
    let python = Run::new(tideover_tests::program("python3", "python3")).args(["-c", script]);
    python.soft(64).hard(4096).both().rescued(TOO_MANY).preloaded.says("1500");
}

#[test]
fn libc_opens_files_for_itself_when_a_program_has_used_up_its_soft_limit() {
    let both = Run::new(fixture("headroom")).soft(64).hard(4096).both();
    both.plain.fails().says(TOO_MANY);
    both.preloaded.passes().says("dlopen: ok").says("iconv_open: ok").says("getpwnam: ok");
}

/// fixtures/heirs.c: what limit does a program hand on that has 100 files open?
fn heirs(args: &[&str]) -> Run {
    Run::new(fixture("heirs")).args(args).soft(64).hard(4096)
}

const EXEC: &[&str] =
    &["execve", "execv", "execvp", "execvpe", "execl", "execlp", "execle", "fexecve", "fork", "vfork"];
const SPAWN: &[&str] = &["posix_spawn", "posix_spawnp"];
const SHELL: &[&str] = &["popen", "system"];

/// Runs each way of starting a program, plain and preloaded, and collects what `wrong` finds.
#[track_caller]
fn assert_heirs(how: &[&[&str]], more: &[&str], wrong: impl Fn(&Both) -> bool) {
    let all: Vec<String> = how
        .concat()
        .into_iter()
        .map(|how| heirs(&[&[how], more].concat()).both())
        .filter(|both| wrong(both))
        .map(|both| both.preloaded.to_string())
        .collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

#[test]
fn what_a_program_starts_gets_the_soft_limit_that_the_program_was_given() {
    let handed_on = |both: &Both| {
        both.plain.says("opened 61");
        let said = |text: &str| both.preloaded.stdout.contains(text);
        !(both.preloaded.succeeded() && said("opened 100") && said("heir: 64"))
    };
    assert_heirs(&[EXEC, SPAWN], &[], handed_on);
    assert_heirs(&[EXEC, SPAWN], &["threads"], handed_on);
    // The child of popen(3) and system(3) has no name, and the parent may need its descriptors meanwhile: only a program that
    // has one thread and few files by then gives the limit back for it.
    assert_heirs(&[SHELL], &["closed"], handed_on);
}

#[test]
fn what_a_program_starts_finds_descriptors_however_many_it_inherits() {
    // 100 inherited files under a limit of 64 would leave not even the loader of the new program a descriptor.
    for more in [&["inherited"][..], &["inherited", "threads"]] {
        assert_heirs(&[EXEC, SPAWN, SHELL], more, |both| {
            both.plain.says("opened 61");
            let text = &both.preloaded.stdout;
            !(both.preloaded.succeeded() && text.contains("opened 100") && text.contains("heir: "))
        });
    }
}

#[test]
fn a_program_keeps_its_raised_limit_after_it_has_started_another() {
    for how in ["posix_spawn", "posix_spawnp", "popen", "system", "fork", "vfork"] {
        for more in ["threads", "closed"] {
            let outcome = heirs(&[how, more]).preload(true).output();
            let own: u64 = outcome.stdout.lines().find_map(|l| l.strip_prefix("own: ")?.parse().ok()).unwrap_or(0);
            assert!(own > 100, "{how}: its own limit is {own}: {outcome}");
        }
    }
}

#[test]
fn a_limit_that_the_program_set_itself_is_handed_on_as_it_is() {
    for more in [&["own"][..], &["own", "threads"]] {
        assert_heirs(&[EXEC, SPAWN, SHELL], more, |both| {
            both.plain.passes().says("opened 100").says("heir: 200");
            !(both.preloaded.succeeded() && both.preloaded.stdout.contains("heir: 200"))
        });
    }
}

// Registered reclaimers.

#[test]
fn reclaimers_run_in_the_order_of_their_priority_until_one_frees_a_descriptor() {
    let both = Run::new(fixture("reclaimers")).arg("order").limit(32).both();
    both.plain.fails().says("no library").says("open: EMFILE");
    both.preloaded.passes().says("open: ok").does_not_say("without pressure");
    let order: Vec<&str> = both.preloaded.stdout.lines().filter(|l| l.starts_with("of priority")).collect();
    assert_eq!(order, ["of priority 10", "of priority 5", "of priority -5"], "{}", both.preloaded);
}

#[test]
fn a_reclaimer_that_opens_a_file_gets_the_plain_error_and_is_not_run_within_itself() {
    let both = Run::new(fixture("reclaimers")).arg("nested").limit(32).both();
    both.plain.fails().says("open: EMFILE");
    both.preloaded.passes().says("nested at depth 1").says("its own open: EMFILE").says("open: ok");
    both.preloaded.does_not_say("depth 2");
}

#[test]
fn a_reclaimer_that_lies_changes_no_error() {
    let run = Run::new(fixture("reclaimers")).arg("lying").limit(32);
    run.both().plain.fails().says("open: EMFILE");
    let (page, outcome) = done(&run);
    outcome.fails().says("lying").says("open: EMFILE");
    assert!((1..=16).contains(&page.exhaustion("reclaims")), "believed for ever: {}", page.exhaustion("reclaims"));
    assert_eq!(page.exhaustion("gave_up"), 1);
}

#[test]
fn a_reclaimer_that_a_signal_handler_jumps_out_of_runs_again_for_the_same_thread() {
    let both = Run::new(fixture("reclaimers")).arg("jumping").limit(32).both();
    both.plain.fails().says("open: EMFILE");
    both.preloaded.passes().says("jumping 1").says("jumped out").says("jumping 2").says("open: ok");
}

#[test]
fn a_reclaimer_that_was_unregistered_is_not_run() {
    let both = Run::new(fixture("reclaimers")).arg("unregistered").limit(32).both();
    both.preloaded.fails().does_not_say("gone\n").does_not_say("not unregistered").says("open: EMFILE");
}

// Who waits, and who must not.

#[test]
fn a_program_of_one_thread_is_told_at_once_that_there_is_no_descriptor() {
    let run = exhausted("open 3");
    let (page, outcome) = done(&run);
    assert_eq!(outcome.stdout, run.output().stdout, "as without the library");
    assert_eq!(outcome.stdout, "EMFILE\nEMFILE\nEMFILE\ndone\n");
    assert_eq!(page.exhaustion("waits"), 0);
    assert_eq!(page.exhaustion("emfile"), 3);
    assert_eq!(page.exhaustion("gave_up"), 3);
    let last = page.events().into_iter().rfind(|e| e.kind == "exhausted").expect("an event");
    assert_eq!((last.outcome, last.errno), ("hopeless", libc::EMFILE), "{last:?}");
    assert!(last.call.starts_with("open"), "{last:?}");
}

#[test]
fn a_thread_beside_others_waits_and_then_gets_the_error_that_it_had() {
    // So long that three fit into the time for all, however busy the machine is.
    let run = exhausted("open 1 crowd").env("TIDEOVER_INITIAL_WAIT", "400ms").env("TIDEOVER_MAX_WAIT", "800ms");
    let (page, outcome) = done(&run);
    assert_eq!(outcome.stdout, run.output().stdout, "as without the library");
    assert_eq!(outcome.stdout, "EMFILE\ndone\n");
    assert!(page.exhaustion("waits") >= 3, "{} waits", page.exhaustion("waits"));
    assert!(page.exhaustion("wait_ns") > 10_000_000);
    assert_eq!((page.exhaustion("emfile"), page.exhaustion("gave_up"), page.exhaustion("recovered")), (1, 1, 0));
    let last: Event = page.events().pop().expect("an event");
    assert_eq!((last.kind, last.outcome, last.errno), ("exhausted", "gave_up", libc::EMFILE), "{last:?}");
    assert!(last.tries >= 3, "{last:?}");
}

#[test]
fn a_thread_that_runs_an_event_loop_never_sleeps_for_a_descriptor() {
    for loops in ["epoll", "epoll_pwait", "poll", "ppoll", "select", "pselect"] {
        let (page, outcome) = done(&exhausted(&format!("open 2 crowd {loops}")));
        assert_eq!(outcome.stdout, "EMFILE\nEMFILE\ndone\n", "{loops}: {outcome}");
        assert_eq!(page.exhaustion("waits"), 0, "{loops}: slept");
    }
    // poll(2) of one descriptor is how blocking programs wait with a timeout, and a glance is no wait: no event loops.
    for none in ["poll1", "glance"] {
        let (page, _) = done(&exhausted(&format!("open 1 crowd {none}")));
        assert!(page.exhaustion("waits") > 0, "{none}");
    }
}

#[test]
fn a_call_that_asks_not_to_block_does_not() {
    for call in ["open", "socket", "socketpair", "pipe2", "eventfd", "accept"] {
        let (page, outcome) = done(&exhausted(&format!("{call}+nonblock 2 crowd")));
        // A client that must wait is none yet.
        let error = if call == "accept" { "EAGAIN" } else { "EMFILE" };
        assert_eq!(outcome.stdout, format!("{error}\n{error}\ndone\n"), "{call}: {outcome}");
        assert_eq!(page.exhaustion("waits"), 0, "{call}: slept");
    }
    let (page, _) = done(&exhausted("dup 1 crowd"));
    assert!(page.exhaustion("waits") > 0, "the control: a call that may block waits");
}

#[test]
fn a_question_to_the_kernel_does_not_wait() {
    // A JVM reads its cgroup while all its threads are stopped: with waits, Jetty at its limit stood still for 15 s, again and again.
    for call in ["open of /proc", "fopen of /sys", "opendir of /proc"] {
        let run = Run::new(fixture("exhausted")).args([call, "2", "crowd"]).limit(32);
        let (page, outcome) = done(&impatient(run));
        assert_eq!(outcome.stdout, "EMFILE\nEMFILE\ndone\n", "{call}: {outcome}");
        assert_eq!(page.exhaustion("waits"), 0, "{call}: slept");
    }
}

#[test]
fn no_thread_waits_when_it_may_not_retry() {
    let run = exhausted("open 2 crowd").env("TIDEOVER_MAX_RETRIES", "0");
    let (page, outcome) = done(&run);
    assert_eq!(outcome.stdout, "EMFILE\nEMFILE\ndone\n");
    assert_eq!(page.exhaustion("waits"), 0);
}

#[test]
fn the_breaker_ends_waiting_that_has_been_fruitless() {
    let run = exhausted("open 5 crowd")
        .env("TIDEOVER_MAX_RETRIES", "1")
        .env("TIDEOVER_BREAKER_FAILURES", "2")
        .env("TIDEOVER_BREAKER_COOLDOWN", "1h");
    let (page, outcome) = done(&run);
    assert_eq!(outcome.stdout, format!("{}done\n", "EMFILE\n".repeat(5)));
    assert_eq!(page.exhaustion("breaker_trips"), 1);
    assert_eq!(page.exhaustion("breaker_open"), 1);
    assert_eq!(page.exhaustion("gave_up"), 5);
    let outcomes: Vec<&str> = page.events().iter().filter(|e| e.kind == "exhausted").map(|e| e.outcome).collect();
    assert_eq!(outcomes, ["gave_up", "gave_up", "breaker_open", "breaker_open", "breaker_open"]);
}

// ENFILE, and other errors, from below: libfiu under this library.

/// 100 opens, of which a part fails beneath us with this error.
fn faulty(error: i32, probability: f32) -> Run {
    let fiu = |name: &str| shared_library(&format!("fiu/{name}"), "fiu-utils");
    Run::new(fixture("opens"))
        .arg("100")
        .preload_after(fiu("fiu_run_preload.so"))
        .preload_after(fiu("fiu_posix_preload.so"))
        .env("FIU_CTRL_FIFO", "")
        .env("FIU_ENABLE", format!("enable_random name=posix/io/oc/open,probability={probability},failinfo={error}"))
        .env("TIDEOVER_MAX_RETRIES", "50")
        .env("TIDEOVER_INITIAL_WAIT", "1ms")
        .env("TIDEOVER_MAX_WAIT", "2ms")
        .timeout(Duration::from_secs(60))
}

#[test]
fn a_system_without_a_free_file_is_waited_for_even_by_a_single_thread() {
    let run = faulty(libc::ENFILE, 0.3);
    run.output().passes().says("ENFILE");
    let mut running = run.preload(true).start();
    let ok = running.wait_for("ok ");
    let page = running.page();
    let outcome = running.finish();
    outcome.passes();
    assert_eq!(ok, "ok 100", "{outcome}");
    assert!(!outcome.stdout.contains("ENFILE"), "{outcome}");
    assert!(page.exhaustion("enfile") > 0);
    assert_eq!(page.exhaustion("recovered"), page.exhaustion("enfile"));
    assert_eq!(page.exhaustion("emfile"), 0, "one class of error never becomes another");
}

#[test]
fn a_system_that_never_has_a_free_file_is_reported_as_that() {
    let run = faulty(libc::ENFILE, 1.0).env("TIDEOVER_MAX_RETRIES", "1").env("TIDEOVER_BREAKER_FAILURES", "3");
    let both = run.both();
    both.plain.passes().says("ok 0\nENFILE 100");
    both.preloaded.passes().says("ok 0\nENFILE 100").says("the system is out of descriptors (ENFILE)");
}

#[test]
fn errors_that_are_not_about_descriptors_pass_untouched() {
    for error in [libc::ENOMEM, libc::ENOSPC, libc::EACCES, libc::EIO] {
        let mut running = faulty(error, 1.0).preload(true).start();
        running.wait_for("ok 0");
        let page = running.page();
        let plain = faulty(error, 1.0).output();
        assert_eq!(running.finish().stdout, plain.stdout);
        assert_eq!(page.exhaustion("emfile") + page.exhaustion("enfile") + page.exhaustion("waits"), 0);
    }
}

// The examples.

#[test]
fn the_examples_in_c_and_python_give_files_back_when_asked() {
    let scratch = Scratch::new();
    let root = workspace();
    let built = scratch.join("reclaimer");
    let compiled = std::process::Command::new(program("cc", "gcc"))
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .arg(root.join("include"))
        .arg(root.join("examples/reclaimer.c"))
        .arg("-o")
        .arg(&built)
        .status();
    assert!(compiled.expect("cc runs").success());
    let in_c = Run::new(&built).limit(64);
    let in_python = Run::new(program("python3", "python3")).arg(root.join("examples/reclaimer.py")).limit(64);
    for run in [in_c, in_python] {
        let both = run.both();
        both.plain.fails().says("libtideover.so is not loaded").says("Too many open files");
        both.preloaded.passes().says("closing the oldest").says("opened 1000 files");
    }
}

#[test]
fn the_c_api_waits_with_a_policy_of_its_own_and_tells_of_it() {
    // A program that has no library finds the functions NULL, and runs.
    let both = Run::new(fixture("api")).arg("/etc/passwd").limit(32).both();
    both.plain.fails().says("no library");
    both.preloaded.passes().says("full: EMFILE").says("no waits: EMFILE");
    both.preloaded.says("of its own policy: EMFILE").says("exhaustions: 1, waits: 0");
    for call in ["tideover_retry", "tideover_open", "tideover_fopen"] {
        both.preloaded.says(&format!("{call}: ok"));
    }
    both.preloaded.says("events: 3, page: 3");
}

#[test]
fn a_page_for_which_there_was_no_descriptor_is_made_when_there_is_one() {
    let mut running = Run::new(fixture("latecomer")).limit(40).preload(true).start();
    running.wait_for("done");
    let page = Page::read(running.page_dir(), running.pid());
    running.finish().passes();
    assert!(page.is_some_and(|page| page.view().opened() >= 41), "it has what was counted before, too");
}
