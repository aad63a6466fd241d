//! include/tideover.h against the tables. Its enums and its struct of counters are made from them: `UPDATE_DOCS=1 cargo test
//! -p tideover-contract` writes them into the header. Of the rest of the layout the C compiler itself is asked.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::page::{
    COUNTERS, EVENT_FIELDS, EVENTS, EventKind, FIELDS, LAYOUT, MAX_REFUSALS, MAX_RUNTIMES, MAX_SETTINGS, MAX_SKIPS,
    Outcome, SHARDS, SIZE,
};

fn compile(compiler: &str, flags: &[&str], source: &Path) {
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include");
    let done = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"])
        .arg(include)
        .args(flags)
        .arg(source)
        .output()
        .unwrap_or_else(|e| panic!("{compiler}: {e}"));
    assert!(done.status.success(), "{compiler} {flags:?}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_c_header_has_the_same_layout() {
    let mut text = String::from("#include \"tideover.h\"\n#define IS(w, n) _Static_assert((w) == (n), #w)\n");
    let mut is = |what: String, number: usize| writeln!(text, "IS({what}, {number});").unwrap();
    for (field, offset) in FIELDS {
        is(format!("offsetof(struct tideover_page, {field})"), *offset);
    }
    for (field, offset) in EVENT_FIELDS {
        is(format!("offsetof(struct tideover_page_event, {field})"), *offset);
    }
    for (index, counter) in COUNTERS.iter().enumerate() {
        is(format!("offsetof(struct tideover_counters, {})", counter.name), index * 8);
    }
    is("sizeof(struct tideover_counters)".into(), COUNTERS.len() * 8);
    is("TIDEOVER_PAGE_SIZE".into(), SIZE);
    is("TIDEOVER_PAGE_LAYOUT".into(), LAYOUT as usize);
    is("TIDEOVER_PAGE_SHARDS".into(), SHARDS);
    is("TIDEOVER_PAGE_EVENTS".into(), EVENTS);
    is("TIDEOVER_PAGE_SETTINGS".into(), MAX_SETTINGS);
    for (array, length) in [("refusals", MAX_REFUSALS), ("collectors", MAX_RUNTIMES), ("skips", MAX_SKIPS)] {
        let field = format!("((struct tideover_page *)0)->{array}");
        is(format!("sizeof({field}) / sizeof({field}[0])"), length);
    }
    let source = std::env::temp_dir().join(format!("tideover-layout-{}.c", std::process::id()));
    std::fs::write(&source, text).unwrap();
    compile("cc", &["-std=c11"], &source);
    std::fs::remove_file(&source).unwrap();
}

#[test]
fn the_header_is_c99_and_cpp() {
    let source = std::env::temp_dir().join(format!("tideover-header-{}.c", std::process::id()));
    std::fs::write(&source, "#include \"tideover.h\"\nint main(void) { return tideover_version ? 0 : 1; }\n").unwrap();
    compile("cc", &["-std=c99"], &source);
    compile("c++", &["-std=c++11", "-x", "c++"], &source);
    compile("c++", &["-std=c++17", "-x", "c++"], &source);
    std::fs::remove_file(&source).unwrap();
}

/// The longest line of the header.
const WIDTH: usize = 120;

/// An enum's body: a constant and what it means on each line, the meanings in one column.
fn constants(rows: &[(String, u32, &str)]) -> String {
    let start = |(name, number, _): &(String, u32, &str)| format!("    {name} = {number}");
    let column = rows.iter().map(|row| start(row).len()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        let comma = if i + 1 < rows.len() { "," } else { "" };
        writeln!(text, "{:column$} /* {} */", start(row) + comma, row.2).unwrap();
    }
    text
}

/// The body of the struct of counters: a comment for each section, then its names.
fn counters() -> String {
    let mut text = String::new();
    let mut line = String::new();
    for (i, counter) in COUNTERS.iter().enumerate() {
        if i == 0 || COUNTERS[i - 1].section != counter.section {
            writeln!(text, "    /* {} */", counter.section).unwrap();
            line = "    uint64_t".into();
        }
        let ends = COUNTERS.get(i + 1).is_none_or(|next| next.section != counter.section);
        let word = format!(" {}{}", counter.name, if ends { ";" } else { "," });
        if line.len() + word.len() > WIDTH {
            writeln!(text, "{line}").unwrap();
            line = "       ".into();
        }
        line += &word;
        if ends {
            writeln!(text, "{line}").unwrap();
        }
    }
    text
}

#[test]
fn the_enums_and_the_counters_of_the_header_are_those_of_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include/tideover.h");
    let there = std::fs::read_to_string(&path).unwrap();
    let kinds = EventKind::ALL.iter().map(|kind| (kind.name(), *kind as u32, kind.help()));
    let outcomes = Outcome::ALL.iter().map(|outcome| (outcome.name(), *outcome as u32, outcome.help()));
    let named = |prefix: &str, (name, number, help): (&str, u32, &'static str)| {
        (format!("{prefix}{}", name.to_uppercase()), number, help)
    };
    let kinds: Vec<_> = kinds.map(|row| named("TIDEOVER_", row)).collect();
    let outcomes: Vec<_> = outcomes.map(|row| named("TIDEOVER_OUTCOME_", row)).collect();
    let mut wanted = there.clone();
    for (head, body) in [
        ("enum tideover_event_kind {\n", constants(&kinds)),
        ("enum tideover_outcome {\n", constants(&outcomes)),
        ("struct tideover_counters {\n", counters()),
    ] {
        let start = wanted.find(head).unwrap_or_else(|| panic!("the header lacks {head}")) + head.len();
        let length = wanted[start..].find("};\n").unwrap();
        wanted.replace_range(start..start + length, &body);
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    } else {
        assert!(there == wanted, "include/tideover.h is out of date: UPDATE_DOCS=1 cargo test -p tideover-contract");
    }
}
