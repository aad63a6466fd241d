//! Filesystems that are really full.
//!
//! Each is mounted in a mount namespace of the test's own thread (and of the programs that it starts from then on): nobody else
//! sees it, and it is gone with them, even if the test is killed. A test that has one says `#[needs(mounts)]`, or `#[needs(images)]`
//! for any but a tmpfs, which takes loop devices.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{cell::Cell, thread, time::Duration};

use crate::needs::assert_declared;
use crate::rights::own_mount_namespace;
use crate::{Scratch, program};

/// What kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// tmpfs, 256 KiB. A file can still be created when it is full.
    Tmpfs,
    /// ext4, 16 MiB, blocks of 1 KiB, nothing reserved. A file can still be created when it is full.
    Ext4,
    /// xfs, 300 MiB, the least that it wants, without preallocation. No file can be created when it is full.
    Xfs,
    /// btrfs, 112 MiB. No file can be created when it is full.
    Btrfs,
    /// A subvolume of a btrfs with a limit of 4 MiB: EDQUOT instead of ENOSPC, and statvfs shows free space.
    Quota,
}

/// A mounted filesystem, unmounted when dropped.
#[derive(Debug)]
pub struct Disk {
    kind: Kind,
    mounted: PathBuf,
    path: PathBuf,
    /// What fill took.
    filler: PathBuf,
    scratch: Scratch,
}

