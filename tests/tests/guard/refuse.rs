//! What is left alone, with the reason, before anything is touched.

use super::{guard, guards, spins, stop, wait_until};
use std::process::Command;
use std::time::Duration;
use tideover_tests::programs::bash;
use tideover_tests::running::Endless;
use tideover_tests::{Run, Scratch, fixture, library, program, tideover};

#[test]
fn init_this_test_and_processes_that_are_gone_are_refused() {
    let pages = Scratch::new();
    let mine = std::process::id().to_string();
    guard(&pages, &["1"]).output().fails().says("it is init").says("no process can be guarded");
    guard(&pages, &[&mine]).output().fails().says("this guard was started from it");
    guard(&pages, &["4194305"]).output().fails().says("there is no such process");
    guard(&pages, &["--dry-run", "4194305"]).output().fails().says("there is no such process");
    guard(&pages, &["--dry-run", "no-such-name"]).output().fails().says("no process is called so");
    for (words, says) in [(&["0"][..], "0 is no process id"), (&["[a"], "no pattern"), (&[], "PID or NAME")] {
        let outcome = guard(&pages, words).output();
        outcome.fails().says(says);
        assert_eq!(outcome.status.code(), Some(2), "{outcome}");
    }
}

#[test]
fn the_shell_that_it_was_started_from_is_refused() {
    let pages = Scratch::new();
    let script = format!("{} guard --page-dir {} $$; echo ended with $?", tideover().display(), pages.path().display());
    let outcome = bash(&script).output();
    outcome.passes().says("this guard was started from it").says("ended with 1");
}

/// In the pid namespace of a container, process 2 is another one or none: then it is only asked what could be done.
#[test]
fn a_thread_of_the_kernel_is_refused() {
    let pages = Scratch::new();
    let says = "it is a thread of the kernel, which has no descriptors";
    let asked = guard(&pages, &["--dry-run", "2"]).output();
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name == "kthreadd\n") {
        asked.fails().says(says);
        guard(&pages, &["2"]).output().fails().says(says);
    } else {
        asked.does_not_say(says);
    }
}

#[test]
fn a_process_that_has_the_library_is_left_to_it() {
    let pages = Scratch::new();
    let sleeper = Run::new(program("sleep", "coreutils")).arg("60").preload(true).start();
    let pid = sleeper.pid().to_string();
    let has_it =
        || std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("libtideover.so"));
    wait_until("loading", has_it);
    assert!(library().is_file());
    guard(&pages, &[&pid]).output().fails().says("it has libtideover.so");
    sleeper.signal(libc::SIGKILL);
}

#[test]
fn a_second_guard_for_the_same_target_refuses() {
    let pages = Scratch::new();
    let (server, _) = spins(64, &[]);
    let pid = server.pid().to_string();
    let first = guards(&pages, &[&pid]);
    guard(&pages, &[&pid]).output().fails().says("another guard has it already");
    guard(&pages, &["--status"]).output().passes().says("guard_spins");
    guard(&pages, &["--status", "--json"]).output().passes().says("\"rearmed\": 0");
    stop(first);
    guard(&pages, &["--status"]).output().passes().says("No process is guarded");
    stop(guards(&pages, &[&pid]));
}

#[test]
fn a_name_that_means_too_many_processes_is_taken_for_a_mistake() {
    let (folder, pages) = (Scratch::new(), Scratch::new());
    let named = folder.join("guard-many");
    std::fs::copy(program("sleep", "coreutils"), &named).unwrap();
    let many: Vec<Endless> = (0..101).map(|_| Endless::start(Command::new(&named).arg("60"))).collect();
    let outcome = guard(&pages, &["guard-many"]).output();
    outcome.fails().says("guard-many mean 101 processes; --all guards more than 100");
    assert_eq!(outcome.status.code(), Some(2));
    let guard = guards(&pages, &["--all", "guard-man[y]"]);
    drop(many);
    stop(guard);
}

#[test]
fn a_service_that_starts_later_is_found_and_one_that_ends_is_let_go() {
    let (folder, pages) = (Scratch::new(), Scratch::new());
    let named = folder.join("guard-later");
    std::fs::copy(fixture("guard_spins"), &named).unwrap();
    let mut guard = guard(&pages, &["guard-later"]).timeout(Duration::from_secs(60)).start();
    for _ in 0..2 {
        let service = Run::new(&named).start();
        let said = guard.wait_for("is guarded");
        assert!(said.contains(&format!("(process {})", service.pid())), "{said}");
        service.signal(libc::SIGKILL);
        service.finish();
        guard.wait_for("has ended");
    }
    stop(guard);
}
