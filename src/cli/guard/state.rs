//! The folder `guard` beside the pages of a user, with a lock and a state for each target, both of mode 0600. The state is written before
//! each step, so that the next guard or `tideover clean` brings back what a guard that was killed has parked.
#![forbid(unsafe_code)]

use crate::before_exec::foreign::Item;
use crate::guard::park;
use crate::processes::process;
use crate::show::failure::cause;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A process: its number, and when it started, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Start time.
    pub started_ns: u64,
}

impl Process {
    /// The process of this number that runs now.
    pub fn now(pid: u32) -> Option<Process> {
        process::alive(pid)?.started_ns.map(|started_ns| Process { pid, started_ns })
    }

    /// Does it still run?
    pub fn is_alive(self) -> bool {
        Process::now(self.pid) == Some(self)
    }

    fn file(self, ending: &str) -> String {
        format!("{}.{}.{ending}", self.pid, self.started_ns)
    }

    fn of_name(name: &str, ending: &str) -> Option<Process> {
        let (pid, started) = name.strip_suffix(ending)?.strip_suffix('.')?.split_once('.')?;
        Some(Process { pid: pid.parse().ok()?, started_ns: started.parse().ok()? })
    }
}

/// An item that was parked, in a set that the process has as a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The descriptor of the epoll set.
    pub set: i32,
    /// The item as it was before.
    pub item: Item,
}

/// How often each step was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Times that the soft limit was raised.
    pub raised: u64,
    /// Clients whose input was ended.
    pub idle_ended: u64,
    /// Items that were parked.
    pub parked: u64,
    /// Items that were brought back.
    pub rearmed: u64,
}

impl Counts {
    /// As an object.
    pub fn json(self) -> Value {
        json!({ "raised": self.raised, "idle_ended": self.idle_ended, "parked": self.parked, "rearmed": self.rearmed })
    }

    /// Those of an object; 0 for what it lacks.
    pub fn of(object: &Value) -> Counts {
        let count = |name: &str| object[name].as_u64().unwrap_or(0);
        Counts {
            raised: count("raised"),
            idle_ended: count("idle_ended"),
            parked: count("parked"),
            rearmed: count("rearmed"),
        }
    }
}

/// The folder of this user's guards below that of pages; it is made if it is not there. The error is text.
pub fn folder(base: &Path) -> Result<PathBuf, String> {
    let user = geteuid().as_raw();
    let outer = base.join(format!("tideover.{user}"));
    let folder = outer.join("guard");
    for path in [&outer, &folder] {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(format!(
                    "cannot make {}: {}; --page-dir names another place",
                    path.display(),
                    cause(&error)
                ));
            }
            _ => {}
        }
        if !is_folder_of(path, user) {
            return Err(format!("{} is no folder of this user's; its owner may be up to something", path.display()));
        }
    }
    Ok(folder)
}

fn is_folder_of(path: &Path, user: u32) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user)
}

