//! The Python package of python/: its own tests, each without the library and with it, in several Pythons; and how it installs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tideover_tests::disk::own_mounts;
use tideover_tests::garbage::{pythons, times};
use tideover_tests::programs::{GREEDY, TOO_MANY, passes};
use tideover_tests::{Scratch, library, needs, program, tideover, workspace};

/// Those of 3.8 and later, which the package is for: Debian's, the oldest and the newest, or all where more than the usual is asked for.
fn supported() -> Vec<PathBuf> {
    let version = |path: &PathBuf| {
        let told = Command::new(path).args(["-c", "import sys; print(sys.version_info[1])"]).output().expect("it runs");
        passes(&told).trim().parse::<u32>().expect("a number")
    };
    let mut found: Vec<(u32, PathBuf)> = pythons().into_iter().map(|path| (version(&path), path)).collect();
    found.retain(|(minor, _)| *minor >= 8);
    found.sort();
    let last = found.len() - 1;
    let debian = program("python3", "python3");
    let wanted = |at: usize, path: &PathBuf| times(0) > 0 || at == 0 || at == last || *path == debian;
    found.into_iter().enumerate().filter(|(at, (_, path))| wanted(*at, path)).map(|(_, (_, path))| path).collect()
}

/// Runs the tests of python/tests; `loaded`: with the library.
fn own_tests(python: &Path, loaded: bool) -> Output {
    let disk = Scratch::new();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"]).arg(disk.path()).status();
    assert!(mount.expect("mount runs").success());
    let mut command = match loaded {
        true => Command::new(tideover()),
        false => Command::new(python),
    };
    if loaded {
        command.args(["run", "--"]).arg(python).env("LIBRARY_IS_LOADED", "1");
    }
    command.args(["-B", "-m", "unittest", "discover", "-s", "tests"]).current_dir(workspace().join("python"));
    command.env("PYTHONPATH", "src").env("SMALL_DISK", disk.path()).env("TIDEOVER_LIB", library());
    let output = command.output().expect("python runs");
    assert!(Command::new("umount").arg(disk.path()).status().expect("umount runs").success());
    output
}

#[needs(mounts)]
#[test]
fn its_own_tests_pass_without_the_library_and_with_it() {
    own_mounts();
    for python in supported() {
        for loaded in [false, true] {
            let output = own_tests(&python, loaded);
            let said = String::from_utf8_lossy(&output.stderr);
            let ran = said.lines().rev().find(|line| line.starts_with("Ran ")).unwrap_or_default();
            assert!(output.status.success(), "{} (library: {loaded}): {said}", python.display());
            // None was left out.
            assert!(!said.contains("skipped") && !ran.starts_with("Ran 0"), "{said}");
        }
    }
}

#[test]
fn its_syntax_is_that_of_python_3_8() {
    let script = "import ast, pathlib, sys\nfiles = sorted(pathlib.Path(sys.argv[1]).rglob('*.py'))\n\
                  for path in files: ast.parse(path.read_text(), str(path), feature_version=(3, 8))\nprint(len(files))";
    let mut python = Command::new(program("python3", "python3"));
    let told = python.args(["-c", script]).arg(workspace().join("python")).output();
    assert!(passes(&told.expect("python3 runs")).trim().parse::<u32>().expect("a number") >= 8);
}

/// A tool from PyPI, installed once in /var/tmp; the folder of its programs.
fn tool(requirement: &str) -> PathBuf {
    let kept = Path::new("/var/tmp/tideover-tools").join(requirement.replace("==", "-"));
    if !kept.is_dir() {
        let fresh = kept.with_extension(std::process::id().to_string());
        passes(&Command::new("python3").args(["-m", "venv"]).arg(&fresh).output().expect("python3 runs"));
        passes(&Command::new(fresh.join("bin/pip")).args(["install", "-q", requirement]).output().expect("pip runs"));
        // Its programs name the folder that it was made in: it is run as a module.
        assert!(fs::rename(&fresh, &kept).is_ok() || kept.is_dir());
    }
    kept.join("bin/python")
}

