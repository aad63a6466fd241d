//! What a machine may not let a test do, found out by trying it.
//!
//! `#[needs(NAME)]` above a test names a row of [`RIGHTS`]. Where it is lacking the test is reported as `ignored, not run: ...`. The
//! file is part of two crates: of the macro, which tries when tests are compiled, and of the harness, which tries when they run.
//! A program that is missing is no lacking right: tests name its Debian package and fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Error};
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Mutex;
use std::{env, ptr, thread};

/// Something that not every machine lets a test do.
#[derive(Debug)]
pub struct Right {
    /// As `#[needs(NAME)]` has it.
    pub name: &'static str,
    attempt: fn() -> Result<(), String>,
}

/// All of them.
pub const RIGHTS: &[Right] = &[
    Right { name: "root", attempt: root },
    Right { name: "mounts", attempt: mounts },
    Right { name: "images", attempt: images },
    Right { name: "setuid", attempt: setuid },
    Right { name: "netns", attempt: network_namespace },
    Right { name: "handles", attempt: handles },
    Right { name: "ptrace", attempt: ptrace },
    Right { name: "uring", attempt: uring },
    Right { name: "network", attempt: network },
    Right { name: "debian", attempt: debian },
    Right { name: "older_glibc", attempt: || root_of("bullseye") },
    Right { name: "newer_glibc", attempt: || root_of("trixie") },
    Right { name: "containers", attempt: containers },
];

impl Right {
    /// Why it is lacking; None if it is there. Tried once in a process.
    pub fn lacking(&self) -> Option<String> {
        static TRIED: Mutex<Vec<(&str, Option<String>)>> = Mutex::new(Vec::new());
        let mut tried = TRIED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, known)) = tried.iter().find(|(name, _)| *name == self.name) {
            return known.clone();
        }
        let lacking = (self.attempt)().err();
        tried.push((self.name, lacking.clone()));
        lacking
    }
}

/// The names of those that are lacking now.
pub fn all_lacking() -> Vec<&'static str> {
    RIGHTS.iter().filter(|right| right.lacking().is_some()).map(|right| right.name).collect()
}

/// The file that tests with `#[needs]` are built from besides their source.
pub fn stamp(workspace: &Path) -> PathBuf {
    workspace.join("target/tests-rights")
}

/// The result of a system call that is negative when it fails.
fn done(what: &str, result: libc::c_long) -> Result<(), String> {
    if result >= 0 { Ok(()) } else { Err(format!("{what}: {}", Error::last_os_error())) }
}

/// In a thread whose namespaces and folders are nobody else's.
fn aside(attempt: fn() -> Result<(), String>) -> Result<(), String> {
    thread::spawn(attempt).join().unwrap_or_else(|_| Err("the attempt panicked".into()))
}

/// Moves the thread into a mount namespace of its own, whose mounts nobody else sees.
pub fn own_mount_namespace() -> Result<(), String> {
    // SAFETY: unshare(2) touches no memory; CLONE_NEWNS concerns the calling thread alone.
    done("a mount namespace can't be made", unsafe { libc::unshare(libc::CLONE_NEWNS) }.into())?;
    // SAFETY: the path ends with NUL, the others may be null for a change of propagation.
    let private =
        unsafe { libc::mount(ptr::null(), c"/".as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) };
    done("mounts can't be made private", private.into())
}

/// To mount a tmpfs.
fn mounts() -> Result<(), String> {
    aside(|| {
        own_mount_namespace()?;
        let (kind, at) = (c"tmpfs".as_ptr(), c"/tmp".as_ptr());
        // SAFETY: strings that end with NUL, no data. The mount is gone with the thread.
        done("a tmpfs can't be mounted", unsafe { libc::mount(kind, at, kind, 0, ptr::null()) }.into())
    })
}

