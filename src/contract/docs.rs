//! The documents that are made from the tables: docs/settings.md and docs/counters.md. `UPDATE_DOCS=1 cargo test -p
//! tideover-contract` writes them; the test fails when they are out of date. Of documents written by hand, the names of
//! settings and counters are checked.

use std::fmt::Write;
use std::path::Path;

use crate::collection::{Runtime, Skip};
use crate::page::{COUNTERS, Shape};
use crate::refusal::Refusal;
use crate::settings::SETTINGS;

fn settings() -> String {
    let mut text = String::from(
        "# Settings\n\nMade from the table in `src/contract/settings/table.rs`; don't edit.\n\n\
         Each is an environment variable, read once when the program starts (and ignored in set-uid programs); a flag of\n\
         `tideover run`; and a key in its TOML file (`--config`). Durations are written `500ms`, `2s`, `1m`. A bad value in the\n\
         environment gives one warning and the default (bad exceptions of `TIDEOVER_LOGS_EXCEPT`: no log is diverted); `tideover run`\n\
         refuses it before it starts anything. The policy file of the machine gives those that the environment does not: [policy.md](policy.md).\n\n\
         | variable | flag | default | accepts | meaning |\n|---|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "(none)" } else { setting.default };
        let flag = setting.name.replace('_', "-");
        let _ = writeln!(text, "| `{}` | `--{flag}` | {default} | {} | {} |", setting.env, setting.kind, setting.help);
    }
    text
}

fn counters() -> String {
    let mut text = String::from(
        "# Counters\n\nMade from the table in `src/contract/page/counters.rs`; don't edit.\n\n\
         In the shared page of each guarded process, and in `tideover stat PID --json` under these keys. Beside them:\n\
         `descriptors.used`, `.percent`, `.available` (from /proc), `calls.opened` and `calls.closed` (sums of the page's shards).\n\
         Counters of features that this version lacks stay 0.\n\n\
         | key | kind | meaning |\n|---|---|---|\n",
    );
    for counter in COUNTERS {
        let kind = match counter.shape {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Bool => "bool",
        };
        let _ = writeln!(text, "| `{}.{}` | {kind} | {} |", counter.section, counter.name, counter.help);
    }
    text.push_str("\n## Why a file is not taken for a log\n\nCounted in `logs.refused.*`, one key for each reason that occurred.\n\n| key | reason |\n|---|---|\n");
    for refusal in Refusal::ALL {
        let _ = writeln!(text, "| `{}` | {} |", refusal.name(), refusal.text());
    }
    text.push_str(
        "\n## Why no garbage was collected\n\n`exhaustion.collectors.*` has, for each runtime that the process has had: `runs`, `ns` (nanoseconds),\n\
         `freed` (descriptors closed meanwhile) and `skipped`. The reasons are counted in `exhaustion.not_collected.*`, one key for\n\
         each that occurred.\n\n| key | reason |\n|---|---|\n",
    );
    for skip in Skip::ALL {
        let _ = writeln!(text, "| `{}` | {} |", skip.name(), skip.text());
    }
    text
}

/// Documents written by hand, and which settings each explains, by the beginnings of their names.
const BY_HAND: [(&str, &[&str]); 5] = [
    ("servers.md", &["ACCEPT", "SHED", "MAX_CLIENTS", "OVER_LIMIT"]),
    ("connections.md", &["MAX_CONN", "MAX_PER", "CONNECT", "IDLE"]),
    ("logs.md", &["FALLBACK", "LOGS", "ON_FULL", "FULL_WAIT", "CLEANUP", "TRUNCATE", "RECOVERY"]),
    ("runtimes.md", &["GC"]),
    ("limits.md", &[]),
];

/// Whole words of a text that hold only such characters.
fn words(text: &str, is_part: fn(char) -> bool) -> impl Iterator<Item = &str> {
    text.split(move |c| !is_part(c)).filter(|word| !word.is_empty())
}

#[test]
fn documents_written_by_hand_speak_of_what_there_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, explains) in BY_HAND {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let named: Vec<&str> =
            words(&text, |c| c.is_ascii_uppercase() || c == '_').filter(|word| word.starts_with("TIDEOVER_")).collect();
        for word in &named {
            assert!(SETTINGS.iter().any(|s| s.env == *word), "docs/{name}: there is no setting {word}");
        }
        let own = |env: &str| explains.iter().any(|start| env["TIDEOVER_".len()..].starts_with(start));
        for setting in SETTINGS.iter().filter(|s| own(s.env)) {
            assert!(named.contains(&setting.env), "docs/{name} does not explain {}", setting.env);
        }
        for counter in words(&text, |c| c.is_ascii_lowercase() || "_.".contains(c)) {
            let counter = counter.trim_end_matches('.');
            let Some((section, key)) = counter.split_once('.') else { continue };
            let is_section = COUNTERS.iter().any(|c| c.section == section);
            let is_other = ["md", "collectors", "not_collected", "refused", "endpoints"].contains(&key);
            let is_there = COUNTERS.iter().any(|c| (c.section, c.name) == (section, key));
            assert!(!is_section || is_other || is_there, "docs/{name}: there is no counter {counter}");
        }
    }
    let text = std::fs::read_to_string(folder.join("runtimes.md")).unwrap();
    let rows = |cell: &str| text.lines().filter(|line| line.contains(cell)).count();
    let usual = Runtime::ALL.iter().filter(|runtime| runtime.is_usual()).count();
    assert_eq!(rows("| on (`auto`) |"), usual, "docs/runtimes.md has a row for each runtime");
    for runtime in Runtime::ALL.iter().filter(|runtime| !runtime.is_usual()) {
        assert_eq!(rows(&format!("| `{}` |", runtime.name())), 1, "docs/runtimes.md has a row for {}", runtime.name());
    }
}

#[test]
fn documents_agree_with_the_tables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, text) in [("settings.md", settings()), ("counters.md", counters())] {
        let path = folder.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let there = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(there == text, "docs/{name} is out of date: UPDATE_DOCS=1 cargo test -p tideover-contract");
    }
}
