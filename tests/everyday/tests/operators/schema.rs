//! docs/json.md against what the commands print: no key without a row, none of another type, and each row that is not marked as
//! one that may be left out has its key.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};
use tideover_contract::page::{EventKind, Outcome};
use tideover_tests::loggers::writer;
use tideover_tests::outage::{Fed, Logger};
use tideover_tests::{Disk, Kind, Run, Scratch, fixture, needs, workspace};

use super::{command, full, json, of_pages, tell};

/// The rows of a section: key, type, and whether it may be left out.
struct Section(Vec<(String, String, bool)>);

fn section(title: &str) -> Section {
    let text = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let start = text.find(&format!("## tideover {title}\n")).unwrap_or_else(|| panic!("docs/json.md lacks {title}"));
    let rest = &text[start + 3..];
    let body = rest.split("\n## ").next().unwrap();
    let rows = body.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let key = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_string();
        let kind = cells.next()?;
        Some((key, kind.trim_end_matches('?').trim().to_string(), kind.ends_with('?')))
    });
    Section(rows.collect())
}

/// Every value that is no object and no list, by its path: `events[].at`. Empty ones are left out.
fn flatten(value: &Value, path: &str, into: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = key.replace('.', "_");
                flatten(value, &if path.is_empty() { key } else { format!("{path}.{key}") }, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| flatten(value, &format!("{path}[]"), into)),
        other => into.push((path.to_string(), other.clone())),
    }
}

fn matches(row: &str, key: &str) -> bool {
    let (row, key): (Vec<&str>, Vec<&str>) = (row.split('.').collect(), key.split('.').collect());
    row.len() == key.len() && row.iter().zip(key).all(|(row, key)| *row == "*" || *row == key)
}

fn is(kind: &str, value: &Value) -> bool {
    kind.split(" or ").any(|kind| match kind {
        "number" => value.is_number(),
        "text" => value.is_string(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        "time" => value.as_str().is_some_and(|text| text.len() == 24 && text.ends_with('Z')),
        other => panic!("docs/json.md has no type {other}"),
    })
}

#[track_caller]
fn fits(title: &str, value: &Value) {
    let Section(rows) = section(title);
    let mut found = Vec::new();
    flatten(value, "", &mut found);
    for (key, value) in &found {
        let Some(row) = rows.iter().find(|row| matches(&row.0, key)) else {
            panic!("docs/json.md, {title}, lacks {key}")
        };
        assert!(is(&row.1, value), "docs/json.md, {title}: {key} is {value}, and no {}", row.1);
    }
    // A list may be empty, and so may an object of any keys.
    for (key, _, optional) in rows.iter().filter(|row| !row.0.contains("[]") && !row.0.contains('*')) {
        assert!(*optional || found.iter().any(|(there, _)| there == key), "{title} lacks {key}: {value}");
    }
    assert_eq!(value["schema"], 1, "{title}: {value}");
}

#[test]
fn every_answer_is_described() {
    let pages = Scratch::new();
    let guarded = full(&pages);
    let pid = guarded.pid().to_string();
    let of = |words: &[&str]| json(&of_pages(&pages, &[words, &["--json"]].concat()).output());
    let stat = of(&["stat", &pid]);
    assert!(stat["events"].as_array().is_some_and(|events| !events.is_empty()), "{stat}");
    fits("stat PID, tideover ps", &stat);
    let all = of(&["ps"]);
    all.as_array().unwrap().iter().for_each(|one| fits("stat PID, tideover ps", one));
    fits("doctor [PID]", &of(&["doctor", &pid, "--sample", "0s"]));
    fits("doctor [PID]", &of(&["doctor"]));
    fits("config [PID]", &of(&["config", &pid]));
    fits("config [PID]", &of(&["config"]));
    let given = pages.write("given.toml", "raise = 'off'\nmax_wait = 'soon'\n");
    fs::set_permissions(&given, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let told = json(&command(&["config", "--json"]).env("TIDEOVER_CONFIG", &given).output());
    assert!(told["settings"].as_array().unwrap().iter().any(|row| row["line"] == 1), "{told}");
    fits("config [PID]", &told);
    fits("control PID WORD", &of(&["control", &pid, "reload"]));
    fits("clean", &of(&["clean"]));
    let into = pages.join("unpacked");
    fits("unpack DIR", &json(&command(&["unpack", into.to_str().unwrap(), "--json"]).output()));
    fits("rescue", &json(&command(&["rescue", &pid, "4194305", "no-such-name", "--json"]).output()));
    fits("rescue", &json(&command(&["rescue", &pid, "--json"]).output()));
    let policy = pages.write("policy.toml", "raise = 'off'\nodd\n[program.x]\nraise = 'off'\n");
    fs::set_permissions(&policy, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let checked = command(&["config", "--check", "--json"]).env("TIDEOVER_CONFIG", &policy).output();
    fits("config --check", &json(checked.fails()));
    let lines = of_pages(&pages, &["events", "--json"]).output().passes().stdout.clone();
    assert!(!lines.is_empty());
    lines.lines().for_each(|line| fits("events", &serde_json::from_str(line).unwrap()));
    let failed = of(&["stat", "4194305"]);
    let keys: BTreeMap<&str, bool> = ["schema", "error", "exit_status"].iter().map(|key| (*key, true)).collect();
    assert!(failed.as_object().unwrap().keys().all(|key| keys.contains_key(key.as_str())), "{failed}");
    assert_eq!((&failed["schema"], &failed["exit_status"]), (&1.into(), &1.into()));
    guarded.finish().passes();
}

/// The names in the text of a row of a section.
fn names_of(title: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join("docs/json.md")).unwrap();
    let rest = &text[text.find(&format!("## tideover {title}\n")).unwrap()..];
    let row = rest.lines().find(|line| line.starts_with(&format!("| `{key}` |"))).unwrap_or_else(|| panic!("{key}"));
    row.split('`').skip(3).step_by(2).map(str::to_string).collect()
}

/// docs/json.md named `recovered` as an outcome, which no event has.
#[test]
fn the_names_of_kinds_and_outcomes_are_those_of_the_tables() {
    let stat = "stat PID, tideover ps";
    let kinds: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.name()).collect();
    assert_eq!(names_of(stat, "events[].kind"), kinds);
    let outcomes: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.name()).collect();
    assert_eq!(names_of(stat, "events[].outcome"), outcomes);
}

