//! `tideover doctor` at the bedside of programs with one fault each: it names the culprit, and nothing else.

use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::thread;
use tideover_tests::{Disk, Kind, Outcome, Run, Running, Scratch, fixture, needs, program, tideover, workspace};

fn sick(words: &[&str]) -> Run {
    Run::new(fixture("sick")).args(words).soft(256).hard(1024)
}

fn started(run: &Run) -> Running {
    let mut running = run.start();
    running.wait_for("sick");
    running
}

fn doctor(pid: u32, more: &[&str]) -> Outcome {
    Run::new(tideover()).args(["doctor", &pid.to_string()]).args(more).output()
}

/// The line of a check, with its level.
fn line(outcome: &Outcome, check: &str, level: &str) -> String {
    let found = outcome.stdout.lines().find(|line| {
        line.get(10..).is_some_and(|rest| rest.starts_with(check)) && line.starts_with(&level.to_uppercase())
    });
    found.unwrap_or_else(|| panic!("no {level} for {check}: {outcome}")).to_string()
}

/// The checks that are not OK. What the machine as a whole is short of is not the program's fault.
fn faults(outcome: &Outcome) -> Vec<&str> {
    let machine = ["memory", "container memory", "tasks", "container tasks", "log disk", "fs.file-max", "inotify"];
    let bad = |line: &&str| line.starts_with("WARNING") || line.starts_with("CRITICAL");
    let name = |line: &'_ str| line[10..].split("  ").next().unwrap_or("").trim().to_string();
    let lines = outcome.stdout.lines().filter(bad);
    lines.filter(|line| !machine.contains(&&*name(line))).collect()
}

#[test]
fn a_healthy_program_is_healthy_and_the_exit_status_says_so() {
    let running = started(&sick(&["none"]));
    let report = doctor(running.pid(), &["--sample", "300ms"]);
    assert!(faults(&report).is_empty(), "{report}");
    report.says("nothing grew").says("every child that ended was waited for").says("not loaded");
    running.finish().passes();
}

#[test]
fn a_program_that_leaks_sockets_is_told_to_whom() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop, stopped) = channel::<()>();
    // Accepts and keeps them, so that their state is ESTABLISHED.
    thread::spawn(move || {
        let mut kept = Vec::new();
        while stopped.try_recv().is_err() {
            kept.push(listener.accept());
        }
    });
    let running = started(&sick(&["sockets", &port.to_string()]).soft(1024));
    let report = doctor(running.pid(), &["--sample", "1s"]);
    assert_eq!(report.code(), Some(2), "it will be full within ten minutes: {report}");
    let leak = line(&report, "leaks", "critical");
    assert!(leak.contains(&format!("tcp, to 127.0.0.1:{port}: grew by")), "{leak}");
    report.says(&format!("ss -anp | grep pid={}", running.pid()));
    assert_eq!(faults(&report).len(), 1, "{report}");
    drop(stop);
    running.finish();
}

#[test]
fn a_program_that_leaks_inotify_watches_is_told() {
    let folder = Scratch::new();
    let running = started(&sick(&["watches", folder.path().to_str().unwrap()]));
    let report = doctor(running.pid(), &["--sample", "1s"]);
    assert_eq!(report.code(), Some(1), "{report}");
    assert!(line(&report, "leaks", "warning").contains("inotify watches: grew by"), "{report}");
    running.finish();
}

#[test]
fn a_deleted_log_that_still_grows_is_named_with_the_command_that_frees_its_space() {
    let folder = Scratch::new();
    let log = folder.join("app.log");
    let running = started(&sick(&["deleted", log.to_str().unwrap()]));
    let report = doctor(running.pid(), &["--sample", "1s"]);
    let found = line(&report, "deleted logs", "warning");
    assert!(found.contains(log.to_str().unwrap()) && found.contains("it grew by"), "{found}");
    let command = report.stdout.lines().find_map(|line| line.split_once("sudo truncate ")).expect("a remedy").1;
    // The remedy is one: the space is free afterwards.
    let by = command.rsplit(' ').next().unwrap();
    let size = || std::fs::metadata(by).unwrap().len();
    let before = size();
    Run::new("truncate").args(command.split(' ')).output().passes();
    assert!(size() < before, "{} bytes before, {} after", before, size());
    running.finish();
}

#[test]
fn a_program_that_never_waits_for_its_children_is_told_how_many() {
    let running = started(&sick(&["zombies", "7"]));
    let report = doctor(running.pid(), &["--sample", "300ms"]);
    assert_eq!(report.code(), Some(1), "{report}");
    assert!(line(&report, "zombies", "warning").contains("7 children of sick"), "{report}");
    assert_eq!(faults(&report).len(), 1, "{report}");
    running.finish();
}

