//! The policy of a machine, the word in a page by which a process is told to follow it, and the events as they come.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tideover_tests::programs::python;
use tideover_tests::{Page, Run, Scratch, fixture, needs};

use super::{command, json, of_pages, tell};

fn policy(folder: &Scratch, text: &str) -> PathBuf {
    let path = folder.write("tideover.toml", text);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    path
}

#[test]
fn a_policy_is_checked_before_it_is_used() {
    let folder = Scratch::new();
    let check = |words: &[&str]| {
        command(&[&["config", "--check"], words].concat()).env("TIDEOVER_CONFIG", folder.join("tideover.toml"))
    };
    policy(&folder, "max_wait = '2s'\n\n[program.'nginx*']\naccept = 'shed'\n[program.redis-server]\nraise = 'off'\n");
    check(&[]).output().passes().says("nginx*").says("shed").says("redis-server");
    check(&["--program", "nginx-debug"]).output().passes().says("max_wait").says("shed").does_not_say("redis");
    let path = policy(&folder, "max_wiat = '2s'\naccept = 'perhaps'\n[server]\nport = 1\n");
    let said = check(&[]).output();
    said.fails().says("line 1: there is no setting \"max_wiat\"; did you mean max_wait?");
    said.says("line 2: accept cannot be \"perhaps\": it takes one of pass, park, shed").says("line 3: a table is");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    check(&[]).output().fails().says("its group or others may write to it; chmod go-w");
    command(&["config", "--check"]).env("TIDEOVER_CONFIG", folder.path()).output().fails().says("not a regular file");
    command(&["config", "--check"]).env("TIDEOVER_CONFIG", "/nonexistent").output().fails().says("no such file");
}

#[test]
fn a_word_is_written_into_the_page_of_a_process() {
    let pages = Scratch::new();
    let mut running = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut running, "fill");
    let pid = running.pid().to_string();
    of_pages(&pages, &["control", &pid, "off"]).output().passes().says("was told off");
    let first = Page::read(pages.path(), running.pid()).unwrap().view().control().0;
    of_pages(&pages, &["control", &pid, "off", "--json"]).output().passes().says("\"told\": \"off\"");
    let second = Page::read(pages.path(), running.pid()).unwrap().view().control().0;
    assert!(first != second && first & 0xff == 2 && second & 0xff == 2, "{first} {second}");
    of_pages(&pages, &["control", &pid, "perhaps"])
        .output()
        .fails()
        .says("off, on, reload".split(", ").next().unwrap());
    of_pages(&pages, &["control", "4194305", "on"]).output().fails().says("no process 4194305");
    running.finish();
}

#[test]
fn events_are_told_as_they_come() {
    let pages = Scratch::new();
    let mut follow = of_pages(&pages, &["events", "--follow", "--interval", "20ms", "--json"]).start();
    let mut running = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut running, "fill");
    let line = follow.wait_for("\"kind\":\"exhausted\"");
    let event: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["pid"], &event["program"], &event["errno"]), (&running.pid().into(), &"ebb".into(), &24.into()));
    let once = of_pages(&pages, &["events", &running.pid().to_string()]).output();
    once.passes().says(&format!("ebb (process {}) exhausted open EMFILE", running.pid()));
    let all = json(of_pages(&pages, &["stat", &running.pid().to_string(), "--json"]).output().passes());
    assert_eq!(all["events"].as_array().unwrap().len(), once.stdout.lines().count());
    follow.signal(libc::SIGTERM);
    follow.finish();
    running.finish();
}

/// `tideover events --follow | head -1` went on until the next event, with nobody to tell.
#[test]
fn events_end_with_their_reader() {
    let pages = Scratch::new();
    for (how, interval) in [("pipe", "50ms"), ("pipe", "1h"), ("socket", "50ms")] {
        let (reader, writer): (OwnedFd, OwnedFd) = if how == "pipe" {
            let (reader, writer) = std::io::pipe().unwrap();
            (reader.into(), writer.into())
        } else {
            let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
            (reader.into(), writer.into())
        };
        let words = ["events", "--follow", "--interval", interval];
        let run = of_pages(&pages, &words).stdout(writer).timeout(Duration::from_secs(20));
        let running = run.start();
        drop(run);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!running.ended(), "{how}: it follows while it has a reader");
        drop(reader);
        running.finish().passes();
    }
    // A file has no reader that could go.
    let run = of_pages(&pages, &["events", "--follow", "--interval", "20ms"]);
    let follow = run.stdout(fs::File::create(pages.join("told")).unwrap()).start();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!follow.ended());
    follow.signal(libc::SIGTERM);
    follow.finish();
}

/// Opens /dev/null as often as it is told, by its first argument, and says how far it came.
const OPENS: &str = "import os, sys\nn = 0\ntry:\n    while n < int(sys.argv[1]): os.open('/dev/null', 0); n += 1\n\
    except OSError as error: print(error.errno, 'after', n)\nelse: print('all', n)";

/// How far such a program comes at a soft limit of 64 that can be raised to 256.
fn opens(policy: &std::path::Path) -> Run {
    python(OPENS).arg("100").soft(64).hard(256).preload(true).env("TIDEOVER_CONFIG", policy)
}

