//! What /proc says about a process. Every answer may be missing: a process may end, and those of other users may be hidden.
#![forbid(unsafe_code)]

use crate::system::Share;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::read;
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, test_kill_process};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use tideover_contract::settings::SECOND;

/// When the system was booted: the nanoseconds of CLOCK_REALTIME at which CLOCK_BOOTTIME was 0.
pub fn boot_time_ns() -> u64 {
    use rustix::time::{ClockId, clock_gettime};
    let now = |clock| {
        let time = clock_gettime(clock);
        (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
    };
    now(ClockId::Realtime).saturating_sub(now(ClockId::Boottime))
}

/// Length of a clock tick, the unit of start times in /proc, in nanoseconds.
pub fn tick_ns() -> u64 {
    SECOND / clock_ticks_per_second().max(1)
}

/// Reads a file of at most 4096 bytes in /proc/PID by one read(2). std::fs::read would make eight system calls, since /proc does
/// not tell the size; and `ps` and `top` read several such files of each process.
pub fn file(pid: u32, name: &str) -> Option<Vec<u8>> {
    let file = open(format!("/proc/{pid}/{name}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0; 4096];
    let length = read(&file, &mut buffer).ok()?;
    buffer.get(..length).map(<[u8]>::to_vec)
}

fn text(pid: u32, name: &str) -> Option<String> {
    file(pid, name).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// A process that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alive {
    /// Nanoseconds since boot, rounded down to a tick; None if /proc does not show it.
    pub started_ns: Option<u64>,
}

/// Is there a process of this number? None if there is none, or only its zombie.
pub fn alive(pid: u32) -> Option<Alive> {
    if let Some(stat) = file(pid, "stat") {
        return parse_stat(&stat);
    }
    // A process that /proc does not show may be hidden by its mount option hidepid=; kill(2) tells.
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    (test_kill_process(id) != Err(rustix::io::Errno::SRCH)).then_some(Alive { started_ns: None })
}

/// Fields of /proc/PID/stat count from the last parenthesis: the name before it may hold blanks and parentheses.
fn parse_stat(stat: &[u8]) -> Option<Alive> {
    let end = stat.iter().rposition(|&b| b == b')').unwrap_or(0);
    let rest = String::from_utf8_lossy(&stat[end..]).into_owned();
    let mut fields = rest.split_whitespace().skip(1);
    if matches!(fields.next(), Some("Z" | "X" | "x")) {
        return None;
    }
    // The state is field 3, the start time field 22.
    let ticks = fields.nth(18).and_then(|field| field.parse::<u64>().ok());
    Some(Alive { started_ns: ticks.map(|ticks| ticks.saturating_mul(tick_ns())) })
}

/// How many descriptors a process has open.
pub fn descriptors(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the folder's size is their number, without a walk over a million entries, and for anyone.
    let size = std::fs::metadata(&folder).map_or(0, |metadata| std::os::unix::fs::MetadataExt::size(&metadata));
    if size > 0 {
        return Some(size);
    }
    std::fs::read_dir(folder).ok().map(|entries| entries.count() as u64)
}

/// The process id that a process has in its own pid namespace, the innermost of those that it is in.
pub fn innermost(pid: u32) -> Option<u32> {
    let status = text(pid, "status")?;
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().next_back()?.parse().ok()
}

/// The words of a process's command line, as far as they stand in its first 4096 bytes. A program may have written over them.
pub fn words(pid: u32) -> Vec<Vec<u8>> {
    let line = file(pid, "cmdline").unwrap_or_default();
    let line = line.strip_suffix(b"\0").unwrap_or(&line);
    if line.is_empty() { Vec::new() } else { line.split(|&b| b == 0).map(<[u8]>::to_vec).collect() }
}

/// Soft and hard limit on open descriptors (RLIMIT_NOFILE); u64::MAX for unlimited.
pub fn limits(pid: u32) -> Option<(u64, u64)> {
    parse_limits(&text(pid, "limits")?)
}

/// Address space of a process, and its soft limit (RLIMIT_AS), in bytes; None without a limit.
pub fn address_space(pid: u32) -> Option<Share> {
    let (max, _) = parse_limit(&text(pid, "limits")?, "Max address space").filter(|(max, _)| *max != u64::MAX)?;
    let pages: u64 = text(pid, "statm")?.split_whitespace().next()?.parse().ok()?;
    Some(Share { used: pages.saturating_mul(rustix::param::page_size() as u64), max })
}

fn parse_limits(text: &str) -> Option<(u64, u64)> {
    parse_limit(text, "Max open files")
}

fn parse_limit(text: &str, name: &str) -> Option<(u64, u64)> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let mut values =
        line.split_whitespace().map(|word| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() });
    Some((values.next()??, values.next()??))
}

/// Resident memory of a process in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    let status = text(pid, "status")?;
    let kib: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// The environment that a process was started with.
pub struct Environment(Vec<u8>);

impl Environment {
    /// Reads the environment of a process; None if this user may not.
    pub fn of(pid: u32) -> Option<Environment> {
        let file = open(format!("/proc/{pid}/environ"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = vec![0; 8192];
        let mut length = 0;
        // Most fit into one read(2), which is short only at the end. read_to_end would make four system calls of it.
        while let free @ 1.. = bytes.len() - length {
            let read = read(&file, &mut bytes[length..]).ok()?;
            length += read;
            if read < free {
                break;
            }
            bytes.resize(bytes.len() * 2, 0);
        }
        bytes.truncate(length);
        Some(Environment(bytes))
    }

    /// Has the program written something else over it (setproctitle)? Then nothing is known of what it was.
    pub fn is_overwritten(&self) -> bool {
        !self.0.is_empty() && !self.0.split(|&b| b == 0).next().unwrap_or_default().contains(&b'=')
    }

    /// Value of a variable: of several of this name the first, which is the one that getenv(3) finds.
    pub fn get(&self, name: &str) -> Option<OsString> {
        let mut variables = self.0.split(|&b| b == 0);
        let value = variables.find_map(|v| v.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
        Some(OsString::from_vec(value.to_vec()))
    }
}

/// Name of the process, for messages.
pub fn name(pid: u32) -> String {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    crate::show::output::safe(OsStr::from_bytes(&name).as_bytes().trim_ascii_end())
}

/// Real user id of a process.
pub fn owner(pid: u32) -> Option<u32> {
    user_id(pid, 0)
}

/// Effective user id of a process, by which kill(2) and ptrace(2) judge whose it is.
pub fn user(pid: u32) -> Option<u32> {
    user_id(pid, 1)
}

/// /proc/PID/status has the real, effective, saved and filesystem user id, in this order.
fn user_id(pid: u32, which: usize) -> Option<u32> {
    let status = text(pid, "status")?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(which)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        assert!(alive(me).unwrap().started_ns.is_some_and(|ns| ns > 0));
        assert!(descriptors(me).unwrap() >= 3);
        assert!(resident(me).unwrap() > 100_000);
        assert!(innermost(me).is_some_and(|pid| pid <= me));
        assert!(!words(me).is_empty() && words(u32::MAX).is_empty());
        let (soft, hard) = limits(me).unwrap();
        assert!(soft > 0 && soft <= hard);
        assert_eq!(owner(me), Some(rustix::process::getuid().as_raw()));
        assert_eq!((user(me), user(u32::MAX)), (Some(rustix::process::geteuid().as_raw()), None));
        assert_eq!(alive(0), None);
        assert_eq!(alive(u32::MAX), None);
    }

    #[test]
    fn a_name_full_of_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        let line = |state| format!("7 (a) R 1 (b) {state} {}\n", fields.join(" "));
        assert_eq!(parse_stat(line("S").as_bytes()), Some(Alive { started_ns: Some(22 * tick_ns()) }));
        assert_eq!(parse_stat(line("Z").as_bytes()), None, "a zombie is gone");
        assert_eq!(parse_stat(b""), Some(Alive { started_ns: None }));
    }

    #[test]
    fn limits_and_variables_are_found() {
        let text =
            "Limit  Soft  Hard  Units\nMax open files            1024                 unlimited            files\n";
        assert_eq!(parse_limits(text), Some((1024, u64::MAX)));
        let environment = Environment(b"A=1\0TIDEOVER_RAISE_CAP=5\0TIDEOVER_RAISE=off\0TIDEOVER_RAISE=no\0".to_vec());
        assert_eq!(environment.get("TIDEOVER_RAISE").unwrap(), "off");
        assert_eq!(environment.get("B"), None);
        let overwritten = |bytes: &[u8]| Environment(bytes.to_vec()).is_overwritten();
        assert!(overwritten(b"worker process\0\0") && !overwritten(b"A=1\0") && !overwritten(b""));
    }
}
