//! The alerts of `tideover watch` that come before it hurts, on full filesystems and of real processes, and the thresholds of the policy file.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tideover_tests::running::tell;
use tideover_tests::{Disk, Kind, Outcome, Run, Running, Scratch, fixture, needs, program, tideover, workspace};

/// A bash of a name that nobody else has, which does as its input says, a command a line.
struct Shell {
    running: Running,
    name: String,
    folder: Scratch,
}

impl Shell {
    fn start(name: &str) -> Shell {
        let folder = Scratch::new();
        let name = format!("{name}{}", std::process::id());
        std::os::unix::fs::symlink(program("bash", "bash"), folder.join(&name)).unwrap();
        let script = "while read -r line; do eval \"$line\"; echo done; done";
        let running = Run::new(folder.join(&name)).args(["-c", script]).timeout(Duration::from_secs(120)).start();
        Shell { running, name, folder }
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    fn watch(&self, policy: &str, words: &[&str]) -> Run {
        watch(&self.folder, policy, &[&["--only", self.name.as_str()], words].concat())
    }

    fn once(&self, policy: &str) -> Outcome {
        self.watch(policy, &["--once"]).output()
    }
}

fn watch(folder: &Scratch, policy: &str, words: &[&str]) -> Run {
    let file = policy_file(folder, policy);
    let run = Run::new(tideover()).args(["watch", "--interval", "50ms", "--calm", "100ms", "--page-dir"]);
    run.arg(folder.path()).args(words).env("TIDEOVER_CONFIG", file).timeout(Duration::from_secs(60))
}

fn policy_file(folder: &Scratch, policy: &str) -> PathBuf {
    let file = folder.write("policy.toml", policy);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    file
}

fn end(watching: Running) {
    watching.signal(libc::SIGTERM);
    watching.finish();
}

#[needs(mounts)]
#[test]
fn a_disk_that_fills_up_is_told_before_it_is_full_and_when_it_will_be() {
    let disk = Disk::new(Kind::Tmpfs);
    let mut shell = Shell::start("space");
    let log = disk.join("app.log");
    tell(&mut shell.running, &format!("exec 9>>{}; echo one >&9", log.display()));
    let fine = shell.once("");
    assert!(!fine.stdout.contains("log_space"), "{fine}");
    let mut watching = shell.watch("", &[]).start();
    watching.wait_for("watching");
    // A hundredth of it every 20 ms, until less than a tenth is free.
    let (all, filler) = (disk.room(), disk.join("filler"));
    let piece = vec![b'x'; (all / 100) as usize];
    let mut file = OpenOptions::new().create(true).append(true).open(&filler).unwrap();
    while disk.room() > all / 12 {
        file.write_all(&piece).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    let line = watching.wait_for("raised warning log_space: ");
    assert!(line.contains(&format!("{} (process {})", shell.name, shell.pid())), "{line}");
    assert!(line.contains(&format!("its log {}", log.display())) && line.contains("at the present rate"), "{line}");
    // doctor has these thresholds from the same table; by its own rule less than 5 % would be a warning.
    let doctor = || {
        let run = Run::new(tideover()).args(["doctor", &shell.running.pid().to_string(), "--sample", "0s"]);
        run.env("TIDEOVER_CONFIG", shell.folder.join("policy.toml")).output()
    };
    doctor().says(&format!("WARNING   log disk      {}", log.display()));
    disk.fill();
    watching.wait_for("changed critical log_space: ");
    doctor().says("CRITICAL  log disk");
    disk.free();
    watching.wait_for("cleared critical log_space: ");
    end(watching);
    // The policy file may ask for more.
    shell.once("alert_log_space = '100,1'\n").says("raised warning log_space: ");
    let off = shell.once("alert_log_space = '100,1'\n[program.'spac*']\nalert_log_space = 'off'\n");
    assert!(!off.stdout.contains("log_space"), "{off}");
    shell.running.finish();
}

#[needs(mounts)]
#[test]
fn inodes_that_run_out_are_told() {
    let disk = Disk::new(Kind::Tmpfs);
    let mut shell = Shell::start("inode");
    tell(&mut shell.running, &format!("exec 9>>{}", disk.join("app.log").display()));
    let fine = shell.once("");
    assert!(!fine.stdout.contains("log_inodes"), "{fine}");
    // Until no file can be created any more.
    let few = Run::new(program("mount", "mount")).args(["-o", "remount,nr_inodes=200"]).arg(disk.path());
    few.output().passes();
    let folder = disk.join("many");
    fs::create_dir(&folder).unwrap();
    let made = (0..1000).take_while(|i| fs::File::create(folder.join(i.to_string())).is_ok()).count();
    assert!(made < 200, "{made}");
    let told = shell.once("");
    assert_eq!(told.code(), Some(2), "after {made} files: {told}");
    told.says("raised critical log_inodes: ").says("inodes free on the filesystem of its log");
    shell.running.finish();
}

#[test]
fn a_process_near_the_limit_of_its_address_space_is_told() {
    let shell = Shell::start("memory");
    let pid = shell.pid().to_string();
    let fine = shell.once("");
    assert!(!fine.stdout.contains("address_space"), "{fine}");
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let bytes: u64 = statm.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096;
    let limit = |bytes: u64| {
        let limit = format!("--as={bytes}:");
        Run::new(program("prlimit", "util-linux")).args(["--pid", &pid, &limit]).output().passes();
    };
    let mut watching = shell.watch("", &[]).start();
    watching.wait_for("watching");
    limit(bytes * 100 / 94);
    let line = watching.wait_for("raised warning address_space: ");
    assert!(line.contains("address space in use (94 %)"), "{line}");
    let doctor = Run::new(tideover()).args(["doctor", &pid, "--sample", "0s"]).output();
    doctor.says("WARNING   address space").says(&format!("sudo prlimit --pid {pid} --as="));
    limit(bytes);
    watching.wait_for("changed critical address_space: ");
    limit(bytes * 2);
    watching.wait_for("cleared critical address_space: ");
    end(watching);
    shell.running.finish();
}

#[test]
fn connections_are_counted_against_a_limit_that_is_set() {
    let mut shell = Shell::start("tcp");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for number in 10..14 {
        tell(&mut shell.running, &format!("exec {number}<>/dev/tcp/127.0.0.1/{port}"));
    }
    let unlimited = shell.once("");
    assert!(!unlimited.stdout.contains("connections"), "{unlimited}");
    let policy = format!("[program.{}]\nalert_connections = \"4,6\"\n", shell.name);
    shell.once(&policy).says("raised warning connections: ").says("4 TCP connections are open");
    let doctor = Run::new(tideover()).args(["doctor", &shell.pid().to_string(), "--sample", "0s"]);
    doctor
        .env("TIDEOVER_CONFIG", shell.folder.join("policy.toml"))
        .output()
        .says("WARNING   tcp           4 connections");
    for number in 14..16 {
        tell(&mut shell.running, &format!("exec {number}<>/dev/tcp/127.0.0.1/{port}"));
    }
    let critical = shell.once(&policy);
    assert_eq!(critical.code(), Some(2), "{critical}");
    critical.says("raised critical connections: ");
    shell.running.finish();
}

#[test]
fn zombies_are_told_from_the_first_on_if_that_is_set() {
    let folder = Scratch::new();
    let mut sick = Run::new(fixture("sick")).args(["zombies", "2"]).start();
    sick.wait_for("sick");
    let of = |policy: &str| watch(&folder, policy, &["--once", "--only", "sick"]).output();
    let two = format!("zombies: sick (process {}): 2 of its children", sick.pid());
    of("").does_not_say(&two);
    of("alert_zombies = 1\n").says(&format!("raised warning {two}"));
    of("alert_zombies = 1\n[program.sick]\nalert_zombies = ['1', '2']\n").says(&format!("raised critical {two}"));
    of("[program.other]\nalert_zombies = 1\n").does_not_say(&two);
    sick.finish();
}

#[test]
fn inotify_of_a_user_is_told() {
    let folder = Scratch::new();
    let file = folder.write("followed", "");
    let tail = Run::new("tail").arg("-f").arg(&file).timeout(Duration::from_secs(60)).start();
    while !fs::read_dir(format!("/proc/{}/fd", tail.pid())).is_ok_and(|fds| {
        fds.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == "anon_inode:inotify"))
    }) {
        thread::sleep(Duration::from_millis(5));
    }
    let policy = "alert_inotify_instances = '0.0001,100'\nalert_inotify_watches = '0.0000001,100'\n";
    let told = watch(&folder, policy, &["--once"]).output();
    told.says("raised warning inotify_instances: the system: ").says("raised warning inotify_watches: the system: ");
    watch(&folder, "alert_inotify_instances = 'off'\n", &["--once"]).output().does_not_say("inotify_instances");
    tail.signal(libc::SIGTERM);
    tail.finish();
}

