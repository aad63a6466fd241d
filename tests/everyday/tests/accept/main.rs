//! Servers at their limit, and clients that are counted: one small server per hazard, fixtures/server.c, and clients that are this
//! test.

mod limits;
mod parked;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tideover_tests::{Outcome, Page, Run, Running, Scratch, fixture, preload_fixture};

/// Descriptors of the server: some 24 clients fit.
const LIMIT: &str = "32";

/// Some clients fit, the others must wait.
const CLIENTS: usize = 60;

/// How long a server is looked at.
const WHILE: Duration = Duration::from_millis(400);

/// What takes longer than this does not happen.
const LONG: Duration = Duration::from_secs(20);

#[test]
fn clients_are_counted_however_they_are_copied_and_closed() {
    let both = Run::new(fixture("clients")).both();
    both.plain.fails().says("no library");
    both.preloaded.passes().says("0 wrong");
}

/// The server and its clients.
struct Server {
    running: Running,
    pid: u32,
    port: u16,
    waiting: Vec<TcpStream>,
    served: Vec<TcpStream>,
    /// How clients were turned away: None for an orderly end.
    away: Vec<Option<ErrorKind>>,
}

/// What the server says it has seen.
#[derive(Debug)]
struct Stats {
    accepts: u64,
    refused: u64,
    served: u64,
    clients: u64,
    cpu_ms: u64,
}

impl Server {
    fn start(words: &str, preload: bool, env: &[(&str, &str)]) -> Server {
        let mut run = Run::new(fixture("server")).arg(LIMIT).args(words.split(' ')).preload(preload);
        for (name, value) in env {
            run = run.env(name, value);
        }
        Server::of(run)
    }

    fn of(run: Run) -> Server {
        let mut running = run.timeout(Duration::from_secs(60)).start();
        let line = running.wait_for("port");
        let word = |name: &str| line.split(' ').skip_while(|w| *w != name).nth(1).expect("told").to_string();
        let (pid, port) = (word("pid").parse().expect("a number"), word("port").parse().expect("a number"));
        Server { running, pid, port, waiting: vec![], served: vec![], away: vec![] }
    }

    fn connect(&mut self, count: usize) {
        for _ in 0..count {
            let mut client = match TcpStream::connect(("127.0.0.1", self.port)) {
                Ok(client) => client,
                // It has been turned away before it knew that it was let in.
                Err(wrong) if wrong.kind() == ErrorKind::ConnectionReset => {
                    self.away.push(Some(ErrorKind::ConnectionReset));
                    continue;
                }
                Err(wrong) => panic!("the backlog has room: {wrong}"),
            };
            client.set_nonblocking(true).expect("it is a socket");
            match client.write_all(b"x") {
                Ok(()) => self.waiting.push(client),
                // It has been turned away already.
                Err(_) => self.away.push(Some(ErrorKind::ConnectionReset)),
            }
        }
    }

    /// Sees who was answered, and who was turned away.
    fn look(&mut self) {
        for mut client in std::mem::take(&mut self.waiting) {
            match client.read(&mut [0]) {
                Ok(1) => self.served.push(client),
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.waiting.push(client),
                Ok(_) => self.away.push(None),
                Err(e) => self.away.push(Some(e.kind())),
            }
        }
    }