#[needs(network)]
#[test]
fn its_types_are_checked() {
    let mut mypy = Command::new(tool("mypy==2.4.1"));
    mypy.args(["-m", "mypy", "--strict", "--cache-dir=/dev/null", "src"]).current_dir(workspace().join("python"));
    assert!(passes(&mypy.output().expect("mypy runs")).contains("no issues found"));
}

/// The wheel for this machine alone: the one that is published has a static command, which takes minutes to build.
fn made(into: &Path) -> Vec<PathBuf> {
    let mut script = Command::new(workspace().join("scripts/wheel"));
    script.env("LIB", library()).env("STATIC", tideover()).env("OUT", into);
    passes(&script.env("TIDEOVER_WHEEL_PLATFORM", "linux_x86_64").output().expect("sh runs"));
    let mut files: Vec<PathBuf> =
        fs::read_dir(into).expect("made").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

#[needs(network)]
#[test]
fn the_wheel_installs_and_runs_programs() {
    let scratch = Scratch::new();
    let files = made(&scratch.join("first"));
    let [wheel, sources] = files.as_slice() else { panic!("a wheel and the sources: {files:?}") };
    let name = wheel.file_name().and_then(|name| name.to_str()).expect("plain");
    assert!(name.ends_with("-py3-none-linux_x86_64.whl") && name.starts_with("tideover-0.1.0"), "{name}");
    assert!(fs::metadata(sources).expect("there").size() < 100_000, "the sources are the module alone");
    assert_eq!(fs::read(wheel).ok(), fs::read(&made(&scratch.join("second"))[0]).ok(), "it is made the same again");

    let venv = scratch.join("venv");
    passes(&Command::new("python3").args(["-m", "venv"]).arg(&venv).output().expect("python3 runs"));
    passes(
        &Command::new(venv.join("bin/pip")).args(["install", "-q", "--no-index"]).arg(wheel).output().expect("runs"),
    );
    let greedy = |before: &[&str]| {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--nofile=64:256", "--"]).args(before).args(["bash", "-c", GREEDY]).env_remove("TIDEOVER_LIB");
        prlimit.output().expect("prlimit runs")
    };
    let plain = greedy(&[]);
    assert!(!plain.status.success() && String::from_utf8_lossy(&plain.stderr).contains(TOO_MANY), "{plain:?}");
    let python = venv.join("bin/python").display().to_string();
    let command = venv.join("bin/tideover").display().to_string();
    for words in [&[python.as_str(), "-m", "tideover", "run", "--"][..], &[command.as_str(), "run", "--"]] {
        assert_eq!(passes(&greedy(words)), "opened 100\n");
    }
    let version = passes(&Command::new(&command).arg("--version").output().expect("it runs"));
    let asked = "import tideover; print('tideover', tideover.__version__)";
    assert_eq!(version, passes(&Command::new(&python).args(["-c", asked]).output().expect("it runs")));
}

#[test]
fn from_source_it_says_that_the_command_is_missing() {
    let empty = Scratch::new();
    let mut python = Command::new(program("python3", "python3"));
    python.args(["-B", "-m", "tideover", "ps"]).env("PYTHONPATH", workspace().join("python/src"));
    let output = python.env("PATH", empty.path()).output().expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(127) && said.contains("install the wheel"), "{output:?}");
    // The command of the system, where there is one.
    std::os::unix::fs::symlink(tideover(), empty.join("tideover")).expect("a link");
    let mut python = Command::new(program("python3", "python3"));
    python.args(["-B", "-m", "tideover", "--version"]).env("PYTHONPATH", workspace().join("python/src"));
    assert!(passes(&python.env("PATH", empty.path()).output().expect("python3 runs")).starts_with("tideover 0."));
}
