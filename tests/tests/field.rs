//! `make field` tells a library that helps from one that does nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tideover_tests::programs::passes;
use tideover_tests::{Scratch, library, needs, program, tideover, workspace};

/// What scripts/field says of these programs and loggers with the library of a folder, which has the command, too.
fn field(only: &str, folder: &Path) -> Output {
    let mut field = Command::new(program("python3", "python3"));
    field.arg(workspace().join("scripts/field")).arg("--lib").arg(folder.join("libtideover.so"));
    field.env("ONLY", only).env("SHORT", "1").env_remove("LD_PRELOAD").output().expect("python3 runs")
}

fn folder_with(library: impl FnOnce(&Path)) -> Scratch {
    let folder = Scratch::new();
    library(&folder.join("libtideover.so"));
    fs::copy(tideover(), folder.join("tideover")).expect("the command can be copied");
    folder
}

fn row<'a>(output: &'a str, name: &str) -> &'a str {
    output.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_else(|| panic!("no row {name}: {output}"))
}

#[needs(mounts)]
#[test]
fn make_field_says_whether_a_log_is_whole_after_a_full_disk() {
    let ours = folder_with(|path| {
        fs::copy(library(), path).expect("the library can be copied");
    });
    let output = passes(&field("C, writev", ours.path()));
    assert!(row(&output, "C, writev").ends_with("met"), "{output}");
    assert!(row(&output, "C, writev").contains("ours whole"), "{output}");

    let nothing = folder_with(|path| {
        let source = path.with_extension("c");
        fs::write(&source, "int nothing;\n").expect("it can be written");
        let cc = Command::new(program("cc", "gcc")).args(["-shared", "-fPIC", "-o"]).args([path, &source]).output();
        passes(&cc.expect("cc runs"));
    });
    let output = field("C, writev", nothing.path());
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(row(&said, "C, writev").ends_with("MISSED: file not whole"), "{said}");
}

#[test]
fn make_field_lists_programs_and_loggers() {
    let mut list = Command::new(program("python3", "python3"));
    list.arg(workspace().join("scripts/field")).arg("--list").env_remove("ONLY").env_remove("SHORT");
    let listed = passes(&list.output().expect("python3 runs"));
    assert!(listed.lines().count() >= 60, "{listed}");
    for name in ["nginx: ", "PostgreSQL: ", "nginx, access log: ", "Redis, logfile: "] {
        assert!(listed.lines().any(|line| line.starts_with(name)), "{name}: {listed}");
    }
}
