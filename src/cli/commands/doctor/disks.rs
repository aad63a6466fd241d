//! The filesystems of the logs, and deleted files that still take space.
#![forbid(unsafe_code)]

use super::check::Check;
use super::sampled::SampledProcess;
use crate::processes::descriptors::WrittenFile;
use crate::settings::policy::thresholds;
use crate::show::units::bytes;
use crate::system::level::Level;
use rustix::fs::{StatVfs, statvfs};
use std::collections::BTreeMap;
use std::path::Path;

/// A filesystem with less free space in bytes, or with less than 5 % if it is small, is nearly full. When there is more, the
/// library writes to the log again.
const FREE: u64 = 100 << 20;

/// Checks each filesystem that holds logs of the process.
pub fn under_logs(sampled: &SampledProcess) -> Vec<Check> {
    let logs = sampled.last.written.iter().filter(|file| file.log);
    let by_disk: BTreeMap<(u32, u32), &WrittenFile> = logs.map(|file| ((file.id.0, file.id.1), file)).collect();
    if by_disk.is_empty() {
        return vec![Check::ok("log disk", "no file that it has open is named like a log")];
    }
    by_disk.values().filter_map(|file| log_disk(sampled, file)).collect()
}

/// As [`disk`], and worse if the thresholds of `tideover watch` for this program say so.
fn log_disk(sampled: &SampledProcess, file: &WrittenFile) -> Option<Check> {
    let stat = statvfs(&file.by).ok()?;
    let level = |alert, free: u64, all: u64| {
        let thresholds = thresholds(sampled.policy.as_ref(), alert, Some(&sampled.name)).filter(|_| all > 0);
        thresholds.map_or(Level::Ok, |it| it.level(free as f64 * 100.0 / all as f64))
    };
    let space = level("log_space", stat.f_bavail, stat.f_blocks);
    disk_of("log disk", &stat, &file.path, space.max(level("log_inodes", stat.f_favail, stat.f_files)))
}

/// Checks free space and inodes of the filesystem of a file. `by` is a path that reaches it, `path` the one for messages.
pub fn disk(name: &'static str, by: &Path, path: &str) -> Option<Check> {
    disk_of(name, &statvfs(by).ok()?, path, Level::Ok)
}

fn disk_of(name: &'static str, stat: &StatVfs, path: &str, at_least: Level) -> Option<Check> {
    let folder = path.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder });
    let (level, says) = level_and_text(stat);
    let mut remedy = vec![format!("what takes the space: du -xah {folder} | sort -h | tail -n 20")];
    if path.starts_with("/var/log") {
        remedy.push("sudo journalctl --vacuum-size=100M; sudo logrotate -f /etc/logrotate.conf".to_string());
    }
    Some(Check::new(name, level.max(at_least), format!("{path}: {says}"), remedy))
}

fn level_and_text(stat: &StatVfs) -> (Level, String) {
    let unit = if stat.f_frsize == 0 { stat.f_bsize } else { stat.f_frsize };
    let (free, size) = (stat.f_bavail.saturating_mul(unit), stat.f_blocks.saturating_mul(unit));
    let mark = FREE.min(size / 20);
    let space = if free <= mark / 5 {
        Level::Critical
    } else if free <= mark {
        Level::Warning
    } else {
        Level::Ok
    };
    // Filesystems that make inodes as needed report 0.
    let inodes = match (stat.f_favail, stat.f_files) {
        (_, 0) => Level::Ok,
        (free, all) if free <= all / 100 => Level::Critical,
        (free, all) if free <= all / 20 => Level::Warning,
        _ => Level::Ok,
    };
    let counted =
        if stat.f_files == 0 { String::new() } else { format!(", {} of {} inodes", stat.f_favail, stat.f_files) };
    (space.max(inodes), format!("{} of {} free{counted}", bytes(free), bytes(size)))
}

/// Checks files that are deleted and take space until the process closes them.
pub fn deleted(sampled: &SampledProcess) -> Vec<Check> {
    let before =
        |file: &WrittenFile| sampled.first.written.iter().find(|first| first.id == file.id).map(|first| first.size);
    let mut seen = Vec::new();
    let mut checks = Vec::new();
    for file in sampled.last.written.iter().filter(|file| file.deleted) {
        let grew = before(file).map_or(0, |before| file.size.saturating_sub(before));
        if seen.contains(&file.id) || (grew == 0 && !(file.log && file.taken > 0)) {
            continue;
        }
        seen.push(file.id);
        checks.push(check(sampled, file, grew));
    }
    if checks.is_empty() {
        checks.push(Check::ok("deleted logs", "none is held open"));
    }
    checks
}

fn check(sampled: &SampledProcess, file: &WrittenFile, grew: u64) -> Check {
    let rate = if grew == 0 {
        "it does not grow now".to_string()
    } else {
        format!("it grew by {} in {:.1} s", bytes(grew), sampled.took.as_secs_f64())
    };
    let says = format!("{} is deleted and takes {} until it is closed; {rate}", file.path, bytes(file.taken));
    // It takes more space than is free: the disk fills up with a file that no folder shows.
    let free = statvfs(&file.by).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let level = if grew > 0 && file.taken >= free { Level::Critical } else { Level::Warning };
    let sparse = if file.appends { "" } else { " (it does not append: the size stays, the space is freed)" };
    let remedy = vec![
        format!("its space at once: sudo truncate -s 0 {}{sparse}", file.by.display()),
        format!("a new file: kill -HUP {}, where the program reopens its logs so; else restart it", sampled.pid),
        format!("for good: copytruncate, or postrotate with that kill, for {} in /etc/logrotate.d", file.path),
    ];
    Check::new("deleted logs", level, says, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(free: u64, size: u64, inodes: (u64, u64)) -> StatVfs {
        let mut stat = statvfs("/").unwrap();
        (stat.f_frsize, stat.f_bavail, stat.f_blocks) = (1 << 20, free, size);
        (stat.f_favail, stat.f_files) = inodes;
        stat
    }

    #[test]
    fn a_disk_is_judged_by_space_and_inodes() {
        let level = |free, size, inodes| level_and_text(&stat(free, size, inodes)).0;
        assert_eq!(level(5000, 10_000, (50, 100)), Level::Ok);
        assert_eq!(level(101, 100_000, (0, 0)), Level::Ok, "100 MiB are enough on any disk");
        assert_eq!(level(90, 100_000, (50, 100)), Level::Warning);
        assert_eq!(level(4, 100, (50, 100)), Level::Warning, "5 % of a small one");
        assert_eq!(level(0, 100, (50, 100)), Level::Critical);
        assert_eq!(level(5000, 10_000, (5, 100)), Level::Warning);
        assert_eq!(level(5000, 10_000, (0, 100)), Level::Critical);
        assert_eq!(level_and_text(&stat(1, 2, (3, 4))).1, "1.0 MiB of 2.0 MiB free, 3 of 4 inodes");
    }
}
