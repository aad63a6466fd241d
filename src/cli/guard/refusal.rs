//! Processes that the guard leaves alone, and why: looked at before anything is touched.
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use crate::processes::mappings::{self, Code};
use crate::processes::process;
use rustix::process::{geteuid, getppid};
use std::fs::{self, File};

/// The flag PF_KTHREAD of the kernel's sched.h.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Why a process is not guarded, as the end of a sentence; None if it can be.
pub fn of(pid: u32) -> Option<String> {
    if pid == std::process::id() {
        return Some("it is this guard itself".to_string());
    }
    if pid == 1 {
        return Some("it is init, on which all other processes depend".to_string());
    }
    if process::alive(pid).is_none() {
        return Some("there is no such process".to_string());
    }
    if flags(pid).is_some_and(|flags| flags & KERNEL_THREAD != 0) {
        return Some("it is a thread of the kernel, which has no descriptors".to_string());
    }
    if ancestors().contains(&pid) {
        return Some("this guard was started from it, and it has nothing to guard".to_string());
    }
    let me = geteuid().as_raw();
    if me != 0 && (process::user(pid) != Some(me) || process::owner(pid) != Some(me)) {
        return Some(format!("it is another user's; sudo tideover guard {pid}"));
    }
    if let Some(tracer) = number(pid, "TracerPid:").filter(|tracer| *tracer != 0) {
        return Some(format!("process {tracer} traces it"));
    }
    if mappings::library(pid) == Code::Present {
        return Some(format!("it has libtideover.so, which carries it from inside; tideover stat {pid} shows how"));
    }
    let elf = File::open(format!("/proc/{pid}/exe")).ok().and_then(Elf::read);
    if elf.is_some_and(|elf| elf.bits != 64) {
        return Some("it is a 32-bit program".to_string());
    }
    process::limits(pid).is_none().then(|| "its limits can't be read".to_string())
}

/// Why descriptors of a process can't be reached by pidfd_getfd(2), which is for those who may trace it, as the end of a sentence; None if they
/// can. Opening its memory takes the same right, and changes nothing.
pub fn of_descriptors(pid: u32) -> Option<String> {
    File::open(format!("/proc/{pid}/mem")).err().map(|_| {
        let scope = crate::system::sysctl("kernel.yama.ptrace_scope").unwrap_or(0);
        if scope == 0 {
            "this user may not reach its descriptors, which takes CAP_SYS_PTRACE".to_string()
        } else {
            format!("kernel.yama.ptrace_scope is {scope}, so that reaching its descriptors takes CAP_SYS_PTRACE")
        }
    })
}

/// A number in /proc/PID/status.
fn number(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// Field 9 of /proc/PID/stat; the state, field 3, is the first after the name.
fn flags(pid: u32) -> Option<u64> {
    field(pid, 9)
}

/// A number in /proc/PID/stat, by its number in proc(5), 4 or more.
pub fn field(pid: u32, which: usize) -> Option<u64> {
    let stat = process::file(pid, "stat")?;
    let end = stat.iter().rposition(|&b| b == b')')? + 1;
    let rest = String::from_utf8_lossy(&stat[end..]).into_owned();
    rest.split_whitespace().nth(which - 3)?.parse().ok()
}

/// The processes from which this one was started: a shell, sshd, init.
fn ancestors() -> Vec<u32> {
    let parent = |pid: u32| field(pid, 4).and_then(|parent| u32::try_from(parent).ok()).filter(|parent| *parent > 0);
    let first = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    std::iter::successors(first, |pid| parent(*pid)).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_touched_is_refused_with_the_reason() {
        let says = |pid: u32, word: &str| of(pid).is_some_and(|why| why.contains(word));
        assert!(says(std::process::id(), "itself") && says(1, "init") && says(u32::MAX, "no such process"));
        let parent = std::os::unix::process::parent_id();
        assert!(parent < 2 || says(parent, "started from it"), "{:?}", of(parent));
        if field(2, 4) == Some(0) {
            assert!(says(2, "kernel"), "{:?}", of(2));
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!((of(child.id()), of_descriptors(child.id())), (None, None));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
