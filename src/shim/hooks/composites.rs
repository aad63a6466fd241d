//! Functions that open something inside libc, where no hook is reached: each needs a hook of its own.

use core::ffi::{CStr, c_char, c_int, c_void};

use libc::{DIR, FILE, addrinfo};

use super::answer::{Answer, Catalogue};
use super::closes::number;
use super::hooks;
use super::kinds::{descriptor, directory, lasting, stream, whole};
use super::processes::with_original_limit;
use super::retry::when_there_is_space;
use crate::engine::call::{Call, is_exhaustion};
use crate::features::logs::calls::open_placeholder;
use crate::features::logs::{copies, stdio};
use crate::os::barrier::barrier;
use crate::os::sys::{self, errno, set_errno};
use crate::state::{descriptors, process, usage};

type Callback = *const c_void;
type Mode = *const c_char;
type Name = *const c_char;

hooks! {
    fopen(path: Name, mode: Mode) -> *mut FILE = opening(path, mode) if lasting(path);
    fopen64(path: Name, mode: Mode) -> *mut FILE = opening(path, mode) if lasting(path);
    _IO_fopen(path: Name, mode: Mode) -> *mut FILE = opening(path, mode) if lasting(path);
    fdopen(fd: c_int, mode: Mode) -> *mut FILE = adopting();
    _IO_fdopen(fd: c_int, mode: Mode) -> *mut FILE = adopting();
    freopen(path: Name, mode: Mode, old: *mut FILE) -> *mut FILE = reopening(old);
    freopen64(path: Name, mode: Mode, old: *mut FILE) -> *mut FILE = reopening(old);
    tmpfile() -> *mut FILE = stream();
    tmpfile64() -> *mut FILE = stream();
    mkstemp(template: *mut c_char) -> c_int = temporary(template, 0);
    mkstemp64(template: *mut c_char) -> c_int = temporary(template, 0);
    mkostemp(template: *mut c_char, flags: c_int) -> c_int = temporary(template, 0);
    mkostemp64(template: *mut c_char, flags: c_int) -> c_int = temporary(template, 0);
    mkstemps(template: *mut c_char, suffix: c_int) -> c_int = temporary(template, suffix);
    mkstemps64(template: *mut c_char, suffix: c_int) -> c_int = temporary(template, suffix);
    mkostemps(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int = temporary(template, suffix);
    mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int = temporary(template, suffix);
    opendir(path: Name) -> *mut DIR = directory() if lasting(path);
    scandir(path: Name, list: *mut c_void, filter: Callback, order: Callback) -> c_int = whole();
    scandir64(path: Name, list: *mut c_void, filter: Callback, order: Callback) -> c_int = whole();
    scandirat(at: c_int, path: Name, list: *mut c_void, filter: Callback, order: Callback) -> c_int = whole();
    scandirat64(at: c_int, path: Name, list: *mut c_void, filter: Callback, order: Callback) -> c_int = whole();
    ftw(path: Name, visit: Callback, descriptors: c_int) -> c_int = with_room();
    ftw64(path: Name, visit: Callback, descriptors: c_int) -> c_int = with_room();
    nftw(path: Name, visit: Callback, descriptors: c_int, flags: c_int) -> c_int = with_room();
    nftw64(path: Name, visit: Callback, descriptors: c_int, flags: c_int) -> c_int = with_room();
    fts_open(paths: *const Name, options: c_int, order: Callback) -> *mut c_void = with_room();
    fts64_open(paths: *const Name, options: c_int, order: Callback) -> *mut c_void = with_room();
    glob(pattern: Name, flags: c_int, error: Callback, result: *mut c_void) -> c_int = with_room();
    glob64(pattern: Name, flags: c_int, error: Callback, result: *mut c_void) -> c_int = with_room();
    popen(command: Name, mode: Mode) -> *mut FILE = piped();
    _IO_popen(command: Name, mode: Mode) -> *mut FILE = piped();
    getaddrinfo(node: Name, service: Name, hints: *const addrinfo, found: *mut *mut addrinfo) -> c_int = resolving(node, hints);
    sem_open(name: Name, flags: c_int, mode: libc::mode_t, value: libc::c_uint) -> *mut c_void = whole();
    catopen(name: Name, flags: c_int) -> *mut c_void = catalogue();
    openlog(ident: Name, options: c_int, facility: c_int) -> () = with_room();
    vsyslog(priority: c_int, format: Name, arguments: *mut c_void) -> () = with_room();
    __vsyslog_chk(priority: c_int, fortified: c_int, format: Name, arguments: *mut c_void) -> () = with_room();
}

/// mkstemp(3) and its variants leave the name that they tried last in the template: it must end in XXXXXX again before the next call.
///
/// # Safety
/// `template` and `suffix` are what `real` passes on.
#[inline(always)]
unsafe fn temporary(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    template: *mut c_char,
    suffix: c_int,
) -> c_int {
    let mut first = true;
    let restoring = move || {
        if !first {
            // SAFETY: the first call failed for lack of descriptors, so it has found the six characters there, before a suffix of
            // this length, in a string that it may write to; else it would have failed with EINVAL.
            unsafe { core::ptr::write_bytes(template.add(libc::strlen(template) - suffix as usize - 6), b'X', 6) };
        }
        first = false;
        real()
    };
    descriptor(call, restoring)
}

/// Functions that destroy something, visit half a tree or say nothing when there is no descriptor for them: they can't be called
/// again, so a descriptor must be free before. Looked after only in a process that is at its limit, or has been.
#[inline(always)]
fn with_room<R: Answer>(call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    if usage::is_tight() {
        make_room(call());
    }
    real()
}

/// fopen(3): a log that can't be created for want of space gets a placeholder.
///
/// # Safety
/// `path` and `mode` are what `real` passes to fopen(3), whose answer it returns.
#[inline(always)]
unsafe fn opening(
    call: impl Fn() -> Call + Copy,
    real: impl FnMut() -> *mut FILE + Copy,
    path: Name,
    mode: Mode,
) -> *mut FILE {
    // SAFETY: promised by the caller.
    unsafe {
        let file = stream(call, real);
        if file.is_null() { without_space(call, real, path, mode) } else { file }
    }
}

/// fopen(3) has failed. If that was for want of space, the file gets a placeholder, or the call waits for space.
///
/// # Safety
/// fopen(3) has just failed with this path and mode.
#[cold]
#[inline(never)]
unsafe fn without_space(call: impl Fn() -> Call, real: impl FnMut() -> *mut FILE, path: Name, mode: Mode) -> *mut FILE {
    // SAFETY: promised by the caller.
    let file = unsafe { open_in_place(path, mode) };
    if file.is_null() { when_there_is_space(file, call().name, real) } else { file }
}

/// A stream that takes the lines of a log that can't be created now, or NULL with errno as it was.
///
/// # Safety
/// fopen(3) has just failed with this path and mode.
#[cold]
#[inline(never)]
unsafe extern "C" fn open_in_place(path: Name, mode: Mode) -> *mut FILE {
    /// What fopen(3) gives a file that it creates, before the umask.
    const MODE: u32 = 0o666;
    let errno = errno();
    if errno != libc::ENOSPC && errno != libc::EDQUOT {
        return core::ptr::null_mut();
    }
    // SAFETY: fopen(3) has read the mode before it failed for want of space, so it is a C string.
    let letters = unsafe { CStr::from_ptr(mode) }.to_bytes();
    // ",ccs=..." names a character set.
    let letters = letters.split(|&letter| letter == b',').next().unwrap_or_default();
    if letters.first() != Some(&b'a') {
        return core::ptr::null_mut();
    }
    let access = if letters.contains(&b'+') { libc::O_RDWR } else { libc::O_WRONLY };
    let close = if letters.contains(&b'e') { libc::O_CLOEXEC } else { 0 };
    let exclusive = if letters.contains(&b'x') { libc::O_EXCL } else { 0 };
    let flags = access | close | exclusive | libc::O_CREAT | libc::O_APPEND;
    // SAFETY: the path that fopen(3) was given, and the flags that it opens with for this mode.
    let fd = unsafe { open_placeholder(libc::AT_FDCWD, path, flags, MODE) };
    if fd < 0 {
        return core::ptr::null_mut();
    }
    // SAFETY: a descriptor that was just made and that nobody else has, and a C string.
    unsafe { libc::fdopen(fd, mode) }
}

/// fdopen(3): makes no descriptor, but from here on stdio may write to one that was inherited.
#[inline(always)]
fn adopting(_: impl Fn() -> Call, mut real: impl FnMut() -> *mut FILE) -> *mut FILE {
    stdio::install();
    real()
}

/// freopen(3): the number of the old file gets a new file.
///
/// # Safety
/// `old` is NULL or the open stream that `real` reopens.
#[inline(always)]
unsafe fn reopening(call: impl Fn() -> Call, real: impl FnMut() -> *mut FILE, old: *mut FILE) -> *mut FILE {
    // SAFETY: promised by the caller.
    let fd = unsafe { number(old) };
    copies::before_replacing(fd);
    let (_, history) = descriptors::forget_after_flush(fd);
    let new = with_room(call, real);
    descriptors::flushed(fd, history);
    new
}

/// Finds out whether a descriptor can be had, with all the engine's help, and lets it go again.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub(super) extern "C" fn make_room(call: Call) {
    let saved = errno();
    barrier((), || {
        if process::may_act() {
            let probe = || {
                has_room().map_or_else(
                    |errno| {
                        set_errno(errno);
                        -1
                    },
                    |()| 0,
                )
            };
            whole::<c_int>(|| call, probe);
        }
    });
    set_errno(saved);
}

