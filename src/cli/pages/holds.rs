//! Holds: the files in which guarded processes keep lines of logs whose disk is full. What a process that has ended has left is put back
//! into its logs.
//!
//! Nothing in such a file is trusted: its bytes are read, never mapped, and bounds and numbers are checked by
//! `tideover_contract::hold`.
#![forbid(unsafe_code)]

use crate::before_exec::lease;
use crate::pages::folder::unremoved;
use crate::pages::hold_log::{self, ELSEWHERE, GONE, HoldLog, NOT_ABSOLUTE};
use crate::pages::log_lock::LogLock;
use crate::processes::mappings;
use crate::show::failure::cause;
use crate::show::output::safe;
use crate::show::repeated;
use crate::show::units::{now_ns, rfc3339};
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use tideover_contract::hold::{Hold, LONGEST_PATH, Memory, Outcome, is_hold_file_name, put_back, settle};
use tideover_contract::settings::{Id, SETTINGS};

/// Larger files are no holds.
const LARGEST: u64 = (1 << 30) + (4 << 20);

/// Lines of one log in the hold of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLog {
    /// Process that keeps, or has kept them; in its own pid namespace.
    pub pid: u64,
    /// The log, safe to print.
    pub path: String,
    /// Bytes that are held.
    pub bytes: u64,
    /// What became of them.
    pub fate: Fate,
}

/// What became of the lines of one log in a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are in their log.
    PutBack,
    /// Their process is alive, and puts them back itself.
    Live,
    /// They stay in the hold until there is room, or another process puts them back; why.
    Kept(String),
    /// They can't be put back by this user: why, and what helps.
    Failed(String),
    /// Their log is gone, and so are they.
    Dropped,
}

/// What a walk has found, and what it could not remove.
#[derive(Debug, Default)]
pub struct Walked {
    /// Each log of which lines were held.
    pub logs: Vec<HeldLog>,
    /// Holds in which nothing is left and that could not be removed: which, why, and what helps.
    pub unremoved: Vec<String>,
}

/// The folder that holds are in: TIDEOVER_HOLD_DIR, else that of the pages.
pub fn base(pages: &Path) -> PathBuf {
    let inherited = std::env::var_os(SETTINGS[Id::HoldDir as usize].env).filter(|dir| !dir.is_empty());
    inherited.map_or_else(|| pages.to_path_buf(), PathBuf::from)
}

/// Looks at all holds that this user may see (root sees those of all users). With `puts_back`, what processes that have ended have left is
/// put back where there is room, and holds in which nothing is left are removed.
pub fn walk(base: &Path, puts_back: bool) -> Walked {
    let me = geteuid().as_raw();
    let users: Vec<u32> = if me == 0 {
        let names = std::fs::read_dir(base).into_iter().flatten().flatten();
        names.filter_map(|e| e.file_name().to_str()?.strip_prefix("tideover.")?.parse().ok()).collect()
    } else {
        vec![me]
    };
    let mut found = Walked::default();
    for user in users {
        walk_user(base, user, puts_back, &mut found);
    }
    found
}

/// Has every log whose lines a process keeps room again? Then its disk is full no more, though the process has not noticed yet. False also
/// where nothing is known, and over a quota, which shows only when a write succeeds.
pub fn have_room(pid: u32) -> bool {
    let root = format!("/proc/{pid}/root");
    let bytes = mappings::hold(pid).and_then(|path| std::fs::read(format!("{root}{path}")).ok());
    let Some(bytes) = bytes.filter(|bytes| (bytes.len() as u64) < LARGEST) else { return false };
    let size = bytes.len() as u64;
    let bytes = RefCell::new(bytes);
    let hold = Hold::over(Copy { bytes: &bytes, file: None });
    if hold.check(size).is_err() {
        return false;
    }
    let has_room = |log: usize| {
        let mut path = [0; LONGEST_PATH];
        let path = format!("{root}{}", String::from_utf8_lossy(hold.path(log, &mut path)));
        let folder = Path::new(&path).parent().unwrap_or(Path::new("/"));
        hold.errno(log) != libc::EDQUOT
            && rustix::fs::statvfs(folder).is_ok_and(|fs| hold_log::is_room(&fs, hold.held(log).bytes))
    };
    let logs: Vec<usize> = hold.logs().collect();
    !logs.is_empty() && logs.into_iter().all(has_room)
}

