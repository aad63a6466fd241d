//! What the library can't do: these programs run as without it, and `tideover run` says so where it can know.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tideover_tests::programs::{TOO_MANY, bash};
use tideover_tests::{Outcome, Run, Scratch, fixture, fixture_by, library, needs, preload_fixture, program, tideover};

fn guarded(what: &Path) -> Outcome {
    let run = Run::new(tideover()).args(["run", "--"]).arg(what).arg("200").env("TIDEOVER_LIB", library());
    run.soft(64).hard(4096).output()
}

#[test]
fn a_static_program_runs_as_without_us_and_run_refuses_it() {
    let scratch = Scratch::new();
    for flag in ["-static", "-static-pie"] {
        let alone = fixture_by(&program("cc", "gcc"), &[flag], "limit", scratch.path());
        let both = Run::new(&alone).arg("200").soft(64).hard(4096).both();
        both.same().preloaded.fails().says(TOO_MANY);
        let refused = guarded(&alone);
        assert_eq!(refused.code(), Some(126), "{refused}");
        refused.says("statically linked").says("LimitNOFILE=");
    }
}

#[test]
fn a_static_child_of_a_guarded_shell_runs_as_without_us() {
    let scratch = Scratch::new();
    let alone = fixture_by(&program("cc", "gcc"), &["-static"], "limit", scratch.path());
    let script = format!("{} 200; echo $?; ulimit -Sn", alone.display());
    bash(&script).soft(64).hard(4096).both().same().preloaded.says(TOO_MANY);
}

#[needs(setuid)]
#[test]
fn a_set_uid_program_runs_as_without_us_and_run_refuses_it() {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let copy = scratch.join("limit");
    fs::copy(fixture("limit"), &copy).expect("a copy");
    chown(&copy, Some(65534), Some(65534)).expect("root gives it away");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o6755)).expect("its mode");
    let both = Run::new(&copy).arg("200").soft(64).hard(4096).both();
    both.same().preloaded.fails().says(TOO_MANY);
    let refused = guarded(&copy);
    assert_eq!(refused.code(), Some(126), "{refused}");
    refused.says("set-uid").says("the loader ignores LD_PRELOAD");
}

#[test]
fn a_library_loaded_with_rtld_deepbind_gets_the_native_error() {
    let run = Run::new(fixture("deepbind")).arg(preload_fixture("deepbound")).soft(64).hard(4096);
    run.both().same_but_for_messages().preloaded.fails().says(TOO_MANY);
}

#[needs(uring)]
#[test]
fn opens_by_io_uring_get_the_native_error() {
    let both = Run::new(fixture("uring")).soft(64).hard(4096).both();
    both.same_but_for_messages();
    both.preloaded.fails().says(TOO_MANY);
}

#[test]
fn a_go_program_runs_as_without_us() {
    let go = program("go", "golang-go");
    let scratch = Scratch::new();
    let source = scratch.write(
        "main.go",
        "package main\nimport (\"fmt\"; \"net\"; \"os\")\nfunc main() {\n var kept []*os.File\n for i := 0; i < 200; i++ {\n  f, err := os.Open(\"/etc/passwd\")\n  \
         if err != nil { fmt.Println(\"some:\", err); os.Exit(1) }\n  kept = append(kept, f)\n }\n _, err := net.LookupHost(\"localhost\")\n fmt.Println(\"all\", len(kept), err)\n}\n",
    );
    let built = scratch.join("main");
    let mut build = Command::new(go);
    build.env("HOME", scratch.path()).env("GOFLAGS", "-mod=mod").args(["build", "-o"]).arg(&built).arg(&source);
    assert!(build.status().expect("go runs").success());
    // Go raises its soft limit itself; at the hard limit there is nothing to raise.
    for limit in [64, 4096] {
        let run = Run::new(&built).soft(64).hard(limit).timeout(Duration::from_secs(60));
        run.both().same_but_for_messages();
    }
    guarded(&built).says("Go");
}
