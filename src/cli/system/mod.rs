//! What all processes of the system share (open files, memory, tasks), how much there is and how much is in use.
#![forbid(unsafe_code)]

pub mod alerts;
pub mod ballast;
pub mod ballasts;
pub mod cgroup;
pub mod level;
pub mod replace;

use std::fs;

/// Use of something that is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// How much is in use.
    pub used: u64,
    /// The limit.
    pub max: u64,
}

impl Share {
    /// Part in use, in percent; 0 where there is no limit.
    pub fn percent(self) -> f64 {
        if self.max == 0 { 0.0 } else { self.used as f64 * 100.0 / self.max as f64 }
    }
}

/// A number in /proc/sys, by its name as sysctl(8) writes it; None if it can't be read.
pub fn sysctl(name: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?.trim().parse().ok()
}

/// Open files of the whole system, and fs.file-max, beyond which calls fail with ENFILE.
pub fn files() -> Option<Share> {
    parse_file_nr(&fs::read_to_string("/proc/sys/fs/file-nr").ok()?)
}

fn parse_file_nr(text: &str) -> Option<Share> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    let (allocated, free, max): (u64, u64, u64) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(Share { used: allocated.saturating_sub(free), max })
}

/// Memory in bytes. In use is what is not available (MemAvailable).
pub fn memory() -> Option<Share> {
    parse_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_meminfo(text: &str) -> Option<Share> {
    let kib = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
    };
    let (total, available) = (kib("MemTotal:")?, kib("MemAvailable:")?);
    Some(Share { used: total.saturating_sub(available).saturating_mul(1024), max: total.saturating_mul(1024) })
}

/// Threads and processes of the whole system; the limit is the lower of kernel.pid_max and kernel.threads-max.
pub fn tasks() -> Option<Share> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    let used = text.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    Some(Share { used, max: sysctl("kernel.pid_max")?.min(sysctl("kernel.threads-max")?) })
}

/// A number in /proc/net/sockstat, by its protocol and its name: `TCP`, `orphan`.
pub fn sockstat(protocol: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/net/sockstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'))?;
    let words: Vec<&str> = line.split_whitespace().collect();
    words.iter().position(|word| *word == name).and_then(|i| words.get(i + 1)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_system_has_files_memory_and_tasks() {
        for share in [files(), memory(), tasks()] {
            let share = share.unwrap();
            assert!(share.used > 0 && share.used <= share.max, "{share:?}");
        }
        assert!(sysctl("fs.nr_open").unwrap() >= 1024);
        assert_eq!(sysctl("fs.no_such"), None);
        assert!(sockstat("TCP", "inuse").is_some() && sockstat("TCP", "none").is_none());
    }

    #[test]
    fn shares_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_file_nr("1216\t16\t9223372036854775807\n"), Some(Share { used: 1200, max: i64::MAX as u64 }));
        assert_eq!(parse_file_nr("12 x"), None);
        let meminfo = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n";
        assert_eq!(parse_meminfo(meminfo).unwrap().percent(), 75.0);
        assert_eq!(Share::default().percent(), 0.0);
    }
}
