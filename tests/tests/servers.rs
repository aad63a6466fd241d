//! Real servers at their limit: 200 clients where 64 descriptors are, some of which stay for a while. Without the library some spin,
//! flood their logs, turn clients away or never recover; with it none may be worse in anything that can be seen from outside.
//!
//! `make servers` runs the same longer and more often, measures servers that are far from any limit, and with WRITE=1 writes docs/servers.md.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs};

use tideover_tests::load::{Crowd, HTTP, Then, quantile};
use tideover_tests::server::{SERVERS, Server};
use tideover_tests::{Page, Run, Scratch, program, workspace};

const LIMITED: &str = "At 64 descriptors: 100 clients stay, then 100 more come (plain → preloaded)";
const AGAIN: &str = "At 64 descriptors: 100 clients ask, leave and come again, for 3 s (plain → preloaded)";
const AT_EASE: &str = "Far from any limit: pairs by turns";
const COUNTED: &str = "Far from any limit: instructions per request, in user space (callgrind)";
const PAIRS: usize = 21;
const LIMIT: u64 = 64;
/// So many clients come at once and stay, if they are let in, and so many when those leave.
const CLIENTS: usize = 100;
/// More failed accepts per second than this is spinning.
const SPINNING: f64 = 2000.0;

/// One after the other, as far as figures matter.
static ALONE: Mutex<()> = Mutex::new(());

/// The whole comparison, rather than what the tests have time for.
fn full() -> bool {
    env::var_os("SERVERS_FULL").is_some()
}

/// What was seen of a server, from the first client to the last.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// Clients that got their answer.
    served: usize,
    /// How long clients waited; one that was not answered, for ever.
    median: Duration,
    p95: Duration,
    /// Clients that were turned away.
    refused: usize,
    /// Calls to accept in a second at the limit, as the kernel is asked.
    tried: f64,
    /// Calls to accept that told the program EMFILE.
    emfile: u64,
    cpu: Duration,
    /// Lines in its log, and of the library.
    logged: usize,
    ours: usize,
    /// Those who waited, those who came later, and one after that are answered, or told no.
    recovered: bool,
}

/// An error says what is missing on this machine.
fn see(server: &Server, preload: bool) -> Result<Seen, String> {
    let stay = Duration::from_millis(if full() { 5000 } else { 800 });
    // Whoever has not been answered by then will not be: some servers rest for a second.
    let patience = Duration::from_millis(if preload || full() { 10_000 } else { 2500 });
    let started = server.start(LIMIT, preload, |run| run)?;
    let (cpu, emfile, logged) = (started.cpu(), started.emfile(), started.logged());
    let mut crowd = started.crowd();
    crowd.come(CLIENTS);
    crowd.pass(stay / 4);
    let (tried, since) = (started.tried(), Instant::now());
    crowd.pass_all(stay - stay / 4);
    let tried = (started.tried() - tried) as f64 / since.elapsed().as_secs_f64();
    crowd.then(Then::Leave);
    let recovered = crowd.pass(patience) && {
        crowd.come(CLIENTS);
        crowd.pass(patience) && started.answers(patience)
    };
    let now = started.logged();
    let mut waited = crowd.served.clone();
    waited.resize(2 * CLIENTS, Duration::MAX);
    Ok(Seen {
        served: crowd.served.len(),
        median: quantile(&waited, 0.5),
        p95: quantile(&waited, 0.95),
        refused: crowd.refused,
        tried,
        emfile: started.emfile() - emfile,
        cpu: started.cpu() - cpu,
        logged: now.0 - logged.0,
        ours: now.1 - logged.1,
        recovered,
    })
}

impl Seen {
    fn spins(&self) -> bool {
        self.tried > SPINNING
    }
}

/// Preloaded and plain: is the first worse?
type Worse = fn(&Seen, &Seen) -> bool;

/// What is compared. The slack is what two runs of the same may differ by, on a machine that has other work.
#[rustfmt::skip]
const WORSE: &[(&str, Worse)] = &[
    ("does not recover", |with, _| !with.recovered),
    ("serves fewer", |with, without| with.served < without.served),
    ("refuses more", |with, without| with.refused > without.refused),
    ("accepts more often", |with, without| with.tried > 1.2 * without.tried + 100.0),
    ("spins", |with, without| without.spins() && with.tried * 10.0 > without.tried),
    ("is told EMFILE more often", |with, without| with.emfile > without.emfile),
    // For as many clients: one that stops serving takes none.
    ("takes more CPU time", |with, without| {
        let more = (with.served as f64 / without.served.max(1) as f64).max(1.0);
        with.cpu > without.cpu.mul_f64(1.5 * more) + Duration::from_millis(100)
    }),
    ("takes more than a tenth of the CPU time", |with, without| {
        let part = if full() { 0.1 } else { 0.3 };
        without.spins() && with.cpu > without.cpu.mul_f64(part) + Duration::from_millis(50)
    }),
    ("answers later", |with, without| with.median > later(without.median)),
    ("answers some later", |with, without| with.p95 > later(without.p95)),
    ("logs more", |with, without| with.logged as f64 > 1.2 * without.logged as f64 + 5.0),
    ("is talked about too much", |with, _| with.ours > 10),
];

