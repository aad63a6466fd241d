//! `tideover guard`: programs that run already, static ones and Go, are carried over their limit from outside, and none is harmed.

mod cost;
mod idle;
mod namespaces;
mod park;
mod policy;
mod raise;
mod refuse;
mod seen;
mod signals;
mod states;
mod unit;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::{Deref, DerefMut};
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::{Outcome, Run, Running, Scratch, fixture, tideover};

/// A guard whose state is in a folder of the test's.
fn guard(pages: &Scratch, words: &[&str]) -> Run {
    Run::new(tideover()).arg("guard").args(words).page_dir(pages.path()).timeout(Duration::from_secs(300))
}

/// A guard that holds its first target by now.
fn guards(pages: &Scratch, words: &[&str]) -> Running {
    let mut running = guard(pages, words).start();
    running.wait_for("is guarded");
    running
}

/// Stops a guard as its user would.
fn stop(guard: Running) -> Outcome {
    guard.signal(libc::SIGTERM);
    let outcome = guard.finish();
    outcome.passes();
    outcome
}

/// A program that would go on for ever; it is killed when this is dropped.
struct Server(Running);

impl Deref for Server {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
    }
}

/// A server of fixtures/guard_spins.c with a limit, and its port.
fn spins(limit: u64, arguments: &[&str]) -> (Server, u16) {
    let run = Run::new(fixture("guard_spins")).args(arguments).limit(limit).timeout(Duration::from_secs(300));
    let mut running = run.start();
    let port = port(&running.wait_for("port "));
    (Server(running), port)
}

fn port(line: &str) -> u16 {
    line.split_whitespace().last().and_then(|word| word.parse().ok()).expect("a port")
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the listener has room");
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn connect_all(port: u16, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(port)).collect()
}

/// Is a client served?
fn is_served(client: &mut TcpStream) -> bool {
    let mut byte = [0];
    client.write_all(b"x").is_ok() && client.read_exact(&mut byte).is_ok() && byte == *b"x"
}

/// Processor time of a process in ticks of 10 ms.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// For how long the threads of a process have run or waited for a processor, in nanoseconds.
fn wanted(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).expect("it runs");
        text.split_whitespace().take(2).map(|word| word.parse::<u64>().unwrap()).sum::<u64>()
    };
    threads.map(of).sum()
}

/// Part of a processor that a process wants, in percent: what it uses, and what it would use if the machine had nothing else to do.
fn wants(pid: u32, time: Duration) -> f64 {
    let (begun, before) = (Instant::now(), wanted(pid));
    thread::sleep(time);
    (wanted(pid) - before) as f64 * 100.0 / begun.elapsed().as_nanos() as f64
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what} did not happen in time");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The soft limit of a process.
fn soft(pid: u32) -> u64 {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("it runs");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}