/// The lock of a target, which one guard holds; the kernel lets go of it when that guard ends, however it ends.
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of a process; the error says that another guard has it, or why there is none.
    pub fn take(folder: &Path, process: Process) -> Result<Lock, String> {
        let path = folder.join(process.file("lock"));
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        for _ in 0..8 {
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(&path);
            let file = file.map_err(|error| format!("cannot make {}: {}", path.display(), cause(&error)))?;
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
                return Err("another guard has it already; tideover guard --status".to_string());
            }
            let inode = file.metadata().map(|found| found.ino()).ok();
            // A guard that has just ended may have removed the file that was opened.
            if inode.is_some() && fs::symlink_metadata(&path).map(|found| found.ino()).ok() == inode {
                return Ok(Lock { _file: file, path });
            }
        }
        Err(format!("{} keeps changing", path.display()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Number of this boot: what was written before the last one counts no more.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

/// Writes the state of a target: what is parked, or about to be, and what was done.
pub fn write(folder: &Path, process: Process, program: &str, counts: Counts, parked: &[Parked]) -> io::Result<()> {
    let items = parked.iter().map(|it| {
        json!({ "set": it.set, "number": it.item.number, "inode": it.item.inode, "events": it.item.events, "data": it.item.data })
    });
    let state = json!({
        "schema": 1, "boot": boot(), "guard": std::process::id(), "pid": process.pid, "started_ns": process.started_ns,
        "program": program, "counts": counts.json(), "parked": items.collect::<Vec<_>>(),
    });
    // Written beside and renamed, so that a reader finds all of the old or all of the new. It needn't survive a crash of the system, with
    // which the process ends, too, so nothing is synced: that would hold up the step.
    let fresh = folder.join(process.file("new"));
    let _ = fs::remove_file(&fresh);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(state.to_string().as_bytes())?;
    fs::rename(&fresh, folder.join(process.file("json")))
}

/// Removes the state of a target for which nothing is parked.
pub fn remove(folder: &Path, process: Process) {
    for ending in ["json", "new"] {
        let _ = fs::remove_file(folder.join(process.file(ending)));
    }
}

/// What a state says; None for one that is torn, forged, or of another boot.
pub(super) fn parse(text: &str, process: Process) -> Option<(Value, Vec<Parked>)> {
    let state: Value = serde_json::from_str(text).ok()?;
    let is_its = state["schema"] == 1
        && state["boot"] == boot()
        && state["pid"] == process.pid
        && state["started_ns"] == process.started_ns;
    let item = |item: &Value| {
        Some(Parked {
            set: i32::try_from(item["set"].as_i64()?).ok()?,
            item: Item {
                number: i32::try_from(item["number"].as_i64()?).ok()?,
                inode: item["inode"].as_u64()?,
                events: u32::try_from(item["events"].as_u64()?).ok()?,
                data: item["data"].as_u64()?,
            },
        })
    };
    let parked: Option<Vec<Parked>> = state["parked"].as_array()?.iter().map(item).collect();
    let parked = parked?.into_iter().filter(|it| park::is_parkable(it.item)).collect();
    is_its.then_some((state, parked))
}

/// The folders of guards that this user may see to: its own; for root those of all users.
pub(super) fn folders(base: &Path) -> Vec<(u32, PathBuf)> {
    let me = geteuid().as_raw();
    let of = |user: u32| (user, base.join(format!("tideover.{user}")).join("guard"));
    let users: Vec<u32> = if me == 0 {
        let entries = fs::read_dir(base).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.strip_prefix("tideover.")?.parse().ok()).collect()
    } else {
        vec![me]
    };
    let is_own = |(user, path): &(u32, PathBuf)| {
        path.parent().is_some_and(|outer| is_folder_of(outer, *user)) && is_folder_of(path, *user)
    };
    users.into_iter().map(of).filter(is_own).collect()
}

/// The processes that have a file of this ending in a folder.
pub(super) fn named(folder: &Path, ending: &str) -> Vec<Process> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Process::of_name(entry.file_name().to_str()?, ending)).collect()
}

/// The text of a state. None: there is none.
pub(super) fn read(folder: &Path, process: Process) -> io::Result<Option<String>> {
    let path = folder.join(process.file("json"));
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(1 << 20).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// What was brought back for a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The process.
    pub pid: u32,
    /// How many items were parked still, and are no more.
    pub rearmed: u64,
    /// Why others could not be brought back: they stay written down.
    pub failed: Option<String>,
}

/// Each target takes two descriptors, and the copy of a listener the number that it has in its own process.
pub fn raise_own_limit() {
    let own = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: own.maximum, maximum: own.maximum });
}

/// Brings back what guards that were killed have parked, and removes what they have left. Targets of guards that run are left to them.
pub fn recover(base: &Path) -> Vec<Recovered> {
    raise_own_limit();
    let mut recovered = Vec::new();
    for (user, folder) in folders(base) {
        for process in named(&folder, "json") {
            let Ok(_lock) = Lock::take(&folder, process) else { continue };
            recovered.extend(recover_one(&folder, user, process));
        }
        for process in named(&folder, "lock").into_iter().filter(|process| !process.is_alive()) {
            // Taking the lock and letting go of it removes the file.
            drop(Lock::take(&folder, process));
        }
    }
    recovered
}

