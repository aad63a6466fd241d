//! A mapping of a file that this process alone writes, or of memory of its own, as words and bytes.

use core::sync::atomic::{AtomicU64, Ordering::*};

use tideover_contract::hold::Memory;

use super::sys::{self, Errno};

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// Part of a file, from its beginning on. The file may be shorter than the mapping: what it has no bytes for is not to be touched.
pub struct Mapping {
    address: usize,
    /// Bytes.
    length: usize,
}

impl Mapping {
    /// Maps so many bytes of a file, which is open for reading and writing.
    ///
    /// # Safety
    /// Nobody cuts the file while it is mapped, nor writes to it by other ways than this mapping.
    pub unsafe fn new(fd: i32, length: usize) -> Result<Mapping, Errno> {
        // SAFETY: nothing was mapped there; the file's end is the caller's affair, as the type says.
        unsafe { sys::map_shared(fd, length, core::ptr::null_mut()) }
            .map(|address| Mapping { address: address as usize, length })
    }

    /// Maps so many bytes of fresh memory, zeroed, without a file.
    pub fn private(length: usize) -> Result<Mapping, Errno> {
        sys::map_private(length).map(|address| Mapping { address: address as usize, length })
    }

    /// Copies bytes to an offset.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset <= self.length && bytes.len() <= self.length - offset);
        // SAFETY: within the mapping, as asserted, which `new` was promised that nobody else writes to; whoever uses this one borrows it.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), (self.address + offset) as *mut u8, bytes.len()) };
    }

    /// So many bytes from an offset on; fewer if the mapping ends before.
    pub fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let start = offset.min(self.length);
        let length = length.min(self.length - start);
        // SAFETY: within the mapping. Nobody writes to it meanwhile: not other processes, as `new` was promised, and not this one, since
        // `put` takes the value exclusively and `store` is used for words of the header and of records' heads, which are not text.
        unsafe { core::slice::from_raw_parts((self.address + start) as *const u8, length) }
    }

    /// The address of so many bytes at an offset, and that of a word, for threads that write there without borrowing the mapping; None if
    /// the bytes are not all within it.
    pub fn addresses(&self, offset: usize, length: usize, word: usize) -> Option<(usize, *mut AtomicU64)> {
        let fits = offset.checked_add(length).is_some_and(|end| end <= self.length) && word < self.length / WORD;
        fits.then(|| (self.address + offset, (self.address + word * WORD) as *mut AtomicU64))
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        // SAFETY: within the mapping, whose address is that of a page; an atomic may have any value.
        (index < self.length / WORD).then(|| unsafe { &*((self.address + index * WORD) as *const AtomicU64) })
    }
}

impl Memory for Mapping {
    fn words(&self) -> usize {
        self.length / WORD
    }

    fn load(&self, word: usize) -> u64 {
        self.word(word).map_or(0, |word| word.load(Acquire))
    }

    fn store(&self, word: usize, value: u64) {
        if let Some(word) = self.word(word) {
            word.store(value, Release);
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` or `private` with this length; what borrowed from it is gone.
        unsafe { sys::unmap(self.address as *mut core::ffi::c_void, self.length) };
    }
}
