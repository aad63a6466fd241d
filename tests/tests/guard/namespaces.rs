//! Programs in containers: other pid, mount, network and user namespaces than the guard's.

use super::park::{LISTENS, PARKED, masks};
use super::{connect, guard, guards, is_served, stop, wait_until, wants};
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;
use std::time::Duration;
use tideover_tests::podman::Storage;
use tideover_tests::programs::passes;
use tideover_tests::{Rootfs, Scratch, fixture, needs, program};

/// Who is root in the user namespace, outside of it.
const ROOT: u32 = 100_000;

/// Connects from inside the network namespace of a process.
fn clients_of(pid: u32, port: u16, count: usize) -> Vec<TcpStream> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("it runs");
    let work = move || {
        // SAFETY: setns(2) touches no memory, and concerns this thread alone, which ends after it.
        assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
        (0..count).map(|_| connect(port)).collect()
    };
    thread::spawn(work).join().expect("they connect")
}

/// A server that spins in a container, guarded from outside of it.
fn in_a_container(options: &[&str]) {
    let (storage, pages) = (Storage::new(), Scratch::new());
    let root = Rootfs::small(&[]);
    root.put(&fixture("guard_spins"), "spins", 0o755);
    let path = root.path().display().to_string();
    if !options.is_empty() {
        let owner = format!("{ROOT}:{ROOT}");
        passes(&Command::new(program("chown", "coreutils")).args(["-R", &owner, &path]).output().expect("chown runs"));
    }
    let always = ["run", "-d", "--name=spins", "--network=none", "--ulimit=nproc=1024:1024", "--ulimit=nofile=24:24"];
    passes(&storage.podman(&[&always[..], options, &["--rootfs", &path, "/spins"]].concat()));
    let inspected = passes(&storage.podman(&["inspect", "-f", "{{.State.Pid}}", "spins"]));
    let pid: u32 = inspected.trim().parse().expect("a process id");
    let log = || String::from_utf8_lossy(&storage.podman(&["logs", "spins"]).stdout).into_owned();
    wait_until("its port", || log().contains("port "));
    let port = super::port(log().lines().find(|line| line.starts_with("port ")).unwrap());
    let same = |kind: &str| {
        let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/{kind}")).unwrap();
        of("self") == of(&pid.to_string())
    };
    assert!(!same("pid") && !same("mnt") && !same("net") && same("user") == options.is_empty());
    guard(&pages, &["--dry-run", "--park", "--idle", "1m", &pid.to_string()])
        .output()
        .passes()
        .says("park: listener 3");
    let mut clients = clients_of(pid, port, 40);
    thread::sleep(Duration::from_millis(300));
    let plain = wants(pid, Duration::from_secs(1));
    let mut running = guards(&pages, &["--park", &pid.to_string()]);
    running.wait_for("its listener is parked");
    assert_eq!(masks(pid), [PARKED]);
    let parked = wants(pid, Duration::from_secs(2));
    println!("in a container {options:?}: {plain:.1} % of a processor without, {parked:.1} % with --park");
    assert!(plain > 70.0 && parked < 2.0, "{plain} % without, {parked} % with");
    for mut client in clients.drain(..) {
        assert!(is_served(&mut client));
    }
    let said = stop(running).stdout;
    assert!(said.contains("listens again"), "{said}");
    assert_eq!(masks(pid), [LISTENS]);
    passes(&storage.podman(&["rm", "-f", "-t", "0", "spins"]));
}

#[needs(containers)]
#[test]
fn a_server_in_a_container_is_parked_from_outside() {
    in_a_container(&[]);
}

#[needs(containers)]
#[test]
fn a_server_in_a_container_with_a_user_namespace_of_its_own_is_parked_from_outside() {
    let map = format!("0:{ROOT}:65536");
    in_a_container(&[&format!("--uidmap={map}"), &format!("--gidmap={map}")]);
}
