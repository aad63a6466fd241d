//! Faults that operators met in their first ten minutes, each found by running the command.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tideover_tests::programs::python;
use tideover_tests::{Run, Running, Scratch, fixture, needs, program, tideover};

use super::{command, json, of_pages, tell};

/// Python that opens so many files and waits.
fn opener(count: u32) -> Run {
    python(&format!(
        "import sys\nkept = [open('/dev/null') for _ in range({count})]\nprint('open', flush=True)\nsys.stdin.read()"
    ))
}

fn started(run: &Run) -> Running {
    let mut running = run.start();
    running.wait_for("open");
    running
}

/// 805 of a soft limit of 1,024 are 79 %, and 4 % of what the library raises that limit to when it is hit.
#[test]
fn a_healthy_guarded_process_is_well_by_every_measure() {
    let pages = Scratch::new();
    let run = opener(800).soft(1024).hard(20_000);
    let guarded = started(&run.page_dir(pages.path()).preload(true));
    let pid = guarded.pid().to_string();
    let stat = json(of_pages(&pages, &["stat", &pid, "--json"]).output().passes());
    assert_eq!(stat["descriptors"]["obtainable"], 20_000, "{stat}");
    assert!(stat["descriptors"]["percent"].as_f64().unwrap() < 5.0, "{stat}");
    let report = of_pages(&pages, &["doctor", &pid, "--sample", "0s"]).output();
    assert!(report.stdout.contains("OK        soft limit"), "{report}");
    of_pages(&pages, &["doctor"]).output().does_not_say(&format!("(process {pid}) 8"));
    let metrics = of_pages(&pages, &["metrics"]).output();
    let ratio = metrics.stdout.lines().find(|line| line.starts_with("tideover_descriptors_used_ratio{")).unwrap();
    assert!(ratio.rsplit(' ').next().unwrap().parse::<f64>().unwrap() < 0.05, "{ratio}");
    metrics.says("tideover_descriptors_obtainable{").says(" 20000");
    let mut watch = of_pages(&pages, &["watch", "--interval", "50ms", "--only", "python*"]).start();
    watch.wait_for("watching");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!watch.stdout_so_far().contains(&format!("process {pid}")), "{}", watch.stdout_so_far());
    watch.signal(libc::SIGTERM);
    watch.finish();
    guarded.finish().passes();
    // The control: without the library nobody raises it.
    let plain = started(&opener(800).soft(1024).hard(20_000));
    let report = command(&["doctor", &plain.pid().to_string(), "--sample", "0s"]).output();
    assert!(report.stdout.contains("WARNING   soft limit"), "{report}");
    plain.finish();
}

/// Root as it is in a container by default: without CAP_SYS_PTRACE, and without CAP_PERFMON and
/// CAP_SYS_ADMIN, which show mappings, too.
fn without_ptrace(words: &[&str]) -> Run {
    let drop = ["--bounding-set=-sys_ptrace,-perfmon,-sys_admin", "--inh-caps=-sys_ptrace"];
    Run::new(program("setpriv", "util-linux")).args(drop).arg(tideover()).args(words)
}

