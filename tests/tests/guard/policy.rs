//! `watch --guard` for the programs that the policy file names, and ballasts.

use super::park::{LISTENS, PARKED, masks};
use super::{Server, connect_all, is_served, port, soft, wait_until};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use tideover_tests::{Disk, Kind, Run, Running, Scratch, fixture, needs, program, tideover};

/// Replaces the policy file, as an editor does.
fn policy(folder: &Scratch, text: &str) -> PathBuf {
    let fresh = folder.write("fresh.toml", text);
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o644)).unwrap();
    let path = folder.join("policy.toml");
    fs::rename(fresh, &path).unwrap();
    path
}

fn watch(pages: &Scratch, policy: &Path, words: &[&str]) -> Run {
    let run = Run::new(tideover()).args(["watch", "--guard", "--interval", "200ms", "--only", "none"]).args(words);
    run.env("TIDEOVER_CONFIG", policy).page_dir(pages.path()).timeout(Duration::from_secs(120))
}

/// A server of this name that spins at its limit.
fn named(folder: &Scratch, name: &str) -> (Server, u16) {
    let path = folder.join(name);
    fs::copy(fixture("guard_spins"), &path).unwrap();
    let mut running = Run::new(path).limit(16).timeout(Duration::from_secs(120)).start();
    let port = port(&running.wait_for("port "));
    (Server(running), port)
}

fn stopped(watch: Running) {
    watch.signal(libc::SIGTERM);
    watch.finish().passes();
}

#[test]
fn watch_guards_what_the_policy_names_as_long_as_it_does() {
    let (folder, pages) = (Scratch::new(), Scratch::new());
    let (server, port) = named(&folder, "guard-named");
    let (other, other_port) = named(&folder, "guard-raised");
    let (left, _) = named(&folder, "guard-left");
    let path = policy(
        &folder,
        "[program.'guard-*']\nguard = 'raise'\n[program.guard-named]\nguard = ['park']\n[program.guard-left]\nguard = 'off'\n",
    );
    let mut running = watch(&pages, &path, &[]).start();
    running.wait_for("is guarded");
    running.wait_for("is guarded");
    let clients = connect_all(port, 30);
    let others = connect_all(other_port, 30);
    running.wait_for(&format!("guard-named (process {}): spins at its limit", server.pid()));
    assert_eq!((masks(server.pid()), masks(other.pid())), (vec![PARKED], vec![LISTENS]), "only what it may");
    assert!(!running.stdout_so_far().contains("guard-left"), "{}", running.stdout_so_far());
    // Another steps for it: its listener is brought back at once.
    policy(&folder, "[program.'guard-*']\nguard = 'raise'\n");
    wait_until("listening", || masks(server.pid()) == [LISTENS]);
    policy(&folder, "[program.'guard-*']\nguard = 'park'\n");
    wait_until("parking both", || masks(server.pid()) == [PARKED] && masks(other.pid()) == [PARKED]);
    // Not named any more: let go, with everything put back.
    policy(&folder, "[program.guard-raised]\nguard = 'park'\n");
    running.wait_for("guard-named (process");
    wait_until("letting go", || masks(server.pid()) == [LISTENS]);
    assert_eq!(masks(other.pid()), [PARKED]);
    stopped(running);
    assert_eq!((masks(other.pid()), soft(other.pid())), (vec![LISTENS], 16), "stopped, it puts everything back");
    for mut client in clients {
        assert!(is_served(&mut client));
    }
    drop((others, left));
}

#[test]
fn a_watch_that_is_killed_leaves_no_listener_parked_for_ever() {
    let (folder, pages) = (Scratch::new(), Scratch::new());
    let (server, port) = named(&folder, "guard-killed");
    let path = policy(&folder, "[program.guard-killed]\nguard = 'park'\n");
    let mut running = watch(&pages, &path, &["--format", "json", "--exec", "cat >/dev/null"]).start();
    let _clients = connect_all(port, 30);
    wait_until("parking", || masks(server.pid()) == [PARKED]);
    // Its standard output has alerts alone.
    wait_until("saying so", || running.stderr_so_far().contains("its listener is parked"));
    assert!(!running.stdout_so_far().contains("parked"), "{}", running.stdout_so_far());
    running.signal(libc::SIGKILL);
    running.finish();
    running = watch(&pages, &path, &[]).start();
    running.wait_for("listens again, after a guard was killed");
    stopped(running);
    assert_eq!(masks(server.pid()), [LISTENS]);
}

#[test]
fn the_key_is_known_to_config_check_and_the_library_passes_over_it() {
    let folder = Scratch::new();
    let check = |path: &Path| Run::new(tideover()).args(["config", "--check"]).env("TIDEOVER_CONFIG", path).output();
    let good = policy(&folder, "[program.'my*']\nguard = [\"park\", \"idle 5m\"]\nraise = 'off'\n");
    check(&good).passes().says("guard ").says("park,idle 5m").says("my*");
    let run = Run::new(program("true", "coreutils")).env("TIDEOVER_CONFIG", &good).preload(true);
    let outcome = run.output();
    assert!(outcome.succeeded() && outcome.stderr.is_empty(), "{outcome}");
    for (text, says) in [
        ("guard = 'park'\n", "guard stands in a table of programs"),
        ("[program.x]\nguard = 'swap'\n", "it takes off, or raise, park and idle TIME"),
    ] {
        let bad = policy(&folder, text);
        check(&bad).fails().says(says);
        let pages = Scratch::new();
        let watched = watch(&pages, &bad, &[]).start();
        wait_until("a warning", || watched.stderr_so_far().contains(says));
        stopped(watched);
    }
    let pages = Scratch::new();
    watch(&pages, &good, &["--once"]).output().fails().says("--once");
}

#[needs(mounts)]
#[test]
fn a_guard_gives_a_ballast_up_on_a_full_disk_and_makes_it_anew() {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let folder = disk.path().to_str().unwrap();
    super::guard(&pages, &["--ballast", folder]).output().fails().says("there is no ballast");
    Run::new(tideover()).args(["ballast", folder, "64K"]).output().passes();
    let ballast = disk.join("tideover.ballast");
    // Without any process to guard it goes on, too.
    let mut running = super::guard(&pages, &["--json", "--ballast", folder]).start();
    thread::sleep(Duration::from_millis(1500));
    assert!(!running.ended() && fs::metadata(&ballast).unwrap().len() == 64 << 10);
    disk.fill();
    let said = running.wait_for("ballast_given_up");
    assert!(said.contains("on a full disk, 64.0 KiB") && said.contains("\"path\""), "{said}");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 4096);
    disk.free();
    running.wait_for("ballast_made");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 64 << 10);
    fs::remove_file(&ballast).unwrap();
    running.wait_for("is no ballast any more");
    thread::sleep(Duration::from_millis(2500));
    let said = super::stop(running).stdout;
    assert_eq!(said.matches("ballast_missing").count(), 1, "{said}");
}
