//! The library in every program: /etc/ld.so.preload, always of a root filesystem of the test's own; `make install`; man pages and
//! completions.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tideover_tests::needs::assert_declared;
use tideover_tests::programs::passes;
use tideover_tests::{Rootfs, Scratch, library, needs, program, tideover, workspace};

/// A system to act on: Debian's shells and a few programs, and a library in /usr/lib.
struct System(Rootfs);

impl System {
    fn new() -> System {
        assert_declared(&["root"]);
        let system = System(Rootfs::small(&["sh", "bash", "ls", "cat", "id"]));
        system.put_library(&library());
        system
    }

    fn put_library(&self, from: &Path) -> PathBuf {
        self.0.put(from, "usr/lib/libtideover.so", 0o644)
    }

    fn list(&self) -> PathBuf {
        self.0.path().join("etc/ld.so.preload")
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.list()).ok()
    }

    /// `tideover COMMAND... --root` from outside.
    fn tideover(&self, words: &[&str]) -> Output {
        let mut command = Command::new(tideover());
        command.args(words).arg("--root").arg(self.0.path()).output().expect("tideover runs")
    }

    fn install(&self) -> Output {
        self.tideover(&["install", "--system"])
    }

    /// Runs a program inside, under a soft limit of 32.
    fn inside(&self, words: &[&str]) -> Output {
        let mut shell = Command::new(program("sh", "dash"));
        // A shell that sets its own limit would be held to it.
        shell.args(["-c", "ulimit -Sn 32; exec \"$@\"", "sh"]).arg(program("chroot", "coreutils")).arg(self.0.path());
        shell.args(words).env_clear().output().expect("chroot runs")
    }

    /// Does a shell inside open more files than its soft limit allows?
    fn carries(&self) -> bool {
        let script = "for i in {1..60}; do exec {file}</etc/passwd || exit 1; done";
        self.inside(&["bash", "-c", script]).status.success()
    }
}

fn refused(output: &Output, says: &str) {
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && words.contains(says), "should refuse with {says:?}: {output:?}");
}

/// fixtures/library_that_aborts.c.
fn aborting(flags: &[&str]) -> Scratch {
    let scratch = Scratch::new();
    let source = workspace().join("tests/fixtures/library_that_aborts.c");
    let mut cc = Command::new(program("cc", "gcc"));
    cc.args(["-shared", "-fPIC", "-o"]).arg(scratch.join("libtideover.so")).args(flags).arg(source);
    assert!(cc.status().expect("cc runs").success());
    scratch
}

#[needs(root)]
#[test]
fn every_program_is_carried_after_install_and_none_after_uninstall() {
    let system = System::new();
    assert!(!system.carries(), "without the library it fails");
    let said = passes(&system.install());
    assert!(said.contains("sh, bash") && said.contains("Undo: tideover uninstall --root"), "{said}");
    assert_eq!(system.text().as_deref(), Some("/usr/lib/libtideover.so\n"));
    assert!(system.carries());

    assert!(passes(&system.install()).contains("names it already"));
    assert_eq!(system.text().as_deref(), Some("/usr/lib/libtideover.so\n"), "a second time changes nothing");

    passes(&system.tideover(&["uninstall"]));
    assert_eq!(system.text(), None, "a file that was not there is gone again");
    assert!(!system.carries());
    assert!(passes(&system.tideover(&["uninstall"])).contains("nothing to do"));
}

#[needs(root)]
#[test]
fn entries_and_comments_of_others_survive() {
    let system = System::new();
    let another = system.0.path().join("usr/lib/another.so");
    let mut cc = Command::new(program("cc", "gcc"));
    cc.args(["-shared", "-fPIC", "-x", "c", "/dev/null", "-o"]).arg(another);
    passes(&cc.output().expect("cc runs"));
    let theirs = "# Managed by nobody.\n\n  /usr/lib/another.so\t\n";
    fs::write(system.list(), theirs).expect("a file of ours");
    fs::set_permissions(system.list(), fs::Permissions::from_mode(0o640 | 0o004)).expect("a file of ours");
    passes(&system.install());
    assert_eq!(system.text().unwrap(), "# Managed by nobody.\n\n/usr/lib/libtideover.so\n  /usr/lib/another.so\t\n");
    assert!(system.carries());
    assert_eq!(fs::metadata(system.list()).unwrap().permissions().mode() & 0o777, 0o644);
    passes(&system.tideover(&["uninstall"]));
    assert_eq!(system.text().unwrap(), theirs);
}