/// Half as long again, and a second: a busy machine makes as much difference.
fn later(time: Duration) -> Duration {
    (time / 2).saturating_add(time).saturating_add(Duration::from_secs(1))
}

/// What is worse for a reason: a program that has a remedy of its own does not come to use it when it does not hear of EMFILE.
const EXCEPTIONS: &[(&str, &str)] = &[
    // Its child ends, and another takes the clients that wait; those who come meanwhile are refused. With the library they wait.
    ("Apache, event", "answers some later"),
];

/// A cell of the table.
type Cell = fn(&Seen) -> String;

/// The columns of the table.
#[rustfmt::skip]
const COLUMNS: &[(&str, Cell)] = &[
    ("served", |s| s.served.to_string()),
    ("refused", |s| s.refused.to_string()),
    ("recovers", |s| if s.recovered { "yes" } else { "no" }.into()),
    ("accepts/s", |s| thousands(s.tried as u64)),
    ("EMFILE seen", |s| thousands(s.emfile)),
    ("CPU s", |s| format!("{:.2}", s.cpu.as_secs_f64())),
    ("median ms", |s| milliseconds(s.median)),
    ("p95 ms", |s| milliseconds(s.p95)),
    ("log lines", |s| thousands(s.logged as u64)),
];

fn milliseconds(time: Duration) -> String {
    if time == Duration::MAX { "never".into() } else { format!("{:.0}", time.as_secs_f64() * 1e3) }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let grouped: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|part| std::str::from_utf8(part).expect("digits")).collect();
    grouped.join(",")
}

fn table(title: &str, columns: &[&str]) -> String {
    let rule = "---|".repeat(columns.len());
    format!("### {title}\n\n| {} |\n|{rule}\n", columns.join(" | "))
}

/// Prints a row, and adds it.
fn row(table: &mut String, cells: &[String]) {
    let row = format!("| {} |", cells.join(" | "));
    println!("{row}");
    writeln!(table, "{row}").expect("memory");
}

/// All, or those that SERVERS_ONLY has in their names.
fn chosen() -> impl Iterator<Item = &'static Server> {
    let only = env::var("SERVERS_ONLY").unwrap_or_default();
    SERVERS.iter().filter(move |server| server.name.contains(&only))
}

#[test]
fn servers_at_their_limit_are_worse_in_nothing() {
    let _alone = ALONE.lock();
    let titles: Vec<&str> = ["server"].into_iter().chain(COLUMNS.iter().map(|(title, _)| *title)).collect();
    let (mut all, mut complaints) = (table(LIMITED, &titles), String::new());
    for server in chosen() {
        let (without, with) = match see(server, false).and_then(|without| Ok((without, see(server, true)?))) {
            Ok(seen) => seen,
            Err(missing) => {
                writeln!(complaints, "{}: {missing}", server.name).expect("memory");
                continue;
            }
        };
        let compared = COLUMNS.iter().map(|(_, of)| format!("{} → {}", of(&without), of(&with)));
        row(&mut all, &[server.name.to_string()].into_iter().chain(compared).collect::<Vec<_>>());
        for (what, worse) in WORSE {
            if worse(&with, &without) && !EXCEPTIONS.contains(&(server.name, *what)) {
                writeln!(complaints, "{} {what}: plain {without:?}, preloaded {with:?}", server.name).expect("memory");
            }
        }
    }
    println!("\n{all}");
    document(&all);
    assert!(complaints.is_empty(), "\n{complaints}");
}

/// Go makes its own system calls. With cgo its programs load the library, which sees nothing; without they can't.
#[test]
fn go_is_out_of_reach_and_undisturbed() {
    for (name, loads) in [("Go net/http", true), ("Go net/http, no cgo", false)] {
        let started = Server::named(name).start(LIMIT, true, |run| run);
        let started = started.unwrap_or_else(|missing| panic!("{name}: {missing}"));
        let mut crowd = started.crowd();
        crowd.then(Then::Leave);
        crowd.come(CLIENTS);
        assert!(crowd.pass(Duration::from_secs(20)));
        assert_eq!((crowd.served.len(), crowd.refused), (CLIENTS, 0));
        assert_eq!(started.logged().1, 0, "the library had nothing to say");
        let maps = fs::read_to_string(format!("/proc/{}/maps", started.pid())).expect("it runs");
        assert_eq!(maps.contains("libtideover.so"), loads);
        if loads {
            assert_eq!(started.running().page().counter("connections", "accepted"), 0);
        } else {
            assert!(Page::read(started.running().page_dir(), started.pid()).is_none());
        }
    }
}

