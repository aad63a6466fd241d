//! The repository's own files, for tests that look at its source.

use std::fs;
use std::io::ErrorKind::NotFound;
use std::path::{Path, PathBuf};

use crate::workspace;

/// All files of the repository, by their path from its top: not what git or cargo keep, nor caches.
///
/// # Panics
/// If the repository is not there.
pub fn files() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let kind = entry.file_type().expect("it was listed just now");
            if kind.is_dir() && ![".git", "target", "__pycache__", "node_modules"].contains(&name.as_str()) {
                walk(&path, found);
            } else if kind.is_file() {
                let path = path.strip_prefix(workspace()).expect("below the top");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    let mut found = vec![];
    walk(workspace(), &mut found);
    found.sort();
    // A test that looks at each of them must not pass because there are none.
    assert!(found.iter().any(|path| path == "Cargo.toml"), "{} is no repository of ours", workspace().display());
    found
}

/// The text of a file that is there.
///
/// # Panics
/// If it can't be read, or is not UTF-8.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The text of one of the [`files`]; bytes that are not UTF-8 are replaced.
///
/// # Panics
/// If it can't be read. One that is gone has no text.
pub fn text(path: &str) -> String {
    // Another test's temporary file may be gone by now.
    let bytes = fs::read(workspace().join(path)).or_else(|e| if e.kind() == NotFound { Ok(vec![]) } else { Err(e) });
    let bytes = bytes.unwrap_or_else(|e| panic!("{path}: {e}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Rust source with blanks in the place of comments and of what is in string and character literals: as many bytes, in as many
/// lines.
pub fn code(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (inside, end) = token(bytes, at);
        for byte in &mut code[inside.clone()] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(code).expect("blanks in the place of whole literals and comments")
}

/// What is to be blanked of the token at this place, and where the token ends.
fn token(bytes: &[u8], at: usize) -> (std::ops::Range<usize>, usize) {
    let rest = &bytes[at..];
    let to = |end: Option<usize>| end.map_or(bytes.len(), |end| at + end);
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    if rest.starts_with(b"//") {
        let end = to(find(rest, b"\n"));
        return (at..end, end);
    }
    if rest.starts_with(b"/*") {
        let end = to(comment_end(rest));
        return (at..end, end);
    }
    let hashes = rest.iter().skip(1).take_while(|&&byte| byte == b'#').count();
    let raw = rest[0] == b'r' && rest.get(1 + hashes) == Some(&b'"');
    if raw && (!after_word || [b'b', b'c'].contains(&bytes[at - 1])) {
        let close = [&b"\""[..], &vec![b'#'; hashes]].concat();
        let first = 2 + hashes;
        let end = to(find(&rest[first..], &close).map(|found| first + found));
        return (at + first..end, (end + close.len()).min(bytes.len()));
    }
    if rest[0] == b'"' {
        let end = to(string_end(rest, b'"'));
        return (at + 1..end, (end + 1).min(bytes.len()));
    }
    // A lifetime has no quote after its first letter.
    if rest[0] == b'\'' && (rest.get(1) == Some(&b'\\') || is_char(rest)) {
        let end = to(string_end(rest, b'\''));
        return (at + 1..end, (end + 1).min(bytes.len()));
    }
    (at..at, at + 1)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Where a comment ends that may hold others.
fn comment_end(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    None
}

/// Where the quote is that closes the literal which begins with one.
fn string_end(bytes: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at),
            _ => at += 1,
        }
    }
    None
}

fn is_char(bytes: &[u8]) -> bool {
    let length = match bytes.get(1) {
        Some(0..0x80) => 1,
        Some(0x80..0xe0) => 2,
        Some(0xe0..0xf0) => 3,
        Some(_) => 4,
        None => return false,
    };
    bytes.get(1 + length) == Some(&b'\'')
}

/// The place of the brace that closes the one at this place, in [`code`].
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// The functions with a body in [`code`]: name, number of the first line, number of lines.
pub fn functions(code: &str) -> Vec<(&str, usize, usize)> {
    let mut found = vec![];
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        let name = code[at + 3..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        // `fn(` is a type; a declaration ends before a body begins.
        let Some(body) = code[at..].find(['{', ';']).map(|body| at + body) else { continue };
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') || name.is_empty() || code.as_bytes()[body] != b'{' {
            continue;
        }
        let lines = code[at..closing(code, body)].matches('\n').count() + 1;
        found.push((name, code[..at].matches('\n').count() + 1, lines));
    }
    found
}

/// [`code`] with blanks in the place of modules that are only compiled for unit tests.
pub fn without_unit_tests(code: &str) -> String {
    let mut kept = code.as_bytes().to_vec();
    for (at, mark) in code.match_indices("#[cfg(test)]") {
        let item = &code[at + mark.len()..];
        if !item.trim_start().starts_with("mod ") {
            continue;
        }
        let Some(open) = item.find(['{', ';']) else { continue };
        let start = at + mark.len();
        let end = if item.as_bytes()[open] == b'{' { closing(code, start + open) } else { start + open };
        for byte in &mut kept[at..end.min(code.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    }
    String::from_utf8(kept).expect("blanks in the place of whole items")
}

/// The files of a folder whose names end so.
pub fn below(folder: &str, ending: &str) -> Vec<String> {
    files().into_iter().filter(|path| path.starts_with(folder) && path.ends_with(ending)).collect()
}

/// Where a file of the repository is.
pub fn path(file: &str) -> PathBuf {
    workspace().join(file)
}