fn walk_user(base: &Path, user: u32, puts_back: bool, found: &mut Walked) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let is_own =
        |folder: &OwnedFd| fstat(folder).is_ok_and(|status| status.st_uid == user && status.st_mode & 0o022 == 0);
    let outer = openat(CWD, base.join(format!("tideover.{user}")), flags, Mode::empty()).ok().filter(is_own);
    let Some(folder) = outer.and_then(|outer| openat(&outer, "holds", flags, Mode::empty()).ok()).filter(is_own) else {
        return;
    };
    let mut names: Vec<String> = Dir::read_from(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| is_hold_file_name(entry.file_name().to_bytes()))
        .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_string))
        .collect();
    // The oldest first: its lines come before those of a later process in their log.
    names.sort_by_key(|name| u64::from_str_radix(name.rsplit('.').next().unwrap_or_default(), 16).unwrap_or(0));
    for name in names {
        let opened = File::open_hold(&folder, &name, user);
        let Some((logs, emptied)) = opened.and_then(|file| look(&folder, &name, user, &file, puts_back)) else {
            continue;
        };
        found.logs.extend(logs);
        match emptied.then(|| unlinkat(&folder, &name, AtFlags::empty())) {
            None | Some(Ok(()) | Err(Errno::NOENT)) => {}
            Some(Err(error)) => {
                let path = base.join(format!("tideover.{user}/holds/{name}"));
                found.unremoved.push(unremoved(&path, error));
            }
        }
    }
    if puts_back && let Ok(outer) = openat(CWD, base.join(format!("tideover.{user}")), flags, Mode::empty()) {
        // Fails while there are holds.
        let _ = unlinkat(&outer, "holds", AtFlags::REMOVEDIR);
    }
}

/// How a hold is opened.
trait OpenHold: Sized {
    fn open_hold(folder: &OwnedFd, name: &str, user: u32) -> Option<Self>;
}

impl OpenHold for File {
    fn open_hold(folder: &OwnedFd, name: &str, user: u32) -> Option<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).ok()?;
        let status = fstat(&file).ok()?;
        let regular = FileType::from_raw_mode(status.st_mode) == FileType::RegularFile;
        let own = status.st_uid == user && status.st_mode & 0o077 == 0 && status.st_nlink == 1;
        (regular && own && (status.st_size as u64) < LARGEST).then(|| File::from(file))
    }
}

/// The bytes of a hold, and the file, to which changes are written if it may be changed.
struct Copy<'a> {
    bytes: &'a RefCell<Vec<u8>>,
    file: Option<File>,
}

impl Memory for Copy<'_> {
    fn words(&self) -> usize {
        self.bytes.borrow().len() / 8
    }

    fn load(&self, word: usize) -> u64 {
        let bytes = self.bytes.borrow();
        let word = bytes.get(word.saturating_mul(8)..).and_then(|rest| rest.first_chunk::<8>());
        word.map_or(0, |word| u64::from_ne_bytes(*word))
    }

    fn store(&self, word: usize, value: u64) {
        if let Some(to) = self.bytes.borrow_mut().get_mut(word * 8..word * 8 + 8) {
            to.copy_from_slice(&value.to_ne_bytes());
        }
        if let Some(file) = &self.file {
            let _ = file.write_all_at(&value.to_ne_bytes(), word as u64 * 8);
        }
    }
}

/// Looks at a hold: its logs, and whether it is to be removed now. None: it is none, or another process is at it.
fn look(folder: &OwnedFd, name: &str, user: u32, file: &File, puts_back: bool) -> Option<(Vec<HeldLog>, bool)> {
    let is_live = lease::is_written(file).unwrap_or(true);
    let mut bytes = Vec::new();
    let mut left = file.try_clone().ok()?;
    left.read_to_end(&mut bytes).ok()?;
    let size = bytes.len() as u64;
    let bytes = RefCell::new(bytes);
    let mut changes = None;
    if puts_back && !is_live {
        flock(file, FlockOperation::NonBlockingLockExclusive).ok()?;
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = openat(folder, name, flags, Mode::empty()).ok()?;
        // Whoever had the lock before may have put it back and removed it.
        let same = fstat(&opened)
            .ok()
            .zip(fstat(file).ok())
            .is_some_and(|(a, b)| (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino));
        changes = Some(File::from(opened)).filter(|_| same);
        changes.as_ref()?;
    }
    let hold = Hold::over(Copy { bytes: &bytes, file: changes });
    if let Err(damage) = hold.check(size) {
        if !is_live {
            let text = format!("{name} of user {user} can't be used as a hold ({damage:?}) and is left alone");
            let state = fstat(file).map(|it| format!("{} {} {}", it.st_ino, it.st_mtime, it.st_mtime_nsec));
            repeated::warn(&format!("hold {name} of {user}"), &state.unwrap_or_default(), &text);
        }
        return None;
    }
    let acts = hold.memory().file.is_some();
    if acts {
        hold.adopt();
    }
    let logs: Vec<usize> = hold.logs().collect();
    let found: Vec<HeldLog> =
        logs.into_iter().filter_map(|log| of_log(&hold, log, (folder, user), is_live, acts)).collect();
    Some((found, acts && hold.is_empty()))
}