#[test]
fn a_policy_with_alerts_is_checked_and_the_library_passes_over_them() {
    let folder = Scratch::new();
    let good = policy_file(&folder, "alert_zombies = 1\nraise = 'off'\n[program.x]\nalert_usage = '50,60'\n");
    let checked = Run::new(tideover()).args(["config", "--check"]).env("TIDEOVER_CONFIG", &good).output();
    checked.passes().says("alert_zombies").says("alert_usage").says("50,60");
    let quiet = Run::new("true").env("TIDEOVER_CONFIG", &good).preload(true).output();
    assert_eq!(quiet.passes().stderr, "", "{quiet}");
    let bad = policy_file(&folder, "alert_zombie = 1\n");
    let refused = Run::new(tideover()).args(["config", "--check"]).env("TIDEOVER_CONFIG", &bad).output();
    refused.fails().says("there is no alert \"alert_zombie\"; did you mean alert_zombies?");
    let watched = watch(&folder, "alert_usage = '90,50'\n", &["--once"]).output();
    watched.says("alert_usage cannot be \"90,50\"");
}

#[test]
fn the_prometheus_rules_have_the_thresholds_of_the_table() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).unwrap();
    let (policy, rules) = (read("docs/policy.md"), read("contrib/prometheus/tideover.rules.yml"));
    let severity_of = |expression: String| {
        let rule = rules.split("- alert: ").find(|rule| rule.contains(&format!("expr: {expression}\n")));
        let rule = rule.unwrap_or_else(|| panic!("no rule asks {expression}"));
        rule.split("severity: ").nth(1).and_then(|rest| rest.lines().next()).unwrap().to_string()
    };
    for (key, ratio) in [
        ("alert_usage", "tideover_descriptors_used_ratio"),
        ("alert_files", "tideover_system_open_files / tideover_system_open_files_limit"),
    ] {
        let row = policy.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).expect("a row");
        let cell = row.split('|').nth(3).unwrap();
        let bounds: Vec<f64> = cell.split(',').map(|bound| bound.trim().parse::<f64>().unwrap() / 100.0).collect();
        assert_eq!(severity_of(format!("{ratio} > {}", bounds[0])), "warning", "{key}");
        assert_eq!(severity_of(format!("{ratio} > {}", bounds[1])), "critical", "{key}");
    }
}