// What `make servers` measures besides.

/// What a server did for clients that come again and again.
#[derive(Default)]
struct Churn {
    seconds: f64,
    served: Vec<Duration>,
    refused: usize,
    tried: u64,
    cpu: Duration,
    logged: usize,
}

impl Churn {
    fn add(&mut self, server: &Server, preload: bool) -> Result<(), String> {
        let started = server.start(LIMIT, preload, |run| run)?;
        let (cpu, tried, logged, since) = (started.cpu(), started.tried(), started.logged().0, Instant::now());
        let mut crowd = started.crowd();
        crowd.then(Then::Return);
        crowd.come(CLIENTS);
        crowd.pass_all(Duration::from_millis(1500));
        self.seconds += since.elapsed().as_secs_f64();
        self.served.extend(&crowd.served);
        self.refused += crowd.refused;
        self.tried += started.tried() - tried;
        self.cpu += started.cpu() - cpu;
        self.logged += started.logged().0 - logged;
        Ok(())
    }

    fn cells(&self) -> [String; 6] {
        let answers = self.served.len().max(1) as f64;
        [
            thousands((answers / self.seconds) as u64),
            thousands((self.refused as f64 / self.seconds) as u64),
            milliseconds(quantile(&self.served, 0.95)),
            format!("{:.2}", self.tried as f64 / answers),
            format!("{:.0}", self.cpu.as_secs_f64() * 1e6 / answers),
            thousands((self.logged as f64 / self.seconds) as u64),
        ]
    }
}

#[test]
#[ignore = "takes minutes: make servers"]
fn clients_that_come_again_and_again() {
    let _alone = ALONE.lock();
    let titles =
        ["server", "answers/s", "refused/s", "p95 ms", "accepts per answer", "CPU us per answer", "log lines/s"];
    let mut all = table(AGAIN, &titles);
    for server in chosen() {
        let mut both = [Churn::default(), Churn::default()];
        // Who comes first, on a machine with other work, is better off.
        let all_there = [0, 1, 1, 0].iter().all(|&side| both[side].add(server, side == 1).is_ok());
        if all_there {
            let [without, with] = both.map(|churn| churn.cells());
            let compared = without.iter().zip(&with).map(|(a, b)| format!("{a} → {b}"));
            row(&mut all, &[server.name.to_string()].into_iter().chain(compared).collect::<Vec<_>>());
        }
    }
    document(&all);
}

/// Requests per second: what a client program says before this word, or after.
fn rate(command: &mut Command, word: &str, at: isize) -> f64 {
    let said = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&said.stdout);
    let words: Vec<&str> = text.split_whitespace().collect();
    let found = words.iter().rposition(|w| *w == word).and_then(|i| words.get(i.checked_add_signed(at)?)?.parse().ok());
    found.unwrap_or_else(|| panic!("{command:?}: {text}{}", String::from_utf8_lossy(&said.stderr)))
}

fn wrk(port: u16, header: &str) -> f64 {
    let mut command = Command::new(program("wrk", "wrk"));
    command.args(["-t1", "-c16", "-d1s", "-H", header]).arg(format!("http://127.0.0.1:{port}/"));
    rate(&mut command, "Requests/sec:", 1)
}

fn redis_benchmark(port: u16) -> f64 {
    let mut command = Command::new(program("redis-benchmark", "redis-tools"));
    command.args(["-p", &port.to_string(), "-c", "16", "-n", "60000", "-t", "get", "-q"]);
    rate(&mut command, "requests", -1)
}

/// What is measured, the server, and how: its port in, requests per second out.
type Speed = (&'static str, &'static str, fn(u16) -> f64);

const SPEEDS: &[Speed] = &[
    ("nginx, connections kept", "nginx", |port| wrk(port, "Connection: keep-alive")),
    ("nginx, a connection per request", "nginx", |port| wrk(port, "Connection: close")),
    ("redis-server, GET", "redis-server", redis_benchmark),
];

