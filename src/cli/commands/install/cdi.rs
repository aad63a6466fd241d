//! `install --cdi`: /etc/cdi/tideover.json, by which containers can ask for the library as they ask for a device
//! (<https://github.com/cncf-tags/container-device-interface>). The container runtime mounts it read-only, and sets LD_PRELOAD.
#![forbid(unsafe_code)]

use super::ownership::{follow, problem};
use crate::show::failure::{Failure, cause};
use crate::show::output::print;
use crate::system::replace::{readable, replace};
use serde_json::{Value, json};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Vendor and class of the device; its name is `on`.
const KIND: &str = "tideover.io/preload";
/// Version of the CDI specification that has all that is used here, and that the oldest runtimes with CDI know.
const VERSION: &str = "0.3.0";
/// Where containers find the library: nothing of an image lies there.
const INSIDE: &str = "/usr/lib/tideover/libtideover.so";

/// Writes the file, for the library at this path of the system in `root`; with `dry_run` only shows it.
pub fn install(root: &Path, library: &Path, dry_run: bool) -> Result<(), Failure> {
    let text = format!("{:#}\n", specification(library));
    let path = path(root)?;
    if dry_run {
        return print(&format!("{text}{} was left as it is.\n", path.display()));
    }
    if present(&path)?.as_deref() == Some(text.as_bytes()) {
        return print(&format!("{} says so already.\n", path.display()));
    }
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder)
        .and_then(|()| follow(root, Path::new("/etc/cdi")).map_err(std::io::Error::other))
        .and_then(|_| replace(&path, text.as_bytes(), readable()))
        .map_err(|error| failure(&path, &error))?;
    print(&format!(
        "Containers that are started with --device {KIND}=on load {}: {} says so.\nUndo: tideover uninstall --cdi\n",
        library.display(),
        path.display()
    ))
}

/// Removes the file. Containers that run keep the library.
pub fn uninstall(root: &Path) -> Result<(), Failure> {
    let path = path(root)?;
    if present(&path)?.is_none() {
        return print(&format!("{} is not there: nothing to do.\n", path.display()));
    }
    fs::remove_file(&path).map_err(|error| failure(&path, &error))?;
    print(&format!("{} is removed; containers that run keep the library until they end.\n", path.display()))
}

fn specification(library: &Path) -> Value {
    json!({
        "cdiVersion": VERSION,
        "kind": KIND,
        "devices": [{
            "name": "on",
            "containerEdits": {
                "env": [format!("LD_PRELOAD={INSIDE}")],
                "mounts": [{
                    "hostPath": library.to_string_lossy(),
                    "containerPath": INSIDE,
                    "options": ["ro", "nosuid", "nodev", "bind"],
                }],
            },
        }],
    })
}

fn path(root: &Path) -> Result<PathBuf, Failure> {
    let refuse = |why: String| Failure::refused(format!("cannot change {}/cdi: {why}", root.join("etc").display()));
    let etc = follow(root, Path::new("/etc")).map_err(refuse)?;
    if etc.join("cdi").symlink_metadata().is_ok() {
        follow(root, Path::new("/etc/cdi")).map_err(refuse)?;
    }
    Ok(etc.join("cdi/tideover.json"))
}

/// The content of the file; None if there is none. Whose it is not by its kind, or which others could change, is left alone.
fn present(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let refuse = |why: &str| Failure::refused(format!("cannot change {}: {why}", path.display()));
    match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(&cause(&error))),
        Ok(metadata) if !metadata.is_file() => return Err(refuse("it is not a regular file")),
        Ok(metadata) => {
            if let Some((what, remedy)) = problem(&metadata) {
                return Err(refuse(&format!("it {what}; {remedy} {}", path.display())));
            }
        }
    }
    let text = fs::read(path).map_err(|error| refuse(&cause(&error)))?;
    let kind = serde_json::from_slice::<Value>(&text).ok().and_then(|value| Some(value.get("kind")?.as_str()? == KIND));
    if kind != Some(true) {
        return Err(refuse(&format!("it is not of the kind {KIND}; move it away first")));
    }
    Ok(Some(text))
}

fn failure(path: &Path, error: &std::io::Error) -> Failure {
    let remedy = if error.kind() == ErrorKind::PermissionDenied { "; run it as root" } else { "" };
    Failure::failed(format!("cannot change {}: {}{remedy}", path.display(), cause(error)))
}
