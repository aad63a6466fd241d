//! Root filesystems for chroot(1) and for containers.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::needs::assert_declared;
use crate::rights::roots;
use crate::{Scratch, program, workspace};

/// A root filesystem in a folder of its own, gone when dropped.
#[derive(Debug)]
pub struct Rootfs(Scratch);

impl Rootfs {
    /// A few of this machine's programs and the libraries that they need: what a chroot takes, made in a moment.
    pub fn small(programs: &[&str]) -> Rootfs {
        let root = Rootfs::empty();
        for name in programs {
            let from = program(name, name);
            root.put(&from, &format!("usr/bin/{name}"), 0o755);
            root.put_libraries_of(&from);
        }
        root
    }

    /// Busybox, static, and nothing else: no loader, no C library.
    pub fn busybox() -> Rootfs {
        let root = Rootfs::empty();
        root.put(&program("busybox", "busybox-static"), "usr/bin/busybox", 0o755);
        for applet in ["sh", "cat", "dd", "echo", "env", "grep", "ls", "sed", "sleep", "tr", "true"] {
            symlink("busybox", root.path().join("usr/bin").join(applet)).expect("an applet can be linked");
        }
        root
    }

    fn empty() -> Rootfs {
        let root = Rootfs(Scratch::new());
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("a folder of ours");
        for folder in ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "tmp", "proc", "dev", "root"] {
            fs::create_dir_all(root.path().join(folder)).expect("a folder of ours");
        }
        for folder in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{folder}"), root.path().join(folder)).expect("a folder of ours");
        }
        fs::write(root.path().join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("a folder of ours");
        root
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Copies a file into it.
    pub fn put(&self, from: &Path, to: &str, mode: u32) -> PathBuf {
        let to = self.path().join(to);
        fs::create_dir_all(to.parent().expect("a file is in a folder")).expect("a folder of ours");
        fs::copy(from, &to).unwrap_or_else(|e| panic!("{} to {}: {e}", from.display(), to.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).expect("a file of ours");
        to
    }

    /// The shared libraries that a program names, and its loader, where they are here.
    pub fn put_libraries_of(&self, program: &Path) {
        let told = Command::new("ldd").arg(program).output().expect("ldd runs");
        for word in String::from_utf8_lossy(&told.stdout).split_whitespace().filter(|word| word.starts_with('/')) {
            let path = Path::new(word);
            let folder = fs::canonicalize(path.parent().expect("a file is in a folder")).expect("its folder is there");
            let at = folder.strip_prefix("/").expect("absolute").join(path.file_name().expect("a file"));
            self.put(path, at.to_str().expect("a plain name"), 0o755);
        }
        // Debian's folder of the loader is a link from /lib64.
        let loader = self.path().join("usr/lib64/ld-linux-x86-64.so.2");
        if !loader.exists() && Path::new("/lib64/ld-linux-x86-64.so.2").exists() && !told.stdout.is_empty() {
            self.put(Path::new("/lib64/ld-linux-x86-64.so.2"), "usr/lib64/ld-linux-x86-64.so.2", 0o755);
        }
    }
}

/// In a mount namespace: debootstrap mounts /proc in there, and one that is killed leaves it behind. It loads from where this machine's
/// own packages come from, or from its own default.
const BOOTSTRAP: &str = r#"
mirror=$("$0")
rm -rf fresh &&
    timeout 300 debootstrap --variant=minbase bookworm fresh $mirror &&
    rm -rf fresh/var/cache/apt/archives/* fresh/var/lib/apt/lists/* && mv fresh bookworm
"#;

/// Debian's essential packages, made by debootstrap(8) once per machine and kept in [`roots`]: not to be changed.
///
/// # Panics
/// If it can't be made, with debootstrap's last line, or the test has not declared by `#[needs(debian)]` that it wants it.
#[track_caller]
pub fn debian() -> PathBuf {
    assert_declared(&["debian"]);
    let kept = &roots();
    let root = kept.join("bookworm");
    // Tests of other binaries may want it at the same time.
    fs::create_dir_all(kept).expect("/var/tmp takes a folder");
    let lock = File::create(kept.join("lock")).expect("a lock can be made");
    // SAFETY: flock(2) touches no memory.
    unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) };
    if root.is_dir() {
        return root;
    }
    let mut bootstrap = Command::new("unshare");
    bootstrap.args(["-m", "sh", "-c", BOOTSTRAP]).arg(workspace().join("scripts/debian-mirror"));
    bootstrap.current_dir(kept).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let told = bootstrap.output().expect("unshare runs");
    let said = [told.stdout, told.stderr].concat();
    let last = String::from_utf8_lossy(&said).lines().last().unwrap_or_default().to_string();
    assert!(told.status.success(), "debootstrap made no Debian: {last}");
    root
}
