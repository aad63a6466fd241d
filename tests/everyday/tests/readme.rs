//! README.md and docs/: what they show is what happens, and what they point to is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tideover_tests::{library, needs, tideover, workspace};

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A line without what differs each time: process ids, times, folders, how often threads met. A count that is 0 stays 0.
fn essence(line: &str) -> String {
    let word = |word: &str| {
        let last = word.rsplit('/').next().unwrap_or(word).trim_matches(['\'', '(', ')']);
        let mut shape = String::new();
        for part in last.split_inclusive(|c: char| !c.is_ascii_digit() && c != '.') {
            let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
            shape += match digits {
                "" | "0" => digits,
                _ => "#",
            };
            shape += &part[digits.len()..];
        }
        if matches!(shape.as_str(), "us" | "ms") { "s".to_string() } else { shape }
    };
    line.trim_start_matches([' ', '|']).split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// The demo is run, and what README.md quotes of it has to be in its output.
#[needs(mounts)]
#[test]
fn the_readme_shows_what_the_demo_says() {
    let mut demo = Command::new("timeout");
    demo.args(["200", "sh"]).arg(workspace().join("scripts/demo")).stdin(Stdio::null());
    demo.env("TIDEOVER_TEST_LIB", library()).env("TIDEOVER_TEST_BIN", tideover());
    let told = demo.output().expect("sh runs");
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
    let said: Vec<String> = said.lines().map(essence).collect();

    let text = read(&workspace().join("README.md"));
    let quoted: Vec<&str> = text.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let lines: Vec<&str> = quoted.iter().flat_map(|block| block.lines()).collect();
    let shown = lines.iter().filter(|line| !line.starts_with('$') && !line.trim().is_empty());
    let missing: Vec<&&str> = shown.clone().filter(|line| !said.contains(&essence(line))).collect();
    assert!(shown.count() >= 6, "README.md quotes the demo");
    assert!(missing.is_empty(), "the demo does not say {missing:#?}, but\n{}", said.join("\n"));
}

fn documents() -> Vec<PathBuf> {
    let mut found =
        vec![workspace().join("README.md"), workspace().join("DESIGN.md"), workspace().join("CHANGELOG.md")];
    let folder = fs::read_dir(workspace().join("docs")).expect("readable");
    found.extend(
        folder.map(|entry| entry.expect("readable").path()).filter(|path| path.extension().is_some_and(|e| e == "md")),
    );
    found
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    for document in documents() {
        for target in read(&document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") {
                let path = document.parent().expect("in a folder").join(target);
                assert!(path.exists(), "{}: {target} is not there", document.display());
                seen += 1;
            }
        }
    }
    assert!(seen > 10);
}

#[test]
fn the_readme_names_every_document_and_command() {
    let readme = read(&workspace().join("README.md"));
    for document in documents().iter().filter(|path| path.starts_with(workspace().join("docs"))) {
        let name = format!("docs/{}", document.file_name().expect("a file").to_string_lossy());
        assert!(readme.contains(&name), "{name}");
    }
    let help = Command::new(tideover()).arg("--help").output().expect("tideover runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for command in commands.filter_map(|line| line.split_whitespace().next()) {
        assert!(readme.contains(&format!("`tideover {command}")), "{command}");
    }
}
