//! `tideover` as its users see it, with an empty shared library in the place of libtideover.so: what `run` hands over,
//! what it refuses, and how the readers meet odd outputs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        place.build("empty.c", "int tideover_empty;\n", &["-shared", "-fPIC"], "libtideover.so");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn build(&self, source: &str, text: &str, flags: &[&str], output: &str) {
        let source = self.write(source, text, 0o644);
        let mut cc = Command::new("cc");
        cc.args(flags).arg("-o").arg(self.path(output)).arg(source);
        assert!(cc.status().unwrap().success(), "{cc:?}");
    }

    fn tideover(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tideover"));
        command.args(words).current_dir(self.directory.path());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TIDEOVER_")) {
            command.env_remove(name);
        }
        command.env_remove("LD_PRELOAD").env("TIDEOVER_LIB", self.path("libtideover.so"));
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.tideover(&[&["run"], words].concat()).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_string()
}

/// Status and the one line on stderr.
fn refusal(output: &Output) -> (Option<i32>, String) {
    let words = text(&output.stderr);
    assert!(words.starts_with("tideover: "), "{words}");
    assert!(output.stdout.is_empty(), "something was started");
    (output.status.code(), words)
}

#[test]
fn the_program_gets_its_words_its_settings_and_its_own_exit_status() {
    let place = Place::new();
    let show = "echo \"$0|$1|$LD_PRELOAD|$TIDEOVER_MAX_RETRIES|$TIDEOVER_ONLY|$TIDEOVER_ORIGIN\"; exit 7";
    let file = place.write("t.toml", "max_retries = 3\nonly = ['sh', 'ls']\n", 0o644);
    let mut command =
        place.tideover(&["run", "--config", "t.toml", "--max-retries", "9", "sh", "-c", show, "me", "--raise"]);
    let output =
        command.env("LD_PRELOAD", format!("{0}:{0}", place.path("libtideover.so").display())).output().unwrap();
    let library = place.path("libtideover.so");
    let origin = format!("only=file,max_retries=flag,config={}", file.display());
    assert_eq!(text(&output.stdout), format!("me|--raise|{}|9|sh,ls|{origin}", library.display()));
    assert_eq!(output.status.code(), Some(7));
    let killed = place.run(&["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.signal(), Some(9));
    assert_eq!(text(&place.run(&["sh", "-c", "echo ${TIDEOVER_ORIGIN-none}"]).stdout), "none");
}

#[test]
fn the_name_that_was_typed_stays_the_programs_name() {
    let place = Place::new();
    let output = place.run(&["--", "grep", "-z", "-a", "", "/proc/self/cmdline"]);
    assert_eq!(output.stdout.split(|&b| b == 0).next(), Some(&b"grep"[..]));
}

#[test]
fn sigpipe_and_closed_streams_are_handed_on_as_they_were() {
    let place = Place::new();
    let tideover = env!("CARGO_BIN_EXE_tideover");
    let state = "grep SigIgn /proc/self/status; ls /proc/self/fd | head -1";
    for before in ["", "trap '' PIPE;", "exec 0<&-;"] {
        let seen = |runner: &str| {
            let script = format!("{before} exec {runner} sh -c '{state}'");
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).env("TIDEOVER_LIB", place.path("libtideover.so"));
            text(&command.output().unwrap().stdout)
        };
        assert_eq!(seen(&format!("{tideover} run")), seen("env"), "{before}");
    }
}

#[test]
fn what_is_not_found_is_127_and_what_cannot_run_is_126() {
    let place = Place::new();
    place.write("plain", "#!/bin/sh\n", 0o644);
    place.write("lost", "#!/nonexistent/interpreter\n", 0o755);
    for (cmd, status, says) in [
        ("no-such-program", 127, "in PATH"),
        ("./missing", 127, "no such file"),
        ("./plain", 126, "chmod +x"),
        ("/", 126, "directory"),
        ("./lost", 126, "its interpreter /nonexistent/interpreter"),
    ] {
        let (code, words) = refusal(&place.run(&[cmd]));
        assert_eq!(code, Some(status), "{words}");
        assert!(words.contains(says), "{words}");
    }
}

#[test]
fn bad_values_are_refused_before_anything_starts() {
    let place = Place::new();
    place.write("bad.toml", "# mine\nmax_retry = 3\n", 0o644);
    let touch = ["touch", "started"];
    for (words, says) in [
        (&["--jitter", "2"][..], "--jitter cannot be \"2\": it takes a number from 0.0 to 1.0"),
        (&["--config", "bad.toml"], "bad.toml line 2: there is no setting \"max_retry\"; did you mean max_retries?"),
        (&["--config", "none.toml"], "no such file"),
        (&["--max-retry", "3"], "--max-retries"),
    ] {
        let (code, words) = refusal(&place.run(&[words, &touch].concat()));
        assert_eq!(code, Some(2), "{words}");
        assert!(words.contains(says), "{words}");
    }
    let inherited = place.tideover(&["run", "touch", "started"]).env("TIDEOVER_RAISE", "maybe").output().unwrap();
    assert_eq!(refusal(&inherited).0, Some(2));
    assert!(!place.path("started").exists());
}

#[test]
fn a_missing_or_unfit_library_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path("my libs")).unwrap();
    let spaced = place.path("my libs/libtideover.so");
    fs::copy(place.path("libtideover.so"), &spaced).unwrap();
    for (library, says) in [
        (Path::new("/nonexistent.so"), "unset it"),
        (Path::new("/etc/passwd"), "not a shared library"),
        (&spaced, "a space"),
    ] {
        let output = place.tideover(&["run", "true"]).env("TIDEOVER_LIB", library).output().unwrap();
        let (code, words) = refusal(&output);
        assert_eq!(code, Some(126));
        assert!(words.contains(says), "{words}");
    }
    let link = place.path("link.so");
    std::os::unix::fs::symlink(&spaced, &link).unwrap();
    assert!(
        place.tideover(&["run", "true"]).env("TIDEOVER_LIB", &link).status().unwrap().success(),
        "the remedy works"
    );
}

