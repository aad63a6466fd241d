//! A disk of 64 KiB for one process: a tmpfs in a mount namespace of its own, which no other process sees, and which ends with
//! the process.
#![forbid(unsafe_code)]

use rustix::process::geteuid;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};

/// Mounts the tmpfs over a folder that systems have for mounts, and changes into it.
const MOUNT: &str = "for on in /mnt /media /srv; do [ ! -d $on ] || break; done; \
    mount -t tmpfs -o size=64k tideover $on && cd $on";

/// unshare(1) with a new mount namespace, and a user namespace unless this is root, which needs none.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(if geteuid().is_root() { &["-m"][..] } else { &["-r", "-m"] });
    command.env_remove("LD_PRELOAD");
    command
}

/// May this user make such a disk on this machine?
pub fn is_possible() -> bool {
    let mut command = unshare();
    command.args(["sh", "-c", MOUNT]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A command that starts a program on such a disk, with this LD_PRELOAD for the program alone.
pub fn inside(program: &Path, preload: Option<&Path>) -> Command {
    let mut command = unshare();
    command.args(["sh", "-c", &format!("{MOUNT} && exec env \"$@\""), "sh"]);
    if let Some(list) = preload {
        let mut variable = OsString::from("LD_PRELOAD=");
        variable.push(list);
        command.arg(variable);
    }
    command.arg(program).env("TIDEOVER_FALLBACK", "stderr");
    command
}
