//! Writes by stdio: fprintf, fputs, std::cout. glibc's stdio never calls the exported write(2), and discards its buffer when a flush
//! fails; of 823 executables that were looked at, 482 write through it alone. It can be reached by one pointer: the `__write` slot of
//! the two tables of functions behind every FILE (one for byte streams, one for wide streams).
//!
//! Before a slot is changed it is checked: it must hold the exported `_IO_file_write`. Where it does not (musl, a future glibc), stdio
//! is left alone.

use core::ffi::c_void;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicUsize, fence};

use libc::{FILE, off64_t, ssize_t};

use super::calls::{RealWrite, real_write, write_all, write_raw};
use super::{files, program, rotate};
use crate::arch::symbols::weak_addresses;
use crate::os::barrier::barrier;
use crate::os::elf::{self, Name};
use crate::os::sys;
use crate::state::page;
use crate::state::process::{self, Phase};

/// Bytes of glibc's FILE on 64-bit systems; the pointer to the table of functions follows it.
const FILE_SIZE: usize = 216;
/// Offset of `_flags` in it.
const FLAGS: usize = 0;
/// Offset of `_fileno`.
const FILENO: usize = 112;
/// Offset of `_flags2`.
const FLAGS2: usize = 116;
/// Offset of `_offset`: where the next write will be in the file, or negative if that is not known.
const OFFSET: usize = 144;
/// `_IO_ERR_SEEN` in `_flags`: what ferror(3) tells.
const ERR_SEEN: i32 = 0x20;
/// `_IO_FLAGS2_NOTCANCEL` in `_flags2`: opened with "c", writes are no cancellation points.
const NOT_CANCELLABLE: i32 = 2;
/// Index of `__write` in the table.
const WRITE: usize = 15;

/// What is known of this libc's stdio.
struct State {
    /// Addresses of the `__write` slots, for byte streams and for wide streams; 0 if they are not as expected, or filled already.
    slots: [AtomicUsize; 2],
    /// The write(2) of libc itself, which its stdio calls: that of another preloaded library may use stdio itself.
    native_write: AtomicPtr<()>,
}

static STATE: State =
    State { slots: [const { AtomicUsize::new(0) }; 2], native_write: AtomicPtr::new(core::ptr::null_mut()) };

// glibc's names, as weak imports: 0 in a libc without them. The loader fills them in for a fraction of what dlsym(3) costs.
weak_addresses! { static IMPORTS = "tideover_stdio_imports": "_IO_file_write", "_IO_wfile_jumps" }

unsafe extern "C" {
    static stdout: *mut FILE;
}

/// At load: finds the slots, and checks what is in them. False if they are not as expected.
#[unsafe(link_section = ".text.at_load")]
pub fn find() -> bool {
    // SAFETY: the loader writes IMPORTS and `stdout` before any of our code runs, and nobody writes them later. Both names found, this
    // is a glibc: `_IO_wfile_jumps` is a table of more than WRITE words, and a pointer to another follows the FILE_SIZE bytes of each
    // FILE. The slots are read as atomics, which have the layout of words.
    unsafe {
        let [native, wide] = IMPORTS;
        let wide = wide as *mut AtomicUsize;
        if native == 0 || wide.is_null() || stdout.is_null() {
            return false;
        }
        let narrow = *stdout.cast::<u8>().add(FILE_SIZE).cast::<*const AtomicUsize>();
        let slots = [narrow, wide].map(|table| table.wrapping_add(WRITE));
        let expected = !narrow.is_null() && slots.iter().all(|&slot| (*slot).load(Relaxed) == native);
        for (known, slot) in STATE.slots.iter().zip(slots) {
            known.store(if expected { slot as usize } else { 0 }, Relaxed);
        }
        expected
    }
}

/// See [`State::native_write`].
#[inline(always)]
fn native_write() -> RealWrite {
    // SAFETY: only `file_write` and what it calls come here, and `install_now` has stored the address of libc's write(2) before it put
    // `file_write` into the tables.
    unsafe { core::mem::transmute(STATE.native_write.load(Relaxed)) }
}

/// Is [`install`] still to be done?
pub fn is_pending() -> bool {
    STATE.slots[0].load(Relaxed) != 0
}

