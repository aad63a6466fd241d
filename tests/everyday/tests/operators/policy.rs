//! The policy of a machine, the word in a page by which a process is told to follow it, and the events as they come.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tideover_tests::{Page, Run, Scratch, fixture};

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
