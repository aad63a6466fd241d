//! Files of holds: where they are, how one is made and mapped, and whose process has ended.
//!
//! They are in a folder `holds` of the user's folder of pages, which is there only while there are holds.

use core::fmt::Write;

use tideover_contract::hold::{self, FIRST_NAME, GONE, Hold, OVERHEAD};

use super::burst;
use super::files::Key;
use super::opened::names;
use crate::os::mapping::Mapping;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::page_file::{self, Failure};
use crate::state::process;
use crate::state::settings::SETTINGS;
use tideover_contract::settings::Id;

/// The path of a hold or of the folder, with its NUL.
pub type Path = Text<320>;

/// At most so many holds of processes that have ended are looked at, the oldest.
const MOST_LEFT: usize = 64;
/// Logs that there is space for in a new hold, and bytes of its ring. Both grow when more is needed.
const FIRST_LOGS: usize = 3;
const FIRST_RING: u64 = 16 << 10;
/// The table of logs, and the ring, become so many times larger each time.
const GROWTH: u64 = 4;

/// The folder of a user's holds, or with `within` false the one that it is in.
fn directory(uid: u32, within: bool) -> Path {
    let mut path = Path::new();
    let _ = path.push(SETTINGS.hold_dir());
    let _ = write!(path, "/tideover.{uid}");
    if within {
        let _ = path.push(b"/holds");
    }
    path
}

/// A hold, mapped, and its path.
pub struct Mapped {
    /// What is in it.
    pub hold: Hold<Mapping>,
    /// Where it is; empty: in this process's own memory.
    pub path: Path,
    /// Bytes that its ring may have.
    pub most: u64,
    /// A log of which a line was kept last, by whoever has the hold now.
    pub kept: Option<Key>,
}

impl Mapped {
    /// Makes a hold whose ring gets at most `most` bytes.
    pub fn make(most: u64) -> Result<Mapped, Failure> {
        let uid = sys::geteuid();
        let most = (most & !4095).max(4096);
        let made = sys::clock(libc::CLOCK_REALTIME);
        let mut path = directory(uid, true);
        let _ = path.push(b"/");
        let _ = hold::hold_file_name(&mut path, process::pid() as u32, made);
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let create = || {
            check_folder()?;
            sys::open(path.as_c_str(), flags, 0o600).map_err(|errno| ("creating a file in", errno))
        };
        // Another process may remove the folder when its last hold goes.
        let fd = create().or_else(|_| create())?;
        let first = FIRST_RING.min(most);
        let mapped = allocate(fd, first, most);
        sys::close(fd);
        let mapping = mapped.inspect_err(|_| {
            let _ = sys::unlink(path.as_c_str());
        })?;
        let hold = Hold::over(mapping);
        hold.format(process::pid() as u32, uid, made, FIRST_LOGS, first as usize);
        Ok(Mapped { hold, path, most, kept: None })
    }

    /// Makes a hold that ends with the process, where no file can be made: without a free descriptor, or in a full folder.
    pub fn make_private(most: u64) -> Option<Mapped> {
        let most = (most & !4095).max(4096);
        let hold = Hold::over(Mapping::private(OVERHEAD + most as usize).ok()?);
        let made = sys::clock(libc::CLOCK_REALTIME);
        hold.format(process::pid() as u32, sys::geteuid(), made, hold::LOGS, most as usize);
        Some(Mapped { hold, path: Path::new(), most, kept: None })
    }

    /// Maps the hold of a process that has ended, and locks it against others who find it; the lock lasts as long as the descriptor,
    /// which is the second value. None: it is no hold, its process is alive, or somebody else has it.
    fn open_left(path: &Path, wanted: Option<(u64, u64)>) -> Option<(Mapped, i32)> {
        let fd = sys::open(path.as_c_str(), libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC, 0)
            .ok()?;
        let logs = logs_of(fd, wanted);
        let mapped = if logs == Logs::There { map_left(fd, path) } else { None };
        if logs == Logs::Gone && wanted.is_none() && is_free(fd) {
            set_aside(path);
        }
        if mapped.is_none() {
            sys::close(fd);
        }
        Some((mapped?, fd))
    }

    /// Makes the ring larger. False: it has the size that it may have, or there is no space.
    pub fn grow(&mut self) -> bool {
        let capacity = self.hold.capacity();
        let larger = capacity.saturating_mul(GROWTH).min(self.most);
        if larger <= capacity || !self.hold.can_grow() {
            return false;
        }
        if !self.extend(OVERHEAD as u64 + capacity, larger - capacity) {
            self.most = capacity;
            return false;
        }
        self.hold.grow(larger)
    }

    /// Makes room for more logs.
    pub fn grow_table(&mut self) -> bool {
        let entries = self.hold.entries();
        let more = (entries * GROWTH as usize).min(hold::LOGS);
        let (from, to) = (hold::table_end(entries) as u64, hold::table_end(more) as u64);
        let grown = more > entries && self.extend(from, to - from);
        if grown {
            self.hold.set_entries(more);
        }
        grown
    }

