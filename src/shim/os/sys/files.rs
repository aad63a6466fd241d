//! Files and their filesystems.

use core::ffi::{CStr, c_int, c_uint, c_void};
use std::io::IoSlice;

use super::{Errno, call};

/// openat(2). All paths in this library are absolute.
pub fn open(path: &CStr, flags: c_int, mode: c_uint) -> Result<c_int, Errno> {
    call!(SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode).map(|fd| fd as c_int)
}

/// openat(2) of this name in the directory that `directory` is open on.
pub fn open_in(directory: c_int, name: &CStr, flags: c_int, mode: c_uint) -> Result<c_int, Errno> {
    call!(SYS_openat, directory, name.as_ptr(), flags, mode).map(|fd| fd as c_int)
}

/// write(2), once.
pub fn write(fd: c_int, bytes: &[u8]) -> Result<usize, Errno> {
    call!(SYS_write, fd, bytes.as_ptr(), bytes.len())
}

/// write(2), once, of memory that a program passed. What can't be read of it is an error of the kernel's, EFAULT.
///
/// # Safety
/// `data` and `count` are what the program passed to a call that reads so many bytes there, and that call has not returned.
pub unsafe fn write_raw(fd: c_int, data: *const c_void, count: usize) -> Result<usize, Errno> {
    call!(SYS_write, fd, data, count)
}

/// writev(2), once.
pub fn write_pieces(fd: c_int, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    call!(SYS_writev, fd, pieces.as_ptr(), pieces.len())
}

/// Writes to a pipe what it takes at once: does not block, nor raise SIGPIPE if it is to be `silent`. EOPNOTSUPP: the kernel is too old for
/// that; for `silent` any before Linux 6.18.
pub fn write_pieces_now(fd: c_int, pieces: &[IoSlice<'_>], silent: bool) -> Result<usize, Errno> {
    let flags = libc::RWF_NOWAIT | if silent { RWF_NOSIGNAL } else { 0 };
    call!(SYS_pwritev2, fd, pieces.as_ptr(), pieces.len(), -1isize, -1isize, flags)
}

/// A flag of pwritev2(2), from linux/fs.h.
const RWF_NOSIGNAL: c_int = 0x100;

/// Writes to a pipe what it takes at once, of memory that a program passed; neither blocks nor raises SIGPIPE. EOPNOTSUPP before
/// Linux 6.18.
///
/// # Safety
/// As for [`write_raw`].
pub unsafe fn write_now(fd: c_int, data: *const c_void, count: usize) -> Result<usize, Errno> {
    let vector = libc::iovec { iov_base: data.cast_mut(), iov_len: count };
    call!(SYS_pwritev2, fd, &raw const vector, 1, -1isize, -1isize, libc::RWF_NOWAIT | RWF_NOSIGNAL)
}

/// As [`write_now`], of memory of our own.
pub fn write_text_now(fd: c_int, text: &[u8]) -> Result<usize, Errno> {
    // SAFETY: all of it can be read.
    unsafe { write_now(fd, text.as_ptr().cast(), text.len()) }
}

/// What fstat(2) would say of a file of which no more is known than this: st_dev and st_ino.
pub fn status_of(device: u64, inode: u64) -> libc::stat {
    // SAFETY: all zero bytes are a valid stat.
    let mut status: libc::stat = unsafe { core::mem::zeroed() };
    (status.st_dev, status.st_ino) = (device, inode);
    status
}

/// pwrite(2), once.
pub fn write_at(fd: c_int, bytes: &[u8], offset: u64) -> Result<usize, Errno> {
    call!(SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), offset)
}

/// pwrite(2) of the bytes of `content` to the start of a file. It allocates them as fallocate(2) would, and takes 4 us less on a tmpfs.
pub fn fill<T>(fd: c_int, content: &T) -> Result<(), Errno> {
    match call!(SYS_pwrite64, fd, &raw const *content, size_of::<T>(), 0) {
        Ok(written) if written < size_of::<T>() => Err(libc::ENOSPC),
        other => other.map(drop),
    }
}

/// pread(2) into `to`: the part that was filled in.
pub fn read_at(fd: c_int, to: &mut [u8], offset: u64) -> Result<&[u8], Errno> {
    let length = call!(SYS_pread64, fd, to.as_mut_ptr(), to.len(), offset)?;
    Ok(to.get(..length).unwrap_or(&[]))
}

/// readlink(2) into `to`: the part that was filled in.
pub fn read_link<'a>(path: &CStr, to: &'a mut [u8]) -> Result<&'a [u8], Errno> {
    let length = call!(SYS_readlinkat, libc::AT_FDCWD, path.as_ptr(), to.as_mut_ptr(), to.len())?;
    Ok(to.get(..length).unwrap_or(&[]))
}

/// getdents64(2): the part of `to` that was filled in.
pub fn read_directory(fd: c_int, to: &mut [u8]) -> Result<&[u8], Errno> {
    let length = call!(SYS_getdents64, fd, to.as_mut_ptr(), to.len())?;
    Ok(to.get(..length).unwrap_or(&[]))
}

/// ftruncate(2).
pub fn truncate(fd: c_int, length: u64) -> Result<(), Errno> {
    call!(SYS_ftruncate, fd, length).map(drop)
}

/// fallocate(2): so many bytes from `offset` on are allocated and zero where nothing was, and the file reaches that far.
pub fn allocate(fd: c_int, offset: u64, length: u64) -> Result<(), Errno> {
    call!(SYS_fallocate, fd, 0, offset, length).map(drop)
}

/// fchmod(2).
pub fn change_mode(fd: c_int, mode: c_uint) -> Result<(), Errno> {
    call!(SYS_fchmod, fd, mode).map(drop)
}