#[needs(root)]
#[test]
fn a_dry_run_changes_nothing() {
    let system = System::new();
    let said = passes(&system.tideover(&["install", "--system", "--dry-run"]));
    assert!(said.contains("was left as it is"), "{said}");
    assert_eq!(system.text(), None);
    let output = Command::new(tideover()).args(["install", "--root", "/nonexistent"]).output().expect("tideover runs");
    assert_eq!(output.status.code(), Some(2), "--system has to be said: {output:?}");
}

#[needs(root)]
#[test]
fn a_library_that_does_not_work_is_found_before_anything_is_written() {
    let system = System::new();
    system.put_library(aborting(&[]).join("libtideover.so").as_path());
    refused(&system.install(), "behaves otherwise");
    system.put_library(Path::new("/etc/passwd"));
    refused(&system.install(), "not a shared library");
    let path = system.put_library(&library());
    let mut bytes = fs::read(&path).expect("readable");
    bytes[18] = 183; // e_machine: aarch64
    fs::write(&path, bytes).expect("a file of ours");
    refused(&system.install(), "no program here can load it");
    assert_eq!(system.text(), None);
    assert_eq!(fs::read_dir(system.0.path().join("etc")).unwrap().count(), 1, "nor is anything left behind");
}

#[needs(root)]
#[test]
fn a_library_that_fails_only_afterwards_is_taken_out_at_once() {
    let system = System::new();
    system.put_library(aborting(&["-DUNLESS_TRIED"]).join("libtideover.so").as_path());
    for theirs in [None, Some("# theirs\n")] {
        if let Some(theirs) = theirs {
            fs::write(system.list(), theirs).expect("a file of ours");
        }
        refused(&system.install(), "again as it was");
        assert_eq!(system.text().as_deref(), theirs);
        assert!(system.inside(&["sh", "-c", "exit 0"]).status.success());
    }
}

#[needs(root)]
#[test]
fn what_a_stranger_could_change_is_refused() {
    let system = System::new();
    let path = system.0.path().join("usr/lib/libtideover.so");
    let mode = |path: &Path, bits| fs::set_permissions(path, fs::Permissions::from_mode(bits)).expect("ours");
    mode(&path, 0o666);
    refused(&system.install(), "cannot find"); // the search passes it by
    let named = ["install", "--system", "--library", "/usr/lib/libtideover.so"];
    refused(&system.tideover(&named), "may be changed by everybody; chmod o-w");
    mode(&path, 0o600);
    refused(&system.tideover(&named), "is closed to programs of other users");
    mode(&path, 0o644);
    chown(&path, Some(65534), None).expect("root may");
    refused(&system.tideover(&named), "belongs to user 65534");
    chown(&path, Some(0), None).expect("root may");
    mode(&system.0.path().join("usr/lib"), 0o777);
    refused(&system.tideover(&named), "usr/lib may be changed by everybody");
    mode(&system.0.path().join("usr/lib"), 0o755);

    fs::write(system.list(), "").expect("a file of ours");
    mode(&system.list(), 0o666);
    refused(&system.install(), "may be changed by everybody");
    fs::remove_file(system.list()).expect("a file of ours");
    symlink("/tmp/elsewhere", system.list()).expect("a link");
    refused(&system.install(), "not a regular file");
    refused(&system.tideover(&["uninstall"]), "not a regular file");
    fs::remove_file(system.list()).expect("a link of ours");
    refused(&system.tideover(&["install", "--system", "--library", "lib/libtideover.so"]), "full path");
    refused(&system.tideover(&["install", "--system", "--library", "/usr/lib/libc.so"]), "libtideover.so");
    passes(&system.tideover(&named));
}

