//! The limits of the container or systemd unit that a process is in: cgroup v2, and v1 where v1 is mounted.
#![forbid(unsafe_code)]

use crate::system::Share;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of one controller.
struct Files {
    controller: &'static str,
    used: &'static str,
    max: &'static str,
    used_v1: &'static str,
    max_v1: &'static str,
}

const MEMORY: Files = Files {
    controller: "memory",
    used: "memory.current",
    max: "memory.max",
    used_v1: "memory.usage_in_bytes",
    max_v1: "memory.limit_in_bytes",
};
const TASKS: Files =
    Files { controller: "pids", used: "pids.current", max: "pids.max", used_v1: "pids.current", max_v1: "pids.max" };
/// v1 writes the highest multiple of a page for "no limit"; from this value on a limit is taken for none.
const NO_LIMIT_V1: u64 = 1 << 60;

/// Memory of the control group in bytes, without the file cache that would be given up first; None without a limit.
pub fn memory(pid: u32) -> Option<Share> {
    tightest(pid, &MEMORY)
}

/// Threads and processes of the control group; None without a limit.
pub fn tasks(pid: u32) -> Option<Share> {
    tightest(pid, &TASKS)
}

/// Of the limits of the group and of those above it, the one of which the largest part is in use.
fn tightest(pid: u32, files: &Files) -> Option<Share> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    folders(&groups, files.controller, Path::new("/sys/fs/cgroup"))
        .iter()
        .filter_map(|folder| share(folder, files))
        .max_by(|a, b| a.percent().total_cmp(&b.percent()))
}

/// The folders that may hold limits, innermost first.
fn folders(groups: &str, controller: &str, mount: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let root = match controllers {
            "" if mount.join("unified").is_dir() => mount.join("unified"),
            "" => mount.to_path_buf(),
            names if names.split(',').any(|name| name == controller) => mount.join(controller),
            _ => continue,
        };
        // A path that leads out of the namespace ("/../..") can't be followed from here.
        let inside = Path::new(path.trim_start_matches('/'));
        if !path.contains("..") {
            found.extend(inside.ancestors().map(|part| root.join(part)));
        } else {
            found.push(root);
        }
    }
    found
}

fn share(folder: &Path, files: &Files) -> Option<Share> {
    let number = |file: &str| -> Option<u64> { fs::read_to_string(folder.join(file)).ok()?.trim().parse().ok() };
    let max = number(files.max).or_else(|| number(files.max_v1).filter(|max| *max < NO_LIMIT_V1))?;
    let used = number(files.used).or_else(|| number(files.used_v1))?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse::<u64>().ok());
    let cache = if files.controller == "memory" { cache.unwrap_or(0) } else { 0 };
    Some(Share { used: used.saturating_sub(cache), max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_of_all_levels_counts() {
        let mount = tempfile::tempdir().unwrap();
        let inner = mount.path().join("kube/pod");
        fs::create_dir_all(&inner).unwrap();
        let put = |file: &str, text: &str| fs::write(mount.path().join(file), text).unwrap();
        put("kube/pod/memory.max", "max\n");
        put("kube/pod/memory.current", "90\n");
        put("kube/memory.max", "100\n");
        put("kube/memory.current", "95\n");
        put("kube/memory.stat", "anon 5\ninactive_file 15\n");
        let folders = folders("0::/kube/pod\n", "memory", mount.path());
        assert_eq!(folders[..2], [inner, mount.path().join("kube")]);
        let shares: Vec<Share> = folders.iter().filter_map(|folder| share(folder, &MEMORY)).collect();
        assert_eq!(shares, [Share { used: 80, max: 100 }]);
    }

    #[test]
    fn both_versions_and_foreign_namespaces_are_found() {
        let mount = Path::new("/none");
        let v1 = folders("5:cpu,cpuacct:/a\n4:pids:/docker/x\n", "pids", mount);
        assert_eq!(v1[0], Path::new("/none/pids/docker/x"));
        assert_eq!(folders("0::/../other\n", "pids", mount), [Path::new("/none")]);
        assert!(folders("garbage\n7:x\n", "pids", mount).is_empty());
        let _ = (memory(std::process::id()), tasks(std::process::id()));
    }
}
