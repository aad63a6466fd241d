//! Others that sit between a program and its libc: allocators, sanitizers, valgrind, fakeroot, other preloads, a second copy of us.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tideover_tests::programs::{TOO_MANY, python};
use tideover_tests::{
    Disk, Kind, Run, Scratch, fixture, library, needs, preload_fixture, program, shared_library, tideover,
};

/// A program that allocates much, opens more than it may, and has threads.
const PYTHON: &str = "
import json, threading
from multiprocessing.pool import ThreadPool
files = [open('/etc/passwd') for _ in range(200)]
with ThreadPool(8) as pool:
    lines = pool.map(lambda n: len(json.dumps({str(i): [i] * 10 for i in range(n)})), range(200))
print(len(files), 'open', sum(lines))
";

fn python_program() -> Run {
    python(PYTHON).soft(64).hard(4096).timeout(Duration::from_secs(60))
}

fn threads(limit: u64) -> Run {
    Run::new(fixture("threads")).args(["/etc/passwd", "10"]).limit(limit).timeout(Duration::from_secs(60))
}

/// So many rounds that some thread is refused without the library, however busy the machine is.
fn crowd() -> Run {
    Run::new(fixture("threads")).args(["/etc/passwd", "100"]).limit(64).timeout(Duration::from_secs(60))
}

/// A library preloaded before ours, then after it.
fn in_both_orders(neighbour: PathBuf, run: impl Fn() -> Run) {
    run().preload_before(&neighbour).both().rescued(TOO_MANY);
    run().preload_after(&neighbour).both().rescued(TOO_MANY);
}

#[test]
fn an_allocator_that_opens_a_file_in_its_first_malloc() {
    let allocator = preload_fixture("opening_malloc");
    let list = || Run::new(program("ls", "coreutils")).args(["-l", "/etc"]);
    list().preload_before(&allocator).both().same();
    list().preload_after(&allocator).both().same();
    in_both_orders(allocator, crowd);
}

#[test]
fn jemalloc() {
    in_both_orders(shared_library("libjemalloc.so.2", "libjemalloc2"), python_program);
    in_both_orders(shared_library("libjemalloc.so.2", "libjemalloc2"), crowd);
}

#[test]
fn tcmalloc() {
    in_both_orders(shared_library("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"), python_program);
    in_both_orders(shared_library("libtcmalloc_minimal.so.4", "libtcmalloc-minimal4"), crowd);
}

#[test]
fn mimalloc() {
    in_both_orders(shared_library("libmimalloc.so.2.0|libmimalloc.so.3", "libmimalloc2.0"), python_program);
    in_both_orders(shared_library("libmimalloc.so.2.0|libmimalloc.so.3", "libmimalloc2.0"), crowd);
}

#[test]
fn eatmydata() {
    in_both_orders(shared_library("libeatmydata.so", "libeatmydata1"), python_program);
}

#[test]
fn a_host_built_with_address_sanitizer() {
    let run = Run::new(fixture("sanitized")).args(["/etc/passwd", "100"]).limit(64).timeout(Duration::from_secs(60));
    // It objects to any preload before it; that check is what users switch off.
    let both = run.env("ASAN_OPTIONS", "verify_asan_link_order=0").both();
    both.rescued(TOO_MANY).preloaded.does_not_say("AddressSanitizer");
}

#[test]
fn valgrind_finds_nothing_to_say() {
    // Valgrind keeps descriptors for itself and sets limits of its own for its client.
    let valgrind = |log: &str| {
        Run::new(program("valgrind", "valgrind"))
            .args(["-q", "--error-exitcode=9", log])
            .timeout(Duration::from_secs(120))
    };
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let flag = format!("--log-file={}", log.display());
    let both = valgrind(&flag).arg(program("ls", "coreutils")).args(["-l", "/etc"]).both();
    both.same();
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(said.is_empty(), "{said}");
    // It takes the soft limit for the hard one: nothing can be raised, and the program is told so as it would be.
    let greedy = valgrind(&flag).arg(fixture("limit")).arg("200").soft(64).hard(4096).both();
    greedy.same_but_for_messages().preloaded.fails().says(TOO_MANY);
    let said = fs::read_to_string(&log).unwrap_or_default();
    assert!(said.is_empty(), "{said}");
}

/// The runtime that gcc links ends the program if it is not the first library.
#[test]
fn tideover_run_starts_a_host_built_with_address_sanitizer() {
    const REFUSED: &str = "ASan runtime does not come first";
    let words = ["/etc/passwd", "100"];
    let preloaded = Run::new(fixture("sanitized")).args(words).limit(64).preload(true).output();
    preloaded.fails().says(REFUSED);
    let started = || {
        let run = Run::new(tideover()).args(["run", "--"]).arg(fixture("sanitized")).args(words).limit(64);
        run.env("TIDEOVER_LIB", library()).timeout(Duration::from_secs(60))
    };
    started().output().passes().says(" 0 refused").says("verify_asan_link_order=0");
    // What the user has said stays as it is.
    let insisting = started().env("ASAN_OPTIONS", "verify_asan_link_order=1").output();
    insisting.fails().says(REFUSED).says("to help:");
    let runtime = shared_library("libasan.so.8|libasan.so.6", "libasan8");
    started().preload_before(&runtime).output().passes().says(" 0 refused").does_not_say("verify_asan_link_order");
}

