//! The layers of src/shim: each uses what is below it, and an architecture is named in one place.

mod graph;
mod names;

use std::collections::BTreeSet;

use graph::{Edge, Graph};
use tideover_tests::source::{below, code, text, without_unit_tests};

/// From the lowest to the highest. `lib.rs` is above all.
const LAYERS: [&str; 7] = ["arch", "os", "state", "engine", "features", "hooks", "lifecycle"];

/// The library's source files with their code, without what is only compiled for unit tests.
fn shim() -> Vec<(String, String)> {
    let files = below("src/shim/", ".rs").into_iter();
    let files = files.filter(|path| !path.ends_with("_test.rs") && !path.ends_with("build.rs"));
    let files: Vec<_> = files.map(|path| (path.clone(), without_unit_tests(&code(&text(&path))))).collect();
    assert!(files.len() > LAYERS.len(), "{files:?}");
    files
}

/// The number of the layer that a file is in.
fn layer(path: &str) -> usize {
    let folder = path.trim_start_matches("src/shim/").split('/').next().unwrap_or("");
    LAYERS.iter().position(|layer| *layer == folder).unwrap_or(LAYERS.len())
}

/// A folder below a layer, with all that is in it; a file beside such folders is alone.
fn family(path: &str) -> &str {
    let below = path.trim_start_matches("src/shim/").match_indices('/').nth(1);
    below.map_or(path, |(at, _)| &path["src/shim/".len()..][..at])
}

#[test]
fn every_file_is_in_a_layer() {
    let strays: Vec<String> =
        shim().into_iter().map(|(path, _)| path).filter(|path| layer(path) == LAYERS.len()).collect();
    assert_eq!(strays, ["src/shim/lib.rs"], "the layers are {LAYERS:?}");
}

#[test]
fn no_file_uses_one_of_a_higher_layer() {
    let files = shim();
    let graph = Graph::of(&files);
    assert!(graph.edges.len() > 100, "paths are found: {}", graph.edges.len());
    let upward = |edge: &&Edge| layer(&edge.from) < layer(&edge.to);
    let wrong: Vec<String> = graph.edges.iter().filter(upward).map(Edge::to_string).collect();
    assert!(wrong.is_empty(), "{} upward uses:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn files_of_different_families_do_not_use_each_other_in_a_circle() {
    let files = shim();
    let graph = Graph::of(&files);
    let reached = graph.reached();
    let circular = |edge: &&Edge| {
        let back = reached.contains(&(edge.to.as_str(), edge.from.as_str()));
        back && family(&edge.from) != family(&edge.to)
    };
    let wrong: BTreeSet<String> = graph.edges.iter().filter(circular).map(Edge::to_string).collect();
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{} uses on circles:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_graph_knows_every_way_to_name_another_file() {
    let files = [
        ("src/shim/lib.rs", "mod os; mod engine;"),
        ("src/shim/os/mod.rs", "pub mod sys; pub use sys::read;"),
        ("src/shim/os/sys.rs", "pub fn read() {} pub fn write() { crate::engine::wait::sleep() }"),
        ("src/shim/engine/mod.rs", "pub mod wait; pub mod call;"),
        ("src/shim/engine/wait.rs", "use crate::os::{sys::{self, read}, Never}; use super::call::Call as Other;"),
        ("src/shim/engine/call.rs", "mod inner { use super::super::wait; } struct Call;"),
    ];
    let files: Vec<(String, String)> = files.map(|(path, code)| (path.to_string(), code.to_string())).into();
    let edges: Vec<(String, String)> = Graph::of(&files).edges.into_iter().map(|edge| (edge.from, edge.to)).collect();
    let is = |from: &str, to: &str| {
        let [from, to] = [from, to].map(|name| format!("src/shim/{name}.rs"));
        edges.contains(&(from, to))
    };
    assert!(is("os/mod", "os/sys") && is("os/sys", "engine/wait") && is("engine/wait", "os/sys"), "{edges:?}");
    assert!(is("engine/wait", "os/mod") && is("engine/wait", "engine/call"), "{edges:?}");
    assert!(is("engine/call", "engine/wait") && !is("engine/call", "engine/mod"), "{edges:?}");
}
