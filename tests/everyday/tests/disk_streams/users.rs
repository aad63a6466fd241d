//! Programs that act for another user: set-uid programs, and root's daemons whose logs lie in a user's folder.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::*;
use tideover_contract::settings::{Id, log_level, sink};
use tideover_tests::outage::{Fed, Logger};
use tideover_tests::running::Endless;
use tideover_tests::{Page, Scratch, fixture, library, needs, tideover};

const NOBODY: u32 = 65534;

/// Loads the library into every program in the test's mount namespace, by an /etc of its own with ld.so.preload.
fn preload_everywhere() {
    tideover_tests::disk::own_mounts();
    let scratch = Scratch::new();
    let fresh = scratch.join("etc");
    fs::create_dir(&fresh).expect("a folder can be made");
    let fresh = fresh.to_str().expect("UTF-8");
    mount(&["-t", "tmpfs", "tmpfs", fresh]);
    let copied = Command::new("cp").args(["-a", "/etc/.", fresh]).status().expect("cp runs");
    assert!(copied.success());
    fs::write(format!("{fresh}/ld.so.preload"), library().display().to_string()).expect("there is space");
    mount(&["--move", fresh, "/etc"]);
}

/// Found in the field: root's log lines, with keys in them, came out on the terminal of whoever had called the program.
#[needs(mounts, root, setuid)]
#[test]
fn the_caller_of_a_set_uid_program_sees_nothing_of_its_log() {
    let disk = Disk::new(Kind::Tmpfs);
    let program = disk.join("su");
    fs::copy(&writer(Path::new("log")).command()[0], &program).expect("there is space");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
    fs::create_dir(disk.join("secure")).expect("there is space");
    fs::set_permissions(disk.join("secure"), fs::Permissions::from_mode(0o700)).expect("it is ours");
    let log = disk.join("secure/su.log");
    fs::write(&log, "").expect("there is space");
    disk.fill();
    preload_everywhere();
    let call = |user: u32| {
        let script = format!("exec setpriv --reuid {user} --regid {user} --clear-groups \"$@\"");
        let run = Run::new(&program).arg("write").arg(&log);
        in_a_shell(&script, &run).env("PATH", "/usr/bin:/bin").env("TIDEOVER_FALLBACK", "stdout").output()
    };
    let outcome = call(NOBODY);
    assert_eq!((failed(&outcome), outcome.stdout.as_str()), (LINES, ""), "{outcome}");
    assert!(outcome.ours().is_empty(), "{outcome}");
    // The control: in root's own hands the library acts.
    let outcome = call(0);
    assert_eq!(failed(&outcome), 0, "{outcome}");
    all_in(&outcome.stdout);
}

/// The caller of a set-uid program names no policy for it; that of the machine counts, if it is root's.
#[needs(mounts, root, setuid)]
#[test]
fn the_caller_of_a_set_uid_program_does_not_choose_its_policy() {
    let disk = Disk::new(Kind::Tmpfs);
    let program = disk.join("su");
    fs::copy(fixture("ebb"), &program).expect("there is space");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
    let own = disk.join("own.toml");
    fs::write(&own, "raise = 'off'\n").expect("there is space");
    chown(&own, Some(NOBODY), Some(NOBODY)).expect("root may");
    preload_everywhere();
    let soft = |named: &Path| {
        let script = format!("exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\"");
        let run = in_a_shell(&script, &Run::new(&program)).env("PATH", "/usr/bin:/bin").soft(64).hard(256);
        let mut running = run.env("TIDEOVER_CONFIG", named).start();
        running.say("fill");
        running.wait_for("done");
        let limits = fs::read_to_string(format!("/proc/{}/limits", running.pid())).expect("it runs");
        running.finish();
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("there is one").to_string();
        line.split_whitespace().nth(3).expect("a number").to_string()
    };
    // The control: it acts in such a program at all.
    assert_eq!(soft(Path::new("")), "256");
    assert_eq!(soft(&own), "256", "what the caller names is not read");
    let machine = Path::new("/etc/tideover.toml");
    fs::write(machine, "[program.su]\nraise = 'off'\n").expect("/etc is the test's own");
    assert_eq!(soft(Path::new("")), "64");
    chown(machine, Some(NOBODY), Some(NOBODY)).expect("root may");
    assert_eq!(soft(Path::new("")), "256", "it is not root's");
}

