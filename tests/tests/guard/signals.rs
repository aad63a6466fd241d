//! A program whose listener is parked and brought back all the time loses no signal, and its blocked calls return what they would.

use super::{Server, connect, guards, port, stop};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use tideover_tests::{Run, Scratch, fixture};

/// What the program says when it has got so many signals, or lost some; `while_busy` goes on until then.
fn outcome(count: u32, while_busy: impl FnOnce(&mut Server, u16)) -> String {
    let run = Run::new(fixture("guard_signals")).arg(count.to_string()).limit(32).timeout(Duration::from_secs(300));
    let mut running = run.start();
    let port = port(&running.wait_for("port "));
    running.say("go");
    let mut server = Server(running);
    while_busy(&mut server, port);
    server.wait_for("queued ")
}

fn says(count: u32) -> String {
    format!("queued {count} of {count}, 0 out of order; SIGUSR1 {0} of {0}, child 0; odd calls 0", count / 10)
}

#[test]
fn no_signal_is_lost_and_no_blocked_call_returns_early_while_a_listener_is_parked_in_a_loop() {
    assert_eq!(outcome(10_000, |_, _| ()).trim(), says(10_000), "without a guard");
    const ALL: u32 = 100_000;
    let pages = Scratch::new();
    let mut said = String::new();
    let found = outcome(ALL, |server, port| {
        let guard = guards(&pages, &["--park", &server.pid().to_string()]);
        let mut clients: Vec<TcpStream> = (0..60).map(|_| connect(port)).collect();
        let end = Instant::now() + Duration::from_secs(200);
        while !server.stdout_so_far().contains("queued ") && Instant::now() < end {
            // One goes, so that a descriptor is free, and one of those that wait has it.
            thread::sleep(Duration::from_millis(120));
            drop(clients.remove(0));
            clients.push(connect(port));
        }
        said = stop(guard).stdout;
    });
    let (parked, rearmed) = (said.matches("its listener is parked").count(), said.matches("listens again").count());
    println!("{ALL} queued signals, parked {parked} times, brought back {rearmed} times: {}", found.trim());
    assert!(parked >= 20 && rearmed >= 20, "parked {parked} times, brought back {rearmed} times");
    assert_eq!(found.trim(), says(ALL));
}
