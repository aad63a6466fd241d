//! Clients: limits on connections, times for connect, local ports that are gone; each without the library and with it.

mod clients;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tideover_tests::programs::python;
use tideover_tests::{Both, Page, Run, Scratch, fixture, needs, preload_fixture, program, tideover};

/// A case of fixtures/connects.c, with short waits: what is hopeless is over in some 300 ms.
fn connects(case: &str) -> Run {
    let run = Run::new(fixture("connects")).args(case.split(' '));
    run.env("TIDEOVER_INITIAL_WAIT", "50ms").env("TIDEOVER_MAX_RETRIES", "3").env("TIDEOVER_BREAKER_FAILURES", "0")
}

/// Asserts what a case printed, line by line.
#[track_caller]
fn assert_said(outcome: &tideover_tests::Outcome, lines: &[&str]) {
    assert_eq!(outcome.passes().stdout.lines().collect::<Vec<_>>(), lines, "{outcome}");
}

#[test]
fn threads_that_connect_wait_for_their_turn_and_nobody_is_refused() {
    for limit in ["TIDEOVER_MAX_CONNECTIONS", "TIDEOVER_MAX_PER_ENDPOINT"] {
        // Patient: under load a turn may take a while to come.
        let both = Run::new(fixture("connects")).args(["pool", "4"]).env(limit, "4").both();
        both.plain.fails().says("above the limit, 0 refused");
        both.preloaded.passes().says("within the limit, 0 refused");
        assert!(both.preloaded.ours().is_empty(), "a limit that does its work is no news: {}", both.preloaded);
    }
}

/// What one thread is told of a limit of two, and what of its calls the limit does not concern.
fn kinds(third: &str, elsewhere: &str, counted: &str) -> Vec<String> {
    format!(
        "two: ok ok
the second asks how it went: ok
and again: EISCONN
third: {third}
third, non-blocking: {third}
elsewhere: {elsewhere}
UDP: ok
unix: ok
a bad pointer: EFAULT
a short address: EINVAL
no descriptor: EBADF
no socket: ENOTSOCK
disconnected: ok
third: ok
{counted} counted"
    )
    .lines()
    .map(str::to_string)
    .collect()
}

#[test]
fn a_limit_concerns_connections_of_tcp_and_nothing_else() {
    let cases = [("TIDEOVER_MAX_CONNECTIONS", "EAGAIN"), ("TIDEOVER_MAX_PER_ENDPOINT", "ok")];
    for (limit, elsewhere) in cases {
        let both = connects("kinds").env(limit, "2").both();
        let lines = |outcome: &tideover_tests::Outcome| outcome.stdout.lines().map(str::to_string).collect::<Vec<_>>();
        assert_eq!(lines(&both.plain), kinds("ok", "ok", "-1"));
        assert_eq!(lines(&both.preloaded), kinds("EAGAIN", elsewhere, "2"), "{}", both.preloaded);
        let said = both.preloaded.ours();
        assert!(said.len() == 1 && said[0].contains(limit) && said[0].contains("to help"), "{}", both.preloaded);
    }
    // Without a limit nothing is counted, and nothing is different.
    let unlimited = connects("kinds").both();
    assert_eq!(unlimited.plain.stdout.replace("-1 counted", "0 counted"), unlimited.preloaded.stdout);
    assert!(unlimited.preloaded.ours().is_empty());
}

#[test]
fn an_address_of_ipv4_is_the_same_endpoint_when_it_is_written_as_ipv6() {
    let both = connects("mapped").env("TIDEOVER_MAX_PER_ENDPOINT", "1").both();
    assert_said(&both.plain, &["IPv6: ok", "IPv4: ok", "another address: ECONNREFUSED"]);
    assert_said(&both.preloaded, &["IPv6: ok", "IPv4: EAGAIN", "another address: ECONNREFUSED"]);
}