/// The program has a new descriptor: as [`install`], if it is one of a file that may be written to, or other such descriptors may have
/// escaped notice: inherited ones, or those of a program with so many that the next ones are not looked at (`is_last_look`). Most programs
/// only read the files that they open.
#[inline(always)]
pub fn install_if_wanted(fd: i32, is_last_look: bool) {
    if is_pending() {
        consider(fd, is_last_look);
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
fn consider(fd: i32, is_last_look: bool) {
    let is_wanted = || is_last_look || page::has_inherited(fd) || is_written_file(fd);
    if process::acts() && is_wanted() && process::may_note() {
        install_now();
    }
}

/// Is this a regular file that is open for writing?
fn is_written_file(fd: i32) -> bool {
    sys::status_flags(fd).is_ok_and(|flags| flags & libc::O_ACCMODE != libc::O_RDONLY)
        && sys::fstat(fd).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// Puts our function into both tables, if that was not done yet. Called when the program has a file that stdio may write to: it costs
/// a page of memory and splits libc's mapping, which programs that write to nothing but a terminal or a pipe need not pay.
#[inline(always)]
pub fn install() {
    if is_pending() {
        install_now();
    }
}

#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn install_now() {
    barrier((), || {
        // Not `may_act`, which is false at load.
        if process::phase() == Phase::Sandboxed {
            return;
        }
        let slots = STATE.slots.each_ref().map(|slot| slot.swap(0, Relaxed));
        let own = elf::libc().and_then(|libc| libc.find(&Name::new(c"write")));
        STATE.native_write.store(own.unwrap_or(real_write() as *const () as usize) as *mut (), Relaxed);
        if slots.iter().all(|&slot| slot != 0) && program::may_act_on_writes() {
            // SAFETY: `find` has found them in libc's tables and checked what they hold; libc is never unmapped.
            replace(slots.map(|slot| unsafe { &*(slot as *const AtomicUsize) }));
        }
    });
}

/// Stores our function into the slots, which are in pages that are read-only after relocation. The two tables are close to each other,
/// so that the protection is changed once for both: that is most of what this costs a process at its start (`make bench`).
fn replace(slots: [&AtomicUsize; 2]) {
    let page = sys::page_size();
    let [first, second] = slots.map(|slot| slot.as_ptr() as usize & !(page - 1));
    let (start, length) = (first.min(second), first.abs_diff(second) + page);
    // SAFETY: whole pages, which the loader has made read-only after relocation: whoever reads them still can.
    let writable =
        length <= 4 * page && unsafe { sys::protect(start, length, libc::PROT_READ | libc::PROT_WRITE) }.is_ok();
    if !writable {
        log::info!("libc's tables can't be written: logs written through stdio are not diverted");
        return;
    }
    for slot in slots {
        // After the address of write(2), which `file_write` calls.
        slot.store(file_write as *const () as usize, Release);
    }
    // SAFETY: as they were; nobody else writes to them.
    let _ = unsafe { sys::protect(start, length, libc::PROT_READ) };
}

/// What `_IO_new_file_write` does, with our write in it. The caller has locked the FILE, so nothing here may use stdio or malloc. The
/// usual case comes first: no file is diverted, and all is written at once.
///
/// # Safety
/// `stream` is a FILE of glibc's, and this thread has locked it; the `count` bytes at `data` can be read, and nobody writes to them.
#[unsafe(link_section = ".text.on_success")]
unsafe extern "C" fn file_write(stream: *mut FILE, data: *const c_void, count: ssize_t) -> ssize_t {
    // SAFETY: the caller's own promise. The layout of a FILE is as the offsets say, for `find` has found a table of functions right
    // behind the FILE_SIZE bytes of stdout.
    unsafe {
        // libc has read the slot without any order; what was stored before it is to be seen from here on. No instruction on x86-64.
        fence(Acquire);
        let field = |offset: usize| stream.cast::<u8>().add(offset);
        if files::any() || *field(FLAGS2).cast::<i32>() & NOT_CANCELLABLE != 0 {
            return file_write_in_full(stream, data, count, None);
        }
        let answer = native_write()(*field(FILENO).cast::<i32>(), data, count as usize);
        if answer != count {
            return file_write_in_full(stream, data, count, Some(answer));
        }
        let offset = field(OFFSET).cast::<off64_t>();
        if *offset >= 0 {
            *offset += count as off64_t;
        }
        count
    }
}

/// [`file_write`] while files are diverted, or after a real write that answered `first`. Advances the offset only by what reached the
/// file, so that programs that rotate their log by ftell(3) don't count what went elsewhere.
///
/// # Safety
/// As [`file_write`].
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
unsafe extern "C" fn file_write_in_full(
    stream: *mut FILE,
    data: *const c_void,
    count: ssize_t,
    first: Option<ssize_t>,
) -> ssize_t {
    // SAFETY: the caller's own promise, which covers what `write_all` asks for; the layout of a FILE is as in `file_write`.
    unsafe {
        let field = |offset: usize| stream.cast::<u8>().add(offset);
        let is_cancellable = *field(FLAGS2).cast::<i32>() & NOT_CANCELLABLE == 0;
        let real = if is_cancellable { native_write() } else { write_raw };
        let rotations = rotate::count();
        let written = write_all(*field(FILENO).cast::<i32>(), data, count.max(0) as usize, first, real);
        if written.answer < count {
            *field(FLAGS).cast::<i32>() |= ERR_SEEN;
        }
        let offset = field(OFFSET).cast::<off64_t>();
        if rotations != rotate::count() {
            // The FILE may be another file by now. A negative offset is not known: stdio asks lseek(2) when it needs one.
            *offset = -1;
        } else if *offset >= 0 {
            *offset += written.reached as off64_t;
        }
        written.answer
    }
}
