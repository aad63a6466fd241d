//! The packages that `make release` makes besides the Debian one: an RPM in a root filesystem, the image with `COPY --from=` and `ENV`. Here they
//! have the command of this machine's release build; scripts/release builds it for older systems, and scripts/release-check tries those.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tideover_tests::disk::own_mounts;
use tideover_tests::podman::Storage;
use tideover_tests::programs::{GREEDY, TOO_MANY, passes};
use tideover_tests::{Rootfs, Scratch, library, needs, program, rootfs, tideover, workspace};

/// Runs a script that makes a package; the package.
fn made(script: &str, into: &Path) -> PathBuf {
    let mut command = Command::new(workspace().join("scripts").join(script));
    command.env("LIB", library()).env("BIN", tideover()).env("STATIC", tideover()).env("OUT", into);
    passes(&command.output().expect("it runs"));
    let files: Vec<_> = fs::read_dir(into).expect("made").map(|entry| entry.expect("readable").path()).collect();
    assert_eq!(files.len(), 1, "a package and nothing else: {files:?}");
    files[0].clone()
}

/// Twice, since the same sources have to give the same package.
fn made_twice(script: &str, scratch: &Scratch) -> PathBuf {
    let package = made(script, &scratch.join("first"));
    let again = made(script, &scratch.join("second"));
    assert!(fs::read(&package).expect("there") == fs::read(again).expect("there"), "{script}: byte for byte");
    package
}

fn rpm(words: &[&str], package: &Path) -> Output {
    Command::new(program("rpm", "rpm")).args(words).arg(package).output().expect("rpm runs")
}

#[needs(root, debian, mounts)]
#[test]
fn the_rpm_installs_runs_and_goes_without_a_trace() {
    program("rpmbuild", "rpm");
    let scratch = Scratch::new();
    let package = made_twice("rpm", &scratch);
    let requires = passes(&rpm(&["-qpR"], &package));
    let foreign =
        |line: &&str| !["/bin/sh", "rpmlib(", "rtld(", "lib", "ld-linux"].iter().any(|is| line.starts_with(is));
    assert_eq!(requires.lines().find(foreign), None, "the C library and a shell are all it needs: {requires}");

    own_mounts();
    for name in ["upper", "work", "root"] {
        fs::create_dir(scratch.join(name)).expect("a folder of ours");
    }
    let root = scratch.join("root");
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        rootfs::debian().display(),
        scratch.join("upper").display(),
        scratch.join("work").display()
    );
    let mount =
        |words: &[&str], at: &Path| passes(&Command::new("mount").args(words).arg(at).output().expect("it runs"));
    mount(&["-t", "overlay", "overlay", "-o", &layers], &root);
    mount(&["-t", "proc", "proc"], &root.join("proc"));
    let there = root.to_str().expect("plain");
    // The root's own packages are Debian's, which rpm does not know.
    let database = ["--root", there, "--dbpath", "/var/lib/rpm"];
    passes(&rpm(&[&database[..], &["--nodeps", "-i"]].concat(), &package));
    passes(&rpm(&[&database[..], &["--nodeps", "-V"]].concat(), Path::new("tideover")));

    let inside = |words: &[&str]| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--nofile=64:256", "chroot", there]).args(words).env_clear();
        prlimit.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output().expect("prlimit runs")
    };
    let plain = inside(&["bash", "-c", GREEDY]);
    assert!(!plain.status.success() && String::from_utf8_lossy(&plain.stderr).contains(TOO_MANY), "{plain:?}");
    assert_eq!(passes(&inside(&["tideover", "run", "bash", "-c", GREEDY])), "opened 100\n");
    passes(&inside(&["tideover", "install", "--system"]));
    passes(&inside(&["tideover", "install", "--cdi"]));
    assert!(root.join("etc/cdi/tideover.json").exists());
    assert_eq!(passes(&inside(&["bash", "-c", GREEDY])), "opened 100\n");

    passes(&rpm(&[&database[..], &["-e"]].concat(), Path::new("tideover")));
    // Not in /dev/shm: here it is a folder like any other, and keeps the folder of pages.
    let mut find = Command::new("find");
    find.args(["usr", "etc", "-name", "*tideover*"]).current_dir(scratch.join("upper"));
    let left = passes(&find.output().expect("find runs"));
    assert_eq!(left, "", "nothing stays");
    assert!(!root.join("etc/ld.so.preload").exists(), "nor in every program");
    assert!(!root.join("etc/cdi/tideover.json").exists(), "nor for containers");
    for at in [root.join("proc"), root] {
        passes(&Command::new("umount").arg(at).output().expect("umount runs"));
    }
}