/// Brings back what a guard has parked for a process whose lock is held by the caller. A user's files count for that user's processes.
/// None: there was nothing to do. What could not be done stays written down, since the next one may be able to.
pub fn recover_one(folder: &Path, user: u32, process: Process) -> Option<Recovered> {
    let mut recovered = Recovered { pid: process.pid, rearmed: 0, failed: None };
    match bring_all_back(folder, user, process, &mut recovered.rearmed) {
        Ok(()) => remove(folder, process),
        Err(why) => recovered.failed = Some(why),
    }
    (recovered.rearmed > 0 || recovered.failed.is_some()).then_some(recovered)
}

fn bring_all_back(folder: &Path, user: u32, process: Process, rearmed: &mut u64) -> Result<(), String> {
    let Some(text) = read(folder, process).map_err(|error| cause(&error))? else { return Ok(()) };
    // A state that is damaged says no more than that there was a guard.
    let state = parse(&text, process);
    let names_items = |state: &Value| state["parked"].as_array().is_some_and(|items| !items.is_empty());
    let may_be_parked = state.as_ref().is_none_or(|(state, _)| names_items(state));
    match process::alive(process.pid).map(|now| now.started_ns) {
        Some(Some(started)) if started == process.started_ns => {}
        Some(None) if may_be_parked => return Err("/proc does not show it (hidepid)".to_string()),
        _ => return Ok(()),
    }
    if may_be_parked && user != 0 && process::user(process.pid) != Some(user) {
        return Err(format!("it runs as another user now than {user}; root can"));
    }
    for parked in state.into_iter().flat_map(|(_, parked)| parked) {
        *rearmed += u64::from(park::bring_back(process, parked)?);
    }
    if may_be_parked {
        *rearmed += park::bring_back_unlisted(process)?;
    }
    Ok(())
}

/// Has a guard that runs the lock of this process?
pub(super) fn is_held(folder: &Path, process: Process) -> bool {
    let path = folder.join(process.file("lock"));
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    file.is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::guarded;

    const ITEM: Item = Item { number: 5, inode: 77, events: 0x19, data: 5 };

    #[test]
    fn one_guard_holds_a_target_and_another_refuses() {
        let base = tempfile::tempdir().unwrap();
        let folder = folder(base.path()).unwrap();
        let me = Process::now(std::process::id()).unwrap();
        let lock = Lock::take(&folder, me).unwrap();
        assert_eq!(lock.path.metadata().unwrap().mode() & 0o777, 0o600);
        assert!(Lock::take(&folder, me).err().unwrap().contains("another guard"));
        drop(lock);
        drop(Lock::take(&folder, me).unwrap());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }

    #[test]
    fn a_state_that_is_torn_forged_or_of_another_boot_counts_for_nothing() {
        let base = tempfile::tempdir().unwrap();
        let folder = folder(base.path()).unwrap();
        let me = Process::now(std::process::id()).unwrap();
        let parked = [Parked { set: 4, item: ITEM }];
        write(&folder, me, "x", Counts::default(), &parked).unwrap();
        let path = folder.join(me.file("json"));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(parse(&text, me).unwrap().1, parked);
        assert_eq!(guarded::all(base.path()).len(), 0, "no guard has it, and it is not parked");
        let lock = Lock::take(&folder, me).unwrap();
        assert_eq!(guarded::all(base.path()).len(), 1);
        drop(lock);
        for length in 0..text.len() {
            assert!(parse(&text[..length], me).is_none());
        }
        assert!(parse(&text.replace(&boot(), "other"), me).is_none());
        assert!(parse(&text, Process { started_ns: 1, ..me }).is_none());
        assert!(parse(&text.replace("\"events\":25", "\"events\":2147483673"), me).unwrap().1.is_empty(), "EPOLLET");
        // The descriptor is no epoll set of ours: nothing is changed, and the file goes.
        assert_eq!(recover(base.path()), []);
        assert!(!path.exists());
    }
}