/// The two ways back that need no program to start.
#[needs(root)]
#[test]
fn a_system_in_which_no_shell_starts_is_recovered() {
    let system = System::new();
    let mut open = Command::new(program("chroot", "coreutils"))
        .arg(system.0.path())
        .arg("sh")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell starts");
    let (mut tell, mut hear) = (open.stdin.take().expect("piped"), BufReader::new(open.stdout.take().expect("piped")));
    let mut line = String::new();
    tell.write_all(b"echo ready\n").and_then(|()| hear.read_line(&mut line).map(drop)).expect("it answers");

    // An update has put a broken library in the place of the good one.
    let break_it = || {
        passes(&system.install());
        system.put_library(aborting(&[]).join("libtideover.so").as_path());
        assert!(!system.inside(&["sh", "-c", "exit 0"]).status.success(), "it is broken");
    };
    break_it();
    let from_outside = system.tideover(&["uninstall"]);
    assert_eq!((passes(&from_outside).contains("is out of"), system.text()), (true, None));
    assert!(system.inside(&["sh", "-c", "exit 0"]).status.success());

    system.put_library(&library());
    break_it();
    tell.write_all(b": > /etc/ld.so.preload\nls -d /etc\n").expect("it listens");
    drop(tell);
    line.clear();
    hear.read_line(&mut line).expect("it answers");
    assert_eq!(line, "/etc\n", "the shell that was open has put it right and starts programs");
    assert!(open.wait().expect("ours").success());
}

/// scripts/install with these variables.
fn script(action: &str, variables: &[(&str, &Path)]) -> Output {
    let mut script = Command::new(workspace().join("scripts/install"));
    script.arg(action).env("LIB", library()).env("BIN", tideover()).env_remove("PREFIX").env_remove("LIBDIR");
    script.envs(variables.iter().copied()).output().expect("sh runs")
}

fn files(below: &Path) -> Vec<String> {
    let found = Command::new("find").arg(below).args(["-not", "-type", "d"]).output().expect("find runs");
    let text = String::from_utf8(found.stdout).expect("plain names");
    let mut files: Vec<String> =
        text.lines().map(|line| line.trim_start_matches(below.to_str().expect("plain")).to_string()).collect();
    files.sort();
    files
}

#[test]
fn make_install_puts_everything_in_its_place_and_make_uninstall_takes_it_away() {
    let scratch = Scratch::new();
    let at: &[(&str, &Path)] = &[("DESTDIR", scratch.path()), ("PREFIX", Path::new("/opt/tide"))];
    // Somebody else's, beside ours.
    let theirs = scratch.write("opt/tide/share/man/man1/other.1", "");
    passes(&script("install", at));
    let there = files(scratch.path());
    for wanted in [
        "bin/tideover",
        "lib/libtideover.so",
        "lib/pkgconfig/tideover.pc",
        "include/tideover.h",
        "share/man/man1/tideover.1",
        "share/man/man1/tideover-run.1",
        "share/man/man7/tideover.7",
        "share/bash-completion/completions/tideover",
        "share/zsh/site-functions/_tideover",
        "share/fish/vendor_completions.d/tideover.fish",
        "share/tideover/docker-entrypoint.sh",
        "share/doc/tideover/README.md",
        "share/doc/tideover/docs/settings.md",
        "share/doc/tideover/scripts/fix-file-descriptors.sh",
    ] {
        assert!(there.contains(&format!("/opt/tide/{wanted}")), "{wanted} is missing: {there:#?}");
    }
    let mut listed: Vec<String> = passes(&script("list", at)).lines().map(str::to_string).collect();
    listed.push("/opt/tide/share/man/man1/other.1".to_string());
    listed.sort();
    assert_eq!(there, listed);

    let bin = scratch.join("opt/tide/bin/tideover");
    let run = Command::new(&bin).args(["run", "sh", "-c", "echo $LD_PRELOAD"]).output().expect("it runs where it is");
    assert!(passes(&run).trim_end().ends_with("lib/libtideover.so"), "the command finds its library");

    let unit =
        |name| fs::read_to_string(scratch.join("opt/tide/share/doc/tideover/contrib/systemd").join(name)).expect(name);
    for (name, starts) in [
        ("tideover-watch.service", "ExecStart=/opt/tide/bin/tideover watch "),
        ("tideover-metrics.service", "ExecStart=/opt/tide/bin/tideover metrics "),
        ("50-tideover.conf", "Environment=LD_PRELOAD=/opt/tide/lib/libtideover.so\n"),
    ] {
        assert!(unit(name).contains(starts), "{name}: {}", unit(name));
    }

    passes(&script("uninstall", at));
    assert_eq!(files(scratch.path()), ["/opt/tide/share/man/man1/other.1"]);
    assert!(theirs.exists() && !scratch.join("opt/tide/share/doc").exists() && !scratch.join("opt/tide/lib").exists());
}