#[test]
fn a_program_near_its_limit_is_told_the_command_that_raises_it() {
    let running = started(&sick(&["full"]).soft(64).hard(4096));
    let report = doctor(running.pid(), &["--sample", "0s"]);
    assert_eq!(report.code(), Some(2), "{report}");
    assert!(line(&report, "soft limit", "critical").contains("62 of 64 descriptors in use"), "{report}");
    report.says(&format!("> tideover rescue {}", running.pid())).says("LimitNOFILE=4096").says("59  device  /dev/null");
    // Also from a look at the whole system.
    Run::new(tideover()).arg("doctor").output().says(&format!("sick (process {}) 62 of 64", running.pid()));
    // The remedy mends it.
    Run::new(tideover()).args(["rescue", &running.pid().to_string()]).output().passes();
    let report = doctor(running.pid(), &["--sample", "0s"]);
    assert!(faults(&report).is_empty(), "{report}");
    running.finish();
}

#[test]
fn connections_that_only_the_peer_has_closed_are_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let closing = thread::spawn(move || (0..20).for_each(|_| drop(listener.accept())));
    let running = started(&sick(&["stale", &port.to_string()]));
    closing.join().unwrap();
    let report = doctor(running.pid(), &["--sample", "300ms"]);
    assert!(line(&report, "tcp", "warning").contains("20 of 20 tcp sockets are in CLOSE_WAIT"), "{report}");
    running.finish();
}

#[needs(mounts)]
#[test]
fn a_log_on_a_nearly_full_disk_is_told() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.path().join("app.log");
    let running = Run::new("sh").args(["-c", &format!("exec >>{}; echo >&2; exec sleep 30", log.display())]).start();
    while !log.exists() {
        thread::yield_now();
    }
    disk.fill();
    let report = doctor(running.pid(), &["--sample", "0s"]);
    assert!(line(&report, "log disk", "critical").contains(log.to_str().unwrap()), "{report}");
    disk.free();
    assert!(line(&doctor(running.pid(), &["--sample", "0s"]), "log disk", "ok").contains("app.log"));
    running.signal(libc::SIGTERM);
    running.finish();
}

#[test]
fn a_guarded_program_is_told_with_what_is_active_and_what_it_has_had_to_do() {
    let pages = Scratch::new();
    let run = sick(&["full"]).limit(64).page_dir(pages.path()).env("TIDEOVER_MAX_RETRIES", "nonsense");
    let run = run.env("TIDEOVER_INITIAL_WAIT", "10ms").env("TIDEOVER_MAX_WAIT", "10ms");
    let running = started(&run.preload(true));
    let report = doctor(running.pid(), &["--sample", "0s", "--page-dir", pages.path().to_str().unwrap()]);
    line(&report, "library", "ok");
    report.says("raise auto, ").says("fallback stdout, ").says("out of its reach: libraries opened with RTLD_DEEPBIND");
    assert!(line(&report, "settings", "warning").contains("TIDEOVER_MAX_RETRIES=\"nonsense\" is refused"), "{report}");
    assert!(line(&report, "exhaustion", "warning").contains("1 gave up"), "{report}");
    running.finish();
}

#[test]
fn programs_that_no_library_reaches_are_said_to_be_so() {
    let mut running = Run::new(fixture("rescued")).soft(64).hard(128).start();
    running.wait_for("full after");
    let report = doctor(running.pid(), &["--sample", "0s"]);
    assert!(line(&report, "library", "ok").contains("it is statically linked"), "{report}");
    running.signal(libc::SIGTERM);
    running.finish();
    let lost = sick(&["none"]).env("LD_PRELOAD", "/nonexistent/libtideover.so");
    let running = started(&lost);
    let report = doctor(running.pid(), &["--sample", "0s"]);
    assert!(line(&report, "library", "warning").contains("LD_PRELOAD names it, and it is not loaded"), "{report}");
    running.finish();
}

#[test]
fn the_exit_status_tells_a_failed_look_from_a_critical_find() {
    assert_eq!(Run::new(tideover()).args(["doctor", "4194305"]).output().code(), Some(3));
    assert_eq!(Run::new(tideover()).args(["doctor", "--no-such-flag"]).output().code(), Some(3));
}

#[test]
fn the_same_in_json() {
    let running = started(&sick(&["full"]).soft(64).hard(4096));
    let report = doctor(running.pid(), &["--sample", "0s", "--json"]);
    assert_eq!(report.code(), Some(2));
    for part in ["\"status\": \"critical\"", "\"check\": \"soft limit\"", "\"soft_limit\": 64", "\"device\": 59"] {
        report.says(part);
    }
    running.finish();
}

// scripts/fix-file-descriptors.sh: for those who have only the script.