#[needs(containers)]
#[test]
fn the_image_gives_its_library_to_another_by_two_lines() {
    let scratch = Scratch::new();
    let archive = made_twice("image", &scratch);
    let storage = Storage::new();
    let podman = |words: &[&str]| storage.podman(words);
    let loaded = passes(&podman(&["load", "-q", "-i", archive.to_str().expect("plain")]));
    assert!(loaded.contains("localhost/tideover:"), "{loaded}");
    let root = Rootfs::small(&["sh", "bash"]);
    let tar = scratch.join("base.tar");
    passes(&Command::new("tar").arg("-C").arg(root.path()).arg("-cf").arg(&tar).arg(".").output().expect("tar runs"));
    passes(&podman(&["import", "-q", tar.to_str().expect("plain"), "base"]));

    // As docs/containers.md has them.
    let text = fs::read_to_string(workspace().join("docs/containers.md")).expect("the document is there");
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("COPY --from=") || line.starts_with("ENV LD_")).collect();
    let from = lines.iter().position(|line| line.starts_with("COPY --from=")).expect("it is documented");
    let file = format!("FROM localhost/base\n{}\n{}\n", lines[from], lines[from + 1]);
    let context = scratch.join("context");
    fs::create_dir(&context).expect("a folder of ours");
    fs::write(context.join("Dockerfile"), &file).expect("a file of ours");
    passes(&podman(&["build", "-q", "--network=none", "-t", "app", context.to_str().expect("plain")]));

    let run = |image: &str| {
        let limits = ["--network=none", "--ulimit=nproc=1024:1024", "--ulimit=nofile=64:256", "--timeout=120"];
        podman(&[&["run", "--rm"], &limits[..], &[image, "bash", "-c", GREEDY]].concat())
    };
    assert!(!run("base").status.success());
    assert_eq!(passes(&run("app")), "opened 100\n");
}

#[test]
fn the_scripts_are_plain_posix_shell() {
    for name in ["rpm", "wheel", "release", "release-check", "dist"] {
        let script = workspace().join("scripts").join(name);
        let mut check = Command::new(program("shellcheck", "shellcheck"));
        let checked = check.args(["-s", "sh", "-x"]).arg(script).current_dir(workspace()).output();
        assert_eq!(passes(&checked.expect("shellcheck runs")), "", "{name}");
    }
}

/// Who looks for an apk is told why there is none, and that is so: no package of this system's Debian has the tools.
#[test]
fn why_there_is_no_apk_is_said_where_it_is_looked_for() {
    let read = |path: &str| fs::read_to_string(workspace().join(path)).expect("it is there").replace('\n', " ");
    assert!(read("docs/install.md").contains("There is no package (apk) for Alpine: `abuild` and `apk mkpkg`"));
    let release = read("scripts/release");
    let (_, said) = release.split_once("echo \"No apk for Alpine: ").expect("`make release` says so at its end");
    assert!(said.contains("abuild, apk mkpkg"), "{said}");
    for tool in ["abuild", "apk-tools"] {
        let found = Command::new("apt-cache").args(["search", "--names-only", &format!("^{tool}$")]).output();
        assert!(found.expect("apt-cache runs").stdout.is_empty(), "Debian has {tool} now: make the package");
    }
}