    /// Waits until this holds. False: it never does.
    fn comes_true(&mut self, within: Duration, mut what: impl FnMut(&mut Server) -> bool) -> bool {
        let end = Instant::now() + within;
        loop {
            self.look();
            if what(self) {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Lets clients in until no more fit.
    fn fill(&mut self) {
        self.connect(CLIENTS);
        assert!(self.comes_true(LONG, |s| s.served.len() >= 15), "the first are served");
        // Until nobody more is served for a while.
        let mut last = (0, Instant::now());
        self.comes_true(LONG, |s| {
            if s.served.len() != last.0 {
                last = (s.served.len(), Instant::now());
            }
            last.1.elapsed() > Duration::from_millis(150)
        });
        assert!(self.served.len() < CLIENTS, "some can't be served");
    }

    /// Lets each client leave once it was served. False: some never are.
    fn drain(&mut self) -> bool {
        self.comes_true(LONG, |s| {
            s.served.pop();
            s.waiting.is_empty()
        })
    }

    fn page(&self) -> Page {
        Page::wait(self.running.page_dir(), self.pid)
    }

    fn counter(&self, name: &str) -> u64 {
        self.page().counter("connections", name)
    }

    fn ask(&mut self, what: &str) -> String {
        self.running.say(what);
        self.running.wait_for(&format!("{what}: "))
    }

    fn stats(&mut self) -> Stats {
        self.running.say("stats");
        Stats::read(&self.running.wait_for("accepts"))
    }

    /// What it says now, and after a while.
    fn stats_of_a_while(&mut self) -> (Stats, Stats) {
        let before = self.stats();
        std::thread::sleep(WHILE);
        (before, self.stats())
    }

    fn finish(self) -> Outcome {
        self.running.finish()
    }
}

impl Stats {
    fn read(line: &str) -> Stats {
        let number = |name: &str| {
            let word = line.split(' ').skip_while(|w| *w != name).nth(1);
            word.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {name} in {line:?}"))
        };
        Stats {
            accepts: number("accepts"),
            refused: number("refused"),
            served: number("served"),
            clients: number("clients"),
            cpu_ms: number("cpu_ms"),
        }
    }
}

/// A server at its limit, of which no accept(2) fails for lack of descriptors, and which makes fewer than `most` of them in 0.4 s; and the
/// milliseconds of processor time that it takes meanwhile.
#[track_caller]
fn full_and_calm(words: &str, most: u64) -> (Server, u64) {
    let mut server = Server::start(words, true, &[]);
    server.fill();
    let (before, after) = server.stats_of_a_while();
    let tries = after.accepts - before.accepts;
    assert!(tries < most, "{words}: {tries} accepts in 0.4 s");
    assert_eq!(after.refused, 0, "{words}: it saw EMFILE");
    (server, after.cpu_ms - before.cpu_ms)
}

/// A server at its limit: quiet, then everybody is served, and nothing stays parked.
#[track_caller]
fn is_quiet_and_serves_all(words: &str) {
    let (server, cpu_ms) = full_and_calm(words, 40);
    assert!(cpu_ms < 200, "{words}: {cpu_ms} ms in 0.4 s");
    assert!(server.counter("parked") > 0, "{words}: parked");
    serves_all(server, words);
}

/// Everybody is served, and nothing stays parked.
#[track_caller]
fn serves_all(mut server: Server, words: &str) {
    assert!(server.drain(), "{words}: {} were never served", server.waiting.len());
    server.served.clear();
    assert!(server.comes_true(LONG, |s| s.stats().clients == 0), "{words}: all have left");
    let stats = server.stats();
    assert_eq!(stats.served as usize, CLIENTS, "{words}");
    let mut more = 0;
    let all_back = |s: &mut Server| {
        let counters = ["unparked", "clients"].map(|name| s.counter(name) as usize);
        let all_served = s.served.len() == more;
        let back = all_served && counters == [s.counter("parked") as usize, more];
        if all_served && !back && words.contains("rawclose") && more < 10 {
            // Closes that nobody saw are noticed when the number of one comes back.
            std::thread::sleep(Duration::from_millis(100));
            s.connect(1);
            more += 1;
        }
        back
    };
    let counters = |s: &Server| ["parked", "unparked", "clients", "accepted"].map(|name| s.counter(name));
    assert!(server.comes_true(LONG, all_back), "{words}: {:?}", counters(&server));
    assert_eq!(server.counter("accepted") as usize, CLIENTS + more);
    server.finish().passes();
}

/// The control: without the library this server spins.
#[track_caller]
fn spins(words: &str) {
    let mut server = Server::start(words, false, &[]);
    server.fill();
    let before = server.stats().refused;
    let spins = server.comes_true(LONG, |s| s.stats().refused - before > 1000);
    assert!(spins, "{words}: {:?}, {before} at first", server.stats());
    server.finish().passes();
}

/// The control: without the library this server never hears of clients that had to wait.
#[track_caller]
fn forgets(words: &str) {
    let mut server = Server::start(words, false, &[]);
    server.fill();
    server.served.clear();
    let stuck = !server.comes_true(Duration::from_secs(1), |s| s.waiting.is_empty());
    assert!(stuck, "{words}: all are served");
    server.finish();
}

#[test]
fn the_error_is_passed_on_when_the_user_wants_that() {
    let mut server = Server::start("epoll", true, &[("TIDEOVER_ACCEPT", "pass")]);
    server.fill();
    assert!(server.stats().refused > 0);
    assert_eq!((server.counter("parked"), server.counter("phantom")), (0, 0));
    server.finish().passes();
}

#[test]
fn nothing_is_forgotten_in_a_server_whose_threads_do_everything_at_once() {
    let run = Run::new(fixture("churn")).arg("3").timeout(Duration::from_secs(60));
    run.output().fails().says("no library");
    let done =
        ["0 failed of many", "refused 0, clients 0 counted 0, parked and put back, 0 left open, 0 wrong", "often"];
    for (name, value) in [("TIDEOVER_ACCEPT", "park"), ("TIDEOVER_MAX_CLIENTS", "6")] {
        let outcome = run.clone().preload(true).env(name, value).output();
        for line in done {
            outcome.passes().says(line);
        }
    }
}