#[needs(root)]
#[test]
fn what_may_not_be_seen_is_not_called_well() {
    let script = "import socket, sys\nkept = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(40)]\nprint('open', flush=True)\nsys.stdin.read()";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut child = Command::new("python3");
    child.args(["-c", script, &port]).uid(65534).gid(65534).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().expect("python3 runs");
    let pid = child.id().to_string();
    // All of its connections are there.
    let _clients: Vec<_> = (0..40).map(|_| listener.accept().unwrap()).collect();
    let seen = command(&["doctor", &pid, "--sample", "0s"]).output();
    assert!(seen.code() != Some(3) && seen.stdout.contains("40 tcp sockets"), "the control: {seen}");
    let blind = without_ptrace(&["doctor", &pid, "--sample", "0s"]).output();
    assert_eq!(blind.code(), Some(3), "{blind}");
    blind
        .says("UNKNOWN   descriptors")
        .says("are not checked")
        .says("--cap-add=SYS_PTRACE")
        .says("UNKNOWN   library")
        .does_not_say("no tcp socket");
    // How many there are is known all the same.
    assert!(blind.stdout.contains(" descriptors in use"), "{blind}");
    let whole = json(&without_ptrace(&["doctor", &pid, "--sample", "0s", "--json"]).output());
    assert_eq!((&whole["status"], &whole["schema"]), (&"unknown".into(), &1.into()), "{whole}");
    assert!(
        whole["descriptors"]["used"].as_u64() >= Some(43)
            && whole["descriptors"]["unseen"] == whole["descriptors"]["used"]
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// fixtures/ebb.c with a soft limit that can be raised.
fn raisable() -> Running {
    let mut running = Run::new(fixture("ebb")).soft(64).hard(256).start();
    tell(&mut running, "fill");
    running
}

#[test]
fn rescue_can_be_said_twice_and_to_several() {
    let (one, mut two) = (raisable(), raisable());
    let pids = [one.pid().to_string(), two.pid().to_string()];
    let both: Vec<&str> = [&["rescue"][..], &[&pids[0], &pids[1]]].concat();
    command(&both).output().passes().says("soft limit was 64, is 256");
    command(&both).output().passes().says("soft limit is 256 already");
    command(&["rescue", &pids[0], "--to", "256"]).output().passes().says("soft limit is 256 already");
    // One of them can't be had more, and is short.
    tell(&mut two, "fill");
    let again = command(&both).output();
    again.fails().says("soft limit is 256 already").says("its soft limit is its hard limit already, 256");
    let done = command(&[&both[..], &["--json"]].concat()).output();
    assert_eq!(done.code(), Some(1));
    let done = json(&done);
    assert_eq!((&done["schema"], &done["processes"][0]["soft_limit"]["is"]), (&1.into(), &256.into()), "{done}");
    assert!(done["processes"][1]["error"].as_str().unwrap().contains("already, 256"), "{done}");
    let missing = json(command(&["rescue", "4194305", "--json"]).output().fails());
    assert!(missing["error"].as_str().unwrap().contains("no process 4194305"), "{missing}");
    one.finish();
    two.finish();
}

#[test]
fn rescue_takes_names_and_never_advises_what_the_kernel_refuses() {
    let folder = Scratch::new();
    let name = format!("rescue-{}", std::process::id());
    std::os::unix::fs::symlink(fixture("ebb"), folder.join(&name)).unwrap();
    let mut running = Run::new(folder.join(&name)).soft(64).hard(128).start();
    tell(&mut running, "fill");
    // By the name of the process, which a link gives it.
    let pattern = format!("{}*", &name[..15.min(name.len())]);
    command(&["rescue", &pattern]).output().passes().says("soft limit was 64, is 128");
    command(&["rescue", "no-such-program-*"]).output().fails().says("no process is called no-such-program-*");
    command(&["rescue", "[a"]).output().fails().says("is no pattern");
    let most: u64 = fs::read_to_string("/proc/sys/fs/nr_open").unwrap().trim().parse().unwrap();
    let pid = running.pid().to_string();
    let to = (most + 1).to_string();
    command(&["rescue", &pid, "--to", &to]).output().fails().says(&format!("sudo sysctl -w fs.nr_open={to}"));
    command(&["rescue", &pid, "--to", &to, "--hard"]).output().fails().says("is beyond fs.nr_open");
    running.finish();
}

#[needs(root)]
#[test]
fn rescue_raises_the_hard_limit_when_it_is_told_to() {
    let mut running = Run::new(fixture("ebb")).limit(64).start();
    tell(&mut running, "fill");
    let pid = running.pid().to_string();
    command(&["rescue", &pid]).output().fails().says("its soft limit is its hard limit already");
    let raised = command(&["rescue", &pid, "--hard", "--to", "512"]).output();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    // Root in a container often lacks CAP_SYS_RESOURCE, which has number 24.
    if u64::from_str_radix(capabilities, 16).unwrap() & (1 << 24) != 0 {
        raised.passes().says("was 64, is 512 (hard limit 512)");
    } else {
        raised.fails().says("takes CAP_SYS_RESOURCE");
    }
    running.finish();
}

#[test]
fn watch_is_told_its_webhook_by_a_file_and_outlives_its_terminal() {
    let pages = Scratch::new();
    let folder = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/SECRET\n", listener.local_addr().unwrap());
    let path = folder.write("webhook", &url);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = path.to_str().unwrap();
    let words = ["watch", "--interval", "50ms", "--only", "ebb", "--webhook-file", file];
    let mut watch = of_pages(&pages, &words).start();
    watch.wait_for("watching");
    let line = fs::read_to_string(format!("/proc/{}/cmdline", watch.pid())).unwrap();
    assert!(!line.contains("SECRET"), "{line}");
    watch.signal(libc::SIGHUP);
    std::thread::sleep(Duration::from_millis(200));
    let mut running = Run::new(fixture("ebb")).limit(64).start();
    tell(&mut running, "fill");
    let (mut stream, _) = listener.accept().expect("it still watches");
    let mut head = [0; 16];
    std::io::Read::read_exact(&mut stream, &mut head).unwrap();
    assert!(head.starts_with(b"POST /SECRET"), "{}", String::from_utf8_lossy(&head));
    watch.signal(libc::SIGTERM);
    watch.finish();
    running.finish();
    for (words, says) in [
        (&["watch", "--interval", "0s"][..], "from 10ms"),
        (&["watch", "--only", "a,[b"], "each [ with its ]"),
        (&["watch", "--webhook-file", "/nonexistent"], "cannot read the URL"),
        (&["top", "--interval", "0s"], "from 10ms"),
    ] {
        of_pages(&pages, words).output().fails().says(says);
    }
}

#[test]
fn sixteen_silent_clients_do_not_stop_the_metrics() {
    let pages = Scratch::new();
    let mut server = of_pages(&pages, &["metrics", "--listen", "127.0.0.1:0"]).start();
    let line = server.wait_for("Serving");
    let address = line.split(['/', ' ']).find(|word| word.starts_with("127.")).expect("an address").to_string();
    let silent: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost:").unwrap();
            stream
        })
        .collect();
    let asked = Instant::now();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("tideover_build_info"), "{answer}");
    }
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    drop(silent);
    server.signal(libc::SIGTERM);
    server.finish();
}

