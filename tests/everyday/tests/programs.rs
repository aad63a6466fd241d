//! Real programs at a soft limit that bites: each fails without the library, saying so in its own words, and does its work with it.

use std::fs;
use std::time::Duration;

use tideover_tests::programs::{TOO_MANY, free_port, python};
use tideover_tests::{Outcome, Run, Running, Scratch, fixture, program};

#[test]
fn python_keeps_200_files_open_past_a_soft_limit_of_64() {
    let both = python("files = [open('/etc/passwd') for _ in range(200)]; print(len(files), 'open')")
        .soft(64)
        .hard(4096)
        .both();
    both.rescued(TOO_MANY).preloaded.says("200 open");
}

#[test]
fn python_lists_imports_and_spawns_with_every_descriptor_of_its_soft_limit_taken() {
    let script = r#"
import os
files = [open('/etc/passwd') for _ in range(200)]
import json, subprocess, tempfile, socket, decimal, sqlite3
print(len(os.listdir('/')) > 3)
with tempfile.TemporaryFile() as f: f.write(b'x')
print(subprocess.run(['echo', 'spawned'], capture_output=True).stdout)
a, b = socket.socketpair(); a.send(b'sent'); print(b.recv(9))
print(sqlite3.connect(':memory:').execute('select 6 * 7').fetchone()[0])
"#;
    let both = python(script).soft(64).hard(4096).both();
    both.rescued(TOO_MANY).preloaded.says("b'spawned\\n'").says("b'sent'").says("42");
}

#[test]
fn python_threads_share_48_descriptors_that_nobody_can_raise() {
    // 40 threads hold a file each for a moment, with room for some 40: whoever finds none waits for another's close.
    let script = r#"
import threading, time
from multiprocessing.pool import ThreadPool
kept = [open('/etc/passwd') for _ in range(20)]
barrier = threading.Barrier(40)
def work(n):
    barrier.wait()
    lines = 0
    for _ in range(20):
        with open('/etc/passwd') as f:
            time.sleep(0.002)
            lines += len(f.readlines())
    return lines
with ThreadPool(40) as pool:
    print('lines', len(set(pool.map(work, range(40), 1))))
"#;
    python(script).limit(48).both().rescued(TOO_MANY).preloaded.says("lines 1");
}

#[test]
fn bash_opens_100_files_past_a_soft_limit_of_64() {
    let scratch = Scratch::new();
    let script = scratch.write(
        "many.sh",
        "n=0\n\
         while [ $n -lt 100 ]; do exec {fd}</etc/passwd || exit 1; n=$((n + 1)); done\n\
         read -r -u $fd line && echo \"opened $n, read ${line%%:*}\"\n\
         echo \"child: $(ulimit -Sn)\"\n",
    );
    let both = Run::new(program("bash", "bash")).arg(script).soft(64).hard(4096).both();
    both.rescued(TOO_MANY).preloaded.says("opened 100, read root");
}

#[test]
fn tar_packs_from_15_folders_past_a_soft_limit_of_16() {
    let scratch = Scratch::new();
    let tar = tar_of_15_folders(&scratch).args(["-cf", "packed.tar"]);
    let both = folders(tar).soft(16).hard(4096).both();
    both.rescued(TOO_MANY);
    let listing = Run::new(program("tar", "tar")).folder(scratch.path()).args(["-tf", "packed.tar"]).output();
    assert_eq!(listing.stdout.lines().count(), 15, "{listing}");
}

#[test]
fn tar_extracts_past_a_soft_limit_of_12() {
    let scratch = Scratch::new();
    let packed = folders(tar_of_15_folders(&scratch).args(["-cf", "packed.tar"])).output();
    packed.passes();
    let extract = || {
        for i in 0..15 {
            let _ = fs::remove_file(scratch.join(&format!("folder.{i}/file.{i}")));
        }
        folders(Run::new(program("tar", "tar")).folder(scratch.path()).args(["-xf", "packed.tar"])).soft(12).hard(4096)
    };
    extract().output().fails().says(TOO_MANY);
    extract().preload(true).output().passes();
    assert_eq!(fs::read_to_string(scratch.join("folder.14/file.14")).expect("extracted"), "content 14");
}

/// tar, and 15 folders of one file; tar keeps a descriptor for each `-C`.
fn tar_of_15_folders(scratch: &Scratch) -> Run {
    for i in 0..15 {
        scratch.write(&format!("folder.{i}/file.{i}"), &format!("content {i}"));
    }
    Run::new(program("tar", "tar")).folder(scratch.path())
}

fn folders(run: Run) -> Run {
    (0..15).fold(run, |run, i| {
        let up = if i == 0 { "" } else { "../" };
        run.args(["-C", &format!("{up}folder.{i}"), &format!("file.{i}")])
    })
}