thread_local! {
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// Moves the thread into a mount namespace of its own.
///
/// # Panics
/// If it may not, or the test has not declared by `#[needs(mounts)]`, or by a right that includes it, that it wants to.
#[track_caller]
pub fn own_mounts() {
    assert_declared(&["mounts", "images", "containers"]);
    if ALONE.get() {
        return;
    }
    own_mount_namespace().unwrap_or_else(|lacking| panic!("{lacking}"));
    ALONE.set(true);
}

fn run(name: &str, package: &str, args: &[&str]) {
    let output = Command::new(program(name, package)).args(args).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Disk {
    /// Makes and mounts one.
    ///
    /// # Panics
    /// If it can't be, or the test has not declared that it needs to.
    #[track_caller]
    pub fn new(kind: Kind) -> Disk {
        if kind != Kind::Tmpfs {
            assert_declared(&["images"]);
        }
        own_mounts();
        let scratch = Scratch::new();
        let mounted = scratch.join("disk");
        fs::create_dir(&mounted).expect("a mount point can be made");
        let target = mounted.to_str().expect("UTF-8");
        let image = scratch.join("image");
        let image = image.to_str().expect("UTF-8");
        let sized = |size: u64| {
            File::create(image).and_then(|file| file.set_len(size)).expect("an image can be made");
        };
        match kind {
            Kind::Tmpfs => run("mount", "mount", &["-t", "tmpfs", "-o", "size=256k,mode=755", "tmpfs", target]),
            Kind::Ext4 => {
                sized(16 << 20);
                run("mkfs.ext4", "e2fsprogs", &["-q", "-F", "-m", "0", image]);
                run("mount", "mount", &["-o", "loop", image, target]);
            }
            Kind::Xfs => {
                sized(300 << 20);
                run("mkfs.xfs", "xfsprogs", &["-q", image]);
                run("mount", "mount", &["-o", "loop,allocsize=4096", image, target]);
            }
            Kind::Btrfs | Kind::Quota => {
                sized(112 << 20);
                run("mkfs.btrfs", "btrfs-progs", &["-q", "-m", "single", "-d", "single", image]);
                run("mount", "mount", &["-o", "loop", image, target]);
            }
        }
        let mut path = mounted.clone();
        if kind == Kind::Quota {
            path.push("limited");
            let limited = path.to_str().expect("UTF-8");
            run("btrfs", "btrfs-progs", &["quota", "enable", target]);
            run("btrfs", "btrfs-progs", &["subvolume", "create", limited]);
            run("btrfs", "btrfs-progs", &["qgroup", "limit", "4M", limited]);
        }
        Disk { kind, filler: path.join("filler"), mounted, path, scratch }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its top folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path on it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// An empty app.log on it.
    ///
    /// # Panics
    /// If there is no space for that.
    pub fn log(&self) -> PathBuf {
        let log = self.join("app.log");
        fs::write(&log, "").expect("there is space");
        log
    }

    /// Writes to files until not a byte more can be written, nor a file be created where that needs space.
    ///
    /// # Panics
    /// If it fails otherwise than for want of space.
    pub fn fill(&self) {
        // Space that the filesystem keeps back for what is not yet on the disk turns up after a sync, on btrfs and with quotas.
        for _ in 0..5 {
            let mut taken = 0;
            taken += self.take(&self.filler);
            self.sync();
            taken += self.take(&self.filler);
            if taken == 0 {
                return;
            }
        }
    }

    /// Appends to a file what can be; how many bytes that was.
    fn take(&self, path: &Path) -> u64 {
        let mut file = match OpenOptions::new().append(true).create(true).open(path) {
            Ok(file) => file,
            Err(error) if is_full(&error) => return 0,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        let before = file.metadata().expect("it is open").size();
        let mut end = before;
        for chunk in [16 << 20, 1 << 20, 64 << 10, 4 << 10] {
            // SAFETY: fallocate(2) touches no memory.
            while unsafe { libc::fallocate(file.as_raw_fd(), 0, end as i64, chunk) } == 0 {
                end += chunk as u64;
            }
            let error = io::Error::last_os_error();
            assert!(is_full(&error), "fallocate: {error}");
        }
        for chunk in [4096, 512, 64, 1] {
            loop {
                match file.write(&vec![b'x'; chunk]) {
                    Ok(count) => end += count as u64,
                    Err(error) if is_full(&error) => break,
                    Err(error) => panic!("filling: {error}"),
                }
            }
        }
        end - before
    }

    /// Gives back all that fill took.
    pub fn free(&self) {
        if let Ok(file) = OpenOptions::new().write(true).open(&self.filler) {
            let _ = file.set_len(0);
        }
        if let Err(error) = fs::remove_file(&self.filler) {
            assert!(error.kind() == io::ErrorKind::NotFound, "what filled the disk can't be removed: {error}");
        }
        // btrfs gives deleted extents back when it commits, xfs when it gets to it.
        self.sync();
    }

    /// Gives back this many bytes of what fill took.
    pub fn free_some(&self, bytes: u64) {
        // On a disk that was full already there may be no filler.
        let Ok(file) = OpenOptions::new().write(true).open(&self.filler) else { return };
        let size = file.metadata().expect("it is open").size();
        match file.set_len(size.saturating_sub(bytes)) {
            Err(error) if is_full(&error) => {} // over quota, btrfs does not even cut a file in part
            cut => cut.expect("it can be cut"),
        }
        self.sync();
    }

    fn sync(&self) {
        if self.kind != Kind::Tmpfs {
            let folder = File::open(&self.mounted).expect("it is mounted");
            // SAFETY: syncfs(2) touches no memory.
            unsafe { libc::syncfs(folder.as_raw_fd()) };
        }
    }

    /// Bytes that a program could write now.
    pub fn room(&self) -> u64 {
        let path = std::ffi::CString::new(self.path.as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: all zeroes is a valid statvfs.
        let mut now: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: a path that ends with NUL and a valid statvfs.
        assert_eq!(unsafe { libc::statvfs(path.as_ptr(), &mut now) }, 0, "{}", io::Error::last_os_error());
        now.f_bavail * now.f_frsize
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

impl Drop for Disk {
    fn drop(&mut self) {
        let target = std::ffi::CString::new(self.mounted.as_os_str().as_encoded_bytes()).expect("no NUL");
        for flags in [0, libc::MNT_DETACH] {
            // SAFETY: a path that ends with NUL.
            if unsafe { libc::umount2(target.as_ptr(), flags) } == 0 {
                return;
            }
            thread::sleep(Duration::from_millis(20)); // a program that was just killed
        }
        eprintln!("{} stays mounted: {}", self.scratch.path().display(), io::Error::last_os_error());
    }
}
