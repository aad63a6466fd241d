//! What a killed guard has left, when it is damaged, forged, of another boot, or of a process whose number another one has by now; and
//! locks that another guard holds.

use super::park::{LISTENS, PARKED, masks};
use super::{Server, connect_all, guard, guards, spins, stop};
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use tideover_tests::running::Endless;
use tideover_tests::{Outcome, Run, Scratch, fixture, needs, program, tideover};

fn clean(pages: &Scratch) -> Outcome {
    Run::new(tideover()).arg("clean").page_dir(pages.path()).output()
}

/// A server that a killed guard has left parked, its clients, and the file of its state.
fn left_parked(pages: &Scratch) -> (Server, Vec<TcpStream>, PathBuf) {
    let (server, port) = spins(16, &[]);
    let mut guard = guards(pages, &["--park", &server.pid().to_string()]);
    let clients = connect_all(port, 30);
    guard.wait_for("its listener is parked");
    guard.signal(libc::SIGKILL);
    guard.finish();
    assert_eq!(masks(server.pid()), [PARKED]);
    let folders = fs::read_dir(pages.path()).unwrap().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path().join("guard")).unwrap().flatten());
    let state = files.map(|file| file.path()).find(|path| path.extension().is_some_and(|end| end == "json")).unwrap();
    (server, clients, state)
}

#[test]
fn a_listener_is_brought_back_also_when_the_state_of_its_guard_is_damaged() {
    for damage in ["torn", "empty", "other boot", "forged", "other event mask"] {
        let pages = Scratch::new();
        let (server, clients, state) = left_parked(&pages);
        let text = fs::read_to_string(&state).unwrap();
        let boot = text.split("\"boot\":\"").nth(1).unwrap().split('"').next().unwrap();
        let number = text.split("\"number\":").nth(1).unwrap().split(['}', ',']).next().unwrap();
        let damaged = match damage {
            "torn" => text[..text.len() / 2].to_string(),
            "empty" => String::new(),
            "other boot" => text.replace(boot, "00000000-0000-0000-0000-000000000000"),
            "forged" => text.replace(&format!("\"number\":{number}"), "\"number\":9999"),
            _ => text.replace("\"events\":25", "\"events\":2147483673"),
        };
        assert_ne!(damaged, text, "{damage}");
        fs::write(&state, damaged).unwrap();
        clean(&pages).passes().says("Brought back 1 listener");
        assert_eq!(masks(server.pid()), [LISTENS], "{damage}");
        assert!(!state.exists(), "{damage}");
        assert!(!server.ended());
        drop(clients);
    }
}

#[test]
fn a_forged_state_changes_nothing_in_a_process_that_is_not_parked() {
    let pages = Scratch::new();
    let (server, clients, state) = left_parked(&pages);
    let text = fs::read_to_string(&state).unwrap();
    clean(&pages).passes();
    for forged in [text.clone(), text.replace("\"events\":25", "\"events\":29"), "{".to_string()] {
        fs::write(&state, forged).unwrap();
        clean(&pages).passes().does_not_say("Brought back");
        assert_eq!(masks(server.pid()), [LISTENS]);
        assert!(!state.exists());
    }
    drop(clients);
}

#[needs(root)]
#[test]
fn what_another_user_says_of_a_process_of_root_is_not_believed() {
    let pages = Scratch::new();
    let (server, clients, state) = left_parked(&pages);
    let folder = pages.join("tideover.65534/guard");
    fs::create_dir_all(&folder).unwrap();
    let theirs = folder.join(state.file_name().unwrap());
    fs::rename(&state, &theirs).unwrap();
    for path in [pages.join("tideover.65534"), folder, theirs.clone()] {
        chown(path, Some(65534), Some(65534)).unwrap();
    }
    let said = clean(&pages);
    said.fails().says("it runs as another user now than 65534");
    assert_eq!(masks(server.pid()), [PARKED], "{said}");
    Run::new(tideover()).args(["guard", "--status"]).page_dir(pages.path()).output().says("No process is guarded");
    fs::rename(&theirs, &state).unwrap();
    clean(&pages).passes().says("Brought back 1 listener");
    assert_eq!(masks(server.pid()), [LISTENS]);
    drop(clients);
}

