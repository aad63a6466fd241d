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

/// Where a mapped object and its unwind tables are: glibc's `struct dl_find_object`, as far as the unwinder reads it.
#[repr(C)]
struct Object {
    flags: u64,
    start: *const Elf64_Ehdr,
    end: *const u8,
    map: *const (),
    tables: *const u8,
}

unsafe extern "C" {
    /// The beginning of this library, by the linker.
    static __ehdr_start: Elf64_Ehdr;
}

/// libgcc's unwinder, built for glibc 2.35 and later, asks libc for this, which older ones and musl lack. It walks from a panic of this
/// library to the barrier, through this library's frames and no others.
///
/// # Safety
/// `found` points to a `struct dl_find_object` that can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn _dl_find_object(_: *const (), found: *mut Object) -> i32 {
    // SAFETY: the linker puts the program headers into the first page of this library, which the loader has mapped; the caller promises
    // `found`.
    unsafe {
        let base = &raw const __ehdr_start;
        let headers = base.cast::<u8>().add((*base).e_phoff as usize).cast::<Elf64_Phdr>();
        let headers = core::slice::from_raw_parts(headers, (*base).e_phnum as usize);
        let tables = headers.iter().find(|header| header.p_type == libc::PT_GNU_EH_FRAME);
        let Some(tables) = tables else { return -1 };
        let end = headers.iter().map(|header| header.p_vaddr + header.p_memsz).max().unwrap_or(0);
        let at = |offset: u64| base.cast::<u8>().add(offset as usize);
        found.write(Object { flags: 0, start: base, end: at(end), map: core::ptr::null(), tables: at(tables.p_vaddr) });
    }
    0
}
hidden! { "_dl_find_object" }

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
