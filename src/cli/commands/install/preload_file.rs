//! The content of /etc/ld.so.preload, as glibc's loader reads it: paths separated by blanks, newlines and colons; `#` begins a
//! comment, wherever it stands. What does not name the library is left unchanged, byte by byte.
#![forbid(unsafe_code)]

use crate::launch::library::NAME;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const SEPARATORS: &[u8] = b" \t\n:";

/// The text with this library before all others, and without other copies of it.
pub fn with(text: &[u8], library: &Path) -> Vec<u8> {
    let path = library.as_os_str().as_bytes();
    if ours(text).map(|range| &text[range]).eq([path]) && paths(text).next().is_some_and(|range| &text[range] == path) {
        return text.to_vec();
    }
    let mut rest = without(text);
    let first = paths(&rest).next().map(|range| range.start);
    // It goes before the line of the first path, so that comments at the head of the file stay there.
    let at = first.map_or(rest.len(), |start| rest[..start].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1));
    let torn = at == rest.len() && rest.last().is_some_and(|&b| b != b'\n');
    let line = [if torn { &b"\n"[..] } else { b"" }, path, b"\n"].concat();
    rest.splice(at..at, line);
    rest
}

/// The text without any copy of the library; a line that holds nothing else is removed.
pub fn without(text: &[u8]) -> Vec<u8> {
    let mut rest = text.to_vec();
    let found: Vec<Range<usize>> = ours(text).collect();
    for range in found.into_iter().rev() {
        let start = rest[..range.start].iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        let end = rest[range.end..].iter().position(|&b| b == b'\n').map_or(rest.len(), |i| range.end + i + 1);
        let alone = [&rest[start..range.start], &rest[range.end..end]].concat().iter().all(|b| SEPARATORS.contains(b));
        let separator = usize::from(rest.get(range.end).is_some_and(|b| b" \t:".contains(b)));
        rest.drain(if alone { start..end } else { range.start..range.end + separator });
    }
    rest
}

/// Does it name the library, whatever folder that is in?
pub fn names(text: &[u8]) -> bool {
    ours(text).next().is_some()
}

/// Is the text blank: without a path and without a comment?
pub fn is_blank(text: &[u8]) -> bool {
    text.iter().all(|b| SEPARATORS.contains(b))
}

fn ours(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    paths(text).filter(|range| Path::new(OsStr::from_bytes(&text[range.clone()])).file_name() == Some(OsStr::new(NAME)))
}

fn paths(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() && (SEPARATORS.contains(&text[at]) || text[at] == b'#') {
            let comment = text[at] == b'#';
            at = if comment {
                text[at..].iter().position(|&b| b == b'\n').map_or(text.len(), |i| at + i)
            } else {
                at + 1
            };
        }
        let start = at;
        while at < text.len() && !SEPARATORS.contains(&text[at]) && text[at] != b'#' {
            at += 1;
        }
        (start < at).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> String {
        String::from_utf8(with(text.as_bytes(), Path::new("/usr/lib/libtideover.so"))).unwrap()
    }

    fn removed(text: &str) -> String {
        String::from_utf8(without(text.as_bytes())).unwrap()
    }

    #[test]
    fn ours_stands_before_the_others_which_stay_as_they_are() {
        assert_eq!(added(""), "/usr/lib/libtideover.so\n");
        assert_eq!(added("# ours\n\n"), "# ours\n\n/usr/lib/libtideover.so\n");
        assert_eq!(added("# a comment"), "# a comment\n/usr/lib/libtideover.so\n");
        assert_eq!(added("/a.so:/b.so # why\n"), "/usr/lib/libtideover.so\n/a.so:/b.so # why\n");
        assert_eq!(added("# head\n  /a.so\n# foot\n"), "# head\n/usr/lib/libtideover.so\n  /a.so\n# foot\n");
    }

    #[test]
    fn a_second_time_changes_nothing_and_another_copy_is_replaced() {
        for text in ["", "# head\n", "/a.so /b.so\n", "#x\n/a.so\n", "/a.so"] {
            let once = added(text);
            assert_eq!(added(&once), once);
        }
        assert_eq!(added("/usr/lib/libtideover.so:/a.so"), "/usr/lib/libtideover.so:/a.so");
        assert_eq!(added("/opt/libtideover.so\n/a.so\n"), "/usr/lib/libtideover.so\n/a.so\n");
        assert_eq!(added("/a.so\n/usr/lib/libtideover.so\n"), "/usr/lib/libtideover.so\n/a.so\n", "first again");
    }

    #[test]
    fn taking_it_out_leaves_what_was_there() {
        for text in
            ["", "# head\n", "/a.so /b.so\n", "#x\n/a.so\n# libtideover.so\n", "/a.so", "\n\n  /a.so\t/b.so # c"]
        {
            assert_eq!(removed(text), text);
            assert_eq!(removed(&added(text)), text);
        }
        assert_eq!(removed("/a.so /usr/lib/libtideover.so /b.so\n"), "/a.so /b.so\n");
        assert_eq!(removed("/opt/libtideover.so:/b.so"), "/b.so");
        assert_eq!(removed("/a.so:/opt/libtideover.so\n"), "/a.so:\n");
        assert_eq!(removed("/x/libtideover.so /y/libtideover.so\n"), "");
        assert_eq!(removed("/x/libtideover.so # why\n"), "# why\n");
    }

    #[test]
    fn comments_name_nothing() {
        assert!(!names(b"# /usr/lib/libtideover.so\n/a.so#/usr/lib/libtideover.so\n"));
        assert!(names(b"# x\n/usr/lib/libtideover.so"));
        assert!(!names(b"/usr/lib/libtideover.so.old"));
        assert!(is_blank(b" \n:\n") && !is_blank(b"# x\n") && is_blank(b""));
    }
}
