//! The library among the mappings of a process (/proc/PID/maps).
#![forbid(unsafe_code)]

use std::fs;

/// The file of the library as its name stands in the list, also if it was loaded from a build folder.
const LIBRARY: &str = "/libtideover.so";

/// Whether a process has the library mapped as code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// It has.
    Present,
    /// It has not.
    Absent,
    /// This user may not look: that takes the process's user, or CAP_SYS_PTRACE.
    Hidden,
}

/// Has a process mapped the library as code?
pub fn library(pid: u32) -> Code {
    match fs::read(format!("/proc/{pid}/maps")) {
        Ok(maps) if in_list(&String::from_utf8_lossy(&maps)) => Code::Present,
        Ok(_) => Code::Absent,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Code::Hidden,
        Err(_) => Code::Absent,
    }
}

/// A line is `7f00-7f10 r-xp 00001000 08:01 1234    /usr/lib/libtideover.so`, with ` (deleted)` after it when the file has been
/// replaced. A program that reads the file through a mapping, as a virus scanner does, has it without the x.
fn in_list(maps: &str) -> bool {
    maps.lines().any(|line| {
        let executable = line.split(' ').nth(1).is_some_and(|rights| rights.contains('x'));
        executable && line.strip_suffix(" (deleted)").unwrap_or(line).ends_with(LIBRARY)
    })
}

/// The hold that a process has mapped, by its path in the process's mount namespace; None: it has none, or this user may not look.
pub fn hold(pid: u32) -> Option<String> {
    let maps = fs::read(format!("/proc/{pid}/maps")).ok()?;
    let maps = String::from_utf8_lossy(&maps);
    let path =
        maps.lines().find_map(|line| line.get(line.find('/')?..).filter(|path| path.contains("/holds/hold.")))?;
    (!path.ends_with(" (deleted)")).then(|| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mapping_that_can_be_executed_counts() {
        let line =
            |rights: &str, path: &str| format!("7f0012340000-7f0012380000 {rights} 00001000 08:01 77   {path}\n");
        assert!(in_list(&line("r-xp", "/usr/lib/libtideover.so")));
        assert!(in_list(&line("r-xp", "/opt/a b/libtideover.so (deleted)")));
        assert!(!in_list(&line("r--p", "/usr/lib/libtideover.so")), "its data alone");
        assert!(!in_list(&line("r-xp", "/usr/lib/libtideover.so.txt")));
        assert!(!in_list(&line("r-xp", "/usr/lib/libc.so.6")) && !in_list("") && !in_list("odd\n"));
        assert_eq!(library(std::process::id()), Code::Absent);
        assert_eq!(library(u32::MAX), Code::Absent, "no such process");
    }
}
