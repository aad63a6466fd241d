//! docs/examples.md: each example fails without the library and passes with it, and says what the document says.

use std::fs;
use std::path::Path;
use std::process::Command;

use tideover_tests::{Scratch, library, needs, program, tideover, workspace};

/// Runs a command line in the workspace; its exit status and all it says.
fn run(words: &[&str]) -> (bool, String) {
    let mut command = Command::new("timeout");
    command.args(["100"]).args(words).current_dir(workspace());
    command.env("TIDEOVER", tideover()).env("TIDEOVER_LIB", library()).env_remove("LD_PRELOAD");
    let output = command.output().expect("timeout runs");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// `without` and `with` are how the line of its success begins, as the document quotes it.
#[track_caller]
fn compared(without: &[&str], with: &[&str], success: &str, documented: &str) {
    let (passed, said) = run(without);
    assert!(!passed && !said.contains(success), "without the library it has to fail: {said}");
    let (passed, said) = run(with);
    assert!(passed && said.contains(success), "with the library: {said}");
    let text = fs::read_to_string(workspace().join("docs/examples.md")).expect("the document is there");
    for command in [documented.to_string(), format!("# {success}")] {
        assert!(text.contains(&command), "docs/examples.md should say {command:?}");
    }
}

#[track_caller]
fn script(name: &str, success: &str) {
    let path = format!("examples/{name}");
    compared(&[&path, "without"], &[&path], success, &path);
}

#[test]
fn nginx() {
    program("nginx", "nginx");
    script("nginx.sh", "200 of 200 clients were answered");
}

#[needs(root, mounts)]
#[test]
fn postgresql() {
    script("postgresql.sh", "300 of 300 statements are logged");
}

#[needs(root, mounts)]
#[test]
fn cron() {
    script("cron.sh", "the job's exit status is 0, and 100000 of 100000 rows are in its file");
}

fn limited(limit: u32, command: &str, success: &str) {
    let without = format!("ulimit -n {limit}; exec {command}");
    let with = format!("ulimit -n {limit}; exec \"$TIDEOVER\" run -- {command}");
    compared(&["sh", "-c", &without], &["sh", "-c", &with], success, "exec tideover run -- ");
}

#[test]
fn python_worker() {
    limited(64, "/usr/bin/python3 examples/python-worker.py", "1000 of 1000 jobs done");
}

#[test]
fn jvm() {
    let classes = Scratch::new();
    let mut compiler = Command::new(program("ecj", "ecj"));
    compiler.args(["-proc:none", "-source", "11", "-target", "11", "-d"]).arg(classes.path());
    let built = compiler.arg(workspace().join("examples/Jvm.java")).output().expect("ecj runs");
    assert!(built.status.success(), "{built:?}");
    let java = program("java", "openjdk-17-jre-headless");
    limited(128, &format!("{} -cp {} Jvm", java.display(), classes.path().display()), "1500 of 1500 jobs done");
}

#[test]
fn the_scripts_are_plain_posix_shell() {
    let scripts = fs::read_dir(workspace().join("examples")).expect("readable");
    let scripts = scripts.map(|entry| entry.expect("readable").path());
    let scripts: Vec<_> = scripts.filter(|path| path.extension() == Some(Path::new("sh").as_os_str())).collect();
    assert!(!scripts.is_empty());
    for script in scripts {
        let checked = Command::new(program("shellcheck", "shellcheck")).args(["-s", "sh"]).arg(&script).output();
        let checked = checked.expect("shellcheck runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    }
}