fn script(words: &[&str]) -> Vec<Run> {
    let path = workspace().join("scripts/fix-file-descriptors.sh");
    let shells: [&[&str]; 2] = [&["dash"], &["busybox", "sh"]];
    let run = |shell: &&[&str]| {
        let run = Run::new(shell[0]).args(&shell[1..]).arg(&path).args(words);
        run.env("SAMPLE", "1").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    };
    shells.iter().map(run).collect()
}

#[test]
fn the_script_alone_names_the_same_culprits() {
    let folder = Scratch::new();
    let log = folder.join("app.log");
    let deleted = started(&sick(&["deleted", log.to_str().unwrap()]));
    for run in script(&[&deleted.pid().to_string()]) {
        run.output().fails().says("WARNING   deleted files").says(log.to_str().unwrap()).says("nothing grew");
    }
    deleted.finish();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let leaking = started(&sick(&["sockets", &listener.local_addr().unwrap().port().to_string()]).soft(1024));
    for run in script(&[&leaking.pid().to_string()]) {
        run.output().fails().says("WARNING   leaks         socket: grew by");
    }
    leaking.finish();
}

#[test]
fn the_script_takes_the_name_of_a_program() {
    let folder = Scratch::new();
    let log = folder.join("named.log");
    // A name of more than 15 bytes, of which the kernel keeps the first 15.
    let name = format!("named-for-the-script-{}", std::process::id());
    std::os::unix::fs::symlink(fixture("sick"), folder.join(&name)).unwrap();
    let words = ["deleted", log.to_str().unwrap()];
    let both = [0, 1].map(|_| started(&Run::new(folder.join(&name)).args(words)));
    for run in script(&[&name]) {
        let told = run.output();
        assert_eq!(told.code(), Some(1), "{told}");
        for running in &both {
            told.says(&format!("(process {})", running.pid()));
        }
        assert_eq!(told.stdout.matches("WARNING   deleted files").count(), 2, "{told}");
        told.says("OK        zombies       every child that ended was waited for");
    }
    // Where the command is installed, it is doctor that says it.
    let bin = folder.join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(tideover(), bin.join("tideover")).unwrap();
    for run in script(&[&name]) {
        let told = run.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display())).output();
        assert_eq!(told.code(), Some(1), "{told}");
        told.says("WARNING   deleted logs").says("OK        hard limit");
    }
    for running in both {
        running.finish();
    }
    for run in script(&[&name]) {
        let none = run.output();
        assert_eq!(none.code(), Some(3), "{none}");
        none.says(&format!("no process is called {name}"));
    }
    let zombies = started(&sick(&["zombies", "3"]));
    for run in script(&[&zombies.pid().to_string()]) {
        run.output().says("WARNING   zombies       3 children of sick have ended");
    }
    zombies.finish();
}

#[test]
fn the_script_alone_raises_the_limit_when_told_to() {
    for how in 0..2 {
        let running = started(&sick(&["full"]).soft(64).hard(512));
        let pid = running.pid().to_string();
        let plain = script(&[&pid])[how].output();
        assert_eq!(plain.code(), Some(2), "{plain}");
        plain.says("CRITICAL  soft limit    62 of 64 descriptors in use").says("prlimit --pid");
        script(&["--apply", &pid])[how].output().says("done: the soft limit of process").says("is 512");
        script(&[&pid])[how].output().says("OK        soft limit    62 of 512");
        running.finish();
    }
    for run in script(&["4194305"]) {
        assert_eq!(run.output().code(), Some(3));
    }
}

#[test]
fn the_script_alone_sets_kernel_parameters_that_are_short() {
    for run in script(&["--apply"]) {
        let proc = Scratch::new();
        proc.write("sys/fs/file-nr", "950\t0\t1000\n");
        proc.write("sys/fs/nr_open", "1048576\n");
        let max = proc.write("sys/fs/file-max", "1000\n");
        let instances = proc.write("sys/fs/inotify/max_user_instances", "16\n");
        let run = run.env("TIDEOVER_PROC", proc.path()).env("TIDEOVER_SYSCTL_FILE", proc.join("kept.conf"));
        let done = run.output();
        assert_eq!(done.code(), Some(2), "{done}");
        done.says("CRITICAL  fs.file-max   950 of 1000 open files").says("done: fs.file-max is 2000");
        let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
        assert_eq!((read(&max), read(&instances)), ("2000\n".into(), "1024\n".into()));
        assert_eq!(read(&proc.join("kept.conf")), "fs.file-max = 2000\nfs.inotify.max_user_instances = 1024\n");
    }
}

#[test]
fn the_script_is_clean() {
    let path = workspace().join("scripts/fix-file-descriptors.sh");
    Run::new(program("shellcheck", "shellcheck")).args(["-s", "sh"]).arg(path).output().passes();
}
