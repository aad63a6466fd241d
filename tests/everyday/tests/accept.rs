//! Servers at their limit, and clients that are counted: one small server per hazard, fixtures/server.c, and clients that are this
//! test.

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

/// A server at its limit: quiet, then everybody is served, and nothing stays parked.
#[track_caller]
fn is_quiet_and_serves_all(words: &str) {
    let mut server = Server::start(words, true, &[]);
    server.fill();
    let before = server.stats();
    std::thread::sleep(WHILE);
    let after = server.stats();
    let tries = after.accepts - before.accepts;
    assert!(tries < 40, "{words}: {tries} accepts in 0.4 s");
    assert!(after.cpu_ms - before.cpu_ms < 200, "{words}: {before:?} {after:?}");
    assert_eq!(after.refused, 0, "{words}: it saw EMFILE");
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
fn a_level_triggered_server_neither_spins_nor_forgets() {
    spins("epoll");
    is_quiet_and_serves_all("epoll");
    is_quiet_and_serves_all("epoll pwait");
    is_quiet_and_serves_all("epoll pwait2");
}

#[test]
fn an_edge_triggered_server_hears_of_clients_that_had_to_wait() {
    forgets("epoll et");
    is_quiet_and_serves_all("epoll et");
    is_quiet_and_serves_all("epoll et exclusive");
}

#[test]
fn an_exclusive_listener_is_parked() {
    spins("epoll exclusive");
    is_quiet_and_serves_all("epoll exclusive");
}

#[test]
fn a_oneshot_listener_is_parked() {
    spins("epoll oneshot");
    is_quiet_and_serves_all("epoll oneshot");
}

#[test]
fn a_listener_in_two_sets_is_parked_in_both() {
    spins("epoll sets");
    is_quiet_and_serves_all("epoll sets");
    is_quiet_and_serves_all("epoll sets et");
    is_quiet_and_serves_all("epoll sets exclusive");
}

#[test]
fn two_listeners_of_one_port_are_parked_both() {
    spins("epoll reuseport");
    is_quiet_and_serves_all("epoll reuseport");
}

#[test]
fn a_listener_that_was_inherited_is_parked() {
    for from in ["fork", "exec", "scm"] {
        spins(&format!("epoll {from}"));
        is_quiet_and_serves_all(&format!("epoll {from}"));
        is_quiet_and_serves_all(&format!("epoll et {from}"));
    }
}

#[test]
fn a_listener_that_was_registered_unseen_is_parked() {
    for unseen in ["late", "raw", "dupset"] {
        spins(&format!("epoll {unseen}"));
        is_quiet_and_serves_all(&format!("epoll {unseen}"));
        is_quiet_and_serves_all(&format!("epoll et {unseen}"));
    }
}

#[test]
fn closes_that_nobody_sees_are_noticed() {
    is_quiet_and_serves_all("epoll rawclose");
    is_quiet_and_serves_all("epoll et rawclose");
}

#[test]
fn a_loop_that_polls_its_epoll_set_notices_them_too() {
    spins("epoll nested");
    is_quiet_and_serves_all("epoll nested rawclose");
    is_quiet_and_serves_all("epoll et nested rawclose");
}

#[test]
fn a_set_that_two_processes_wait_for_is_left_to_the_one_that_can_serve() {
    for words in ["epoll sharedset", "epoll sharedset et"] {
        let mut server = Server::start(words, true, &[]);
        server.connect(CLIENTS);
        // The child's limit is far below that; the parent has none.
        assert!(server.comes_true(LONG, |s| s.served.len() == CLIENTS), "{words}: {} served", server.served.len());
        server.served.clear();
        server.finish().passes();
    }
}

#[test]
fn another_thread_closes() {
    spins("epoll closer");
    is_quiet_and_serves_all("epoll closer");
    is_quiet_and_serves_all("epoll et closer");
    is_quiet_and_serves_all("epoll closer rawclose");
}

/// A server that can't be parked: it is slowed down, and hears EAGAIN.
#[track_caller]
fn is_paced_and_serves_all(words: &str) {
    let mut server = Server::start(words, true, &[]);
    server.fill();
    let before = server.stats();
    std::thread::sleep(WHILE);
    let after = server.stats();
    let tries = after.accepts - before.accepts;
    assert!(tries < 250, "{words}: {tries} accepts in 0.4 s");
    assert_eq!(after.refused, 0, "{words}: it saw EMFILE");
    serves_all(server, words);
}

#[test]
fn loops_over_poll_and_select_are_slowed_down() {
    for how in ["poll", "select", "poll epoll"] {
        spins(how);
        is_paced_and_serves_all(how);
    }
}

#[test]
fn threads_that_block_in_accept_wait_for_descriptors() {
    spins("threads closer");
    is_paced_and_serves_all("threads closer");
    is_paced_and_serves_all("threads closer rawclose");
}

/// A listener whose set refuses to be changed can't be parked, as is said: its loop is slowed down, and hears EAGAIN.
#[test]
fn a_set_that_refuses_to_be_changed_is_left_alone() {
    let run = Run::new(fixture("without_mod")).arg(fixture("server")).arg(LIMIT).arg("epoll");
    let [plain, ours] = [false, true].map(|preload| {
        let mut server = Server::of(run.clone().preload(preload));
        server.fill();
        assert_eq!(server.ask("mod"), "mod: EPERM");
        let before = server.stats();
        std::thread::sleep(WHILE);
        let after = server.stats();
        if preload {
            assert_eq!((after.refused, server.counter("parked")), (0, 0), "it saw EMFILE, or was parked");
            assert!(server.page().counter("calls", "bypassed") > 0);
        }
        assert!(server.drain(), "{} were never served", server.waiting.len());
        let outcome = server.finish();
        assert_eq!(outcome.passes().ours().iter().any(|line| line.contains("refuses (EPERM)")), preload, "{outcome}");
        after.accepts - before.accepts
    });
    assert!(ours < 250 && plain > 4 * ours, "{ours} accepts in 0.4 s, {plain} without the library");
}

/// The system's table of files is full, which every descriptor of every process may end: the clients wait.
#[test]
fn a_server_waits_for_a_file_of_the_system() {
    let scratch = Scratch::new();
    let full = scratch.join("full");
    for words in ["epoll", "poll", "threads"] {
        let run = Run::new(fixture("server")).arg("256").args(words.split(' '));
        let run = run.preload_after(preload_fixture("enfile")).env("ENFILE_WHILE", full.as_os_str());
        let [plain, ours] = [false, true].map(|preload| {
            fs::write(&full, "").expect("it is ours");
            let mut server = Server::of(run.clone().preload(preload));
            server.connect(CLIENTS);
            assert!(server.comes_true(LONG, |s| s.stats().accepts > 0), "{words}: it tries");
            std::thread::sleep(WHILE);
            let stats = server.stats();
            assert!(server.served.is_empty(), "{words}");
            fs::remove_file(&full).expect("it is ours");
            assert!(server.drain(), "{words}: {} were never served", server.waiting.len());
            if preload {
                let page = server.page();
                assert!(page.exhaustion("enfile") > 0 && page.exhaustion("emfile") == 0, "{words}: it was ENFILE");
            }
            server.finish().passes();
            stats
        });
        assert!(plain.refused > 1000, "{words}: without the library it spins: {plain:?}");
        assert!(ours.refused == 0 && ours.accepts < 250, "{words}: {ours:?}");
    }
}

#[test]
fn what_is_no_listener_gets_the_native_error() {
    let settings =
        ["ACCEPT=park", "ACCEPT=shed", "ACCEPT_RATE=1000", "MAX_CLIENTS=2", "OVER_LIMIT=refuse MAX_CLIENTS=2"];
    for words in settings {
        let run = words.split(' ').fold(Run::new(fixture("not_listeners")).limit(64), |run, word| {
            let (name, value) = word.split_once('=').expect("a setting");
            run.env(format!("TIDEOVER_{name}"), value)
        });
        let both = run.both();
        both.plain
            .passes()
            .says("at the limit, pipe: EMFILE EMFILE")
            .says("far from it, datagrams: EOPNOTSUPP EOPNOTSUPP");
        assert_eq!(both.plain.stdout, both.preloaded.passes().stdout, "{words}");
    }
}

/// Found by reading: a parked listener was heard of no more.
#[test]
fn waiting_clients_are_served_whoever_made_the_epoll_set_and_whatever_it_is_allowed() {
    for how in ["raw", "sandbox"] {
        let both = Run::new(fixture("edges_server")).arg(how).both();
        for outcome in [&both.plain, &both.preloaded] {
            outcome.passes();
            assert_eq!(outcome.stdout.trim(), "5 more", "{how}: {outcome}");
        }
    }
}

/// Found by reading: it tried for ever.
#[test]
fn a_client_that_can_not_even_be_turned_away_is_left_to_the_program() {
    let both = Run::new(fixture("no_reserve")).env("TIDEOVER_ACCEPT", "shed").both();
    both.plain.passes().says("accept: EMFILE").says("after a close: EMFILE");
    both.preloaded.passes().says("accept: EMFILE");
}

#[test]
fn epoll_ctl_answers_as_the_kernel_would_while_a_listener_is_parked() {
    let calls = ["mod", "mod", "del", "del", "mod", "add", "add", "mask", "mod", "del", "add"];
    for words in ["epoll", "epoll et", "epoll exclusive", "epoll oneshot", "epoll et exclusive"] {
        let [plain, ours] = [false, true].map(|preload| {
            let mut server = Server::start(words, preload, &[]);
            server.fill();
            let answers = calls.map(|call| server.ask(call));
            if preload {
                assert!(server.counter("parked") > 0, "{words}");
                serves_all(server, words);
            } else {
                server.finish().passes();
            }
            answers
        });
        assert_eq!(plain, ours, "{words}");
    }
}

#[test]
fn what_the_program_masks_while_parked_stays_masked() {
    let mut server = Server::start("epoll", true, &[]);
    server.fill();
    assert_eq!(server.ask("mask"), "mask: ok");
    let waiting = server.waiting.len();
    server.served.clear();
    server.comes_true(Duration::from_millis(500), |_| false);
    assert_eq!(server.waiting.len(), waiting, "nobody is served");
    assert_eq!(server.ask("mod"), "mod: ok");
    serves_all(server, "epoll");
}

#[test]
fn a_listener_or_a_set_that_is_closed_while_parked_is_forgotten() {
    for words in ["epoll", "epoll et", "epoll exclusive"] {
        let mut server = Server::start(words, true, &[]);
        server.fill();
        assert!(server.counter("parked") > 0);
        assert_eq!(server.ask("reopenset"), "reopenset: ok");
        server.served.clear();
        assert!(server.comes_true(LONG, |s| s.waiting.is_empty() || s.served.len() >= 15), "the new set is heard of");
        assert_eq!(server.ask("close"), "close: ok");
        server.served.clear();
        // Some of those who are served have not heard of it yet.
        let have_left = |s: &mut Server| {
            s.served.clear();
            s.stats().clients == 0
        };
        assert!(server.comes_true(LONG, have_left), "{words}: {:?}", server.stats());
        assert_eq!(server.counter("parked"), server.counter("unparked"));
        server.finish().passes();
    }
}

#[test]
fn accept_with_nobody_waiting_waits_or_says_so_at_the_limit() {
    for (how, truth) in [
        ("nonblock", "EAGAIN, at once"),
        ("syscall", "EAGAIN, at once"),
        ("timeout", "EAGAIN, after a while"),
        ("signal", "EINTR"),
        ("restart", "goes on\naccepted"),
        ("cancel", "cancelled"),
        ("client", "accepted"),
        ("shutdown", "EINVAL"),
    ] {
        let mut plain = Run::new(fixture("phantom")).arg(how).limit(32).start();
        plain.wait_for("EMFILE");
        plain.finish();
        let ours = Run::new(fixture("phantom")).arg(how).limit(32).preload(true).output();
        assert_eq!(ours.passes().stdout.trim(), truth, "{how}: {ours}");
    }
}

/// Who can't be served knows at once.
#[track_caller]
fn turns_away(words: &str, env: &[(&str, &str)], how: Option<ErrorKind>) {
    let mut server = Server::start(words, true, env);
    server.fill();
    let nobody_waits = |s: &mut Server| s.waiting.is_empty();
    assert!(server.comes_true(LONG, nobody_waits), "{words}: {} wait", server.waiting.len());
    assert!(!server.away.is_empty() && server.away.iter().all(|end| *end == how), "{words}: {:?}", server.away);
    assert_eq!(server.counter("shed") as usize, server.away.len(), "{words}");
    assert_eq!(server.counter("clients") as usize, server.served.len(), "{words}");
    // And one by one: what was borrowed for that was brought back each time.
    for _ in 0..10 {
        server.connect(1);
        assert!(server.comes_true(LONG, nobody_waits), "{words}: one waits");
    }
    // And again, after some have left.
    let before = (server.served.len(), server.away.len());
    server.served.truncate(5);
    assert!(server.comes_true(LONG, |s| s.counter("clients") == 5), "{words}: they have left");
    server.connect(8);
    assert!(server.comes_true(LONG, nobody_waits), "{words}: {} wait", server.waiting.len());
    assert!(server.served.len() > 8 && server.served.len() <= before.0, "{words}: {} served", server.served.len());
    let stats = server.stats();
    assert_eq!(stats.refused, 0, "{words}: it saw EMFILE");
    server.finish().passes();
}

/// The control for what follows: it is the library that these settings are for.
#[test]
fn settings_of_the_library_do_nothing_without_it() {
    for words in ["epoll", "poll", "threads closer"] {
        let settings = [("TIDEOVER_ACCEPT", "shed"), ("TIDEOVER_MAX_CLIENTS", "10"), ("TIDEOVER_OVER_LIMIT", "refuse")];
        let mut server = Server::start(words, false, &settings);
        server.fill();
        assert!(server.served.len() > 10, "{words}: {} served", server.served.len());
        assert!(server.away.is_empty() && !server.waiting.is_empty(), "{words}: {} turned away", server.away.len());
        server.finish().passes();
    }
}

#[test]
fn clients_are_turned_away_when_the_user_wants_that() {
    for words in ["epoll", "epoll et", "epoll exclusive", "poll", "epoll closer", "threads closer"] {
        turns_away(words, &[("TIDEOVER_ACCEPT", "shed")], Some(ErrorKind::ConnectionReset));
    }
    turns_away("epoll", &[("TIDEOVER_ACCEPT", "shed"), ("TIDEOVER_SHED_CLOSE", "fin")], None);
}

#[test]
fn clients_wait_for_a_while_before_they_are_turned_away() {
    let mut server = Server::start("epoll", true, &[("TIDEOVER_SHED_AFTER", "600ms")]);
    server.fill();
    assert!(server.away.is_empty(), "they wait at first");
    assert!(server.comes_true(LONG, |s| s.waiting.is_empty()), "{} wait", server.waiting.len());
    assert_eq!(server.counter("shed") as usize, server.away.len());
    server.served.clear();
    assert!(server.comes_true(LONG, |s| s.stats().clients == 0));
    server.connect(10);
    assert!(server.comes_true(LONG, |s| s.served.len() == 10), "there is room again");
    server.finish().passes();
}

/// Never more clients than the limit; all are served in the end.
#[track_caller]
fn limits_clients(words: &str, most: usize) {
    let setting = most.to_string();
    let mut server = Server::start(words, true, &[("TIDEOVER_MAX_CLIENTS", &setting)]);
    server.connect(CLIENTS);
    let mut seen = 0;
    assert!(server.comes_true(LONG, |s| s.served.len() >= most), "{words}: {} served", server.served.len());
    assert!(!server.comes_true(WHILE, |s| s.served.len() > most), "{words}: {} served", server.served.len());
    let stats = server.stats();
    assert!(stats.accepts < 300, "{words}: {stats:?}");
    let all = server.comes_true(LONG, |s| {
        seen = seen.max(s.counter("clients"));
        s.served.pop();
        s.waiting.is_empty()
    });
    assert!(all, "{words}: {} were never served", server.waiting.len());
    assert!(seen as usize <= most, "{words}: {seen} at once");
    server.served.clear();
    assert!(server.comes_true(LONG, |s| s.counter("clients") == 0 && s.counter("parked") == s.counter("unparked")));
    assert_eq!(server.stats().served as usize, CLIENTS);
    server.finish().passes();
}

#[test]
fn clients_over_the_limit_wait() {
    for words in [
        "epoll",
        "epoll et",
        "epoll sets",
        "epoll oneshot",
        "epoll exclusive",
        "poll",
        "threads closer",
        "epoll closer",
    ] {
        limits_clients(words, 10);
    }
    limits_clients("epoll", 1);
    limits_clients("threads closer", 1);
}

#[test]
fn clients_over_the_limit_are_refused() {
    for words in ["epoll", "epoll et", "poll", "threads closer"] {
        let mut server =
            Server::start(words, true, &[("TIDEOVER_MAX_CLIENTS", "10"), ("TIDEOVER_OVER_LIMIT", "refuse")]);
        server.connect(CLIENTS);
        assert!(server.comes_true(LONG, |s| s.waiting.is_empty()), "{words}: {} wait", server.waiting.len());
        assert_eq!((server.served.len(), server.away.len()), (10, CLIENTS - 10), "{words}");
        assert_eq!(server.counter("refused") as usize, CLIENTS - 10, "{words}");
        server.served.truncate(5);
        assert!(server.comes_true(LONG, |s| s.counter("clients") == 5), "{words}: they have left");
        server.connect(5);
        assert!(server.comes_true(LONG, |s| s.served.len() == 10), "{words}: there is room again");
        server.finish().passes();
    }
}

#[test]
fn clients_come_at_the_rate_that_is_set() {
    for words in ["epoll", "epoll et", "poll", "threads closer"] {
        let mut server = Server::start(words, true, &[("TIDEOVER_ACCEPT_RATE", "20")]);
        let begun = Instant::now();
        server.connect(20);
        assert!(server.comes_true(LONG, |s| s.served.len() == 20), "{words}: {} served", server.served.len());
        let took = begun.elapsed();
        // The first two come at once.
        assert!(took >= Duration::from_millis(850), "{words}: {took:?}");
        assert!(server.stats().accepts < 1000, "{words}: {:?}", server.stats());
        server.finish().passes();
    }
}

#[test]
fn limits_that_make_no_sense_are_said_so_and_have_no_effect() {
    for (name, value, says) in [
        ("TIDEOVER_MAX_CLIENTS", "0", "TIDEOVER_MAX_CLIENTS=0 is not off, or a whole number from 1 to 65535"),
        ("TIDEOVER_MAX_CLIENTS", "5000", "TIDEOVER_MAX_CLIENTS=5000 has no effect: the limit on descriptors is 32"),
        ("TIDEOVER_ACCEPT_RATE", "fast", "TIDEOVER_ACCEPT_RATE=fast is not off, or a whole number from 1"),
        ("TIDEOVER_ACCEPT", "perhaps", "TIDEOVER_ACCEPT=perhaps is not one of pass, park, shed"),
        ("TIDEOVER_SHED_AFTER", "5", "TIDEOVER_SHED_AFTER=5 is not off, or a duration"),
    ] {
        let mut server = Server::start("epoll", true, &[(name, value)]);
        server.fill();
        assert!(server.drain(), "{name}={value}: {} were never served", server.waiting.len());
        server.finish().passes().says(says);
    }
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
