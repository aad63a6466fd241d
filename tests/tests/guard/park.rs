//! Listeners of programs that spin at their limit.

use super::{Server, connect_all, guard, guards, is_served, spins, stop, wait_until, wants};
use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use tideover_contract::random::Random;
use tideover_tests::{Run, Scratch, tideover};

/// The masks of a process's items for its listener, descriptor 3.
pub fn masks(pid: u32) -> Vec<u32> {
    let mut masks = vec![];
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines().filter(|line| line.starts_with("tfd:")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[1] == "3" {
                masks.push(u32::from_str_radix(words[3], 16).unwrap());
            }
        }
    }
    masks
}

/// The mask of a listener that its program watches.
pub const LISTENS: u32 = 0x19;
/// The mask of one that is parked.
pub const PARKED: u32 = 0x418;

fn serve_all(clients: Vec<TcpStream>) {
    let count = clients.len();
    let served = clients.into_iter().filter_map(|mut client| is_served(&mut client).then_some(())).count();
    assert_eq!(served, count, "clients that were served in the end");
}

fn is_parked(server: &Server, sets: usize) -> bool {
    let masks = masks(server.pid());
    masks.len() == sets && masks.iter().all(|mask| *mask == PARKED)
}

/// The control and the test in one.
fn spins_until_it_is_parked(threads: usize) {
    let pages = Scratch::new();
    let (server, port) = spins(16 + threads as u64, &[&threads.to_string()]);
    let clients = connect_all(port, 60);
    thread::sleep(Duration::from_millis(300));
    let plain = wants(server.pid(), Duration::from_secs(2));
    let mut guard = guards(&pages, &["--park", &server.pid().to_string()]);
    guard.wait_for("its listener is parked");
    let parked = wants(server.pid(), Duration::from_secs(3));
    println!("{threads} sets: {plain:.1} % of a processor without, {parked:.1} % with --park");
    assert!(plain > 70.0 && parked < 2.0, "{plain} % without, {parked} % with");
    assert!(is_parked(&server, threads));
    serve_all(clients);
    let said = stop(guard).stdout;
    assert!(said.contains("listens again"), "{said}");
    assert_eq!(masks(server.pid()), vec![LISTENS; threads]);
}

#[test]
fn a_static_server_that_spins_at_its_limit_is_parked_and_serves_all_clients_in_the_end() {
    spins_until_it_is_parked(1);
}

#[test]
fn a_server_with_several_sets_is_parked_in_all_of_them() {
    spins_until_it_is_parked(3);
}

#[test]
fn each_of_several_workers_is_parked_by_itself() {
    let pages = Scratch::new();
    let (server, port) = spins(16, &["1", "3"]);
    let children = || fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid())).unwrap();
    wait_until("workers", || children().split_whitespace().count() == 2);
    let mut pids = vec![server.pid()];
    pids.extend(children().split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
    let clients = connect_all(port, 120);
    let words: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let words: Vec<&str> = std::iter::once("--park").chain(words.iter().map(String::as_str)).collect();
    let guard = guards(&pages, &words);
    wait_until("parking of all", || pids.iter().all(|pid| masks(*pid) == [PARKED]));
    serve_all(clients);
    stop(guard);
    assert!(pids.iter().all(|pid| masks(*pid) == [LISTENS]));
}

#[test]
fn what_could_harm_its_program_is_not_parked() {
    for (kind, reason) in [("pointer", "may be a pointer"), ("exclusive", "EPOLLEXCLUSIVE")] {
        let pages = Scratch::new();
        let (server, port) = spins(16, &["1", "1", kind]);
        wait_until("its set", || !masks(server.pid()).is_empty());
        let before = masks(server.pid());
        let pid = server.pid().to_string();
        guard(&pages, &["--dry-run", "--park", &pid]).output().passes().says(reason);
        let mut guard = guards(&pages, &["--park", &pid]);
        let _clients = connect_all(port, 40);
        guard.wait_for(reason);
        assert_eq!(masks(server.pid()), before, "{kind}");
        stop(guard);
    }
}

#[test]
fn a_server_that_does_not_spin_is_left_alone() {
    let pages = Scratch::new();
    let (server, port) = spins(16, &["1", "1", "edge"]);
    wait_until("its set", || !masks(server.pid()).is_empty());
    let before = masks(server.pid());
    let guard = guards(&pages, &["--park", &server.pid().to_string()]);
    let _clients = connect_all(port, 40);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(masks(server.pid()), before);
    let said = stop(guard).stdout;
    assert!(!said.contains("parked"), "{said}");
}

#[test]
fn no_listener_stays_parked_when_guards_are_killed() {
    let pages = Scratch::new();
    let (server, port) = spins(16, &[]);
    let pid = server.pid().to_string();
    let mut random = Random::new(17);
    let mut found_parked = 0;
    let mut clients = connect_all(port, 30);
    for round in 0..50 {
        let mut running = guards(&pages, &["--park", &pid]);
        // It parks a second after it has seen the target, and brings it back when clients go.
        if round % 5 == 4 {
            thread::sleep(Duration::from_millis(random.below(1200)));
        } else {
            running.wait_for("its listener is parked");
            if round % 3 == 0 {
                clients.truncate(4);
            }
            thread::sleep(Duration::from_millis(random.below(60)));
        }
        running.signal(libc::SIGKILL);
        running.finish();
        found_parked += u32::from(is_parked(&server, 1));
        if round % 2 == 0 {
            Run::new(tideover()).arg("clean").page_dir(pages.path()).output().passes();
            assert_eq!(masks(server.pid()), [LISTENS], "after clean, round {round}");
        }
        clients.extend(connect_all(port, 30 - clients.len()));
    }
    println!("in {found_parked} of 50 rounds the listener was parked when the guard was killed");
    assert!(found_parked > 5, "{found_parked}");
    // The next guard finds what the last one has left.
    let guard = guards(&pages, &["--park", &pid]);
    serve_all(clients);
    stop(guard);
    assert_eq!(masks(server.pid()), [LISTENS]);
    let left: Vec<_> = fs::read_dir(pages.path())
        .unwrap()
        .flatten()
        .flat_map(|it| fs::read_dir(it.path().join("guard")).unwrap())
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!server.ended());
}