    fn extend(&self, from: u64, length: u64) -> bool {
        let Ok(fd) = sys::open(self.path.as_c_str(), libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0) else {
            return false;
        };
        let done = sys::allocate(fd, from, length).is_ok();
        sys::close(fd);
        done
    }

    /// Removes the file, and the folder if it was the last one there.
    pub fn remove(self) {
        if self.path.as_bytes().is_empty() {
            return;
        }
        let _ = sys::unlink(self.path.as_c_str());
        remove_folder();
        if burst::is_broken() {
            core::mem::forget(self);
        }
    }
}

/// Removes the folder, if nothing is in it.
pub fn remove_folder() {
    let _ = sys::remove_directory(directory(sys::geteuid(), true).as_c_str());
}

/// Makes the folder, if there is none. The error says why it can't be used.
pub fn check_folder() -> Result<(), Failure> {
    let uid = sys::geteuid();
    page_file::check_directory(directory(uid, false).as_c_str(), uid)?;
    page_file::check_directory(directory(uid, true).as_c_str(), uid)
}

/// Gives a new file its first bytes, and maps as many as it may get. A store into a page that is not allocated would raise SIGBUS when the
/// filesystem is full.
fn allocate(fd: i32, ring: u64, most: u64) -> Result<Mapping, Failure> {
    if sys::file_size_limit() < OVERHEAD as u64 + most {
        return Err(("ulimit -f allows no file of this size in", libc::EFBIG));
    }
    if page_file::is_unsafe_to_map(fd) {
        return Err(("its filesystem may need new space for each write, or its server:", libc::EOPNOTSUPP));
    }
    sys::allocate(fd, 0, hold::table_end(FIRST_LOGS) as u64)
        .and_then(|()| sys::allocate(fd, OVERHEAD as u64, ring))
        // SAFETY: a new file that only its owner's processes may open; those that find it while this process lives leave it alone.
        .and_then(|()| unsafe { Mapping::new(fd, OVERHEAD + most as usize) })
        .map_err(|errno| ("allocating a hold in", errno))
}

/// Where the logs of a hold are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Logs {
    /// One is the wanted one, or is where it was.
    There,
    /// None is, though the filesystems of all of them are mounted.
    Gone,
    /// Not known.
    Unknown,
}

/// Has the hold of this descriptor the log that is wanted, or a log that is where it was? Most that are left over are of logs that are
/// gone, and are not worth being mapped.
fn logs_of(fd: i32, wanted: Option<(u64, u64)>) -> Logs {
    let mut first = [0u8; 128];
    let entries = sys::read_at(fd, &mut first, 0).map_or(0, hold::entries_in);
    let mut all = if entries > 0 { Logs::Gone } else { Logs::Unknown };
    for log in 0..entries {
        let mut entry = [0u8; hold::ENTRY_START + hold::LONGEST_PATH];
        let read = sys::read_at(fd, &mut entry, hold::entry_offset(log) as u64).map_or(0, <[u8]>::len);
        let Some(identity) = entry.get(..read).and_then(hold::identity_in) else { continue };
        match wanted {
            Some(wanted) if identity == wanted => return Logs::There,
            Some(_) => {}
            None => match where_is(&mut entry[hold::ENTRY_START..], identity) {
                Logs::There => return Logs::There,
                Logs::Unknown => all = Logs::Unknown,
                Logs::Gone => {}
            },
        }
    }
    all
}

/// Is the log of this identity at this path, which a NUL ends?
fn where_is(path: &mut [u8], identity: (u64, u64)) -> Logs {
    let stat = |path: &[u8]| sys::stat(core::ffi::CStr::from_bytes_until_nul(path).ok()?, false).ok();
    let found = stat(path);
    if Key::of_identity(identity).is_uncreated()
        || found.is_some_and(|status| (status.st_dev, status.st_ino) == identity)
    {
        return Logs::There;
    }
    // The nearest folder that is left.
    let mut end = path.len();
    while let Some(slash) = path.iter().take(end).rposition(|&byte| byte == b'/') {
        path[slash..end].fill(0);
        end = slash;
        if let Some(folder) = stat(path) {
            return if folder.st_dev == identity.0 { Logs::Gone } else { Logs::Unknown };
        }
    }
    Logs::Unknown
}

/// Locks the hold of this descriptor. False: another process has it.
fn is_free(fd: i32) -> bool {
    sys::lock(fd).is_ok() && !sys::is_written(fd).unwrap_or(false)
}

/// None of the logs of this hold is where it was: programs that start need not look at it again.
fn set_aside(path: &Path) {
    let mut gone = path.clone();
    let _ = gone.push(GONE.as_bytes());
    let _ = sys::rename_in(libc::AT_FDCWD, path.as_c_str(), gone.as_c_str());
}

