//! `install --cdi`: a container of an image that knows nothing of the library asks for it as for a device. /etc and /opt are covered in the
//! test's own mount namespace, which podman is started in.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tideover_tests::podman::Storage;
use tideover_tests::programs::{GREEDY, TOO_MANY, passes};
use tideover_tests::{Scratch, library, needs, program, rootfs, tideover, workspace};

const FILE: &str = "/etc/cdi/tideover.json";
const LIBRARY: &str = "/opt/libtideover.so";

/// A machine to act on: its /etc, of which nothing stays, and a library in /opt; and podman's storage.
struct Machine {
    storage: Storage,
    /// What its /etc has that the machine's has not; removed with it.
    _upper: Scratch,
}

impl Machine {
    fn new() -> Machine {
        let storage = Storage::new();
        let scratch = Scratch::new();
        for name in ["upper", "work"] {
            fs::create_dir(scratch.join(name)).expect("a folder of ours");
        }
        fs::set_permissions(scratch.join("upper"), fs::Permissions::from_mode(0o755)).expect("a folder of ours");
        let layers = format!(
            "lowerdir=/etc,upperdir={},workdir={}",
            scratch.join("upper").display(),
            scratch.join("work").display()
        );
        mount(&["-t", "overlay", "overlay", "-o", &layers, "/etc"]);
        mount(&["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/opt"]);
        fs::copy(library(), LIBRARY).expect("there is space");
        fs::set_permissions(LIBRARY, fs::Permissions::from_mode(0o644)).expect("a file of ours");
        Machine { storage, _upper: scratch }
    }

    /// A container of this root filesystem, whose changes are thrown away.
    fn run(&self, root: &Path, options: &[&str], command: &[&str]) -> Output {
        let rootfs = format!("{}:O", root.display());
        let always = ["--network=none", "--ulimit=nproc=1024:1024", "--ulimit=nofile=64:256", "--timeout=120"];
        self.storage.podman(&[&["run"], &always[..], options, &["--rootfs", &rootfs], command].concat())
    }
}

fn mount(words: &[&str]) {
    passes(&Command::new(program("mount", "mount")).args(words).output().expect("mount runs"));
}

fn tell(words: &[&str]) -> Output {
    Command::new(tideover()).args(words).output().expect("tideover runs")
}

const INSTALL: &[&str] = &["install", "--cdi", "--library", LIBRARY];
const ASKS: &str = "--device=tideover.io/preload=on";

#[track_caller]
fn refused(output: &Output, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(says), "should refuse with {says:?}: {output:?}");
}

#[needs(containers, debian, mounts)]
#[test]
fn a_container_that_asks_for_it_is_guarded_and_one_that_does_not_is_not() {
    let machine = Machine::new();
    let root = rootfs::debian();
    let before = fs::read_dir(root.join("usr/lib")).expect("readable").count();
    assert!(!machine.run(&root, &["--rm", ASKS], &["true"]).status.success(), "nobody offers it yet");
    let said = passes(&tell(INSTALL));
    assert!(said.contains("Undo: tideover uninstall --cdi"), "{said}");
    assert!(passes(&tell(INSTALL)).contains("says so already"));

    let plain = machine.run(&root, &["--rm"], &["bash", "-c", GREEDY]);
    assert!(!plain.status.success() && String::from_utf8_lossy(&plain.stderr).contains(TOO_MANY), "{plain:?}");
    for options in [&["--rm", ASKS][..], &["--rm", ASKS, "--read-only", "--user=1234:1234", "--cap-drop=all"]] {
        let guarded = machine.run(&root, options, &["bash", "-c", GREEDY]);
        assert_eq!((passes(&guarded).as_str(), guarded.stderr.is_empty()), ("opened 100\n", true), "{guarded:?}");
    }
    let writes = machine.run(&root, &["--rm", ASKS], &["sh", "-c", "echo > $LD_PRELOAD"]);
    refused(&writes, "Read-only file system");
    assert_eq!(fs::read(LIBRARY).expect("there"), fs::read(library()).expect("there"));
    assert_eq!(fs::read_dir(root.join("usr/lib")).expect("readable").count(), before, "the image stays as it was");

    assert!(passes(&tell(&["uninstall", "--cdi"])).contains("is removed"));
    assert!(passes(&tell(&["uninstall", "--cdi"])).contains("nothing to do"));
    assert!(!machine.run(&root, &["--rm", ASKS], &["true"]).status.success(), "it is no longer offered");
}