/// Can a descriptor be had now? Else the errno.
fn has_room() -> Result<(), c_int> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    sys::open(c"/", flags, 0).map(sys::close)
}

/// popen(3): a stream, and a child that gets the original soft limit.
///
/// # Safety
/// `real` returns NULL or an open stream.
#[inline(always)]
unsafe fn piped(call: impl Fn() -> Call, mut real: impl FnMut() -> *mut FILE) -> *mut FILE {
    let mut first = Some(with_original_limit(&call, &mut real));
    // SAFETY: both are answers of `real`.
    unsafe { stream(call, move || first.take().unwrap_or_else(&mut real)) }
}

/// The return value of getaddrinfo(3): EAI_SYSTEM with EMFILE, or, with no descriptor free, that the name does not exist.
#[derive(Clone, Copy)]
struct Resolved {
    code: c_int,
    /// The look-up needs a descriptor: there is a name that is no address.
    needs_descriptor: bool,
}

impl Answer for Resolved {
    fn failure(self) -> Option<c_int> {
        match self.code {
            0 => None,
            libc::EAI_SYSTEM => Some(errno()),
            libc::EAI_AGAIN | libc::EAI_NONAME | libc::EAI_FAIL if self.needs_descriptor => {
                let saved = errno();
                let ask = || if process::may_act() { has_room().err() } else { None };
                let reason = if is_exhaustion(saved) { Some(saved) } else { ask() };
                set_errno(saved);
                Some(reason.filter(|&e| is_exhaustion(e)).unwrap_or(libc::EIO))
            }
            _ => Some(libc::EIO),
        }
    }
}