#[test]
fn a_go_program_runs_with_a_warning_and_a_static_one_not_at_all() {
    let place = Place::new();
    let go =
        "__attribute__((section(\".go.buildinfo\"), used)) const char b[16] = \"go\"; int main(void) { return 3; }\n";
    place.build("go.c", go, &[], "go");
    let output = place.run(&["./go"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("warning: ./go is a Go program"), "{}", text(&output.stderr));
    place.build("go.c", go, &["-static"], "static");
    place.write("script", "#!/usr/bin/env ./static\n", 0o755);
    for cmd in ["./static", "./script"] {
        assert_eq!(refusal(&place.run(&[cmd])).0, Some(126));
    }
}

#[test]
fn the_readers_bear_closed_pipes_and_full_disks() {
    let place = Place::new();
    for words in [&["config", "-v"][..], &["--help"], &["ps", "--json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.tideover(words).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = place.tideover(words).stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains("no space left on device"));
    }
}

/// A file size limit of a few KiB stands for a disk that is full in the middle of a file.
#[test]
fn a_file_that_does_not_fit_is_not_put_in_place() {
    let place = Place::new();
    let here = place.directory.path().to_str().unwrap();
    let tideover = env!("CARGO_BIN_EXE_tideover");
    for (words, old) in [
        ("metrics --textfile ./x.prom", "x.prom"),
        ("generate man .", "tideover-run.1"),
        ("generate completions .", "tideover.bash"),
    ] {
        let path = place.write(old, "the old one\n", 0o644);
        let run = |limit: &str| {
            let mut command = Command::new("sh");
            command.current_dir(here).env("TIDEOVER_PAGE_DIR", here);
            command.args(["-c", &format!("trap '' XFSZ; {limit} exec {tideover} {words}")]).output().unwrap()
        };
        let output = run("ulimit -f 4;");
        assert_eq!(output.status.code(), Some(1), "{words}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("file too large"), "{words}: {}", text(&output.stderr));
        assert_eq!(fs::read_to_string(&path).unwrap(), "the old one\n", "{words}");
        let left = fs::read_dir(here).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(left.filter(|name| name.contains(".tideover-")).count(), 0, "{words}");
        let output = run("");
        assert!(output.status.success(), "{words}: {}", text(&output.stderr));
        assert!(fs::metadata(&path).unwrap().len() > 4096, "{words}");
    }
}

#[test]
fn an_empty_list_says_how_to_start_something() {
    let place = Place::new();
    let here = place.directory.path().to_str().unwrap();
    let ps = place.tideover(&["ps", "--page-dir", here]).output().unwrap();
    assert!(text(&ps.stdout).contains("tideover run"));
    assert_eq!(text(&place.tideover(&["ps", "--json", "--page-dir", here]).output().unwrap().stdout), "[]");
    let clean = place.tideover(&["clean", "--page-dir", here]).output().unwrap();
    assert!(text(&clean.stdout).starts_with("Removed 0 pages"));
    let stat = place.tideover(&["stat", "1", "--page-dir", here]).output().unwrap();
    assert_eq!(refusal(&stat).0, Some(1));
}

#[test]
fn no_command_falls_over_a_hostile_page() {
    use tideover_contract::page::{FIELDS, LAYOUT, MAGIC, SIZE, state};
    let place = Place::new();
    let pid = std::process::id();
    let user = fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
    let folder = place.path(&format!("tideover.{user}"));
    fs::create_dir(&folder).unwrap();
    let head = |fill: u8| {
        let mut bytes = vec![fill; SIZE];
        let mut put = |field: &str, value: &[u8]| {
            let at = FIELDS.iter().find(|(name, _)| *name == field).unwrap().1;
            bytes[at..at + value.len()].copy_from_slice(value);
        };
        put("magic", &MAGIC.to_ne_bytes());
        put("layout", &LAYOUT.to_ne_bytes());
        put("pid", &pid.to_ne_bytes());
        put("state", &state::LIVE.to_ne_bytes());
        put("started_boot_ns", &(u64::MAX / 2).to_ne_bytes());
        bytes
    };
    let noise: Vec<u8> = (0..SIZE as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let pages = [head(0xff), head(0x1b), head(0x80), noise, head(0)[..100].to_vec(), vec![0; 1]];
    let here = place.directory.path().to_str().unwrap().to_string();
    let pid = pid.to_string();
    for (i, bytes) in pages.iter().enumerate() {
        let path = folder.join(&pid);
        fs::write(&path, bytes).unwrap();
        if i == 4 {
            // A terabyte of nothing.
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
        }
        for words in [
            &["ps"][..],
            &["ps", "--json"],
            &["stat", &pid],
            &["stat", &pid, "--json"],
            &["config", &pid],
            &["metrics"],
            &["doctor", &pid, "--sample", "0s"],
            &["clean"],
        ] {
            let output = place.tideover(&[words, &["--page-dir", &here]].concat()).output().unwrap();
            let said = text(&output.stderr);
            assert!(output.status.code().is_some_and(|code| code <= 2), "{words:?} {i}: {said}");
            assert!(!said.contains("panicked") && !output.stdout.contains(&0x1b), "{words:?} {i}: {said}");
        }
    }
}