#[needs(containers, debian, mounts)]
#[test]
fn its_page_is_visible_from_the_machine() {
    let machine = Machine::new();
    passes(&tell(INSTALL));
    let stays = format!("{GREEDY}; sleep 100; true");
    let started = machine.run(&rootfs::debian(), &["-d", "--name=app", ASKS], &["bash", "-c", &stays]);
    passes(&started);
    let pid = passes(&machine.storage.podman(&["inspect", "-f", "{{.State.Pid}}", "app"])).trim().to_string();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let told = passes(&tell(&["ps", "--json"]));
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        let text = told.to_string();
        if text.contains(&format!("\"pid\":{pid},")) {
            break;
        }
        assert!(Instant::now() < deadline, "process {pid} of the container should be listed: {text}");
    }
    // And from the container of contrib/kubernetes/base/daemonset.yaml, with the rights that it has there.
    let command = format!("--volume={}:/usr/local/bin/tideover:ro", tideover().display());
    let rights =
        ["--rm", "--pid=host", "--read-only", "--cap-drop=all", "--cap-add=SYS_PTRACE,DAC_READ_SEARCH", &command];
    let told = machine.run(&rootfs::debian(), &rights, &["tideover", "metrics", "--all"]);
    let told = passes(&told);
    let guarded =
        |line: &str| line.starts_with("tideover_descriptors_soft_limit{program=\"bash\"") && line.ends_with(" 256");
    assert!(told.lines().any(guarded), "the node's metrics have the container's counters: {told}");
    passes(&machine.storage.podman(&["rm", "-f", "-t", "0", "app"]));
}

#[needs(root, mounts)]
#[test]
fn what_is_not_ours_and_what_others_could_change_is_left_alone() {
    let _machine = Machine::new();
    let shown = passes(&tell(&[INSTALL, &["--dry-run"]].concat()));
    assert!(shown.contains("\"hostPath\": \"/opt/libtideover.so\"") && !Path::new(FILE).exists(), "{shown}");
    refused(&tell(&["install"]), "--system|--cdi");
    refused(&tell(&["install", "--system", "--cdi"]), "cannot be used with");
    refused(&tell(&["install", "--cdi", "--library", "/opt/none.so"]), "cannot offer /opt/none.so to containers");

    fs::create_dir_all(Path::new(FILE).parent().expect("a folder")).expect("a folder of ours");
    fs::write(FILE, "{\"cdiVersion\": \"0.3.0\", \"kind\": \"example.com/other\", \"devices\": []}").expect("ours");
    refused(&tell(INSTALL), "not of the kind tideover.io/preload");
    refused(&tell(&["uninstall", "--cdi"]), "not of the kind tideover.io/preload");
    fs::remove_file(FILE).expect("a file of ours");
    fs::set_permissions("/etc/cdi", fs::Permissions::from_mode(0o777)).expect("a folder of ours");
    refused(&tell(INSTALL), "may be changed by everybody");
    fs::set_permissions("/etc/cdi", fs::Permissions::from_mode(0o755)).expect("a folder of ours");
    fs::set_permissions(LIBRARY, fs::Permissions::from_mode(0o666)).expect("a file of ours");
    refused(&tell(INSTALL), "may be changed by everybody");
    fs::set_permissions(LIBRARY, fs::Permissions::from_mode(0o644)).expect("a file of ours");
    passes(&tell(INSTALL));
    assert_eq!(fs::metadata(FILE).expect("written").permissions().mode() & 0o777, 0o644);

    // Containers that ask for a library that is gone would not start.
    let mut uninstall = Command::new(workspace().join("scripts/install"));
    uninstall.arg("uninstall").env("LIB", library()).env("BIN", tideover()).env("PREFIX", "/opt").env("LIBDIR", "/opt");
    refused(&uninstall.output().expect("sh runs"), "run 'tideover uninstall --cdi' first");
    assert!(Path::new(LIBRARY).exists());
    passes(&tell(&["uninstall", "--cdi"]));
    passes(&uninstall.output().expect("sh runs"));
    assert!(!Path::new(LIBRARY).exists());
}
