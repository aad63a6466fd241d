//! What the commands answer when something is not as it should be: each fact once, the cause, and what helps.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tideover_contract::page::FIELDS;
use tideover_tests::outage::{Fed, Logger};
use tideover_tests::{Disk, Kind, Page, Run, Running, Scratch, fixture, needs, tideover};

use super::{command, full, json, of_pages};

const NOBODY: u32 = 65534;
/// No process has a number above this one, kernel.pid_max at its highest.
const GONE: u32 = 4_194_305;

#[test]
fn stat_has_each_section_once() {
    let pages = Scratch::new();
    let guarded = full(&pages);
    let said = of_pages(&pages, &["stat", &guarded.pid().to_string()]).output().passes().stdout.clone();
    for section in ["descriptors", "exhaustion", "connections", "logs", "calls", "events"] {
        let lines = said.lines().filter(|line| *line == section || line.starts_with(&format!("{section}: ")));
        assert_eq!(lines.count(), 1, "{section}: {said}");
    }
    guarded.finish().passes();
}

/// `events` left out the descriptor and how often the call was tried again, which `stat` shows.
#[test]
fn stat_and_events_tell_of_an_event_in_the_same_words() {
    let pages = Scratch::new();
    let mut guarded = Run::new(fixture("ebb")).soft(64).hard(128).page_dir(pages.path()).preload(true).start();
    super::tell(&mut guarded, "fill");
    let pid = guarded.pid().to_string();
    let stat = of_pages(&pages, &["stat", &pid]).output().passes().stdout.clone();
    let told = of_pages(&pages, &["events", &pid]).output().passes().stdout.clone();
    let listed: Vec<&str> = stat.split("\nevents\n").nth(1).expect("there are events").lines().collect();
    assert_eq!(listed.len(), told.lines().count(), "{stat}{told}");
    assert!(listed.iter().any(|line| line.contains(", fd ") || line.contains(" fd ")), "{stat}");
    for (listed, told) in listed.iter().zip(told.lines()) {
        for word in listed.split_whitespace().skip(1).filter(|word| !word.ends_with('+')) {
            assert!(told.contains(word.trim_end_matches(',')), "{word} of {listed:?} is not in {told:?}");
        }
    }
    guarded.finish().passes();
}

/// A guarded process that has counted nothing, once the library is in it.
fn quiet(pages: &Scratch) -> Running {
    let quiet = Run::new("sleep").arg("60").page_dir(pages.path()).preload(true).start();
    let pid = quiet.pid().to_string();
    let end = Instant::now() + Duration::from_secs(20);
    while !of_pages(pages, &["stat", &pid]).output().succeeded() {
        assert!(Instant::now() < end, "sleep is never guarded");
        std::thread::sleep(Duration::from_millis(20));
    }
    quiet
}

#[test]
fn control_says_why_a_process_has_no_page_and_what_to_do() {
    let pages = Scratch::new();
    let quiet = quiet(&pages);
    let pid = quiet.pid().to_string();
    let said = of_pages(&pages, &["control", &pid, "off"]).output();
    said.fails().says("it has no page so far").says("say it again then").does_not_say("no such file");
    assert_eq!(said.code(), Some(1), "{said}");
    let said = json(of_pages(&pages, &["control", &pid, "off", "--json"]).output().fails());
    assert!(said["error"].as_str().is_some_and(|why| why.contains("no page so far")), "{said}");
    quiet.signal(libc::SIGTERM);
    quiet.finish();
    // Without the library, and without a process.
    let plain = Run::new("sleep").arg("60").start();
    let said = of_pages(&pages, &["control", &plain.pid().to_string(), "off"]).output();
    said.fails().says("is not guarded; start it with `tideover run`");
    plain.signal(libc::SIGTERM);
    plain.finish();
    of_pages(&pages, &["control", &GONE.to_string(), "off"]).output().fails().says("there is no process");
}

/// The command as nobody runs it, who may read what is in `pages`.
fn as_nobody(pages: &Path, words: &[&str]) -> Output {
    // The command may lie in a folder that only root may enter.
    let copy = pages.join("tideover");
    // By another process: a child that another test forks meanwhile would have the copy open for writing, which is then busy.
    assert!(Command::new("cp").arg(tideover()).arg(&copy).status().is_ok_and(|status| status.success()));
    fs::set_permissions(pages, fs::Permissions::from_mode(0o755)).unwrap();
    let mut as_user = Command::new(copy);
    as_user.args(words).arg("--page-dir").arg(pages).env_remove("TIDEOVER_PAGE_DIR").uid(NOBODY).gid(NOBODY);
    as_user.output().expect("it runs")
}

