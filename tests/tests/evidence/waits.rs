//! A wait is worth its time only while closes are coming.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::programs::java;
use tideover_tests::{Run, Scratch, fixture};

use crate::{GRACE, Timed, number};

#[test]
fn a_program_with_an_idle_thread_goes_without_plug_ins_at_once() {
    let timed = Timed::of(&Run::new(fixture("evidence_waits")).args(["idle", "120"]).limit(64));
    assert!(number(&timed.plain, "went without") > 0, "{}", timed.plain);
    timed.as_fast().as_printed();
}

#[test]
fn threads_that_only_read_close_nothing_either() {
    Timed::of(&Run::new(fixture("evidence_waits")).arg("readers").limit(64)).as_fast().as_printed();
}

#[test]
fn of_threads_that_each_hold_one_and_need_another_some_are_refused_and_the_others_go_on() {
    let timed = Timed::of(&Run::new(fixture("evidence_waits")).args(["pairs", "36"]).limit(40));
    assert!(number(&timed.plain, "refused") > 0, "{}", timed.plain);
    timed.as_fast();
    let (plain, preloaded) = (number(&timed.plain, "worked"), number(&timed.preloaded, "worked"));
    assert!(10 * preloaded >= 9 * plain, "{preloaded} worked, {plain} without the library: {}", timed.preloaded);
}

#[test]
fn threads_that_all_hold_one_when_none_is_left_are_not_kept_waiting_for_one_another() {
    // Three standard streams and 31 sockets: the first file can be opened when the first thread has given up.
    let timed = Timed::of(&Run::new(fixture("evidence_waits")).args(["pairs", "31"]).limit(34));
    timed.as_fast();
    let (plain, preloaded) = (number(&timed.plain, "worked"), number(&timed.preloaded, "worked"));
    assert!(10 * preloaded >= 9 * plain, "{preloaded} worked, {plain} without the library: {}", timed.preloaded);
}

/// How many of 60 clients, all at once, a pool server serves, and until when all have an answer.
fn served(preload: bool) -> (usize, Duration) {
    let run = Run::new(fixture("evidence_waits")).arg("pool").limit(40).preload(preload);
    let mut server = run.timeout(Duration::from_secs(60)).start();
    let port: u16 = server.wait_for("port").trim_start_matches("port ").parse().expect("a port");
    let before = Instant::now();
    let clients: Vec<_> = (0..60)
        .map(|_| {
            let mut client = TcpStream::connect(("127.0.0.1", port)).expect("the backlog is long enough");
            client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
            client.write_all(b"please\n").expect("a socket");
            thread::spawn(move || {
                let mut text = String::new();
                client.read_to_string(&mut text).is_ok() && text == "served\n"
            })
        })
        .collect();
    let served = clients.into_iter().map(|client| client.join().expect("no client panics")).filter(|&s| s).count();
    let took = before.elapsed();
    server.finish().passes();
    (served, took)
}

#[test]
fn a_pool_server_answers_those_it_has_accepted_first() {
    let (plain, plain_took) = served(false);
    // Whether the last descriptor goes to a worker or to one more client is chance: often enough for both.
    for _ in 0..15 {
        let (preloaded, took) = served(true);
        assert!(preloaded + 3 >= plain, "{preloaded} of 60 clients were served, {plain} without the library");
        assert!(
            took <= plain_took + GRACE,
            "all were answered after {took:?}, after {plain_took:?} without the library"
        );
    }
}

#[test]
fn a_class_path_of_150_jars_is_searched_as_fast_as_without_the_library() {
    let scratch = Scratch::new();
    let jar = "/usr/share/java/slf4j-api.jar";
    let jar = if std::path::Path::new(jar).exists() { jar } else { "/usr/share/java/log4j-api.jar" };
    let jars: Vec<String> = (0..150)
        .map(|i| {
            let copy = scratch.join(&format!("{i}.jar"));
            std::fs::copy(jar, &copy).expect("a jar of Debian's package liblog4j2-java");
            copy.display().to_string()
        })
        .collect();
    // The class is nowhere: every jar is opened, and those past the limit are passed over. What it says in the end depends on whether it
    // can read its own files then. It would raise its limit by itself.
    let run = java(scratch.path(), &jars.join(":")).args(["-XX:-MaxFDLimit", "NoSuchClass"]).limit(64);
    let timed = |preload: bool| {
        let before = Instant::now();
        let outcome = run.clone().timeout(Duration::from_secs(100)).preload(preload).output();
        outcome.fails();
        before.elapsed()
    };
    let (plain, preloaded) = (timed(false), timed(true));
    assert!(preloaded <= plain.mul_f64(1.5) + GRACE, "{preloaded:?}, and {plain:?} without the library");
}

#[test]
fn a_close_that_frees_no_descriptor_is_none() {
    for what in ["by-number", "memory"] {
        Timed::of(&Run::new(fixture("evidence_closes")).arg(what).limit(64)).as_fast().as_printed();
    }
}

#[test]
fn a_thread_that_has_asked_for_a_wait_makes_no_other_one_wait_as_long() {
    let outcome = Run::new(fixture("evidence_closes")).arg("asked").limit(64).preload(true).output();
    outcome.passes();
    assert!(outcome.stdout.contains("\nasked: EMFILE"), "{outcome}");
    let waited = number(&outcome, "not asked: EMFILE after ms");
    assert!(waited <= 3000, "{outcome}");
}

#[test]
fn a_limit_that_threads_have_raised_together_is_the_original_one_in_an_executed_program() {
    for _ in 0..60 {
        Timed::of(&Run::new(fixture("evidence_closes")).arg("raises").soft(64).hard(4096)).as_printed();
    }
}
