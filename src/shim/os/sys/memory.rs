//! Memory: mmap(2) and its like.

use core::ffi::{c_int, c_void};
use std::io::IoSlice;

use super::{Errno, call};
use crate::arch::{self, SMALLEST_PAGE};

/// mmap(2) of fresh memory, zeroed.
pub fn map_private(length: usize) -> Result<*mut c_void, Errno> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    call!(SYS_mmap, 0, length, libc::PROT_READ | libc::PROT_WRITE, flags, usize::MAX, 0).map(|p| p as *mut c_void)
}

/// As [`map_private`], and empty in the child of fork(2), clone(2) and _Fork(3) (madvise(2), MADV_WIPEONFORK).
pub fn map_emptied_in_children(length: usize) -> Result<*mut c_void, Errno> {
    let address = map_private(length)?;
    call!(SYS_madvise, address, length, libc::MADV_WIPEONFORK).map(|_| address).inspect_err(|_| {
        // SAFETY: just mapped, and nobody else knows it.
        unsafe { unmap(address, length) };
    })
}

/// munmap(2) of what [`map_private`] returned.
///
/// # Safety
/// `address` is what [`map_private`] returned for this `length`, and nobody refers to that memory any more.
pub unsafe fn unmap(address: *mut c_void, length: usize) {
    let _ = call!(SYS_munmap, address, length);
}

/// Puts a page with the first of these bytes into a pipe, if there is room: vmsplice(2). Needs no descriptor and does not block; raises
/// SIGPIPE. The page is the pipe's from then on.
pub fn give_page(pipe: c_int, pieces: &[IoSlice<'_>]) -> Result<usize, Errno> {
    const SPLICE_F_NONBLOCK: c_int = 2;
    let page = map_private(SMALLEST_PAGE)?;
    // SAFETY: just mapped with this size, writable, zeroed, and nobody else knows it.
    let bytes = unsafe { core::slice::from_raw_parts_mut(page.cast::<u8>(), SMALLEST_PAGE) };
    let mut length = 0;
    for piece in pieces {
        let count = piece.len().min(SMALLEST_PAGE - length);
        bytes[length..length + count].copy_from_slice(&piece[..count]);
        length += count;
    }
    let filled = [IoSlice::new(&bytes[..length])];
    let answer = call!(SYS_vmsplice, pipe, filled.as_ptr(), 1, SPLICE_F_NONBLOCK);
    // SAFETY: mapped above; `bytes` is not used any more.
    unsafe { unmap(page, SMALLEST_PAGE) };
    answer
}

/// mmap(2) of a whole file, shared and writable: at a place of the kernel's choice, or `instead` of what is mapped there.
///
/// # Safety
/// `instead` is null, or the beginning of a mapping of `length` bytes that was made here. What refers to it may refer to the file's content
/// from now on. The file has `length` bytes, and is not cut while it is mapped.
pub unsafe fn map_shared(fd: c_int, length: usize, instead: *mut c_void) -> Result<*mut c_void, Errno> {
    let flags = libc::MAP_SHARED | if instead.is_null() { 0 } else { libc::MAP_FIXED };
    call!(SYS_mmap, instead, length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0).map(|p| p as *mut c_void)
}

/// mprotect(2) of whole pages.
///
/// # Safety
/// `address` is the beginning of a page, and `how` allows what anybody will do with the `length` bytes there until they are protected anew.
pub unsafe fn protect(address: usize, length: usize, how: c_int) -> Result<(), Errno> {
    call!(SYS_mprotect, address, length, how).map(drop)
}

/// Does the program have rights that its caller does not have (AT_SECURE)?
pub fn is_secure() -> bool {
    // SAFETY: getauxval(3) only reads what the kernel has passed to the process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Bytes of a page of memory, from the auxiliary vector: 4, 16 or 64 KiB.
pub fn page_size() -> usize {
    // SAFETY: getauxval(3) only reads.
    unsafe { libc::getauxval(libc::AT_PAGESZ) as usize }
}

/// process_vm_readv(2) of this process: can the byte at this address be copied?
fn is_copied(at: usize) -> bool {
    let mut byte = 0u8;
    let to = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let from = libc::iovec { iov_base: at as *mut c_void, iov_len: 1 };
    call!(SYS_process_vm_readv, super::getpid(), &raw const to, 1, &raw const from, 1, 0) != Err(libc::EFAULT)
}

/// Can these bytes be read? A program may pass a bad pointer, and expects EFAULT, not a crash. Asked by rt_sigprocmask(2) with an
/// operation that does not exist: it reads eight bytes, and then fails with EINVAL. Valgrind reports each such call, and finds fault with
/// bytes that the program has not written yet; there the kernel is asked for a copy of the first byte. Reads nothing itself.
#[inline(never)]
pub fn is_readable(data: *const c_void, length: usize) -> bool {
    // Where pages are larger, some are asked for more than once.
    const PAGE: usize = SMALLEST_PAGE;
    const NO_OPERATION: c_int = 99;
    let (mut at, end) = (data as usize, (data as usize).saturating_add(length));
    // To rt_sigprocmask(2), NULL is no set at all.
    let probed = |at: usize| call!(SYS_rt_sigprocmask, NO_OPERATION, at & !7, 0, 8) != Err(libc::EFAULT);
    while at < end {
        if at < 8 || !if arch::is_on_valgrind() { is_copied(at) } else { probed(at) } {
            return false;
        }
        at = (at | (PAGE - 1)).saturating_add(1);
    }
    true
}
