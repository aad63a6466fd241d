//! Putting a file in place: whoever opens it, also after a crash or on a full disk, finds the old content or the new, whole.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Permissions of a file that everybody may read.
pub fn readable() -> Permissions {
    Permissions::from_mode(0o644)
}

/// Writes a new file beside `path` and renames it to `path`. On an error, `path` is what it was, and nothing lies beside it.
pub fn replace(path: &Path, content: &[u8], permissions: Permissions) -> io::Result<()> {
    let fresh = beside(path)?;
    let written = write(&fresh, content, permissions).and_then(|()| fs::rename(&fresh, path));
    if written.is_err() {
        let _ = fs::remove_file(&fresh);
        return written;
    }
    // So that the name, too, survives a crash. Some filesystems can't sync a folder: there the rename has to do.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

/// A hidden name in the same folder, so that it is on the same filesystem and no pattern such as `*.prom` finds it.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut fresh = OsString::from(".");
    fresh.push(name);
    fresh.push(format!(".tideover-{}", std::process::id()));
    Ok(path.with_file_name(fresh))
}

fn write(fresh: &Path, content: &[u8], permissions: Permissions) -> io::Result<()> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(fresh);
    let mut file = match open() {
        // Left by a process of this number that was killed. create_new again: what is there may be somebody's link.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(fresh)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(content)?;
    file.set_permissions(permissions)?;
    // Filesystems that allocate late, and NFS, tell only now that there is no space.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_reader_that_has_the_old_file_open_keeps_it_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.prom");
        replace(&path, b"old", readable()).unwrap();
        let before = path.metadata().unwrap();
        fs::write(beside(&path).unwrap(), "left by a killed process").unwrap();
        replace(&path, b"new content", Permissions::from_mode(0o640)).unwrap();
        let after = path.metadata().unwrap();
        assert_ne!(before.ino(), after.ino(), "another file was renamed into place");
        assert_eq!((before.mode() & 0o777, after.mode() & 0o777), (0o644, 0o640));
        assert_eq!(fs::read(&path).unwrap(), b"new content");
        assert_eq!(names(folder.path()), ["x.prom"]);
    }

    #[test]
    fn a_file_that_cannot_be_put_in_place_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir_all(path.join("by a folder")).unwrap();
        assert!(replace(&path, b"x", readable()).is_err());
        assert_eq!(names(folder.path()), ["taken"]);
        assert!(replace(Path::new("/"), b"x", readable()).is_err());
    }
}