#[test]
fn a_connection_that_was_lost_gives_its_turn_back() {
    let both = connects("lost").env("TIDEOVER_MAX_CONNECTIONS", "2").both();
    assert_said(&both.plain, &["third: ok", "kept kept, a fourth: ok", "-1 counted"]);
    // The first was refused soon after its connect, which is found when the limit bites; the second is reset later.
    assert_said(&both.preloaded, &["third: ok", "kept kept, a fourth: ok", "2 counted"]);
    let limited = connects("lost").env("TIDEOVER_MAX_CONNECTIONS", "1").preload(true).output();
    assert_said(&limited, &["third: EAGAIN", "kept kept, a fourth: ok", "1 counted"]);
}

#[test]
fn connections_are_counted_however_they_are_copied_and_closed() {
    let both = connects("copies").env("TIDEOVER_MAX_CONNECTIONS", "100").both();
    both.plain.fails().says("no library");
    assert_said(&both.preloaded, &["0 wrong"]);
}

#[test]
fn eight_threads_connect_and_close_at_random_and_the_count_stays_right() {
    // The issue asks for 60 s: CHURN_SECONDS=60 cargo test -p tideover-tests --test connect churn
    let seconds = std::env::var("CHURN_SECONDS").unwrap_or_else(|_| "0".into());
    let most = Duration::from_secs(60 + 2 * seconds.parse().unwrap_or(0));
    let run = connects("churn 30").env("TIDEOVER_MAX_CONNECTIONS", "30").env("CHURN_SECONDS", seconds).timeout(most);
    let both = run.both();
    both.plain.fails().says("-1 counted, ");
    both.preloaded.passes().says("some turned away: yes, 0 wrong");
}

#[test]
fn a_thread_that_waits_for_its_turn_can_be_cancelled_and_is_woken_by_a_close() {
    let run = Run::new(fixture("connects")).arg("turns").env("TIDEOVER_MAX_CONNECTIONS", "1");
    assert_said(&run.clone().preload(true).output(), &["waiting", "cancelled: yes", "after a close: ok", "1 counted"]);
    run.output().passes().says("not waiting").says("cancelled: no");
}

#[test]
fn a_connect_without_an_answer_ends_in_time_and_its_socket_is_as_new() {
    let both = connects("late 200").env("TIDEOVER_CONNECT_TIMEOUT", "200ms").both();
    both.plain.fails().says("still waiting").does_not_say("no answer");
    assert_said(
        &both.preloaded,
        &[
            "no answer: ETIMEDOUT",
            "after: send timeout 0.000000, blocking",
            "pending error: 0",
            "the same socket, elsewhere: ok",
            "sends 1",
            "nobody listens: ECONNREFUSED",
            "somebody does: ok",
            "own time, shorter: EINPROGRESS",
            "after: send timeout 0.100000, blocking",
            "own time, longer: ETIMEDOUT",
            "after: send timeout 3600.000000, blocking",
        ],
    );
    assert_eq!(both.preloaded.ours().len(), 1, "one line: {}", both.preloaded);
}

#[test]
fn signals_cancellations_and_jumps_in_a_connect_are_as_without_a_time() {
    let both = connects("disturbed").env("TIDEOVER_CONNECT_TIMEOUT", "20s").both();
    both.same().preloaded.passes().says("SA_RESTART: goes on").says("cancelled: yes").says("interrupts: EINTR");
}

#[test]
fn a_thread_is_cancelled_in_a_connect_with_a_time_as_in_one_without() {
    let scratch = Scratch::new();
    for when in ["blocked", "pending"] {
        let run = Run::new(fixture("cancel")).args(["connect", when]).env("TMPDIR", scratch.path());
        let both = run.env("TIDEOVER_CONNECT_TIMEOUT", "20s").env("TIDEOVER_MAX_CONNECTIONS", "9").both();
        both.same().preloaded.says("cancelled, cleaned up");
    }
}

#[test]
fn a_library_that_takes_connect_itself_is_not_passed_by() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port().to_string();
    let script = "import socket; c = socket.create_connection(('127.0.0.1', 9)); print('went to', c.getpeername()[1])";
    let client = python(script).env("PROXY_PORT", &port);
    let settings = client.env("TIDEOVER_CONNECT_TIMEOUT", "5s").env("TIDEOVER_MAX_CONNECTIONS", "5");
    settings.clone().preload(true).output().fails().says("refused");
    settings.preload_after(preload_fixture("proxy")).both().same().preloaded.passes().says(&format!("went to {port}"));
}

