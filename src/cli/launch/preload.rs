//! The value of LD_PRELOAD.
#![forbid(unsafe_code)]

use crate::launch::library::NAME;
use crate::launch::sanitizer;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Why LD_PRELOAD can't hold this path, with the remedy; None if it can. The loader knows no quoting.
pub fn inexpressible(path: &Path) -> Option<String> {
    let bytes = path.as_os_str().as_bytes();
    let what = match bytes.iter().find(|b| b" :$\n".contains(b))? {
        b' ' => "a space",
        b':' => "a colon",
        b'$' => "a $, which the loader expands",
        _ => "a newline",
    };
    Some(format!(
        "its path has {what}, which LD_PRELOAD cannot express; set TIDEOVER_LIB to a copy or a symbolic link with a plain path"
    ))
}

/// Puts the library first into a list, so that its hooks are found first, and leaves the rest as it was; a runtime of AddressSanitizer
/// stays before it. Other copies of the library are taken out: two would hook everything twice.
pub fn with(library: &Path, inherited: Option<&OsStr>) -> OsString {
    let others = others(library, inherited);
    let (before, after): (Vec<_>, Vec<_>) = others.into_iter().partition(|entry| sanitizer::is_runtime(entry));
    let all: Vec<&[u8]> = before.into_iter().chain([library.as_os_str().as_bytes()]).chain(after).collect();
    OsString::from_vec(all.join(&b':'))
}

/// Takes the library out of a list; None if nothing is left.
pub fn without(library: &Path, inherited: Option<&OsStr>) -> Option<OsString> {
    let others = others(library, inherited);
    (!others.is_empty()).then(|| OsString::from_vec(others.join(&b':')))
}

fn others<'a>(library: &Path, inherited: Option<&'a OsStr>) -> Vec<&'a [u8]> {
    let real = library.canonicalize().ok();
    let ours = |entry: &[u8]| {
        let entry = Path::new(OsStr::from_bytes(entry));
        entry == library
            || entry.file_name() == Some(OsStr::new(NAME))
            || (real.is_some() && entry.canonicalize().ok() == real)
    };
    let entries = inherited.map(OsStr::as_bytes).unwrap_or_default().split(|b| b" :".contains(b));
    entries.filter(|entry| !entry.is_empty() && !ours(entry)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_comes_first_and_once() {
        let ours = Path::new("/usr/lib/libtideover.so");
        let with = |inherited: &str| with(ours, Some(inherited.as_ref())).into_string().unwrap();
        assert_eq!(with(""), "/usr/lib/libtideover.so");
        assert_eq!(with("libjemalloc.so.2"), "/usr/lib/libtideover.so:libjemalloc.so.2");
        assert_eq!(with("/a.so /b.so::"), "/usr/lib/libtideover.so:/a.so:/b.so");
        assert_eq!(with("/opt/libtideover.so:/a.so:/usr/lib/libtideover.so"), "/usr/lib/libtideover.so:/a.so");
        assert_eq!(with("/a.so:/usr/lib/libasan.so.8"), "/usr/lib/libasan.so.8:/usr/lib/libtideover.so:/a.so");
        assert_eq!(without(ours, Some("/usr/lib/libtideover.so".as_ref())), None);
    }

    #[test]
    fn paths_that_the_loader_would_split_are_refused() {
        assert!(inexpressible(Path::new("/my libs/libtideover.so")).unwrap().contains("space"));
        assert!(inexpressible(Path::new("/a:b/libtideover.so")).unwrap().contains("colon"));
        assert!(inexpressible(Path::new("/$LIB/libtideover.so")).is_some());
        assert_eq!(inexpressible(Path::new("/usr/lib/libtideover.so")), None);
    }
}
