//! Checks that nobody but root can change a file that every program, those of root included, is about to load.
#![forbid(unsafe_code)]

use crate::show::failure::cause;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many symbolic links are followed as the kernel follows.
const MAX_LINKS: usize = 40;

/// Follows a path as a process sees it whose root directory is `root`, so that links don't lead out of it. Every folder on the
/// way and the file itself must belong to root and be writable by nobody else. Returns the real path; the error is the reason
/// with the remedy.
pub fn follow(root: &Path, path: &Path) -> Result<PathBuf, String> {
    let mut left: VecDeque<OsString> = components(path);
    let mut at = root.to_path_buf();
    let mut depth = 0;
    let mut links = 0;
    own(&at)?;
    while let Some(name) = left.pop_front() {
        if name == ".." {
            if depth > 0 {
                at.pop();
                depth -= 1;
            }
            continue;
        }
        let next = at.join(&name);
        let metadata = next.symlink_metadata().map_err(|error| format!("{}: {}", next.display(), cause(&error)))?;
        if metadata.is_symlink() {
            links += 1;
            if links > MAX_LINKS {
                return Err(format!("{} is one of too many symbolic links", next.display()));
            }
            let target = next.read_link().map_err(|error| format!("{}: {}", next.display(), cause(&error)))?;
            if target.is_absolute() {
                at = root.to_path_buf();
                depth = 0;
            }
            for component in components(&target).into_iter().rev() {
                left.push_front(component);
            }
            continue;
        }
        at = next;
        depth += 1;
        own(&at)?;
    }
    Ok(at)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|component| matches!(component, Component::Normal(_) | Component::ParentDir))
        .map(|component| component.as_os_str().to_os_string())
        .collect()
}

fn own(path: &Path) -> Result<(), String> {
    let metadata = path.metadata().map_err(|error| format!("{}: {}", path.display(), cause(&error)))?;
    match problem(&metadata) {
        // No command is named for a folder: it may be /tmp, which must be writable.
        Some((what, _)) if metadata.is_dir() => Err(format!("{} {what}", path.display())),
        Some((what, remedy)) => Err(format!("{} {what}; {remedy} {}", path.display(), path.display())),
        None => Ok(()),
    }
}

/// What is wrong with owner or mode, and the command that mends it, to which the path is to be added; None if nothing is.
pub fn problem(metadata: &Metadata) -> Option<(String, &'static str)> {
    let (mode, needed) = (metadata.mode(), if metadata.is_dir() { 0o001 } else { 0o004 });
    if metadata.uid() != 0 {
        Some((format!("belongs to user {}, who could put anything there", metadata.uid()), "chown root"))
    } else if mode & 0o002 != 0 {
        Some(("may be changed by everybody".to_string(), "chmod o-w"))
    } else if mode & 0o020 != 0 && metadata.gid() != 0 {
        Some((format!("may be changed by group {}", metadata.gid()), "chmod g-w"))
    } else if mode & needed == 0 {
        Some(("is closed to programs of other users".to_string(), "chmod o+r"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use tideover_tests::needs;

    /// A folder like a root filesystem, which has to belong to root.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let mode = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(root.path(), 0o755);
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        std::fs::write(root.path().join("usr/lib/x.so"), "").unwrap();
        for (path, bits) in [("usr", 0o755), ("usr/lib", 0o755), ("usr/lib/x.so", 0o644)] {
            mode(&root.path().join(path), bits);
        }
        symlink("usr/lib", root.path().join("lib")).unwrap();
        symlink("/usr/lib/x.so", root.path().join("usr/lib/y.so")).unwrap();
        symlink("z.so", root.path().join("usr/lib/z.so")).unwrap();
        root
    }

    #[needs(root)]
    #[test]
    fn links_stay_inside() {
        let root = root();
        let real = root.path().join("usr/lib/x.so");
        for path in ["/usr/lib/x.so", "/lib/x.so", "/lib/y.so", "/../lib/../lib/./y.so"] {
            assert_eq!(follow(root.path(), Path::new(path)).unwrap(), real, "{path}");
        }
        assert!(follow(root.path(), Path::new("/lib/z.so")).unwrap_err().contains("too many"));
        assert!(follow(root.path(), Path::new("/lib/w.so")).unwrap_err().contains("no such file"));
    }

    #[needs(root)]
    #[test]
    fn what_others_could_change_is_refused() {
        let root = root();
        let refusal = || follow(root.path(), Path::new("/lib/x.so")).unwrap_err();
        let mode = |path: &str, mode| {
            std::fs::set_permissions(root.path().join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, bad, good, remedy) in [
            ("usr/lib/x.so", 0o666, 0o644, "chmod o-w"),
            ("usr/lib/x.so", 0o640, 0o644, "chmod o+r"),
            ("usr/lib", 0o777, 0o755, "usr/lib may be changed by everybody"),
            ("usr", 0o700, 0o755, "usr is closed"),
        ] {
            mode(path, bad);
            assert!(refusal().contains(remedy), "{path}: {}", refusal());
            mode(path, good);
        }
        chown(root.path().join("usr"), Some(65534), None).unwrap();
        assert!(refusal().contains("belongs to user 65534"), "{}", refusal());
        chown(root.path().join("usr"), Some(0), Some(50)).unwrap();
        mode("usr", 0o775);
        assert!(refusal().contains("group 50"), "{}", refusal());
    }
}