#[needs(root)]
#[test]
fn clean_names_what_it_could_not_remove_and_what_helps() {
    let pages = Scratch::new();
    let guarded = full(&pages);
    let mut bytes = fs::read(Page::path(pages.path(), guarded.pid())).expect("it has a page");
    let at = FIELDS.iter().find(|field| field.0 == "pid").unwrap().1;
    bytes[at..][..4].copy_from_slice(&GONE.to_ne_bytes());
    let folder = pages.join(&format!("tideover.{NOBODY}"));
    let page = folder.join(GONE.to_string());
    fs::create_dir(&folder).unwrap();
    fs::write(&page, &bytes).unwrap();
    [&folder, &page].iter().for_each(|path| chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    // Its owner may read the folder, and not change it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    let said = as_nobody(pages.path(), &["clean"]);
    let error = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{error}");
    let wanted = format!("cannot remove {}: permission denied; sudo tideover clean", page.display());
    assert!(error.contains(&wanted), "{error}");
    let said = as_nobody(pages.path(), &["clean", "--json"]);
    assert_eq!(said.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!((&said["failed"], &said["errors"][0]["pid"]), (&1.into(), &GONE.into()), "{said}");
    assert!(said["errors"][0]["error"].as_str().unwrap().ends_with("permission denied; sudo tideover clean"), "{said}");
    // Root may.
    of_pages(&pages, &["clean"]).output().passes().says("Removed 1 page");
    assert!(!page.exists());
    guarded.finish().passes();
}

/// `config` and `stat` said "nowhere" of a daemon that was started with `2> errors`, to which its lines then went.
#[needs(mounts)]
#[test]
fn the_place_that_is_named_is_the_one_that_lines_go_to() {
    for (redirections, file, place) in [
        ("> /dev/null 2> errors", "errors", Some("stderr (a log)")),
        ("> out 2>&1", "out", Some("stdout (a log)")),
        (">> app.log 2> /dev/null", "app.log", Some("stdout (a log)")),
        ("> /dev/null 2> table.csv", "table.csv", None),
        ("> app.log 2> /dev/null", "app.log", None),
    ] {
        let (disk, pages, folder) = (Disk::new(Kind::Tmpfs), Scratch::new(), Scratch::new());
        let script = format!("exec \"$0\" \"$@\" {redirections}");
        let run = Run::new("sh").args(["-c", &script]).arg(fixture("disk_append")).arg("write").arg(disk.log());
        let run = run
            .folder(folder.path())
            .page_dir(pages.path())
            .preload(true)
            .env("TIDEOVER_LOG", "off")
            .env("TIDEOVER_FALLBACK", "auto");
        let mut fed = Fed::start(&run);
        fed.log(1..=10);
        let pid = fed.writer().pid().to_string();
        let said = of_pages(&pages, &["config", &pid]).output().passes().stdout.clone();
        let line = said
            .lines()
            .find(|line| line.contains("lines would go to"))
            .unwrap_or_else(|| panic!("{redirections}: {said}"));
        disk.fill();
        fed.log(11..=200);
        let lines = fs::read_to_string(folder.join(file)).unwrap().lines().filter(|line| line.contains(" ok")).count();
        let stat = of_pages(&pages, &["stat", &pid]).output().passes().stdout.clone();
        match place {
            Some(place) => {
                assert!(line.contains(place), "{redirections}: {line}");
                assert!(stat.contains(&format!("its lines go to {place}")), "{redirections}: {stat}");
                assert!(lines > 100, "{redirections}: {lines} lines\n{stat}");
            }
            None => {
                assert!(!line.contains(" stdout") && !line.contains(" stderr"), "{redirections}: {line}");
                assert_eq!(lines, 0, "{redirections}");
            }
        }
        disk.free();
        fed.end();
    }
}

/// A command line that is wrong was answered by text alone.
#[test]
fn a_wrong_command_line_is_answered_in_json_if_json_was_asked_for() {
    for (words, status, says) in [
        (&["rescue", "--json"][..], 2, "required arguments"),
        (&["stat", "x", "--json"], 2, "invalid value 'x'"),
        (&["doctor", "--json", "x"], 3, "invalid value 'x'"),
    ] {
        let outcome = command(words).output();
        let said = json(&outcome);
        assert_eq!((outcome.code(), &said["schema"], &said["exit_status"]), (Some(status), &1.into(), &status.into()));
        assert!(said["error"].as_str().is_some_and(|why| why.contains(says)), "{said}");
    }
    let of_run = command(&["run", "--max-retry", "3", "jq", "--json"]).output();
    assert!(of_run.code() == Some(2) && of_run.stdout.is_empty(), "{of_run}");
}