/// Told to read the policy again, it still reads the one of the machine alone, and still says and diverts nothing.
#[needs(mounts, root, setuid)]
#[test]
fn a_set_uid_program_that_is_told_to_reload_takes_no_more_than_before() {
    let disk = Disk::new(Kind::Tmpfs);
    let program = disk.join("su");
    fs::copy(fixture("ebb"), &program).expect("there is space");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("it is ours");
    let own = disk.join("own.toml");
    fs::write(&own, "raise = 'auto'\n").expect("there is space");
    preload_everywhere();
    let machine = Path::new("/etc/tideover.toml");
    fs::write(machine, "raise = 'off'\n").expect("/etc is the test's own");
    let script = format!("exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$@\"");
    let run = in_a_shell(&script, &Run::new(&program)).env("PATH", "/usr/bin:/bin").soft(64).hard(256);
    let mut running = run.env("TIDEOVER_CONFIG", &own).env("TIDEOVER_PAGE_DIR", disk.path()).start();
    let pid = running.pid();
    running.say("fill");
    running.wait_for("done");
    let page = || Page::read(Path::new("/dev/shm"), pid).expect("its page is where those of the machine are");
    let mut reloaded = |policy: &str| {
        fs::write(machine, policy).expect("/etc is the test's own");
        Run::new(tideover()).args(["control", &pid.to_string(), "reload", "--page-dir", "/dev/shm"]).output().passes();
        running.say("fill");
        running.wait_for("done");
        let (control, obeyed) = page().view().control();
        assert_eq!((control & 0xff, control), (3, obeyed), "it has obeyed");
        let value = |id: Id| page().view().setting(id as usize).expect("it is known").0;
        let words = [Id::Fallback, Id::Log].map(value);
        (page().counter("descriptors", "soft_limit"), words)
    };
    running_fills(&mut reloaded, "raise = 'off'\nlog = 'debug'\nfallback = 'stdout'\n", 64);
    running_fills(&mut reloaded, "raise = 'auto'\nlog = 'debug'\nfallback = 'stdout'\n", 256);
    let outcome = running.finish();
    assert!(outcome.ours().is_empty(), "it says nothing: {outcome}");
}

/// A set-uid program that has read this policy again has this soft limit, and diverts and says nothing.
#[track_caller]
fn running_fills(reloaded: &mut dyn FnMut(&str) -> (u64, [u64; 2]), policy: &str, soft: u64) {
    let (now, [fallback, log]) = reloaded(policy);
    assert_eq!((now, fallback, log), (soft, sink::OFF, log_level::OFF), "{policy}");
}

/// The control: where the folder is root's, the file of that name is removed.
#[track_caller]
fn cleanup_removes_a_rotated_file_of_roots_own_folder(own: &Path, disk: &Disk) {
    fs::create_dir(own).expect("there is space");
    fs::write(own.join("app.log"), "").expect("there is space");
    fs::write(own.join("app.log.1"), vec![b'x'; 8192]).expect("there is space");
    disk.fill();
    let outcome = writer(&own.join("app.log")).env("TIDEOVER_CLEANUP", "100K").preload(true).output();
    disk.free();
    assert!(!own.join("app.log.1").exists(), "{outcome}");
}

/// Found in the field: a user who exchanged his folder of logs for a link had a file of root's removed from another folder.
#[needs(mounts, root)]
#[test]
fn cleanup_removes_nothing_in_a_folder_that_a_user_puts_in_the_place_of_his_logs() {
    let disk = Disk::new(Kind::Tmpfs);
    cleanup_removes_a_rotated_file_of_roots_own_folder(&disk.join("own"), &disk);
    let home = disk.join("home");
    let [logs, link, victim] = [home.join("logs"), home.join("link"), disk.join("victim")];
    for folder in [&home, &logs, &victim] {
        fs::create_dir(folder).expect("there is space");
    }
    for path in [&home, &logs] {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    std::os::unix::fs::symlink(&victim, &link).expect("there is space");
    let precious = victim.join("app.log.1");
    let log = logs.join("app.log");
    fs::write(&log, "").expect("there is space");
    let swap = disk.join("swap");
    fs::copy(fixture("disk_swap"), &swap).expect("there is space");
    for round in 0..20 {
        fs::write(&precious, vec![b'x'; 8192]).expect("there is space");
        // The daemon has opened its log before anything is exchanged.
        let open = if log.exists() { &log } else { &link.join("app.log") };
        let mut fed = Fed::start(&c("write", open).preload(true).env("TIDEOVER_CLEANUP", "100K"));
        assert!(fed.log(1..=1));
        disk.fill();
        let swapper = Endless::start(Command::new(&swap).arg(&logs).arg(&link).uid(NOBODY).gid(NOBODY));
        fed.log(2..=100);
        drop(swapper);
        fed.end();
        assert!(precious.exists(), "round {round}: a file of another folder was removed");
        disk.free();
    }
}

#[needs(mounts)]
#[test]
fn cleanup_knows_the_names_that_programs_give_their_old_logs() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let old = ["app.1.log", "app1.log", "app-2026-11-28.log", "20261128-app.log", "app.log.2026-11-28", "app_1.log.gz"];
    let others = ["app-worker.log", "my-app.log", "app.txt", "app2026.log", "application.log"];
    for name in old.iter().chain(&others) {
        fs::write(disk.join(name), vec![b'x'; 4096]).expect("there is space");
    }
    disk.fill();
    let outcome = writer(&log).env("TIDEOVER_CLEANUP", "200K").preload(true).output();
    outcome.passes();
    let there = |name: &&&str| disk.join(name).exists();
    assert_eq!(old.iter().filter(there).collect::<Vec<_>>(), Vec::<&&str>::new(), "{outcome}");
    assert_eq!(others.iter().filter(there).count(), others.len(), "{outcome}");
}

/// stdio is looked after once a program opens a file for writing: this one never does.
#[needs(mounts)]
#[test]
fn lines_by_stdio_to_a_descriptor_that_the_program_was_started_with() {
    let (_disk, log) = full_disk();
    let script = format!("exec \"$@\" 3>> '{}'", log.display());
    let run = in_a_shell(&script, &Run::new(fixture("disk_inherited"))).env("TIDEOVER_FALLBACK", "stderr");
    let both = run.both();
    both.plain.fails().says("100 failed");
    all_in(&both.preloaded.passes().stderr);
}