#[test]
fn a_process_that_has_counted_nothing_has_no_empty_fields() {
    let pages = Scratch::new();
    let mut quiet = Run::new("sleep").arg("60").page_dir(pages.path()).preload(true).start();
    let pid = quiet.pid().to_string();
    let end = Instant::now() + Duration::from_secs(20);
    // It has to have loaded the library.
    let mut said = of_pages(&pages, &["stat", &pid]).output();
    while !said.succeeded() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        said = of_pages(&pages, &["stat", &pid]).output();
    }
    said.passes().does_not_say("tideover ,").says("nothing to count so far");
    let stat = json(of_pages(&pages, &["stat", &pid, "--json"]).output().passes());
    assert!(stat["version"].is_null() && stat["program"] == "sleep", "{stat}");
    quiet.signal(libc::SIGTERM);
    let _ = quiet.offer("");
    quiet.finish();
}

#[test]
fn help_is_there_by_either_name() {
    let flag = command(&["run", "--help"]).output().passes().stdout.clone();
    assert_eq!(command(&["help", "run"]).output().passes().stdout, flag);
    command(&["help"]).output().passes().says("tideover doctor 1234");
}

#[test]
fn a_program_that_is_cut_short_is_refused_and_not_read_by_the_shell() {
    let folder = Scratch::new();
    let whole = fs::read("/bin/true").unwrap();
    let path = folder.join("cut");
    fs::write(&path, &whole[..60]).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let refused = command(&["run", "--"]).arg(&path).output();
    assert_eq!(refused.code(), Some(126), "{refused}");
    refused.says("it begins as an ELF program and is cut short or damaged");
}

/// The second `docker compose up -d` copied over the library that `web` had mapped, and killed it.
#[test]
fn unpacking_again_leaves_those_who_use_the_library_alone() {
    let folder = Scratch::new();
    let into = folder.join("volume");
    let unpack = || command(&["unpack"]).arg(&into).output();
    unpack().passes().says("libtideover.so").says("docker-entrypoint.sh");
    let before = fs::metadata(into.join("libtideover.so")).unwrap();
    let mut running = Run::new(fixture("ebb")).limit(64).preload(true).library(into.join("libtideover.so")).start();
    tell(&mut running, "fill");
    unpack().passes();
    let after = fs::metadata(into.join("libtideover.so")).unwrap();
    assert_ne!(
        std::os::unix::fs::MetadataExt::ino(&before),
        std::os::unix::fs::MetadataExt::ino(&after),
        "another file"
    );
    tell(&mut running, "drain");
    tell(&mut running, "fill");
    running.finish().passes();
    let ran: Output =
        Command::new(into.join("docker-entrypoint.sh")).args(["sh", "-c", "echo $LD_PRELOAD"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), into.join("libtideover.so").to_str().unwrap(), "{ran:?}");
    let names: Vec<_> = fs::read_dir(&into).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names.len(), 2, "nothing is left beside them: {names:?}");
    command(&["unpack", "/proc/nowhere"]).output().fails().says("cannot write");
}