#[needs(netns)]
#[test]
fn a_connect_waits_for_a_local_port_and_only_for_that() {
    let Both { plain, preloaded } =
        connects("ports 8").env("TIDEOVER_MAX_WAIT", "10s").env("TIDEOVER_MAX_RETRIES", "20").both();
    let lines = |blocking, counted| {
        [
            "non-blocking: EADDRNOTAVAIL".to_string(),
            format!("blocking: {blocking}"),
            "a port of its own choice that is taken: EADDRNOTAVAIL".into(),
            "no address to come from: EADDRNOTAVAIL".into(),
            "at once".into(),
            format!("ports_exhausted: {counted}"),
        ]
    };
    assert_eq!(plain.fails().stdout.lines().collect::<Vec<_>>(), lines("EADDRNOTAVAIL", -1), "{plain}");
    assert_eq!(preloaded.passes().stdout.lines().collect::<Vec<_>>(), lines("ok", 2), "{preloaded}");
    preloaded.says("ip_local_port_range");
}

#[test]
fn bun_36140_at_the_limit_the_error_is_emfile_and_nothing_else() {
    let both = connects("exhausted").limit(64).both();
    both.same_but_for_messages();
    assert_said(&both.preloaded, &["socket: EMFILE", "connect: ok", "eventfd: EMFILE"]);
}

#[test]
fn limits_that_make_no_sense_are_said_and_passed_over() {
    let bad = [
        ("TIDEOVER_MAX_CONNECTIONS", "0", "is not off, or a whole number from 1 to 65535; using off"),
        ("TIDEOVER_MAX_PER_ENDPOINT", "many", "is not off, or a whole number from 1 to 65535; using off"),
        (
            "TIDEOVER_CONNECT_TIMEOUT",
            "0s",
            "is not off, or a duration such as 500ms, 2s, 1m, from 1ms to 1h; using off",
        ),
        ("TIDEOVER_IDLE_TIMEOUT", "soon", "is not off, or a duration such as 500ms, 2s, 1m, from 1ms to 24h"),
        (
            "TIDEOVER_MAX_CONNECTIONS",
            "300",
            "TIDEOVER_MAX_CONNECTIONS=300 will not be reached: this process can have 100",
        ),
    ];
    for (variable, value, said) in bad {
        let both = connects("mapped").limit(100).env(variable, value).both();
        both.same_but_for_messages();
        assert!(both.preloaded.ours().len() == 1 && both.preloaded.stderr.contains(said), "{}", both.preloaded);
    }
}

#[test]
fn stat_shows_open_connections_by_endpoint() {
    let script = "
import socket, sys
listener = socket.create_server(('127.0.0.1', 0))
ours = [socket.create_connection(listener.getsockname()) for _ in range(3)]
try:
    socket.create_connection(listener.getsockname())
except BlockingIOError:
    pass
clients = [listener.accept() for _ in range(2)]
print('port', listener.getsockname()[1], flush=True)
sys.stdin.read()
";
    let process = python(script);
    let mut process = process.env("TIDEOVER_MAX_CONNECTIONS", "3").preload(true).start();
    let port = process.wait_for("port").split(' ').nth(1).expect("a number").to_string();
    let (pid, pages) = (process.pid().to_string(), process.page_dir().display().to_string());
    let stat = || Run::new(tideover()).args(["stat", &pid, "--page-dir", &pages]);
    let text = stat().output();
    let json = stat().arg("--json").output();
    process.finish().passes();
    text.passes().says(&format!("to 127.0.0.1:{port}")).says(&format!("of port {port}")).says("EAGAIN");
    let compact: String = json.passes().stdout.split_whitespace().collect();
    let endpoints =
        format!("\"endpoints\":{{\"outgoing\":{{\"127.0.0.1:{port}\":3}},\"clients\":{{\"port{port}\":2}}}}");
    assert!(compact.contains(&endpoints) && compact.contains("\"outgoing\":3,\"limited\":1,"), "{json}");
}
