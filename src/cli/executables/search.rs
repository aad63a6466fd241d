//! Finds a program in PATH, as execvp(3) does.
#![forbid(unsafe_code)]

use crate::show::failure::{Failure, cause};
use rustix::fs::{Access, AtFlags, CWD, accessat};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Path of the file to execute: the name itself if it has a slash, else the first executable of that name in PATH.
pub fn find(name: &OsStr, path: Option<OsString>) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    if name.is_empty() {
        return Err(Failure::not_found("the command is empty; name a program to run"));
    }
    if name.as_bytes().contains(&b'/') {
        let file = Path::new(name);
        return match file.metadata() {
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(Failure::refused(format!("cannot run {shown}: a directory on the way to it may not be searched")))
            }
            Err(e) => Err(Failure::not_found(format!("cannot find {shown}: {}", cause(&e)))),
            Ok(_) => runnable(file).map(|()| file.to_path_buf()).map_err(|why| refusal(file, why)),
        };
    }
    let path = path.unwrap_or_else(|| "/bin:/usr/bin".into());
    let mut denied = None;
    for directory in std::env::split_paths(&path) {
        // An empty entry means the current directory.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        let file = directory.join(name);
        match runnable(&file) {
            Ok(()) => return Ok(file),
            // execvp(3) goes on, and fails with EACCES instead of ENOENT in the end.
            Err(why) if file.symlink_metadata().is_ok_and(|m| !m.is_dir()) => denied = denied.or(Some((file, why))),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some((file, why)) => refusal(&file, why),
        None => Failure::not_found(format!("cannot find {shown} in PATH; give its path, or install it")),
    })
}

fn refusal(file: &Path, why: &str) -> Failure {
    Failure::refused(format!("cannot run {}: {why}", file.display()))
}

fn runnable(file: &Path) -> Result<(), &'static str> {
    match file.metadata() {
        Ok(m) if m.is_dir() => Err("it is a directory; name a program"),
        Ok(m) if !m.is_file() => Err("it is not a regular file; name a program"),
        // AT_EACCESS: execve(2) checks the effective ids, too.
        Ok(_) if accessat(CWD, file, Access::EXEC_OK, AtFlags::EACCESS).is_err() => {
            Err("it may not be executed; chmod +x it, or look at the noexec option of its filesystem")
        }
        Ok(_) => Ok(()),
        Err(_) => Err("it is not there"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::failure::Status;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn path_is_searched_as_execvp_does() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        for (at, mode) in [(&one, 0o644), (&two, 0o755)] {
            std::fs::create_dir(at).unwrap();
            std::fs::write(at.join("tool"), "").unwrap();
            std::fs::set_permissions(at.join("tool"), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(two.join("folder")).unwrap();
        let both = std::env::join_paths([&one, &two]).unwrap();
        assert_eq!(find("tool".as_ref(), Some(both.clone())).unwrap(), two.join("tool"));
        assert_eq!(find("tool".as_ref(), Some(one.clone().into())).unwrap_err().status, Status::Refused);
        assert_eq!(find("folder".as_ref(), Some(both.clone())).unwrap_err().status, Status::NotFound);
        assert_eq!(find("missing".as_ref(), Some(both)).unwrap_err().status, Status::NotFound);
        assert_eq!(find("sh".as_ref(), None).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn a_path_is_taken_as_it_is() {
        assert_eq!(find("./missing".as_ref(), None).unwrap_err().status, Status::NotFound);
        assert_eq!(find("/bin/sh/x".as_ref(), None).unwrap_err().status, Status::NotFound);
        assert_eq!(find("/tmp".as_ref(), None).unwrap_err().status, Status::Refused);
        assert_eq!(find("/etc/passwd".as_ref(), None).unwrap_err().status, Status::Refused);
        assert_eq!(find("".as_ref(), None).unwrap_err().status, Status::NotFound);
    }
}