#[test]
fn a_c_program_is_built_by_pkg_config_alone() {
    let scratch = Scratch::new();
    let prefix = scratch.join("usr");
    passes(&script("install", &[("PREFIX", &prefix)]));
    let source = scratch.write(
        "uses.c",
        "#include <stdio.h>\n#include <tideover.h>\nint main(void) { puts(tideover_version()); return 0; }\n",
    );
    let mut pkg_config = Command::new(program("pkg-config", "pkg-config"));
    pkg_config.args(["--cflags", "--libs", "tideover"]).env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"));
    let flags = passes(&pkg_config.output().expect("pkg-config runs"));
    let mut cc = Command::new(program("cc", "gcc"));
    let built = cc.arg(&source).arg("-o").arg(scratch.join("uses")).args(flags.split_whitespace()).output();
    passes(&built.expect("cc runs"));
    let run = Command::new(scratch.join("uses")).env("LD_LIBRARY_PATH", prefix.join("lib")).output();
    assert!(passes(&run.expect("it was built")).starts_with(char::is_numeric));
}

#[test]
fn every_man_page_renders_without_a_warning() {
    let scratch = Scratch::new();
    passes(&Command::new(tideover()).args(["generate", "man"]).arg(scratch.path()).output().expect("tideover runs"));
    let pages = files(scratch.path());
    let help = passes(&Command::new(tideover()).arg("--help").output().expect("tideover runs"));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // `help` shows what the man pages say.
    let commands = commands.map(|line| line.split_whitespace().next().expect("a name")).filter(|name| *name != "help");
    let commands: Vec<&str> = commands.collect();
    assert!(commands.contains(&"stat"), "{help}");
    for command in commands {
        assert!(pages.contains(&format!("/tideover-{command}.1")), "{command} has no man page");
    }
    for page in &pages {
        let path = scratch.join(page.trim_start_matches('/'));
        let lint = Command::new(program("mandoc", "mandoc")).args(["-T", "lint", "-W", "warning"]).arg(&path).output();
        assert_eq!(passes(&lint.expect("mandoc runs")), "", "{page}");
        let mut man = Command::new(program("man", "man-db"));
        man.args(["--warnings", "-l"]).arg(&path).env("LC_ALL", "C.UTF-8");
        let shown = man.output().expect("man runs");
        assert!(shown.stderr.is_empty(), "{page}: {}", String::from_utf8_lossy(&shown.stderr));
        assert!(passes(&shown).contains("SEE ALSO"), "{page}");
    }
}

#[test]
fn completions_are_read_by_their_shells() {
    let scratch = Scratch::new();
    passes(&Command::new(tideover()).args(["generate", "completions"]).arg(scratch.path()).output().expect("runs"));
    let asks = [
        // What the shell itself would propose.
        (
            "bash",
            r#"source tideover.bash; COMP_WORDS=(tideover uni); COMP_CWORD=1; _tideover tideover uni tideover; echo ${COMPREPLY[*]}"#,
            "uninstall",
        ),
        ("fish", "source tideover.fish; complete -C 'tideover uni'", "uninstall"),
        ("fish", "source tideover.fish; complete -C 'tideover run --raise '", "force"),
        ("zsh", "autoload -U compinit; compinit -D -u; source ./_tideover; whence -w _tideover", "function"),
    ];
    for (shell, script, wanted) in asks {
        let mut command = Command::new(program(shell, shell));
        command.args(["-c", script]).current_dir(scratch.path()).env("HOME", scratch.path()).stdin(Stdio::null());
        let output = command.output().expect("the shell runs");
        let said = passes(&output);
        assert!(said.contains(wanted) && output.stderr.is_empty(), "{shell}: {output:?}");
    }
}

#[test]
fn the_scripts_are_plain_posix_shell() {
    let of_the_demo = ["demo", "demo-disk.sh"];
    let of_builds = ["common.sh", "install", "deb", "dist", "test", "deps.sh", "docker-entrypoint.sh"];
    let of_roots = ["fresh", "dist-roots", "debian-mirror", "arm64", "arm64-ci", "arm64-root", "arm64-test"];
    for name in [&of_the_demo[..], &of_builds, &of_roots].concat() {
        let mut shellcheck = Command::new(program("shellcheck", "shellcheck"));
        shellcheck.args(["-x", "-s", "sh"]).arg(Path::new("scripts").join(name)).current_dir(workspace());
        assert_eq!(passes(&shellcheck.output().expect("shellcheck runs")), "", "{name}");
    }
}