/// fchown(2).
pub fn change_owner(fd: c_int, user: c_uint, group: c_uint) -> Result<(), Errno> {
    call!(SYS_fchown, fd, user, group).map(drop)
}

/// renameat(2) of one name in the directory that `directory` is open on to another.
pub fn rename_in(directory: c_int, from: &CStr, to: &CStr) -> Result<(), Errno> {
    call!(SYS_renameat, directory, from.as_ptr(), directory, to.as_ptr()).map(drop)
}

/// linkat(2): gives the file of one name in the directory that `directory` is open on another one there.
pub fn link_in(directory: c_int, from: &CStr, to: &CStr) -> Result<(), Errno> {
    call!(SYS_linkat, directory, from.as_ptr(), directory, to.as_ptr(), 0).map(drop)
}

/// mkdir(2).
pub fn mkdir(path: &CStr, mode: c_uint) -> Result<(), Errno> {
    call!(SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), mode).map(drop)
}

/// unlink(2).
pub fn unlink(path: &CStr) -> Result<(), Errno> {
    call!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0).map(drop)
}

/// rmdir(2).
pub fn remove_directory(path: &CStr) -> Result<(), Errno> {
    call!(SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), libc::AT_REMOVEDIR).map(drop)
}

/// unlinkat(2): removes the file of this name in the directory that `directory` is open on.
pub fn unlink_in(directory: c_int, name: &CStr) -> Result<(), Errno> {
    call!(SYS_unlinkat, directory, name.as_ptr(), 0).map(drop)
}

/// memfd_create(2): a file in memory, which can be sealed.
pub fn memory_file(name: &CStr, close_on_exec: bool) -> Result<c_int, Errno> {
    let flags = libc::MFD_ALLOW_SEALING | if close_on_exec { libc::MFD_CLOEXEC } else { 0 };
    call!(SYS_memfd_create, name.as_ptr(), flags).map(|fd| fd as c_int)
}

/// fcntl(2) F_ADD_SEALS: from here on the file can't be written to.
pub fn seal(fd: c_int) -> Result<(), Errno> {
    call!(SYS_fcntl, fd, libc::F_ADD_SEALS, libc::F_SEAL_WRITE | libc::F_SEAL_GROW).map(drop)
}

/// fstat(2).
pub fn fstat(fd: c_int) -> Result<libc::stat, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_fstat, fd, status.as_mut_ptr())?;
    // SAFETY: all zero bytes are a valid stat, and the kernel has filled it in.
    Ok(unsafe { status.assume_init() })
}

/// statx(2): when the file was made, nanoseconds of CLOCK_REALTIME; 0: its filesystem does not say.
pub fn birth(fd: c_int) -> u64 {
    /// Bytes of struct statx, and offsets of stx_mask and stx_btime in it.
    const SIZE: usize = 256;
    const BORN: usize = 80;
    const STATX_BTIME: u32 = 0x800;
    let mut status = [0u64; SIZE / 8];
    let done = call!(SYS_statx, fd, c"".as_ptr(), libc::AT_EMPTY_PATH, STATX_BTIME, status.as_mut_ptr());
    if done.is_err() || status[0] as u32 & STATX_BTIME == 0 {
        return 0;
    }
    status[BORN / 8].wrapping_mul(1_000_000_000).wrapping_add(status[BORN / 8 + 1] & u64::from(u32::MAX))
}

/// stat(2), or lstat(2).
pub fn stat(path: &CStr, follow: bool) -> Result<libc::stat, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
    call!(SYS_newfstatat, libc::AT_FDCWD, path.as_ptr(), status.as_mut_ptr(), flags)?;
    // SAFETY: as in fstat.
    Ok(unsafe { status.assume_init() })
}

/// fstatat(2) of the file of this name in the directory that `directory` is open on; of a symbolic link itself.
pub fn stat_in(directory: c_int, name: &CStr) -> Result<libc::stat, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_newfstatat, directory, name.as_ptr(), status.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW)?;
    // SAFETY: as in fstat.
    Ok(unsafe { status.assume_init() })
}

/// lseek(2) to nowhere: the offset of an open file.
pub fn offset(fd: c_int) -> Result<u64, Errno> {
    call!(SYS_lseek, fd, 0, libc::SEEK_CUR).map(|at| at as u64)
}

/// stat(2): how many names a file has; of a folder in /proc, two and one for each folder in it.
#[allow(clippy::unnecessary_cast, reason = "32 bits wide on some architectures")]
pub fn link_count(path: &CStr) -> Result<u64, Errno> {
    stat(path, true).map(|status| status.st_nlink as u64)
}

/// Bytes of a filesystem.
pub struct Filesystem {
    /// Used and free.
    pub total: u64,
    /// Free for this user.
    pub available: u64,
    /// Free for root.
    pub unused: u64,
    /// Magic number of its kind.
    pub kind: i64,
}

/// fstatfs(2).
pub fn filesystem(fd: c_int) -> Result<Filesystem, Errno> {
    let mut status = core::mem::MaybeUninit::<libc::statfs>::zeroed();
    call!(SYS_fstatfs, fd, status.as_mut_ptr())?;
    // SAFETY: as in fstat.
    let status = unsafe { status.assume_init() };
    // Blocks are counted in fragments where these differ.
    let unit = if status.f_frsize > 0 { status.f_frsize } else { status.f_bsize } as u64;
    Ok(Filesystem {
        total: status.f_blocks.saturating_mul(unit),
        available: status.f_bavail.saturating_mul(unit),
        unused: status.f_bfree.saturating_mul(unit),
        kind: status.f_type,
    })
}
