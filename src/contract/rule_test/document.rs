//! docs/logs.md names what the tables name.

use super::super::*;

/// The part of docs/logs.md that is made from this file's tables. `UPDATE_DOCS=1 cargo test -p tideover-contract` writes it.
#[test]
fn the_document_names_what_the_tables_name() {
    use std::fmt::Write;

    let shown = |globs: &[u8]| {
        let globs = String::from_utf8_lossy(globs).into_owned();
        let globs: Vec<String> =
            globs.split(',').map(str::trim).filter(|g| !g.is_empty()).map(|g| format!("`{g}`")).collect();
        globs.join(" ")
    };
    let mut text = String::from("| reason | counted as | `TIDEOVER_LOGS` overrules it |\n|---|---|---|\n");
    for refusal in Refusal::ALL {
        let yields = if refusal.weight() == Weight::Yields { "yes" } else { "no" };
        let _ = writeln!(text, "| {} | `{}` | {yields} |", refusal.text(), refusal.name());
    }
    text.push_str("\nNames that are never a log's, or only if `TIDEOVER_LOGS` says so (see above):\n\n");
    text.push_str("| counted as | names | in folders named |\n|---|---|---|\n");
    for group in DENIED {
        let _ =
            writeln!(text, "| `{}` | {} | {} |", group.refusal.name(), shown(group.names), shown(group.directories));
    }
    text.push_str("\nNames that are a log's:\n\n| names | provided that |\n|---|---|\n");
    for (names, provided) in [
        (log_name::CERTAIN, "nothing else speaks against it"),
        (log_name::LIKELY, "no database's files lie beside it"),
        (
            log_name::BELOW_LIB,
            "it is in a folder `log` or `logs` below one named `lib`; elsewhere in such folders any name will do",
        ),
    ] {
        let _ = writeln!(text, "| {} | {provided} |", shown(names));
    }
    let _ = writeln!(text, "| anything but {} | the file is standard error (`2> errors`) |", shown(RESULTS));

    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/logs.md");
    let there = std::fs::read_to_string(&path).expect("docs/logs.md is there");
    let (begin, end) = ("<!-- made from src/contract/rule.rs -->\n", "<!-- to here -->");
    let (before, rest) = there.split_once(begin).expect("the mark is there");
    let (_, after) = rest.split_once(end).expect("the mark is there");
    let wanted = format!("{before}{begin}{text}{end}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).expect("it can be written");
    } else {
        assert!(there == wanted, "docs/logs.md is out of date: UPDATE_DOCS=1 cargo test -p tideover-contract");
    }
}
