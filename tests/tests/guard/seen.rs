//! What a guard does is seen in `guard --status`, `ps`, `top` and `metrics`, in text and in JSON.

use super::{Server, connect_all, guards, spins, stop, wait_until};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use tideover_tests::terminal::Terminal;
use tideover_tests::{Outcome, Run, Running, Scratch, tideover};

fn command(pages: &Scratch, words: &[&str]) -> Outcome {
    Run::new(tideover()).args(words).arg("--page-dir").arg(pages.path()).output()
}

fn json(pages: &Scratch, words: &[&str]) -> Value {
    serde_json::from_str(&command(pages, words).passes().stdout).expect("JSON")
}

/// A server whose listener is parked, its guard, and its clients.
fn parked(pages: &Scratch) -> (Server, Running, Vec<TcpStream>) {
    let (server, port) = spins(16, &[]);
    let mut guard = guards(pages, &["--park", &server.pid().to_string()]);
    let clients = connect_all(port, 30);
    guard.wait_for("its listener is parked");
    (server, guard, clients)
}

/// The value of a metric for the server, whatever its service is.
fn metric(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{program=\"guard_spins\"")))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn a_parked_process_is_listed_by_all_commands_and_so_is_one_whose_guard_was_killed() {
    let pages = Scratch::new();
    let (server, guard, clients) = parked(&pages);
    let pid = server.pid();
    let listed = command(&pages, &["ps"]);
    listed.passes().says("Guarded from outside:").says("guard_spins").does_not_say("No guarded process");
    let line = listed.stdout.lines().find(|line| line.contains("guard_spins")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let (guard_pid, server_pid) = (guard.pid().to_string(), pid.to_string());
    assert_eq!(words, [&guard_pid, &server_pid, "guard_spins", "16", "16", "0", "0", "1", "0", "parked"], "{listed}");
    let element = json(&pages, &["ps", "--json"])[0].clone();
    assert_eq!((&element["pid"], &element["descriptors"]["used"]), (&pid.into(), &16.into()), "{element}");
    assert_eq!((&element["version"], &element["exhaustion"]["emfile"]), (&Value::Null, &0.into()));
    let of = |key: &str| element["guard"][key].clone();
    assert_eq!((of("pid"), of("is_parked"), of("parked")), (guard.pid().into(), true.into(), 1.into()), "{element}");
    command(&pages, &["stat", &server_pid]).fails().says(&format!("process {guard_pid} guards it from outside"));
    let metrics = command(&pages, &["metrics"]).passes().stdout.clone();
    for (name, value) in [
        ("tideover_guard_processes", 1),
        ("tideover_guard_processes_parked", 1),
        ("tideover_guard_processes_abandoned", 0),
        ("tideover_guard_parked_total", 1),
        ("tideover_guard_rearmed_total", 0),
        ("tideover_guard_raised_total", 0),
        ("tideover_guard_idle_ended_total", 0),
    ] {
        assert_eq!(metric(&metrics, name), Some(value), "{name}\n{metrics}");
    }
    // With no guard left, it is still told what needs to be done.
    guard.signal(libc::SIGKILL);
    guard.finish();
    command(&pages, &["guard", "--status"]).passes().says("abandoned: its guard was killed").says("tideover clean");
    assert_eq!(json(&pages, &["guard", "--status", "--json"])["targets"][0]["abandoned"], true);
    let metrics = command(&pages, &["metrics"]).passes().stdout.clone();
    assert_eq!(metric(&metrics, "tideover_guard_processes_abandoned"), Some(1), "{metrics}");
    command(&pages, &["clean"]).passes().says("Brought back 1 listener");
    command(&pages, &["ps"]).passes().says("No guarded process");
    drop(clients);
}

#[test]
fn top_shows_what_the_guard_has_done() {
    let pages = Scratch::new();
    let (server, guard, clients) = parked(&pages);
    let folder = pages.path().to_str().unwrap().to_string();
    let top = Terminal::run(&[tideover().to_str().unwrap(), "top", "--interval", "100ms", "--page-dir", &folder]);
    let row = format!("{:>7} guard_spi ########## 100%      16      16", server.pid());
    top.wait_until("the row", |lines| {
        lines[0].starts_with("tideover 1 of 1 guarded")
            && lines[2].starts_with(&row)
            && lines[2].trim_end().ends_with(" parked")
    });
    top.press(&["Enter"]);
    top.wait_until("what was done", |lines| {
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        has(&format!("guarded from outside by process {}", guard.pid()))
            && has("raised 0 times, 0 idle clients ended, parked 1 time")
    });
    drop(clients);
    top.wait_until("that it listens again", |lines| lines[2].trim_end().ends_with(" guard"));
    stop(guard);
    top.press(&["q"]);
}

fn get(address: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn served_counters_do_not_fall_when_a_process_or_its_guard_ends() {
    let pages = Scratch::new();
    let serve = Run::new(tideover()).args(["metrics", "--listen", "127.0.0.1:0", "--page-dir"]).arg(pages.path());
    let mut metrics = serve.start();
    let line = metrics.wait_for("Serving");
    let address = line.split(['/', ' ']).find(|word| word.starts_with("127.")).expect("an address").to_string();
    let (server, guard, clients) = parked(&pages);
    let total = |name: &str| metric(&get(&address), name);
    assert_eq!(total("tideover_guard_parked_total"), Some(1));
    drop(clients);
    wait_until("bringing it back", || total("tideover_guard_rearmed_total") == Some(1));
    stop(guard);
    assert_eq!(total("tideover_guard_parked_total"), Some(1), "its guard has ended");
    // The next guard begins at 0.
    let guard = guards(&pages, &[&server.pid().to_string()]);
    assert_eq!((total("tideover_guard_parked_total"), total("tideover_guard_processes")), (Some(1), Some(1)));
    drop(server);
    guard.finish().passes();
    assert_eq!((total("tideover_guard_rearmed_total"), total("tideover_guard_processes")), (Some(1), None));
    metrics.signal(libc::SIGTERM);
}
