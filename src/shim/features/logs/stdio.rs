//! glibc's stdio never calls the exported write(2), and throws its buffer away when a flush fails: of 823 executables looked at,
//! 482 write only through it. The way in is one pointer: the `__write` slot of the tables behind every FILE.
//!
//! Checked before it is touched: the slot must hold the exported `_IO_file_write`. Where it does not (musl, a future glibc),
//! stdio is left alone.

use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use libc::{FILE, off64_t, ssize_t};

use super::calls::{RealWrite, real_write, write_all, write_raw};
use super::files;
use crate::arch::symbols::weak_addresses;
use crate::os::barrier::barrier;
use crate::os::elf::{self, Name};
use crate::os::sys;
use crate::state::process::{self, Phase};

/// Bytes of glibc's FILE on 64-bit systems; the pointer to the table follows it.
const FILE_SIZE: usize = 216;
const FLAGS: usize = 0;
const FILENO: usize = 112;
const FLAGS2: usize = 116;
const OFFSET: usize = 144;
/// `_IO_ERR_SEEN`: what ferror(3) tells.
const ERR_SEEN: i32 = 0x20;
/// `_IO_FLAGS2_NOTCANCEL`: opened with "c", writes are no cancellation points.
const NOT_CANCELLABLE: i32 = 2;
/// Index of `__write` in the table.
const WRITE: usize = 15;

/// Addresses of the slots, narrow and wide; 0 when the check failed, or they are filled already.
static SLOTS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

// glibc's names, as weak imports: 0 in a libc without them. The loader fills them in for a fraction of what dlsym(3) costs.
weak_addresses! { static IMPORTS = "tideover_stdio_imports": "_IO_file_write", "_IO_wfile_jumps" }

unsafe extern "C" {
    static stdout: *mut FILE;
}

/// At load: finds the slots, and checks what is in them. False if they are not what they should be.
pub fn find() -> bool {
    // SAFETY: written by the loader alone, before this runs; what is found there is glibc's.
    unsafe {
        let [native, wide] = IMPORTS;
        let wide = wide as *mut AtomicUsize;
        if native == 0 || wide.is_null() || stdout.is_null() {
            return false;
        }
        let narrow = *stdout.cast::<u8>().add(FILE_SIZE).cast::<*const AtomicUsize>();
        let slots = [narrow, wide].map(|table| table.wrapping_add(WRITE));
        let right = !narrow.is_null() && slots.iter().all(|&slot| (*slot).load(Relaxed) == native);
        for (known, slot) in SLOTS.iter().zip(slots) {
            known.store(if right { slot as usize } else { 0 }, Relaxed);
        }
        right
    }
}

/// libc's own write(2), which its stdio calls: another preload's may use stdio itself.
static NATIVE_WRITE: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

#[inline(always)]
fn native_write() -> RealWrite {
    // SAFETY: stored before `file_write` is: a function of this name has this type.
    unsafe { core::mem::transmute(NATIVE_WRITE.load(Relaxed)) }
}

/// Is [`install`] still to be done?
pub fn is_pending() -> bool {
    SLOTS[0].load(Relaxed) != 0
}

/// As [`install`], where the library may act.
pub fn install_if_wanted() {
    if is_pending() && process::may_act() {
        install_now();
    }
}

/// Puts our function into both tables, if that was not done: when the program has a file that stdio might write. It costs a page
/// and a split of libc's mapping, which programs that write to nothing but a terminal or a pipe need not pay.
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
        // Also at load.
        if process::phase() == Phase::Sandboxed {
            return;
        }
        let slots = [SLOTS[0].swap(0, Relaxed), SLOTS[1].swap(0, Relaxed)];
        let own = elf::libc().and_then(|libc| libc.find(&Name::new(c"write")));
        NATIVE_WRITE.store(own.unwrap_or(real_write() as *const () as usize) as *mut (), Relaxed);
        if slots.iter().all(|&slot| slot != 0) && super::may_divert_or_wait() {
            // SAFETY: found and checked by `find`; libc stays mapped.
            replace(slots.map(|slot| unsafe { &*(slot as *const AtomicUsize) }));
        }
    });
}

/// Stores into pages that are read-only after relocation. The tables are neighbours: one change of protection for both, which is
/// most of what this costs a process at its start (`make bench`).
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
        slot.store(file_write as *const () as usize, Relaxed);
    }
    // SAFETY: as they were; nobody else writes to them.
    let _ = unsafe { sys::protect(start, length, libc::PROT_READ) };
}

/// `_IO_new_file_write`, with our write in it. The FILE is locked: no stdio, no malloc. The usual case first: nothing is diverted,
/// and all is written at once.
#[unsafe(link_section = ".text.on_success")]
unsafe extern "C" fn file_write(stream: *mut FILE, data: *const c_void, count: ssize_t) -> ssize_t {
    // SAFETY: glibc passes its own FILE, whose layout was checked by its size and table, and `count` readable bytes.
    unsafe {
        let field = |offset: usize| stream.cast::<u8>().add(offset);
        if files::any() || *field(FLAGS2).cast::<i32>() & NOT_CANCELLABLE != 0 {
            return file_write_with_care(stream, data, count, None);
        }
        let answer = native_write()(*field(FILENO).cast::<i32>(), data, count as usize);
        if answer != count {
            return file_write_with_care(stream, data, count, Some(answer));
        }
        let offset = field(OFFSET).cast::<off64_t>();
        if *offset >= 0 {
            *offset += count as off64_t;
        }
        count
    }
}

/// The same while files are diverted, or after a real write that answered `first`. Advances the offset only by what reached the
/// file, so that programs that rotate by ftell(3) don't count what went elsewhere.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
unsafe extern "C" fn file_write_with_care(
    stream: *mut FILE,
    data: *const c_void,
    count: ssize_t,
    first: Option<ssize_t>,
) -> ssize_t {
    // SAFETY: as in `file_write`.
    unsafe {
        let field = |offset: usize| stream.cast::<u8>().add(offset);
        let is_cancellable = *field(FLAGS2).cast::<i32>() & NOT_CANCELLABLE == 0;
        let real = if is_cancellable { native_write() } else { write_raw };
        let written = write_all(*field(FILENO).cast::<i32>(), data, count.max(0) as usize, first, real);
        if written.answer < count {
            *field(FLAGS).cast::<i32>() |= ERR_SEEN;
        }
        let offset = field(OFFSET).cast::<off64_t>();
        if *offset >= 0 {
            *offset += written.reached as off64_t;
        }
        written.answer
    }
}
