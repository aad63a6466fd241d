//! Real servers at their limit: 200 clients where 64 descriptors are, some of which stay for a while. Without the library some spin,
//! flood their logs, turn clients away or never recover; with it none may be worse in anything that can be seen from outside.
//!
//! `make servers` runs the same longer and more often, measures servers that are far from any limit, and writes docs/servers.md.

use std::env;
use std::fmt::Write;
use std::time::{Duration, Instant};

use tideover_tests::load::{Then, quantile};
use tideover_tests::server::{SERVERS, Server};

const LIMIT: u64 = 64;
/// So many clients come at once and stay, if they are let in, and so many when those leave.
const CLIENTS: usize = 100;
/// Beyond this, whoever has not been answered will not be.
const PATIENCE: Duration = Duration::from_secs(4);
/// More failed accepts per second than this is spinning.
const SPINNING: f64 = 2000.0;

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
    /// A client that comes when all is over is answered.
    recovered: bool,
}

/// An error says what is missing on this machine.
fn see(server: &Server, preload: bool) -> Result<Seen, String> {
    let stay = Duration::from_millis(if full() { 5000 } else { 800 });
    let started = server.start(LIMIT, preload, |run| run)?;
    let (cpu, emfile, logged) = (started.cpu(), started.emfile(), started.logged());
    let mut crowd = started.crowd();
    crowd.come(CLIENTS);
    crowd.pass(stay / 4);
    let (tried, since) = (started.tried(), Instant::now());
    crowd.pass_all(stay - stay / 4);
    let tried = (started.tried() - tried) as f64 / since.elapsed().as_secs_f64();
    crowd.then(Then::Leave);
    if crowd.pass(PATIENCE) {
        crowd.come(CLIENTS);
        crowd.pass(PATIENCE);
    }
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
        recovered: started.answers(PATIENCE),
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
    ("takes more CPU time", |with, without| with.cpu > without.cpu.mul_f64(1.5) + Duration::from_millis(100)),
    ("takes more than a tenth of the CPU time", |with, without| {
        let part = if full() { 0.1 } else { 0.3 };
        without.spins() && with.cpu > without.cpu.mul_f64(part) + Duration::from_millis(50)
    }),
    ("answers later", |with, without| with.median > later(without.median)),
    ("answers some later", |with, without| with.p95 > later(without.p95)),
    ("logs more", |with, without| with.logged as f64 > 1.2 * without.logged as f64 + 5.0),
    ("is talked about too much", |with, _| with.ours > 10),
];

/// Half as long again, and a bit.
fn later(time: Duration) -> Duration {
    (time / 2).saturating_add(time).saturating_add(Duration::from_millis(200))
}

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

#[test]
fn servers_at_their_limit_are_worse_in_nothing() {
    let only = env::var("SERVERS_ONLY").unwrap_or_default();
    let (mut table, mut complaints) = (String::new(), String::new());
    let titles: Vec<&str> = COLUMNS.iter().map(|(title, _)| *title).collect();
    writeln!(table, "| server | {} |\n|---|{}", titles.join(" | "), "---|".repeat(titles.len())).expect("memory");
    for server in SERVERS.iter().filter(|s| s.name.contains(&only)) {
        let (without, with) = match see(server, false).and_then(|without| Ok((without, see(server, true)?))) {
            Ok(seen) => seen,
            Err(missing) => {
                println!("{}: skipped: {missing}", server.name);
                continue;
            }
        };
        let cells: Vec<String> = COLUMNS.iter().map(|(_, of)| format!("{} → {}", of(&without), of(&with))).collect();
        let row = format!("| {} | {} |", server.name, cells.join(" | "));
        println!("{row}");
        writeln!(table, "{row}").expect("memory");
        for (what, worse) in WORSE {
            if worse(&with, &without) {
                writeln!(complaints, "{} {what}: plain {without:?}, preloaded {with:?}", server.name).expect("memory");
            }
        }
    }
    println!("\n{table}");
    assert!(complaints.is_empty(), "\n{complaints}");
}
