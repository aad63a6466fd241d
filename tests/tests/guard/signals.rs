//! A program whose listener is parked and brought back all the time loses no signal, and its blocked calls return what they would.

use super::{Server, connect, guards, port, stop};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};
use tideover_tests::{Run, Scratch, fixture};

/// What the program says when it has got so many signals, or lost some; between each ten it rests. `while_busy` goes on until then.
fn outcome(count: u32, rest_us: u32, while_busy: impl FnOnce(&mut Server, u16)) -> String {
    let run = Run::new(fixture("guard_signals")).args([count.to_string(), rest_us.to_string()]);
    let mut running = run.limit(32).timeout(Duration::from_secs(300)).start();
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
    assert_eq!(outcome(10_000, 0, |_, _| ()).trim(), says(10_000), "without a guard");
    const ALL: u32 = 100_000;
    let pages = Scratch::new();
    let mut said = String::new();
    let found = outcome(ALL, 3000, |server, port| {
        let mut guard = guards(&pages, &["--park", &server.pid().to_string()]);
        let mut clients: Vec<TcpStream> = (0..60).map(|_| connect(port)).collect();
        guard.wait_for("its listener is parked");
        let end = Instant::now() + Duration::from_secs(200);
        while !server.stdout_so_far().contains("queued ") && Instant::now() < end {
            // One goes, so that a descriptor is free, and one of those that wait has it; soon it is known to spin again.
            let cycles = guard.stdout_so_far().matches("its listener is parked").count();
            drop(clients.remove(0));
            clients.push(connect(port));
            let soon = Instant::now() + Duration::from_secs(2);
            while guard.stdout_so_far().matches("its listener is parked").count() == cycles && Instant::now() < soon {
                thread::sleep(Duration::from_millis(10));
            }
        }
        said = stop(guard).stdout;
    });
    let (parked, rearmed) = (said.matches("its listener is parked").count(), said.matches("listens again").count());
    println!("{ALL} queued signals, parked {parked} times, brought back {rearmed} times: {}", found.trim());
    assert!(parked >= 10 && rearmed >= 10, "parked {parked} times, brought back {rearmed} times");
    assert_eq!(found.trim(), says(ALL));
}