/// In a pid namespace of its own, so that process ids can be given again: the server that a killed guard had left parked is killed, too, and
/// another one gets its number; then a guarded one is killed, and a sleeper gets its number.
const REUSED: &str = r#"
set -eu
tideover=$1 spins=$2 pages=$3
export TIDEOVER_PAGE_DIR=$pages
next() { echo $(($1 - 1)) > /proc/sys/kernel/ns_last_pid; }
mask() { sed -n 's/^tfd: *3 events: *\([0-9a-f]*\) .*/\1/p' /proc/500/fdinfo/* ; }
wait_for() { for i in {1..600}; do if grep -q "$1" "$2"; then return; fi; sleep 0.05; done; echo "no $1"; cat "$2"; exit 1; }
serve() { next 500; (ulimit -n 16; exec "$spins") > "$pages/$1" & [ $! = 500 ]; wait_for port "$pages/$1"; }
serve first
port=$(sed 's/port //' "$pages/first")
for i in {1..30}; do exec {fd}<>"/dev/tcp/127.0.0.1/$port"; fds+=("$fd"); done
"$tideover" guard --park 500 > "$pages/said" & guard=$!
wait_for 'its listener is parked' "$pages/said"
kill -9 $guard; wait $guard || true
[ "$(mask)" = 418 ]
kill -9 500; wait 500 || true
serve second
before=$(mask)
echo "the mask of the new process is $before"
"$tideover" clean
[ "$(mask)" = "$before" ]
[ "$(ls "$pages"/tideover.*/guard)" = "" ]
"$tideover" guard --park 500 > "$pages/said" & guard=$!
wait_for 'is guarded' "$pages/said"
kill -9 500; wait 500 || true
next 500; (ulimit -Sn 20; exec -a guard_spins sleep 60) & [ $! = 500 ]
wait $guard
grep 'has ended' "$pages/said"
grep 'Max open files' /proc/500/limits
kill -9 500
"#;

#[needs(root)]
#[needs(mounts)]
#[test]
fn a_process_that_got_the_number_of_one_that_ended_is_not_touched() {
    let pages = Scratch::new();
    let run = Run::new(program("unshare", "util-linux"))
        .args(["--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", REUSED, "bash"])
        .arg(tideover())
        .arg(fixture("guard_spins"))
        .arg(pages.path())
        .timeout(Duration::from_secs(120));
    let outcome = run.output();
    outcome.passes().says("the mask of the new process is 19").does_not_say("Brought back");
    outcome.says("(process 500): has ended");
    let limits = outcome.stdout.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(limits.split_whitespace().nth(3), Some("20"), "{outcome}");
}

#[test]
fn processes_that_another_guard_has_are_refused_without_a_wait_for_each() {
    let (folder, pages) = (Scratch::new(), Scratch::new());
    let named = folder.join("guard-held");
    fs::copy(program("sleep", "coreutils"), &named).unwrap();
    let many: Vec<Endless> = (0..60).map(|_| Endless::start(Command::new(&named).arg("120"))).collect();
    let mut first = guard(&pages, &["guard-held"]).start();
    (0..60).for_each(|_| drop(first.wait_for("is guarded")));
    // By their numbers, so that it ends when all are refused.
    let pids: Vec<String> = many.iter().map(|it| it.id().to_string()).collect();
    let begun = Instant::now();
    let second = guard(&pages, &pids.iter().map(String::as_str).collect::<Vec<_>>()).output();
    let took = begun.elapsed();
    println!("60 processes of another guard were refused in {took:?}");
    second.fails().says("another guard has it already");
    assert_eq!(second.stdout.matches("another guard has it already").count(), 60, "{second}");
    assert!(took < Duration::from_secs(6), "{took:?}; a wait of 200 ms for each were 12 s");
    stop(first);
    drop(many);
}
