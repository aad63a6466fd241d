//! The folders of the command are layers (main.rs): a file uses its own folder and those below, never one above.

use std::fs;
use std::path::Path;

/// From the highest to the lowest.
const LAYERS: [&str; 10] =
    ["commands", "guard", "launch", "settings", "pages", "processes", "executables", "system", "before_exec", "show"];

fn place(layer: &str) -> usize {
    LAYERS.iter().position(|known| *known == layer).unwrap_or_else(|| panic!("LAYERS lacks {layer}"))
}

fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_layer_uses_one_above_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut edges = 0;
    for layer in LAYERS {
        let mut found = Vec::new();
        files(&source.join(layer), &mut found);
        assert!(!found.is_empty(), "{layer}");
        for file in found {
            let text = fs::read_to_string(&file).unwrap();
            for used in text.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default();
                assert!(place(used) >= place(layer), "{}: {layer} uses {used}, which is above it", file.display());
                edges += 1;
            }
        }
    }
    assert!(edges > 100, "{edges}");
}

#[test]
fn unsafe_code_is_in_one_folder_and_every_other_file_forbids_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    for layer in LAYERS.into_iter().filter(|layer| *layer != "before_exec") {
        let mut found = Vec::new();
        files(&source.join(layer), &mut found);
        for file in found {
            let text = fs::read_to_string(&file).unwrap();
            assert!(text.contains("#![forbid(unsafe_code)]"), "{}", file.display());
        }
    }
}