#[test]
fn what_the_policy_gives_is_what_the_library_does() {
    let (folder, pages) = (Scratch::new(), Scratch::new());
    let path = policy(
        &folder,
        "max_retries = 0\n[program.\"python*\"]\nraise = \"off\"\n[program.nginx]\nraise = \"force\"\n",
    );
    // The controls: without the library, and with it and no policy.
    python(OPENS)
        .arg("100")
        .soft(64)
        .hard(256)
        .preload(false)
        .env("TIDEOVER_CONFIG", &path)
        .output()
        .says("24 after 6");
    opens("/nonexistent".as_ref()).output().passes().says("all 100");
    opens(&path).output().passes().says("24 after 6").does_not_say("policy file");
    // The environment beats it, and so does what comes last.
    opens(&path).env("TIDEOVER_RAISE", "auto").output().passes().says("all 100");
    let later = folder.write("later.toml", "[program.'py*']\nraise = 'off'\n[program.'*3*']\nraise = 'auto'\n");
    fs::set_permissions(&later, fs::Permissions::from_mode(0o644)).unwrap();
    opens(&later).output().passes().says("all 100");
    // Lists, texts and programs that are left out.
    let lists = folder.write("lists.toml", "except = ['perl', 'python*']\n");
    opens(&lists).output().passes().says("24 after 6");

    let mut running = Run::new(fixture("ebb")).soft(64).hard(256).page_dir(pages.path()).preload(true);
    running = running.env(
        "TIDEOVER_CONFIG",
        policy(&folder, "logs = ['*/a.x', '*/b.x']\n[program.ebb]\nraise = 'off'\nmax_wait = 'soon'\n"),
    );
    let mut running = running.start();
    tell(&mut running, "fill");
    let page = Page::read(pages.path(), running.pid()).unwrap();
    assert_eq!(page.counter("descriptors", "soft_limit"), 64);
    let pid = running.pid().to_string();
    let said = json(of_pages(&pages, &["config", &pid, "--json"]).output().passes());
    let of = |name: &str| said["settings"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!(
        (&of("raise")["value"], &of("raise")["source"], &of("raise")["line"]),
        (&"off".into(), &"policy".into(), &3.into())
    );
    assert_eq!((&of("logs")["value"], &of("logs")["line"]), (&"*/a.x,*/b.x".into(), &1.into()));
    assert_eq!(
        (&of("max_wait")["value"], &of("max_wait")["source"], &of("max_wait")["line"]),
        (&"10s".into(), &"refused".into(), &4.into())
    );
    let shown = of_pages(&pages, &["config", &pid]).output();
    shown.passes().says("tideover.toml line 3").says("max_wait = \"soon\" is refused: it takes a duration");
    // The file is another one now: which line it was is not known.
    policy(&folder, "raise = 'force'\n");
    of_pages(&pages, &["config", &pid])
        .output()
        .passes()
        .says("policy file, which has changed since")
        .does_not_say("force");
    let next = command(&["config", "--program", "ebb"]).env("TIDEOVER_CONFIG", folder.join("tideover.toml")).output();
    next.passes().says("force").says("tideover.toml line 1");
    running.finish();
}

#[test]
fn a_policy_that_is_not_usable_is_said_in_one_line_and_the_program_runs() {
    let folder = Scratch::new();
    let said = |path: &std::path::Path, expected: &str| {
        let outcome = opens(path).output();
        outcome.passes().says("all 100").says(expected);
        let lines: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("policy file")).collect();
        assert_eq!(lines.len(), 1, "{outcome}");
        assert!(lines[0].contains(&path.display().to_string()), "{outcome}");
    };
    let write = |text: &str| policy(&folder, text);
    said(
        &write("raise = off\nnonsense\n"),
        "tideover.toml line 1: the value is no number, true, false, or text in quotes",
    );
    said(&write("raise = 'auto'\nmax_tries = 1\n"), "line 2: there is no setting of this name");
    said(&write("\nraise = 'sometimes'\n"), "line 2: the value is not one of off, auto, force");
    said(&write("[server]\nraise = 'off'\n"), "line 1: a table is [program.\"PATTERN\"]");
    said(&write(&format!("{}\n", "#".repeat(70_000))), "longer than 64 KiB");
    said(folder.path(), "is not used: it is not a regular file");
    said("/nonexistent/t.toml".as_ref(), "there is none");
    let others = write("raise = 'off'\n");
    fs::set_permissions(&others, fs::Permissions::from_mode(0o666)).unwrap();
    said(&others, "its group or others may write to it; chmod go-w");
    // What is for other programs is no concern of this one.
    let fine = write("[program.nginx]\nmax_tries = 1\n[program.'*']\nmax_retries = 1\n");
    opens(&fine).output().passes().says("all 100").does_not_say("policy");
    let pipe = folder.join("pipe");
    Run::new("mkfifo").arg(&pipe).output().passes();
    said(&pipe, "is not a regular file");
    opens("t.toml".as_ref()).output().passes().says("all 100").says("TIDEOVER_CONFIG takes an absolute path");
}

/// The user of a test that is not root's can't have files of another user.
#[needs(root)]
#[test]
fn the_policy_of_another_user_is_ignored() {
    let folder = Scratch::new();
    let path = policy(&folder, "raise = 'off'\n");
    opens(&path).output().passes().says("24 after 6");
    std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    opens(&path)
        .output()
        .passes()
        .says("all 100")
        .says("it belongs to another user than root or the one of this process; chown root");
    command(&["config", "--check"]).env("TIDEOVER_CONFIG", &path).output().fails().says("belongs to another user");
}
