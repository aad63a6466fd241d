//! podman with storage of its own, of which nothing is left: neither a container nor a mount nor a file, also if the test fails.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::disk::own_mounts;
use crate::{Scratch, program};

/// Where podman keeps images, containers and what it mounts. podman leaves its storage mounted; it is unmounted when this is dropped, and
/// lies in the mount namespace of the test's own thread, so that it is gone also if the test is killed.
#[derive(Debug)]
pub struct Storage(Scratch);

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

impl Storage {
    /// Makes one.
    ///
    /// # Panics
    /// If the test has not declared by `#[needs(containers)]` that it wants to.
    #[track_caller]
    pub fn new() -> Storage {
        own_mounts();
        Storage(Scratch::new())
    }

    /// Runs podman, with runc and without systemd, to its end.
    ///
    /// # Panics
    /// If podman is missing.
    pub fn podman(&self, words: &[&str]) -> Output {
        let mut podman = Command::new(program("podman", "podman"));
        podman.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
        podman.arg("--root").arg(self.0.join("storage")).arg("--runroot").arg(self.0.join("run"));
        podman.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]).args(words);
        podman.output().expect("podman runs")
    }

    /// Processes that name it in their arguments: conmon(8) outlives `podman rm`, and runs `podman container cleanup` at its end, which
    /// mounts and writes.
    fn users(&self) -> Vec<i32> {
        let path = self.0.path().as_os_str().as_encoded_bytes();
        let names_it = |pid: &i32| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            words.windows(path.len() + 1).any(|part| part.starts_with(path) && part.ends_with(b"/"))
        };
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(names_it).collect()
    }

    /// Waits until nobody uses it, and ends who does so for longer than 10 s.
    fn wait_for_users(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let users = self.users();
            if users.is_empty() {
                break;
            }
            for pid in users.into_iter().filter(|_| Instant::now() > end) {
                // SAFETY: kill(2) touches no memory.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What is mounted below, the last mounted first.
    fn mounted(&self) -> Vec<PathBuf> {
        let all = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = all.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(self.0.path())).collect();
        below.reverse();
        below
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // Only of a test that has failed: what still runs.
        if self.0.join("storage").exists() {
            self.podman(&["rm", "--all", "--force", "--time", "0"]);
        }
        self.wait_for_users();
        for point in self.mounted() {
            let path = std::ffi::CString::new(point.as_os_str().as_encoded_bytes()).expect("no NUL");
            // SAFETY: a path that ends with NUL.
            if unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) } != 0 {
                eprintln!("{} stays mounted: {}", point.display(), std::io::Error::last_os_error());
            }
        }
    }
}
