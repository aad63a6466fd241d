//! Which file of a crate names which other, by the paths in its code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tideover_tests::source::closing;

/// A file that names something of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// The path of the one that names.
    pub from: String,
    /// The path of the one that is named.
    pub to: String,
    /// What is written there.
    pub name: String,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}, by {}", self.from, self.to, self.name)
    }
}

/// All edges, each once.
pub struct Graph {
    pub edges: Vec<Edge>,
}

/// A module path: `[]` is the crate.
type Module = Vec<String>;

impl Graph {
    /// Of these files of src/shim: path and code.
    pub fn of(files: &[(String, String)]) -> Graph {
        let modules: BTreeMap<Module, &str> = files.iter().map(|(path, _)| (module(path), path.as_str())).collect();
        let mut edges = BTreeSet::new();
        for (path, code) in files {
            for (at, name) in named(code) {
                let here = [module(path), inline_modules(code, at)].concat();
                let Some(whole) = absolute(&here, &name, &modules) else { continue };
                let target = (0..=whole.len()).rev().find_map(|length| modules.get(&whole[..length]));
                let Some(to) = target.filter(|to| *to != path) else { continue };
                edges.insert(Edge { from: path.clone(), to: to.to_string(), name: name.join("::") });
            }
        }
        Graph { edges: edges.into_iter().collect() }
    }

    /// Every pair of files of which the first names the second, directly or by others.
    pub fn reached(&self) -> BTreeSet<(&str, &str)> {
        let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for edge in &self.edges {
            next.entry(&edge.from).or_default().insert(&edge.to);
        }
        let mut all = BTreeSet::new();
        for start in next.keys() {
            let mut left = vec![*start];
            while let Some(at) = left.pop() {
                for to in next.get(at).into_iter().flatten() {
                    if all.insert((*start, *to)) {
                        left.push(to);
                    }
                }
            }
        }
        all
    }
}

fn module(path: &str) -> Module {
    let inside = path.trim_start_matches("src/shim/").trim_end_matches(".rs");
    let inside = inside.strip_suffix("/mod").unwrap_or(inside);
    if inside == "lib" { vec![] } else { inside.split('/').map(String::from).collect() }
}

/// The modules with a body in this file that enclose a place.
fn inline_modules(code: &str, at: usize) -> Module {
    let mut found = vec![];
    for (start, _) in code[..at].match_indices("mod ") {
        let name: String = code[start + 4..].chars().take_while(|c| c.is_alphanumeric() || "_$".contains(*c)).collect();
        let open = start + 4 + name.len();
        let has_body = code[open..].trim_start().starts_with('{');
        let word = code[..start].chars().next_back().is_none_or(|c| c.is_whitespace());
        if word && has_body && !name.is_empty() && closing(code, open) > at {
            found.push(name);
        }
    }
    found
}

/// The path from the crate on. None if it begins with neither of `crate`, `self`, `super` nor a module of this one's: another crate.
fn absolute(here: &[String], name: &[String], modules: &BTreeMap<Module, &str>) -> Option<Module> {
    let (mut base, mut rest): (&[String], &[String]) = match name.first()?.as_str() {
        "crate" => (&[], &name[1..]),
        "self" => (here, &name[1..]),
        "super" => (here, name),
        child => {
            let inside = [here, &[child.to_string()]].concat();
            return modules.contains_key(&inside).then(|| [here, name].concat());
        }
    };
    while rest.first().is_some_and(|word| word == "super") {
        base = &base[..base.len().checked_sub(1)?];
        rest = &rest[1..];
    }
    Some([base, rest].concat())
}

/// The paths in a file's code, and where they stand: those of `use`, and those within other code.
fn named(code: &str) -> Vec<(usize, Module)> {
    let mut found = vec![];
    let mut others = code.to_string();
    for (start, _) in code.match_indices("use ") {
        let starts = code[..start].chars().next_back().is_none_or(|c| c.is_whitespace());
        let Some(length) = code[start..].find(';').filter(|_| starts) else { continue };
        let mut paths = vec![];
        tree(&code[start + 4..start + length], &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (start, path)));
        others.replace_range(start..start + length, &" ".repeat(length));
    }
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for first in ["crate::", "super::", "self::"] {
        for (start, _) in others.match_indices(first) {
            let before = others[..start].chars().next_back();
            if before.is_some_and(|c| is_word(c) || c == ':') {
                continue;
            }
            let end = others[start..].find(|c| !is_word(c) && c != ':').map_or(others.len(), |end| start + end);
            found.push((start, words(&others[start..end])));
        }
    }
    found
}

fn words(path: &str) -> Module {
    path.split("::").map(|word| word.trim().to_string()).filter(|word| !word.is_empty()).collect()
}

/// What a use declaration names: `a::{b, c::{self, D as E}}` is `a::b`, `a::c`, `a::c::D`.
fn tree(text: &str, before: &[String], found: &mut Vec<Module>) {
    let text = text.trim();
    let Some(open) = text.find('{') else {
        let path = text.split(" as ").next().unwrap_or(text);
        let mut path = [before, &words(path)].concat();
        if path.len() > 1 && path.last().is_some_and(|word| word == "self" || word == "*") {
            path.pop();
        }
        found.push(path);
        return;
    };
    let before = [before, &words(&text[..open])].concat();
    let inside = &text[open + 1..text.rfind('}').unwrap_or(text.len())];
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                tree(&inside[from..at], &before, found);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !inside[from..].trim().is_empty() {
        tree(&inside[from..], &before, found);
    }
}