/// To mount filesystems from images: loop devices, and root in the first user namespace.
fn images() -> Result<(), String> {
    mounts()?;
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.split_whitespace().nth(2) != Some("4294967295") {
        return Err("images can't be mounted in a user namespace".into());
    }
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control");
    let control = control.map_err(|e| format!("there are no loop devices: /dev/loop-control: {e}"))?;
    const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
    // SAFETY: this ioctl takes no argument.
    done("there is no free loop device", unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) }.into())
}

/// A folder of this process's alone, for an attempt.
fn folder(name: &str) -> io::Result<PathBuf> {
    let path = env::temp_dir().join(format!("tideover-rights.{}.{name}", process::id()));
    fs::create_dir_all(&path)?;
    Ok(path)
}

/// To be user 0, give files away and change the root directory.
fn root() -> Result<(), String> {
    // SAFETY: geteuid(2) always succeeds.
    if unsafe { libc::geteuid() } != 0 {
        return Err("only root may do this".into());
    }
    let place = folder("root").map_err(|e| e.to_string())?;
    let given = File::create(place.join("file")).and_then(|_| chown(place.join("file"), Some(12345), Some(12345)));
    let _ = fs::remove_dir_all(&place);
    given.map_err(|e| format!("files can't be given away: {e}"))?;
    aside(|| {
        // SAFETY: unshare(2) touches no memory; from then on the root directory is this thread's alone.
        done("unshare", unsafe { libc::unshare(libc::CLONE_FS) }.into())?;
        // SAFETY: a path that ends with NUL.
        done("the root directory can't be changed", unsafe { libc::chroot(c"/".as_ptr()) }.into())
    })
}

/// To run set-uid programs from the temporary folder.
fn setuid() -> Result<(), String> {
    root()?;
    let path = std::ffi::CString::new(env::temp_dir().as_os_str().as_encoded_bytes()).map_err(|e| e.to_string())?;
    // SAFETY: all zeroes is a valid statvfs.
    let mut mount: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with NUL and a valid statvfs.
    done("statvfs", unsafe { libc::statvfs(path.as_ptr(), &mut mount) }.into())?;
    if mount.f_flag & libc::ST_NOSUID != 0 {
        return Err(format!("{} is mounted nosuid", env::temp_dir().display()));
    }
    // SAFETY: prctl(2) with these touches no memory.
    if unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) } != 0 {
        return Err("no_new_privs is set, so set-uid bits are ignored".into());
    }
    Ok(())
}

/// To have a network of its own, and few local ports in it.
fn network_namespace() -> Result<(), String> {
    aside(|| {
        // SAFETY: unshare(2) touches no memory; CLONE_NEWNET concerns the calling thread alone.
        done("a network namespace can't be made", unsafe { libc::unshare(libc::CLONE_NEWNET) }.into())?;
        let range = OpenOptions::new().write(true).open("/proc/sys/net/ipv4/ip_local_port_range");
        range.map(drop).map_err(|e| format!("the range of local ports can't be set: {e}"))
    })
}

/// To open files by their handles, which asks for CAP_DAC_READ_SEARCH.
fn handles() -> Result<(), String> {
    let mut handle = [0_u32; 34]; // struct file_handle with the most that it may hold
    handle[0] = 128;
    let mut mount = 0;
    // SAFETY: room for a handle of 128 bytes and for a mount id, a path that ends with NUL.
    let named = unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, libc::AT_FDCWD, c"/".as_ptr(), handle.as_mut_ptr(), &mut mount, 0)
    };
    done("the root directory has no handle", named)?;
    let root = File::open("/").map_err(|e| e.to_string())?;
    // SAFETY: the handle was filled in just now.
    let opened =
        unsafe { libc::syscall(libc::SYS_open_by_handle_at, root.as_raw_fd(), handle.as_mut_ptr(), libc::O_PATH) };
    done("files can't be opened by their handles", opened)?;
    // SAFETY: it was opened just now.
    unsafe { libc::close(opened as i32) };
    Ok(())
}