fn map_left(fd: i32, path: &Path) -> Option<Mapped> {
    let status = sys::fstat(fd).ok()?;
    let own = status.st_mode & libc::S_IFMT == libc::S_IFREG
        && status.st_uid == sys::geteuid()
        && status.st_mode & 0o077 == 0
        && status.st_nlink == 1;
    if !own || !is_free(fd) {
        return None;
    }
    // Who had the lock before may have removed the file.
    let there = sys::stat(path.as_c_str(), false).ok()?;
    if (there.st_dev, there.st_ino) != (status.st_dev, status.st_ino) || page_file::is_unsafe_to_map(fd) {
        return None;
    }
    let size = usize::try_from(status.st_size).ok().filter(|&size| size >= OVERHEAD)?;
    let most = (SETTINGS.get(Id::Hold) & !4095).max(4096);
    let writable = sys::open(path.as_c_str(), libc::O_RDWR | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0).ok()?;
    // What is not allocated is so from here on: the file may have been cut and extended again.
    let mut first = [0u8; 128];
    let entries = sys::read_at(writable, &mut first, 0).map_or(0, hold::entries_in);
    let ring = (size - OVERHEAD).max(1) as u64;
    let whole = sys::allocate(writable, 0, hold::table_end(entries) as u64).is_ok()
        && sys::allocate(writable, OVERHEAD as u64, ring).is_ok();
    // SAFETY: the owner's own file, which no process has open for writing, and which the lock keeps others from.
    let mapping = if whole { unsafe { Mapping::new(writable, size.max(OVERHEAD + most as usize)) }.ok() } else { None };
    sys::close(writable);
    let hold = Hold::over(mapping?);
    hold.check(size as u64).ok()?;
    hold.adopt();
    let most = hold.capacity().max(most);
    Some(Mapped { hold, path: path.clone(), most, kept: None })
}

/// Calls `look` with each hold of this user whose process has ended, oldest first; at most [`MOST_LEFT`]. It is locked meanwhile. A hold
/// that `look` returns stays mapped, and is where the search ends. `wanted`: st_dev and st_ino of the log that it must have; else it must
/// have one that is where it was.
pub fn find_left(wanted: Option<(u64, u64)>, mut look: impl FnMut(Mapped) -> Option<Mapped>) -> Option<Mapped> {
    let folder = directory(sys::geteuid(), true);
    let mut oldest = [Left { made: 0, pid: 0, is_gone: false }; MOST_LEFT];
    for left in list_left(&folder, wanted.is_some(), &mut oldest)? {
        let mut path = folder.clone();
        let _ = path.push(b"/");
        let _ = hold::hold_file_name(&mut path, left.pid as u32, left.made);
        let _ = path.push(if left.is_gone { GONE.as_bytes() } else { b"" });
        let Some((mapped, fd)) = Mapped::open_left(&path, wanted) else { continue };
        let looked = look(mapped);
        sys::close(fd);
        if looked.is_some() {
            return looked;
        }
    }
    None
}

/// Is there a folder of holds?
pub fn any() -> bool {
    sys::stat(directory(sys::geteuid(), true).as_c_str(), false).is_ok()
}

/// The oldest holds in the folder, as many as there is room for in `oldest`: not those of processes that are alive in this pid namespace,
/// and those of logs that are gone only if they are wanted.
fn list_left<'a>(folder: &Path, with_gone: bool, oldest: &'a mut [Left; MOST_LEFT]) -> Option<&'a [Left]> {
    let fd = sys::open(folder.as_c_str(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC, 0)
        .ok()?;
    let mut count = 0;
    let mut entries = [0u8; 1024];
    while let Ok(part @ [_, ..]) = sys::read_directory(fd, &mut entries) {
        for left in names(part).filter(|name| hold::is_hold_file_name(name)).filter_map(Left::of) {
            let at = oldest.iter().take(count).take_while(|other| other.made < left.made).count();
            if at < MOST_LEFT
                && (with_gone || !left.is_gone)
                && (left.pid == process::pid() || !sys::is_alive(left.pid))
            {
                count = (count + 1).min(MOST_LEFT);
                oldest[at..count].rotate_right(1);
                oldest[at] = left;
            }
        }
    }
    sys::close(fd);
    Some(&oldest[..count])
}

/// What a hold's name says.
#[derive(Clone, Copy)]
struct Left {
    /// When it was made.
    made: u64,
    /// Its process.
    pid: i32,
    /// Does it end with [`GONE`]?
    is_gone: bool,
}

impl Left {
    fn of(name: &[u8]) -> Option<Left> {
        let text = core::str::from_utf8(name.strip_prefix(FIRST_NAME.as_bytes())?).ok()?;
        let plain = text.strip_suffix(GONE);
        let (pid, made) = plain.unwrap_or(text).split_once('.')?;
        Some(Left { made: u64::from_str_radix(made, 16).ok()?, pid: pid.parse().ok()?, is_gone: plain.is_some() })
    }
}

/// The folder of a user's holds.
pub fn folder(uid: u32) -> Path {
    directory(uid, true)
}
