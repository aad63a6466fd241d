//! README.md and docs/: what they show is what happens, and what they point to is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tideover_tests::source::{files, read, text};
use tideover_tests::{library, needs, tideover, workspace};

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
    let mut found = ["README.md", "DESIGN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "tests/README.md"]
        .map(|name| workspace().join(name))
        .to_vec();
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

/// The paths in a text that begin with one of the repository's folders, `src/cli` as well as `../scripts/deb`; without those that stand for
/// many (`tests/*.rs`) and those of other folders (`/usr/src/linux`).
fn paths<'a>(text: &'a str, folders: &[String]) -> Vec<&'a str> {
    let of_a_path = |c: char| c.is_ascii_alphanumeric() || "_./-~$*{}<>".contains(c);
    let words = text.split(|c| !of_a_path(c)).map(|word| word.trim_start_matches("../").trim_end_matches(['.', '/']));
    let is_ours = |word: &&str| {
        word.split_once('/').is_some_and(|(first, _)| folders.iter().any(|folder| folder == first))
            && !word.contains(['*', '{', '<', '$'])
    };
    words.filter(is_ours).collect()
}

/// What a file says of others: all of a document or a script, the comments of source code.
fn told(file: &str) -> Option<String> {
    let ends_with = |ends: &[&str]| ends.iter().any(|end| file.ends_with(end));
    if ends_with(&[".rs", ".c", ".cc", ".h", ".py", ".java", ".go"]) {
        let all = text(file);
        let comments =
            all.lines().map(str::trim_start).filter(|line| line.starts_with(['/', '*']) || line.starts_with("# "));
        return Some(comments.collect::<Vec<_>>().join("\n"));
    }
    let is_read = file.starts_with("scripts/")
        || ends_with(&[".md", ".sh", ".ld", ".yml", ".yaml", ".conf", ".service", "Makefile", "Dockerfile"]);
    is_read.then(|| text(file))
}

/// docs/containers.md named a test by the folder that it had been moved out of.
#[test]
fn every_path_that_documents_scripts_and_comments_name_is_there() {
    let files = files();
    // In debian/ there is more while dpkg-deb(1) makes the package.
    let folders: BTreeSet<&str> = files.iter().filter_map(|file| Some(file.split_once('/')?.0)).collect();
    let folders: Vec<String> = folders.into_iter().filter(|name| *name != "debian").map(String::from).collect();
    let (mut seen, mut missing) = (0, vec![]);
    for (file, told) in files.iter().filter_map(|file| Some((file, told(file)?))) {
        let named = paths(&told, &folders);
        seen += named.len();
        let gone = named.into_iter().filter(|path| !workspace().join(path).exists());
        missing.extend(gone.map(|path| format!("{file}: {path}")));
    }
    assert!(seen > 300, "{seen} paths are found");
    assert!(missing.is_empty(), "these are not there:\n{}", missing.join("\n"));
}

#[test]
fn paths_are_told_from_other_words() {
    let text =
        "`src/cli/main.rs`, [tests](../tests/src/lib.rs). /usr/src/linux, tests/*.rs, either/or, src alone, docs/.";
    let folders = ["src", "tests", "docs"].map(String::from);
    assert_eq!(paths(text, &folders), ["src/cli/main.rs", "tests/src/lib.rs"]);
}

#[test]
fn the_readme_has_the_figures_of_the_benchmarks() {
    let benchmarks = read(&workspace().join("docs/BENCHMARKS.md"));
    let part = |name: &str| {
        let rest = benchmarks.split_once(&format!("<!-- {name} -->")).expect("a part of that name").1;
        rest.split("<!-- end -->").next().unwrap_or_default().to_string()
    };
    let rows = |part: &str| -> Vec<(String, f64)> {
        let cells = part.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
        let row = |cells: Vec<&str>| Some((cells.get(1)?.to_string(), cells.get(2)?.split(' ').next()?.parse().ok()?));
        cells.filter_map(row).collect()
    };
    let (calls, memory) = (rows(&part("calls")), rows(&part("memory")));
    let (highest, usual): (Vec<_>, Vec<_>) = calls.into_iter().partition(|(name, _)| name.contains("highest number"));
    let (least, most) = usual.iter().fold((f64::MAX, 0.0), |(a, b), (_, it)| (it.min(a), it.max(b)));
    assert!(usual.len() > 6 && highest.len() == 1, "{usual:?} {highest:?}");

    let readme = read(&workspace().join("README.md")).split_whitespace().collect::<Vec<_>>().join(" ");
    let pages = memory.iter().find(|(name, _)| name.starts_with("dirty private pages")).expect("the row of pages").1;
    for figure in [
        format!("{least:.0} to {most:.0} instructions"),
        format!("and {:.0} for an open that returns the highest", highest[0].1),
        format!("{pages:.0} KiB more memory"),
    ] {
        assert!(readme.contains(&figure), "docs/BENCHMARKS.md was written anew: README.md says {figure:?} then");
    }
}

#[test]
fn the_readme_names_every_document_and_command() {
    let readme = read(&workspace().join("README.md"));
    let mut documents = documents();
    documents.retain(|path| path.starts_with(workspace().join("docs")));
    assert!(!documents.is_empty());
    for document in documents {
        let name = format!("docs/{}", document.file_name().expect("a file").to_string_lossy());
        assert!(readme.contains(&name), "{name}");
    }
    let help = Command::new(tideover()).arg("--help").output().expect("tideover runs");
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.contains(&"stat"), "{help}");
    for command in commands {
        assert!(readme.contains(&format!("`tideover {command}")), "{command}");
    }
}
