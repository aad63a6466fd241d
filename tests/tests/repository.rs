//! The repository itself: sizes of files and functions, names in DESIGN.md, and what no file may name.

use std::collections::BTreeSet;

use tideover_tests::source::{closing, code, files, functions, read, text};
use tideover_tests::workspace;

/// No file of code has more lines, no function of Rust more than the second.
const LINES_OF_A_FILE: usize = 450;
const LINES_OF_A_FUNCTION: usize = 60;

/// Is it code: by its name, or for a script by its first line?
fn is_code(path: &str) -> bool {
    let named = [".rs", ".c", ".h", ".cc", ".py", ".sh", ".java", ".go", ".js", ".rb", ".php", ".scm"];
    named.iter().any(|ending| path.ends_with(ending))
        || (path.starts_with("scripts/") || path.starts_with(".ci/")) && text(path).starts_with("#!")
}

#[test]
fn no_file_of_code_is_too_long() {
    let lines = |path: &String| text(path).lines().count();
    let long = files().into_iter().filter(|path| is_code(path) && lines(path) > LINES_OF_A_FILE);
    let long: Vec<String> = long.map(|path| format!("{path}: {} lines", lines(&path))).collect();
    assert!(long.is_empty(), "more than {LINES_OF_A_FILE} lines:\n{}", long.join("\n"));
}

#[test]
fn no_function_is_too_long() {
    let mut long = vec![];
    for path in files().into_iter().filter(|path| path.ends_with(".rs")) {
        for (name, first, lines) in functions(&code(&text(&path))) {
            if lines > LINES_OF_A_FUNCTION {
                long.push(format!("{path}:{first}: {name} has {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "more than {LINES_OF_A_FUNCTION} lines:\n{}", long.join("\n"));
}

#[test]
fn no_test_returns_early() {
    let mut early = vec![];
    for path in files().into_iter().filter(|path| path.ends_with(".rs")) {
        let code = code(&text(&path));
        for (at, _) in code.match_indices("#[test]") {
            let open = code[at..].find('{').map_or(code.len(), |open| at + open);
            let body = &code[open..closing(&code, open)];
            let name = code[at..open].split("fn ").last().unwrap_or("").trim_end_matches(" ");
            let bare = |(at, word): (usize, &str)| body[at + word.len()..].trim_start().starts_with([';', '}']);
            if body.match_indices("return").any(bare) {
                early.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(
        early.is_empty(),
        "#[needs(...)] or an assertion instead: a test that returns counts as passed\n{}",
        early.join("\n")
    );
}

#[test]
fn functions_are_measured_through_strings_and_comments() {
    let source = "fn one() {\n    let text = r#\"}\n}\"#; // }\n    let c = '}';\n}\n\nfn two<'a>(x: &'a str) -> fn(u8) {\n    /* } /* } */ } */\n}\n";
    assert_eq!(functions(&code(source)), [("one", 1, 5), ("two", 7, 3)]);
}

/// Users have their own registries and mirrors, and tools have defaults: what we name would be taken for either. In pieces, so that
/// this file has none of them.
const HOSTS: &[&[&str]] = &[
    &["deb", "debian", "org"],
    &["security", "debian", "org"],
    &["ftp", "debian", "org"],
    &["snapshot", "debian", "org"],
    &["archive", "ubuntu", "com"],
    &["dl-cdn", "alpinelinux", "org"],
    &["static", "crates", "io"],
    &["index", "crates", "io"],
    &["registry", "npmjs", "org"],
    &["files", "pythonhosted", "org"],
    &["pypi", "org"],
    &["rubygems", "org"],
    &["proxy", "golang", "org"],
    &["sum", "golang", "org"],
    &["docker", "io"],
    &["gcr", "io"],
    &["ghcr", "io"],
    &["quay", "io"],
    &["registry", "k8s", "io"],
];

#[test]
fn no_file_names_the_host_of_a_registry_or_mirror() {
    let hosts: Vec<String> = HOSTS.iter().map(|parts| parts.join(".")).collect();
    let mut named = vec![];
    for path in files() {
        let text = text(&path).to_lowercase();
        named.extend(hosts.iter().filter(|host| text.contains(*host)).map(|host| format!("{path}: {host}")));
    }
    assert!(named.is_empty(), "\n{}", named.join("\n"));
}

/// What stands between backticks in a document, outside of blocks of code, each once.
fn quoted(document: &str) -> BTreeSet<String> {
    let mut prose = String::new();
    for (number, part) in document.split("```").enumerate() {
        if number % 2 == 0 {
            prose += part;
        }
    }
    prose.split('`').skip(1).step_by(2).map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Is this a name that source code may have: `CLOSES`, `limit::RAISED_TO`, `put_back()`, `hook!`?
fn names(quoted: &str) -> Option<Vec<&str>> {
    let bare = quoted.trim_end_matches("()").trim_end_matches('!');
    let parts: Vec<&str> = bare.split("::").collect();
    let word = |part: &&str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && !part.starts_with(char::is_numeric)
    };
    parts.iter().all(word).then_some(parts)
}

/// Does a file or folder of the repository end so?
fn is_there(path: &str, files: &[String]) -> bool {
    let (end, folder) = (format!("/{}", path.trim_matches('/')), format!("/{}/", path.trim_matches('/')));
    files.iter().map(|file| format!("/{file}")).any(|file| file.ends_with(&end) || file.contains(&folder))
}

#[test]
fn names_in_the_design_exist() {
    let files = files();
    let is_source = |path: &&String| {
        is_code(path) || path.starts_with("src/") || path.ends_with("Makefile") || path.ends_with(".toml")
    };
    let source: String = files.iter().filter(is_source).map(|path| text(path) + "\n").collect();
    let words: BTreeSet<&str> = source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let makefile = read(&workspace().join("Makefile"));
    let mut missing = vec![];
    for quoted in quoted(&read(&workspace().join("DESIGN.md"))) {
        let path = !quoted.contains([' ', '$', '*', '<', '=']) && !quoted.starts_with(['/', '-', '~']);
        let is_path = path
            && (quoted.contains('/')
                || [".rs", ".ld", ".txt", ".h", ".md", ".toml"].iter().any(|e| quoted.ends_with(e)));
        let exists = if let Some(names) = names(&quoted) {
            names.iter().all(|name| words.contains(name)) || is_there(&quoted, &files)
        } else if let Some(target) = quoted.strip_prefix("make ") {
            let target = target.split(' ').next().unwrap_or("");
            makefile.lines().any(|line| line.starts_with(&format!("{target}:")))
        } else {
            !is_path || is_there(&quoted, &files)
        };
        if !exists {
            missing.push(quoted);
        }
    }
    assert!(missing.is_empty(), "DESIGN.md names what is not there:\n{}", missing.join("\n"));
}

#[test]
fn the_design_names_much_that_can_be_looked_up() {
    let quoted = quoted(&read(&workspace().join("DESIGN.md")));
    assert!(quoted.iter().filter(|quoted| quoted.ends_with(".rs")).count() > 10, "{quoted:?}");
    assert!(!is_there("hooks/no_such_file.rs", &files()) && is_there("src/shim/hooks/", &files()));
}
