//! What the Rust runtime would import from libc and this library never uses: the files and names of a backtrace, malloc. Each import costs
//! every process the look-up of a symbol, and the code of backtraces is half of the library's size. They are defined here, hidden: the
//! runtime finds them at link time, and nothing is looked up.
//!
//! A name must leave these lists when the library comes to use that function, or to hook it.

use core::alloc::{GlobalAlloc, Layout};

use libc::{Elf64_Ehdr, Elf64_Phdr};

use crate::arch::symbols::{hidden, hidden_word};
use crate::arch::{refuse, syscall};

// Each answer is how the function fails.
refuse! { "-1": "__xpg_strerror_r" "clock_gettime" "fstat64" "lseek64" "munmap" "read" "readlink" "sched_yield"
"stat64" "statx" }
// Used by the unwinder. When pthread_once(3) fails, it sets up its tables itself.
refuse! { "-1": "__pthread_key_create" "pthread_once" }
refuse! { "0": "pthread_mutex_lock" "pthread_mutex_unlock" "pthread_cond_wait" "pthread_cond_broadcast" }
refuse! { "0": "calloc" "free" "getcwd" "getenv" "malloc" "posix_memalign" "realloc" "realpath" }

// crtbeginS.o would define it, and pthread_atfork(3) hands it on. With 0, the handlers are never removed.
hidden_word! { "__dso_handle" = "0" }

/// There are no backtraces: the message of a panic is one line (see [`crate::os::barrier`]). In Rust rather than in the lists above, so that
/// the optimiser sees that the callback is never called, and leaves out the code that finds names.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(_: *const (), _: *const ()) -> i32 {
    const END_OF_STACK: i32 = 5;
    END_OF_STACK
}
hidden! { "_Unwind_Backtrace" }

unsafe extern "C" {
    /// The beginning of this library, by the linker.
    static __ehdr_start: Elf64_Ehdr;
}

/// `struct dwarf_eh_bases` of libgcc's unwinder.
#[repr(C)]
struct Bases {
    text: *const (),
    data: *const (),
    function: *const u8,
}

/// Of .eh_frame_hdr: a version, how the next numbers are written (a word that counts from itself, a word, and pairs of words that count from
/// the table's beginning, as linkers write them), where .eh_frame is, and how many pairs there are.
#[repr(C)]
struct Table {
    how: [u8; 4],
    frames: i32,
    count: u32,
}

/// Finds the unwind entry (FDE) of a function, for libgcc's unwinder: null for what is not in this library. It walks from a panic of this library to the
/// barrier, and from a hook to its caller. The one of libgcc takes a lock, and is 9 KiB large, or 15 (gcc 14), for what programs register.
///
/// # Safety
/// `bases` can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn _Unwind_Find_FDE(at: *const u8, bases: *mut Bases) -> *const u8 {
    const HOW: [u8; 4] = [1, 0x1b, 0x03, 0x3b];
    // SAFETY: the linker puts the program headers into the first page of this library, which the loader has mapped, and what they lead to is as
    // the linker writes it; the caller promises `bases`.
    unsafe {
        let base = (&raw const __ehdr_start).cast::<u8>();
        let headers = base.add((*base.cast::<Elf64_Ehdr>()).e_phoff as usize).cast::<Elf64_Phdr>();
        let headers = core::slice::from_raw_parts(headers, (*base.cast::<Elf64_Ehdr>()).e_phnum as usize);
        let Some(header) = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME) else {
            return core::ptr::null();
        };
        let table = base.add(header.p_vaddr as usize);
        let Table { how, count, .. } = table.cast::<Table>().read_unaligned();
        let pairs = table.add(size_of::<Table>()).cast::<[i32; 2]>();
        let pairs = core::slice::from_raw_parts(pairs, if how == HOW { count as usize } else { 0 });
        let offset = (at as isize).wrapping_sub(table as isize);
        let index = pairs.partition_point(|&[start, _]| start as isize <= offset);
        let Some(&[start, entry]) = index.checked_sub(1).and_then(|index| pairs.get(index)) else {
            return core::ptr::null();
        };
        // An entry: its length, where its common part is, where the function begins (counted from here), and how long it is.
        let (entry, function) = (table.offset(entry as isize), table.offset(start as isize));
        let [from, length] = entry.add(8).cast::<[i32; 2]>().read_unaligned();
        let is_there = entry.add(8).wrapping_offset(from as isize) == function
            && offset.wrapping_sub(start as isize) < length as u32 as isize;
        bases.write(Bases { text: core::ptr::null(), data: core::ptr::null(), function });
        if is_there { entry } else { core::ptr::null() }
    }
}
hidden! { "_Unwind_Find_FDE" }

/// Only a panic on its way to the barrier allocates. It may have happened within the program's malloc, so that is not called.
struct Pages;

#[global_allocator]
static PAGES: Pages = Pages;

// SAFETY: mappings are fresh, so they overlap nothing, and begin with a page, of 4096 bytes or more: no type here asks for a larger
// alignment.
unsafe impl GlobalAlloc for Pages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let args = [0, layout.size(), (libc::PROT_READ | libc::PROT_WRITE) as usize, flags as usize, usize::MAX, 0];
        // SAFETY: an anonymous mapping at a place of the kernel's choice changes no other memory.
        let address = unsafe { syscall(libc::SYS_mmap, args) };
        if (-4095..0).contains(&address) { core::ptr::null_mut() } else { address as *mut u8 }
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller of `dealloc` promises that `alloc` has made it for this layout, and that nobody refers to it any more.
        unsafe { syscall(libc::SYS_munmap, [address as usize, layout.size(), 0, 0, 0, 0]) };
    }
}