/// getaddrinfo(3).
///
/// # Safety
/// `node` and `hints` are what `real` passes to getaddrinfo(3).
#[inline(always)]
unsafe fn resolving(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    node: Name,
    hints: *const addrinfo,
) -> c_int {
    let resolve = move || {
        let code = real();
        // SAFETY: getaddrinfo(3) has read both.
        Resolved { code, needs_descriptor: code != 0 && unsafe { needs_descriptor(node, hints) } }
    };
    whole(&call, resolve).code
}

/// Does getaddrinfo(3) need a descriptor to look this up? Not without a name, nor for a number.
///
/// # Safety
/// getaddrinfo(3) has been called with both: `node` is NULL or a C string, `hints` NULL or valid.
#[cold]
#[inline(never)]
unsafe extern "C" fn needs_descriptor(node: Name, hints: *const addrinfo) -> bool {
    // SAFETY: promised by the caller.
    let numeric = unsafe { hints.as_ref() }.is_some_and(|hints| hints.ai_flags & libc::AI_NUMERICHOST != 0);
    if node.is_null() || numeric {
        return false;
    }
    // SAFETY: promised by the caller.
    let node = unsafe { CStr::from_ptr(node) }.to_bytes();
    // A node of these characters alone is an address, or a name that no look-up finds.
    let is_address = node.contains(&b':') || node.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    !node.is_empty() && !is_address
}

/// catopen(3).
#[inline(always)]
fn catalogue(call: impl Fn() -> Call, mut real: impl FnMut() -> *mut c_void) -> *mut c_void {
    whole(call, || Catalogue(real())).0
}

/// fopen64(3) without the hook, for the C API's own retry.
pub fn real_fopen64() -> unsafe extern "C" fn(Name, Mode) -> *mut FILE {
    // SAFETY: the function of this name has this type.
    unsafe { core::mem::transmute(fopen64::real()) }
}