/// One log of a hold; None if nothing of it is held.
fn of_log(
    hold: &Hold<Copy<'_>>,
    log: usize,
    (folder, user): (&OwnedFd, u32),
    is_live: bool,
    acts: bool,
) -> Option<HeldLog> {
    let mut bytes = [0; LONGEST_PATH];
    let path = hold.path(log, &mut bytes);
    let held = hold.held(log).bytes;
    let with = |fate: Fate| Some(HeldLog { pid: hold.pid(), path: safe(path), bytes: held, fate });
    if held == 0 {
        if acts {
            hold.leave(log);
        }
        return None;
    }
    if is_live {
        return with(Fate::Live);
    }
    if !acts {
        return with(Fate::Kept("its process has ended".into()));
    }
    let fate = put_back_log(hold, log, path, (folder, user), held);
    if fate == Fate::Dropped {
        hold.drop_log(log);
        hold.leave(log);
    }
    with(fate)
}

fn put_back_log(hold: &Hold<Copy<'_>>, log: usize, path: &[u8], (folder, user): (&OwnedFd, u32), held: u64) -> Fate {
    let by = (hold.identity(log), hold.born(log));
    let target = match HoldLog::open(path, by, user, hold.mode(log), hold.memory().bytes) {
        Ok(target) => target,
        Err(why) if why == GONE => return Fate::Dropped,
        // The hold is damaged, or the log may be there again later: nobody can do anything about it now.
        Err(why) if why == NOT_ABSOLUTE || why == ELSEWHERE => return Fate::Kept(why),
        Err(why) if user == geteuid().as_raw() => {
            return Fate::Failed(format!("{why}; once that is mended: tideover clean"));
        }
        Err(why) => return Fate::Failed(format!("{why}; {}", as_user(user))),
    };
    if hold.errno(log) != libc::EDQUOT && !target.has_room(held) {
        return Fate::Kept("its disk is full".into());
    }
    let Some(_lock) = LogLock::take(folder, user, target.identity()) else {
        return Fate::Kept("another process puts lines back into it".into());
    };
    settle(hold, log, &target);
    match put_back(hold, log, &target, |_| true).0 {
        Outcome::All => {}
        Outcome::Part => return Fate::Kept("a part is put back".into()),
        Outcome::Failed(libc::ENOSPC) => return Fate::Kept("its disk is full".into()),
        Outcome::Failed(libc::EDQUOT) => return Fate::Kept("its user's quota is used up".into()),
        Outcome::Failed(errno) => {
            let why = cause(&std::io::Error::from_raw_os_error(errno));
            return Fate::Failed(format!("it takes no more: {why}; once that is mended: tideover clean"));
        }
    }
    target.note(&note(hold, log));
    hold.leave(log);
    Fate::PutBack
}

/// Root does not write for a user what that user could not write.
fn as_user(user: u32) -> String {
    format!("as that user it may work: setpriv --reuid={user} --clear-groups tideover clean")
}

/// The line behind what was put back, as the library writes it.
fn note(hold: &Hold<Copy<'_>>, log: usize) -> String {
    let (lines, bytes, gone) = hold.counts(log);
    let (from, until) = (rfc3339(hold.since(log)), rfc3339(now_ns()));
    let reason = if hold.errno(log) == libc::EDQUOT { "over quota" } else { "disk full" };
    if hold.is_json(log) {
        let put_back = lines.saturating_sub(gone);
        return format!(
            "{{\"tideover\":\"{reason}\",\"lines\":{lines},\"bytes\":{bytes},\"sent_to\":\"the hold\",\"from\":\"{from}\",\"until\":\"{until}\",\"put_back\":{put_back}}}"
        );
    }
    let but = if gone > 0 { format!(" but for the first {gone}") } else { String::new() };
    format!(
        "tideover: {reason}: {lines} lines ({bytes} bytes) went to the hold between {from} and {until}, and are put back above{but}"
    )
}