#[test]
fn find_descends_40_folders_past_a_soft_limit_of_9() {
    let scratch = Scratch::new();
    let mut path = String::from("top");
    for i in 0..40 {
        path.push_str(&format!("/{i}"));
        scratch.write(&format!("{path}/file"), "");
    }
    let find = Run::new(program("find", "findutils")).folder(scratch.path());
    let both = find.args(["top", "-type", "f", "-execdir", "echo", "seen", "{}", ";"]).soft(9).hard(4096).both();
    both.rescued(TOO_MANY);
    assert_eq!(both.preloaded.stdout.matches("seen ./file").count(), 40, "{}", both.preloaded);
}

#[test]
fn sqlite_attaches_10_databases_past_a_soft_limit_of_12() {
    let scratch = Scratch::new();
    let statements: String = (0..10)
        .map(|i| format!("attach '{i}.db' as d{i}; create table d{i}.t(x); insert into d{i}.t values({i});\n"))
        .collect();
    let session = || {
        for i in 0..10 {
            let _ = fs::remove_file(scratch.join(&format!("{i}.db")));
        }
        let _ = fs::remove_file(scratch.join("main.db"));
        Run::new(program("sqlite3", "sqlite3"))
            .folder(scratch.path())
            .args(["-bail", "main.db"])
            .stdin(format!(
                "{statements}select 'sum', sum(x) from (select x from d0.t union all select x from d9.t);\n"
            ))
            .soft(12)
            .hard(4096)
    };
    session().output().fails().says("unable to open database");
    session().preload(true).output().passes().says("sum|9");
}

#[test]
fn git_clones_past_a_soft_limit_of_7() {
    let scratch = Scratch::new();
    let git = || {
        Run::new(program("git", "git"))
            .folder(scratch.path())
            .env("HOME", scratch.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
    };
    scratch.files("source/file", 30);
    git().args(["init", "-q", "source"]).output().passes();
    git().args(["-C", "source", "add", "."]).output().passes();
    git().args(["-C", "source", "commit", "-q", "-m", "all"]).output().passes();
    let url = format!("file://{}/source", scratch.path().display());
    let clone = |name: &str| git().args(["clone", "-q", &url, name]).soft(7).hard(4096);
    clone("plain").output().fails();
    clone("preloaded").preload(true).output().passes();
    assert_eq!(fs::read_to_string(scratch.join("preloaded/file.29")).expect("checked out"), "29\n");
}

/// A redis-server on a port of its own, ready.
fn redis(scratch: &Scratch, prepare: impl Fn(Run) -> Run) -> (Running, String) {
    let port = free_port().to_string();
    let server = Run::new(program("redis-server", "redis-server"))
        .folder(scratch.path())
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .timeout(Duration::from_secs(60));
    let mut running = prepare(server).start();
    running.wait_for("Ready to accept connections");
    (running, port)
}

fn stop(server: Running) -> Outcome {
    server.signal(libc::SIGTERM);
    server.finish()
}

#[test]
fn redis_benchmark_opens_100_connections_past_a_soft_limit_of_64() {
    let scratch = Scratch::new();
    let (server, port) = redis(&scratch, |run| run);
    let both = Run::new(program("redis-benchmark", "redis-tools"))
        .args(["-p", &port, "-c", "100", "-n", "1000", "-t", "ping", "-q"])
        .soft(64)
        .hard(4096)
        .both();
    both.rescued(TOO_MANY);
    stop(server).passes();
}

#[test]
fn redis_server_starts_at_a_soft_limit_of_16_and_serves_100_clients_as_it_does_alone() {
    // Redis raises its own limit, so it never needs us: it must neither notice us nor lose its say over the limit.
    let scratch = Scratch::new();
    let limit_of = |preload: bool| {
        let (server, port) = redis(&scratch, |run| run.soft(16).hard(4096).preload(preload));
        let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("it runs");
        let benchmark = Run::new(program("redis-benchmark", "redis-tools"))
            .args(["-p", &port, "-c", "100", "-n", "1000", "-t", "set", "-q"])
            .output();
        benchmark.passes();
        let outcome = stop(server);
        outcome.passes();
        assert!(outcome.ours().is_empty(), "the library had nothing to say: {outcome}");
        limits.lines().find(|l| l.starts_with("Max open files")).map(str::to_string).expect("a limit")
    };
    assert_eq!(limit_of(false), limit_of(true));
}

#[test]
fn thirty_two_threads_share_64_descriptors_that_nobody_can_raise() {
    let run =
        Run::new(fixture("threads")).args(["/etc/passwd", "50", "--stay"]).limit(64).timeout(Duration::from_secs(60));
    run.output().fails().says(TOO_MANY);

    let mut running = run.preload(true).start();
    let line = running.wait_for("files opened");
    let page = running.page();
    running.finish().passes();
    assert_eq!(line, "4800 files opened by 32 threads, 0 refused");
    assert!(page.exhaustion("emfile") > 0, "it was exhausted all the time");
    assert_eq!(page.exhaustion("recovered"), page.exhaustion("emfile"));
    assert_eq!(page.exhaustion("gave_up"), 0);
    assert!(page.exhaustion("waits") > 0);
    assert_eq!(page.view().program(), b"threads");
}
