//! The file of the shared page: where it is, how it is made and mapped, and what its header says.

use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use tideover_contract::page::{self as contract, Page};
use tideover_contract::settings;

use crate::os::sys;
use crate::os::text::Text;
use crate::state::process;
use crate::state::settings::SETTINGS;

/// A path of the page's file or folder, with its NUL.
pub type Path = Text<256>;

/// What could not be done, in words that the path of the folder follows, and why.
pub type Failure = (&'static str, sys::Errno);

/// The path of this process's file, in the folder of a user.
pub fn path(uid: u32) -> Path {
    let mut path = directory(uid);
    let _ = write!(path, "/{}", process::pid());
    path
}

/// The path of the folder of a user.
pub fn directory(uid: u32) -> Path {
    let mut path = Path::new();
    let _ = path.push(SETTINGS.page_dir());
    let _ = write!(path, "/tideover.{uid}");
    path
}

/// Makes this process's file in the folder of a user, with the content of `from`, and maps it. `former` is a page that this process had
/// before, or null: the new one is mapped in its place, and `former` becomes null.
///
/// # Safety
/// `former` is null, or was returned by this function.
pub unsafe fn make(uid: u32, from: &Page, former: &AtomicPtr<Page>) -> Result<&'static Page, Failure> {
    let fd = create(uid)?;
    // SAFETY: the file was just created, for its owner alone to write; `former` is as the caller promises.
    let mapped = unsafe { map(fd, from, former) };
    sys::close(fd);
    if mapped.is_err() {
        let _ = sys::unlink(path(uid).as_c_str());
    }
    mapped
}

/// Creates the file, empty. One of this name is left over from a dead process with this number, or from the program that this process
/// was before an execve(2): it is replaced. Or it is that of a process in another pid namespace, which has the same folder: it stays.
fn create(uid: u32) -> Result<i32, Failure> {
    check_directory(directory(uid).as_c_str(), uid)?;
    let path = path(uid);
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // No other user may open it for writing: who truncated it would end this process by SIGBUS. Its owner writes to it by `tideover
    // control`.
    let create = || sys::open(path.as_c_str(), flags, 0o600);
    match create() {
        Err(libc::EEXIST) if is_of_other_namespace(path.as_c_str()) => {
            return Err(("a process of another pid namespace has the page of this number in", libc::EEXIST));
        }
        Err(libc::EEXIST) => sys::unlink(path.as_c_str()).and_then(|()| create()),
        other => other,
    }
    .map_err(|errno| ("creating a file in", errno))
}

/// The number of this process's pid namespace; 0: /proc does not say.
fn pid_namespace() -> u64 {
    sys::stat(c"/proc/self/ns/pid", true).map_or(0, |status| status.st_ino)
}

/// Is this the pid namespace that this process is in, as far as can be known? Asked only as process 1, which a child in a namespace of
/// its own is, too: one that clone(2) has made has a copy of its parent's memory, and the process id that is noted there.
pub fn is_our_namespace(namespace: u64) -> bool {
    process::pid() != 1 || namespace == 0 || [0, namespace].contains(&pid_namespace())
}

/// Is this the page of a process in another pid namespace that lives?
fn is_of_other_namespace(path: &CStr) -> bool {
    const AT: usize = core::mem::offset_of!(Page, pid_namespace);
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let Ok(fd) = sys::open(path, flags, 0) else { return false };
    let mut bytes = [0; 8];
    let read = sys::read_at(fd, &mut bytes, AT as u64).map_or(0, <[u8]>::len);
    let (theirs, ours) = (u64::from_ne_bytes(bytes), pid_namespace());
    let is_other = read == 8 && theirs != 0 && ours != 0 && theirs != ours && sys::is_written(fd).unwrap_or(true);
    sys::close(fd);
    is_other
}

/// Types of filesystems (statfs(2)) on which a store into a mapped file can raise SIGBUS although the file is allocated, because they
/// need new space for each write, or a server: btrfs, f2fs, ZFS, bcachefs, nilfs2, NFS, CIFS, SMB2, FUSE, 9p, Ceph.
const UNSAFE_FILESYSTEMS: [i64; 11] = [
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
    0x3434,
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
];

/// Can a store into a mapped and allocated file of this filesystem raise SIGBUS?
pub fn is_unsafe_to_map(fd: i32) -> bool {
    sys::filesystem(fd).is_ok_and(|filesystem| UNSAFE_FILESYSTEMS.contains(&filesystem.kind))
}

