//! Programs that many tests run: interpreters with a script, Java classes compiled first.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Run, Scratch, program, workspace};

/// What strerror(3) calls EMFILE.
pub const TOO_MANY: &str = "Too many open files";

/// A script for bash that opens more files than a soft limit of 64 allows.
pub const GREEDY: &str = "for i in {1..100}; do exec {file}</etc/passwd || exit 1; done; echo opened 100";

/// Debian's python3 with a script.
pub fn python(script: &str) -> Run {
    Run::new(program("python3", "python3")).args(["-c", script])
}

/// bash with a script.
pub fn bash(script: &str) -> Run {
    Run::new(program("bash", "bash")).args(["-c", script])
}

/// /bin/sh, which is dash on Debian, with a script.
pub fn sh(script: &str) -> Run {
    Run::new(program("sh", "dash")).args(["-c", script])
}

/// Compiles Java sources, with these jars (paths with colons), into a folder for `-cp`.
///
/// Always by ecj, which a JRE is enough for: without `-17` it takes the language of 2002, which has no `Paths.get(String)`.
///
/// # Panics
/// If they do not compile.
pub fn compile_java(sources: &[PathBuf], jars: &str, into: &Path) {
    let mut ecj = Command::new(program("ecj", "ecj"));
    ecj.args(["-17", "-nowarn", "-proc:none", "-cp", jars, "-d"]).arg(into).args(sources);
    passes(&ecj.output().expect("ecj runs"));
}

/// A class of that folder, in a JVM that starts as fast as it can; arguments follow.
pub fn java(classes: &Path, jars: &str) -> Run {
    Run::new(program("java", "openjdk-17-jre-headless"))
        .args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m", "-cp"])
        .arg(format!("{}:{jars}", classes.display()))
}

/// The standard output of a command that has to succeed.
///
/// # Panics
/// If it did not.
#[track_caller]
pub fn passes(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A TCP port of 127.0.0.1 that nobody listens on.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// A program of tests/fixtures in Go, built into a folder.
///
/// # Panics
/// If go is missing, or it does not compile.
pub fn go(source: &str, flags: &[&str], into: &Scratch) -> PathBuf {
    let built = into.join(source.trim_end_matches(".go"));
    let mut build = Command::new(program("go", "golang-go"));
    build.arg("build").args(flags).arg("-o").arg(&built).arg(workspace().join("tests/fixtures").join(source));
    build.env("GOCACHE", workspace().join("target/go-cache")).env("GOFLAGS", "-mod=mod");
    let output = build.output().expect("go runs");
    assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
    built
}