/// Found with 0.1.0: memcheck found fault with how the library asks what is readable, and said so in warnings; lines were lost.
#[needs(mounts)]
#[test]
fn valgrind_finds_nothing_to_say_of_accepts_at_the_limit_and_diverted_lines() {
    for tool in ["--tool=memcheck", "--tool=helgrind"] {
        let disk = Disk::new(Kind::Tmpfs);
        let log = disk.log();
        disk.fill();
        let run = Run::new(program("valgrind", "valgrind")).args(["-q", tool, "--error-exitcode=9"]);
        let run = run.arg(fixture("evidence_calls")).arg(&log).limit(64).timeout(Duration::from_secs(120));
        run.clone().preload(false).output().says("No space left on device");
        let outcome = run.preload(true).output();
        outcome.passes().says("many accepted, some failed").does_not_say("==").does_not_say("arning: Bad");
        outcome.does_not_say("sigprocmask");
        for way in ["write", "writev", "stdio", "dprintf"] {
            assert_eq!(outcome.stdout.matches(&format!(" by {way}\n")).count(), 20, "{way}: {outcome}");
        }
    }
}

#[test]
fn gdb_runs_a_guarded_program() {
    let run =
        Run::new(program("gdb", "gdb")).args(["-nx", "-q", "-batch", "-ex", "run", "--args"]).arg(fixture("limit"));
    let both = run.arg("200").soft(64).hard(4096).timeout(Duration::from_secs(60)).both();
    both.plain.says("opened 61 of 200");
    both.preloaded.passes().says("opened 200 of 200").says("exited normally");
}

#[test]
fn strace_follows_a_guarded_program() {
    let scratch = Scratch::new();
    let run = Run::new(program("strace", "strace")).args(["-f", "-o"]).arg(scratch.join("trace")).arg(fixture("limit"));
    run.arg("200").soft(64).hard(4096).timeout(Duration::from_secs(60)).both().rescued(TOO_MANY);
}

#[test]
fn fakeroot_fakes_and_we_raise() {
    let scratch = Scratch::new();
    let script = "
for n in $(seq 100); do exec {fd}</etc/passwd || exit 1; done
rm -f file; touch file; chown 1234 file; stat -c 'owner %u' file";
    let run = Run::new(program("fakeroot", "fakeroot"))
        .folder(scratch.path())
        .args(["bash", "-c", script])
        .soft(64)
        .hard(4096);
    run.both().rescued(TOO_MANY).preloaded.says("owner 1234");
}

#[test]
fn two_copies_of_the_library() {
    let scratch = Scratch::new();
    let copy = scratch.join("libtideover-copy.so");
    fs::copy(library(), &copy).expect("it can be copied");
    // In the plain run only the copy is there, which is the library: the copy is put in by hand.
    let plain = python_program().output();
    plain.fails().says(TOO_MANY);
    for run in [python_program().preload_before(&copy), python_program().preload_after(&copy)] {
        run.preload(true).output().passes().says("200 open");
    }
    threads(64).preload_after(&copy).preload(true).output().passes().says(" 0 refused");
    let twice =
        Run::new(fixture("limit")).args(["200", "--stay"]).soft(64).hard(4096).preload_after(&copy).preload(true);
    let mut running = twice.start();
    running.wait_for("limit was");
    let page = running.page();
    let outcome = running.finish();
    outcome.passes();
    assert_eq!(page.exhaustion("emfile"), page.exhaustion("recovered"), "each exhaustion is counted once: {outcome}");
}

/// Found by reading: our stdio called its write(2), which uses stdio.
#[test]
fn a_write_that_uses_stdio_itself() {
    let talking = preload_fixture("talking_write");
    let scratch = Scratch::new();
    let script = "print('a line', flush=True); open('/dev/null', 'w').write('another')";
    let run = |n: u32| {
        let record = scratch.join(&format!("record{n}"));
        Run::new("sh")
            .args(["-c", "printf 'by stdio\\n' >&2; awk 'BEGIN { print \"a line\" }'; python3 -c \"$0\"", script])
            .env("RECORD", record)
    };
    run(1).preload_before(&talking).both().same().plain.passes();
    run(2).preload_after(&talking).both().same().plain.passes();
}

#[test]
fn a_program_that_is_linked_with_a_library_that_opens_in_its_constructor() {
    // Before our own constructor has run, or after: the order is the loader's.
    let early = preload_fixture("early");
    for run in [Run::new(fixture("limit")).preload_before(&early), Run::new(fixture("limit")).preload_after(&early)] {
        let both = run.arg("200").soft(64).hard(4096).both();
        both.rescued(TOO_MANY).preloaded.says("early: ok");
        both.plain.says("early: ok");
    }
    // Exhausted as early as that: soft limit 3 leaves not even the loader room, so the constructor takes all first.
    for run in [Run::new(fixture("limit")).preload_before(&early), Run::new(fixture("limit")).preload_after(&early)] {
        let both = run.arg("0").limit(20).env("EARLY", "exhaust").both();
        both.same_but_for_messages().plain.says("early: EMFILE");
    }
}
