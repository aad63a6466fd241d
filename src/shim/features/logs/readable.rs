//! Memory of the program that can be read without asking the kernel: most lines of a burst are there, and asking costs as much as half of a
//! write to a pipe. It is memory that nobody unmaps while the program could still mean it: the stack of the first thread, above the
//! stack pointer; the program's static data, and the heap of brk(2) below its present end, once the kernel has said that the page can be
//! read. Memory of mmap(2) is asked for each time, since munmap(2) may have taken it away since.

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::arch;
use crate::os::elf::{self, Name};
use crate::os::sys;

/// Where pages are larger, a page is known as several.
const PAGE: usize = arch::SMALLEST_PAGE;
/// The kernel keeps at least 128 MiB below the end of the first stack free of mmap(2).
const STACK: usize = 64 << 20;
/// Pages that are remembered are in so many bytes below the end of the heap: there is nothing but the heap, and the program before it.
const SPAN: usize = 4 << 30;
/// MAP_32BIT and hints may get memory below.
const LOWEST: usize = 4 << 30;
/// How many pages are known at a time.
const PAGES: usize = 16;

/// Zeroed, it knows nothing.
pub struct Readable {
    /// Address of the variable in which the libc has the end of the heap; 0: not known.
    heap_end: AtomicUsize,
    /// Where the stack of the first thread has its oldest bytes.
    stack_end: AtomicUsize,
    /// Numbers of pages, each at its own number modulo PAGES.
    pages: [AtomicUsize; PAGES],
}

impl Readable {
    /// Finds out where these parts of memory are.
    pub fn find(&self) {
        const HEAP_END: Name = Name::new(c"__curbrk");
        if self.stack_end.load(Relaxed) == 0 {
            self.heap_end.store(elf::next(&HEAP_END).unwrap_or(0), Relaxed);
            // SAFETY: getauxval(3) only reads. The bytes that it tells of are above the first stack frame.
            self.stack_end.store(unsafe { libc::getauxval(libc::AT_RANDOM) } as usize, Relaxed);
        }
    }

    /// Can these bytes, at least one, be read? See `sys::is_readable`.
    pub fn holds(&self, address: usize, length: usize) -> bool {
        let (stack, stack_end, end) =
            (arch::stack_pointer(), self.stack_end.load(Relaxed), address.saturating_add(length));
        if stack <= address && end <= stack_end && stack_end - stack < STACK {
            return true;
        }
        let mut at = address;
        while at < end {
            if !self.holds_page(at, stack_end) {
                return false;
            }
            at = (at | (PAGE - 1)).saturating_add(1);
        }
        true
    }

    /// Can this byte, and what follows it in its page, be read?
    #[inline(always)]
    fn holds_page(&self, at: usize, stack_end: usize) -> bool {
        let known = &self.pages[at / PAGE % PAGES];
        let is_lasting = self.is_lasting(at, stack_end);
        if is_lasting && known.load(Relaxed) == at / PAGE {
            return true;
        }
        let is_readable = sys::is_readable(at as *const _, 1);
        if is_lasting && is_readable {
            known.store(at / PAGE, Relaxed);
        }
        is_readable
    }

    /// Is this in a page of the heap of brk(2), or of the program, which the kernel maps before it? It maps a loader that was executed by
    /// its own name, and before Linux 5.2 the heap behind it, near the stack.
    #[inline(always)]
    fn is_lasting(&self, at: usize, stack_end: usize) -> bool {
        // SAFETY: null, or the address of a variable of libc's, which is never unmapped; it is a pointer, and is written as a word.
        let heap_end = unsafe { (self.heap_end.load(Relaxed) as *const AtomicUsize).as_ref() };
        let heap_end = heap_end.map_or(0, |end| end.load(Relaxed));
        // Of the page in which the heap ends, too, all is mapped.
        at >= LOWEST && at < heap_end && heap_end - at < SPAN && heap_end < stack_end / 4 * 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_data_is_asked_for_once_and_mapped_memory_each_time() {
        static LINE: [u8; 100] = [b'x'; 100];
        let readable = Readable {
            heap_end: AtomicUsize::new(0),
            stack_end: AtomicUsize::new(0),
            pages: [const { AtomicUsize::new(0) }; PAGES],
        };
        let known = || readable.pages.iter().filter(|page| page.load(Relaxed) != 0).count();
        let (at, is_lasting) = (LINE.as_ptr() as usize, |at| readable.is_lasting(at, readable.stack_end.load(Relaxed)));
        assert!(readable.holds(at, LINE.len()) && known() == 0, "where nothing was found, nothing is known");
        readable.find();
        assert!(readable.holds(at, LINE.len()) && known() > 0 && is_lasting(at));
        let before = known();
        // SAFETY: a new mapping, which only this test knows.
        unsafe {
            let mapped = libc::mmap(
                core::ptr::null_mut(),
                PAGE,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert!(readable.holds(mapped as usize, 100) && !is_lasting(mapped as usize));
            assert!(!readable.holds(mapped as usize + PAGE - 1, usize::MAX - mapped as usize) && !readable.holds(8, 8));
            libc::munmap(mapped, PAGE);
            assert!(!readable.holds(mapped as usize, 100) && known() == before);
        }
    }
}