#[test]
#[ignore = "takes minutes: make servers"]
fn servers_far_from_their_limit_are_as_fast_as_without_the_library() {
    let _alone = ALONE.lock();
    let titles =
        ["server", "plain, requests/s", "preloaded", "ratio: median of pairs", "quartiles", "target", "verdict"];
    let mut all = table(AT_EASE, &titles);
    for (title, name, speed) in SPEEDS {
        let ports = [false, true]
            .map(|preload| Server::named(name).start_at_ease(preload, |run| run).expect("it is installed"));
        let mut seen = [vec![], vec![], vec![]];
        for pair in 0..PAIRS {
            let mut both = [0.0; 2];
            for side in [pair % 2, 1 - pair % 2] {
                both[side] = speed(ports[side].port());
            }
            for (values, value) in seen.iter_mut().zip([both[0], both[1], both[1] / both[0]]) {
                values.push(value);
            }
        }
        let [plain, preloaded, ratio] = seen.map(|mut values| {
            values.sort_by(f64::total_cmp);
            [1, 2, 3].map(|quarter| values[PAIRS * quarter / 4])
        });
        let cells = [
            title.to_string(),
            thousands(plain[1] as u64),
            thousands(preloaded[1] as u64),
            format!("{:.3}", ratio[1]),
            format!("{:.3} to {:.3}", ratio[0], ratio[2]),
            ">= 0.99".into(),
            if ratio[1] >= 0.99 { "met" } else { "MISSED" }.into(),
        ];
        row(&mut all, &cells);
    }
    document(&all);
}

/// Instructions per request of a preloaded server: the library's, and all. Its own vary, since a server does things as time goes by.
fn instructions(name: &str, requests: fn(u16, usize)) -> [f64; 2] {
    let [few, many] = [200, 4200].map(|count| {
        let folder = Scratch::new();
        let counts = folder.join("callgrind");
        let traced = |run: Run| {
            let tool = ["--tool=callgrind".to_string(), format!("--callgrind-out-file={}", counts.display())];
            let alone: &[&str] = if name == "nginx" { &["-g", "master_process off;"] } else { &[] };
            Run::new(program("valgrind", "valgrind")).args(tool).args(run.command()).args(alone)
        };
        let started = Server::named(name).start_at_ease(true, traced).expect("it is installed");
        requests(started.port(), count);
        started.stop();
        let mut annotate = Command::new(program("callgrind_annotate", "valgrind"));
        let said = annotate.arg("--threshold=100").arg(counts).output().expect("it runs").stdout;
        let text = String::from_utf8_lossy(&said).into_owned();
        let of = |what: &str| -> f64 {
            let lines = text.lines().filter(|line| line.contains(what));
            lines.filter_map(|line| line.split('(').next()?.trim().replace(',', "").parse::<f64>().ok()).sum()
        };
        [of("libtideover.so]"), of("PROGRAM TOTALS")]
    });
    [0, 1].map(|i| (many[i] - few[i]) / 4000.0)
}

fn connections(port: u16, count: usize) {
    for _ in 0..count {
        let mut crowd = Crowd::new(port, HTTP);
        crowd.come(1);
        assert!(crowd.pass(Duration::from_secs(30)) && crowd.served.len() == 1);
    }
}

fn questions(port: u16, count: usize) {
    let mut server = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    for _ in 0..count {
        server.write_all(b"PING\r\n").expect("it reads");
        server.read_exact(&mut [0; 7]).expect("it answers");
    }
}

/// What is measured, the server, and its requests.
type Requests = (&'static str, &'static str, fn(u16, usize));

const REQUESTS: &[Requests] =
    &[("nginx, a connection per request", "nginx", connections), ("redis-server, PING", "redis-server", questions)];

#[test]
#[ignore = "takes minutes: make servers"]
fn the_library_adds_few_instructions_to_a_request() {
    let _alone = ALONE.lock();
    let mut all = table(COUNTED, &["request", "in all", "in the library"]);
    for (title, name, requests) in REQUESTS {
        let [ours, whole] = instructions(name, *requests);
        row(&mut all, &[title.to_string(), thousands(whole as u64), format!("{ours:.0}")]);
    }
    document(&all);
}

/// With UPDATE_DOCS, puts a table into docs/servers.md, in the place of its last version.
fn document(table: &str) {
    if env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    let path = workspace().join("docs/servers.md");
    let text = fs::read_to_string(&path).expect("docs/servers.md");
    let title = table.lines().next().expect("a table has a title");
    let (before, rest) = text.split_once(title).unwrap_or((&text, ""));
    let after = rest.split_once("\n###").map_or(String::new(), |(_, after)| format!("\n###{after}"));
    fs::write(&path, format!("{}\n\n{}{after}", before.trim_end(), table)).expect("docs/servers.md can be written");
}