/// Writes the page into the file, and maps it. It is written first because a store into an unallocated page of a full tmpfs raises
/// SIGBUS.
///
/// # Safety
/// `fd` is a file that nobody else may write to; `former` is null, or was returned by this function.
unsafe fn map(fd: i32, from: &Page, former: &AtomicPtr<Page>) -> Result<&'static Page, Failure> {
    if sys::file_size_limit() < contract::SIZE as u64 {
        return Err(("ulimit -f allows no file of 4 KiB in", libc::EFBIG));
    }
    if is_unsafe_to_map(fd) {
        return Err(("its filesystem may need new space for each write, or its server:", libc::EOPNOTSUPP));
    }
    let former = former.swap(core::ptr::null_mut(), Relaxed);
    // SAFETY: `former` is null or a mapping of SIZE bytes, as the caller promises. Threads may still count in it; in the new one they can, too.
    // `fill` has given the file its size.
    let shared = || unsafe { sys::map_shared(fd, contract::SIZE, former.cast()) };
    let mapped = sys::fill(fd, from).and_then(|()| shared());
    // SAFETY: a mapping of SIZE bytes that begins at a page of memory and is never unmapped: `fill` has given the file that size, nobody
    // else may truncate it, and its content is that of a Page. All fields are atomics, so other threads may use it, too.
    mapped.map(|address| unsafe { &*address.cast::<Page>() }).map_err(|errno| ("allocating 4 KiB in", errno))
}

/// Makes the folder if there is none. Nobody but its owner may write to it: others could replace its files, or make links of them.
pub fn check_directory(path: &CStr, uid: u32) -> Result<(), Failure> {
    let status = match sys::stat(path, false) {
        Err(libc::ENOENT) => {
            sys::mkdir(path, 0o700)
                .or_else(|errno| if errno == libc::EEXIST { Ok(()) } else { Err(errno) })
                .map_err(|errno| ("making", errno))?;
            sys::stat(path, false)
        }
        other => other,
    }
    .map_err(|errno| ("looking at", errno))?;
    if is_own(&status, uid) { Ok(()) } else { Err(("not a directory of our own with mode 0700:", libc::EPERM)) }
}

/// Can nobody but root and this user, whose file it is, write to the page? Where this process has become another user, it may not look:
/// then the folder is closed to others than its owner, as it was when the file was made.
pub fn is_closed_to_others(owner: Option<u32>) -> bool {
    let Some(uid) = owner else { return false };
    let status = match sys::stat(directory(uid).as_c_str(), false) {
        Ok(folder) if is_own(&folder, uid) => sys::stat(path(uid).as_c_str(), false),
        Ok(_) => return false,
        Err(errno) => Err(errno),
    };
    match status {
        Ok(file) => file.st_mode & libc::S_IFMT == libc::S_IFREG && file.st_uid == uid && file.st_mode & 0o022 == 0,
        Err(errno) => errno == libc::EACCES,
    }
}

fn is_own(status: &libc::stat, uid: u32) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFDIR && status.st_uid == uid && status.st_mode & 0o077 == 0
}

/// Writes the header and the settings of this process into a page.
pub fn fill_header(to: &Page, uid: u32) {
    to.magic.store(contract::MAGIC, Relaxed);
    to.layout.store(contract::LAYOUT, Relaxed);
    to.size.store(contract::SIZE as u32, Relaxed);
    to.pid.store(process::pid() as u32, Relaxed);
    to.uid.store(uid, Relaxed);
    to.pid_namespace.store(pid_namespace(), Relaxed);
    to.started_boot_ns.store(sys::clock(libc::CLOCK_BOOTTIME), Relaxed);
    to.started_ns.store(sys::clock(libc::CLOCK_REALTIME), Relaxed);
    contract::store_text(&to.version, env!("CARGO_PKG_VERSION").as_bytes());
    contract::store_text(&to.program, process::program());
    fill_settings(to);
}

/// Writes the settings of this process into a page.
pub fn fill_settings(to: &Page) {
    for index in 0..settings::COUNT {
        to.settings[index].store(SETTINGS.value(index), Relaxed);
        to.sources[index].store(SETTINGS.source(index), Relaxed);
    }
    to.settings_count.store(settings::COUNT as u32, Relaxed);
    to.policy.store(SETTINGS.policy(), Relaxed);
}