/// To trace a child, as user-mode Linux does.
fn ptrace() -> Result<(), String> {
    // SAFETY: the child makes two system calls and ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: PTRACE_TRACEME takes no arguments; _exit does not return.
        unsafe { libc::_exit((libc::ptrace(libc::PTRACE_TRACEME) != 0).into()) };
    }
    done("fork", child.into())?;
    let mut status = 0;
    // SAFETY: `status` is valid for writing, the child is ours.
    done("waitpid", unsafe { libc::waitpid(child, &mut status, 0) }.into())?;
    if status == 0 { Ok(()) } else { Err("ptrace(2) is forbidden".into()) }
}

/// To use io_uring, which container engines forbid.
fn uring() -> Result<(), String> {
    let mut parameters = [0_u32; 30]; // struct io_uring_params
    // SAFETY: room for the parameters, all zero.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()) };
    done("io_uring_setup", ring)?;
    // SAFETY: it was made just now.
    unsafe { libc::close(ring as i32) };
    Ok(())
}

/// To reach other machines: there is a route to them.
fn network() -> Result<(), String> {
    let four = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let six = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let to_all = |line: &str| line.split_whitespace().nth(1) == Some("00000000");
    let six_to_all = |line: &str| line.starts_with("00000000000000000000000000000000 00") && !line.ends_with("lo");
    let routed = four.lines().any(to_all) || six.lines().any(six_to_all);
    if routed { Ok(()) } else { Err("there is no route to other machines".into()) }
}

/// Where root filesystems are kept: `TIDEOVER_ROOTS`, else /var/tmp/tideover-roots.
pub fn roots() -> PathBuf {
    env::var_os("TIDEOVER_ROOTS").map_or("/var/tmp/tideover-roots".into(), PathBuf::from)
}

/// Debian's root filesystem: it is there, or debootstrap(8) may make it.
fn debian() -> Result<(), String> {
    if roots().join("bookworm").is_dir() { Ok(()) } else { root().and_then(|()| mounts()).and_then(|()| network()) }
}

/// A Debian of another age, with a compiler.
fn root_of(name: &str) -> Result<(), String> {
    let at = roots().join(name);
    if at.join("usr/bin/gcc").exists() {
        Ok(())
    } else {
        Err(format!("{} is not there: scripts/dist-roots makes it", at.display()))
    }
}

/// To run a container by podman.
fn containers() -> Result<(), String> {
    root().and_then(|()| mounts())?;
    let place = folder("containers").map_err(|e| e.to_string())?;
    let ran = run_a_container(&place);
    let _ = fs::remove_dir_all(&place);
    ran
}

fn run_a_container(place: &Path) -> Result<(), String> {
    let root = place.join("root");
    for folder in ["bin", "etc", "proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(folder)).map_err(|e| e.to_string())?;
    }
    if fs::copy("/bin/busybox", root.join("bin/true")).is_err() {
        return Ok(()); // a package that is missing: the test says so
    }
    if Command::new("podman").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Ok(());
    }
    // In a mount namespace: podman leaves its storage mounted.
    let mut podman = Command::new("unshare");
    podman
        .args(["-m", "podman"])
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    podman.arg("--root").arg(place.join("storage")).arg("--runroot").arg(place.join("run"));
    podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--network=none", "--timeout=60"]);
    // podman's own idea of limits may be above what this machine allows.
    podman.args(["--ulimit=nproc=1024:1024", "--ulimit=nofile=64:256"]);
    podman.arg("--rootfs").arg(format!("{}:O", root.display())).arg("/bin/true");
    match podman.output() {
        Ok(told) if !told.status.success() => {
            let said = String::from_utf8_lossy(&told.stderr).lines().last().unwrap_or_default().to_string();
            Err(format!("podman can't run a container: {said}"))
        }
        _ => Ok(()),
    }
}
