//! include/tideover.h against the tables: the C compiler itself is asked.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use crate::page::{COUNTERS, EVENT_FIELDS, EVENTS, FIELDS, LAYOUT, SHARDS, SIZE};

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