/// Lines that a killed process has left: held while the disk is full, put back, dropped with their log.
#[needs(mounts)]
#[test]
fn what_clean_does_with_kept_lines_is_described() {
    for gone in [false, true] {
        let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
        let log = disk.log();
        let mut fed = Fed::start(&writer(&log).page_dir(pages.path()));
        disk.fill();
        fed.log(1..=50);
        fed.writer().signal(libc::SIGKILL);
        fed.end();
        let clean = || json(of_pages(&pages, &["clean", "--json"]).output().passes());
        let held = clean();
        fits("clean", &held);
        assert!(held["held"][0]["reason"] == "its disk is full" && held["held"][0]["bytes"] == 5000, "{held}");
        disk.free();
        if gone {
            fs::remove_file(&log).unwrap();
        }
        let done = clean();
        fits("clean", &done);
        let (of, other) = if gone { ("dropped", "put_back") } else { ("put_back", "dropped") };
        assert_eq!((&done[of][0]["bytes"], &done[other], &done["held"]), (&5000.into(), &json!([]), &json!([])));
        assert_eq!(done[of][0]["path"], log.to_str().unwrap());
    }
}

#[test]
fn what_a_guard_tells_is_described() {
    let pages = Scratch::new();
    let mut server = Run::new(fixture("guard_spins")).limit(16).start();
    let line = server.wait_for("port ");
    let port: u16 = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let pid = server.pid().to_string();
    let dry = of_pages(&pages, &["guard", "--dry-run", "--park", "--idle", "1m", "--json", &pid, "1"]).output();
    fits("guard --dry-run", &json(dry.passes()));
    let mut guard = of_pages(&pages, &["guard", "--json", "--park", "--idle", "1h", &pid, "1"]).start();
    guard.wait_for("\"guarding\"");
    let clients: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    guard.wait_for("\"parked\"");
    let status = json(&of_pages(&pages, &["guard", "--status", "--json"]).output());
    assert!(status["targets"][0]["parked"][0]["number"].is_number(), "{status}");
    fits("guard --status", &status);
    let all = json(&of_pages(&pages, &["ps", "--json"]).output());
    assert_eq!(all[0]["guard"]["is_parked"], true, "{all}");
    fits("stat PID, tideover ps", &all[0]);
    drop(clients);
    guard.wait_for("\"rearmed\"");
    server.signal(libc::SIGKILL);
    guard.wait_for("\"gone\"");
    let said = guard.finish();
    let kinds = ["refused", "guarding", "not_raised", "parked", "rearmed", "gone"];
    for kind in kinds {
        assert!(said.stdout.contains(&format!("\"event\":\"{kind}\"")), "{kind}: {said}");
    }
    let told = names_of("guard", "event");
    for line in said.stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        fits("guard", &event);
        assert!(told.iter().any(|kind| event["event"] == *kind), "{event}");
    }
    server.finish();
}

#[test]
fn the_selftest_is_described() {
    fits("selftest", &json(&command(&["selftest", "--json"]).output()));
}

#[test]
fn what_receivers_of_alerts_get_is_described() {
    let pages = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let watch = of_pages(&pages, &["watch", "--interval", "50ms", "--only", "ebb", "--webhook", &url]).start();
    let mut running = Run::new(fixture("ebb")).limit(64).start();
    tell(&mut running, "fill");
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let body = loop {
        let read = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_string()).unwrap_or_default();
        if let Ok(value) = serde_json::from_str::<Value>(&body) {
            break value;
        }
        assert!(read > 0, "{text}");
    };
    fits("watch", &body);
    watch.signal(libc::SIGTERM);
    watch.finish();
    running.finish();
}
