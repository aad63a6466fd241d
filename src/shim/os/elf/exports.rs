//! The table of what an object exports.

use core::ffi::{CStr, c_char};

use super::Name;
use super::format::{DT_GNU_HASH, DT_NULL, DT_STRTAB, DT_SYMTAB, DT_VERSYM, Dynamic, Symbol};

/// What an object exports: its hash table of names, its symbols and their texts. All are mapped as long as the object is.
pub struct Exports {
    base: u64,
    hash: *const u32,
    symbols: *const Symbol,
    strings: *const c_char,
    /// A version for each symbol, or null.
    versions: *const u16,
}

/// A name that an object defines.
pub(super) struct Found {
    address: usize,
    /// Its value is the address itself: not a function that chooses one (IFUNC), no thread-local variable.
    is_plain: bool,
}

impl Found {
    pub(super) fn address(self) -> Option<usize> {
        self.is_plain.then_some(self.address)
    }
}

impl Exports {
    /// Of an object by its dynamic section; None if it has no hash table of the GNU kind.
    ///
    /// # Safety
    /// `dynamic` is the dynamic section of an object that is loaded at `base`, and stays so as long as the answer is used.
    #[unsafe(link_section = ".text.at_load")]
    pub(super) unsafe fn new(base: u64, dynamic: *const Dynamic) -> Option<Exports> {
        let mut exports = Exports {
            base,
            hash: core::ptr::null(),
            symbols: core::ptr::null(),
            strings: core::ptr::null(),
            versions: core::ptr::null(),
        };
        let mut entry = dynamic;
        // SAFETY: the caller of `new` promises a dynamic section, which ends with DT_NULL; this is not past it.
        while let Some(&Dynamic { tag, value }) = unsafe { entry.as_ref() }.filter(|entry| entry.tag != DT_NULL) {
            // glibc has relocated these pointers in place, but not in the vDSO; musl leaves them relative to the base.
            let address = if value < base { value + base } else { value };
            match tag {
                DT_GNU_HASH => exports.hash = address as *const u32,
                DT_SYMTAB => exports.symbols = address as *const Symbol,
                DT_STRTAB => exports.strings = address as *const c_char,
                DT_VERSYM => exports.versions = address as *const u16,
                _ => {}
            }
            // SAFETY: this entry is not the DT_NULL, so there is a next one.
            entry = unsafe { entry.add(1) };
        }
        (!exports.hash.is_null() && !exports.symbols.is_null() && !exports.strings.is_null()).then_some(exports)
    }

    /// Address of an exported function or variable.
    pub fn find(&self, name: &Name) -> Option<usize> {
        self.look_up(name).and_then(Found::address)
    }

    /// The default version of a name; None if this object does not define it.
    #[unsafe(link_section = ".text.at_load")]
    pub(super) fn look_up(&self, name: &Name) -> Option<Found> {
        const NONE: u8 = 0;
        const VARIABLE: u8 = 1;
        const FUNCTION: u8 = 2;
        const HIDDEN: u16 = 0x8000;
        // SAFETY: the caller of `new` promised that these are the tables of a loaded object. DT_GNU_HASH is: bucket count, first symbol, size and
        // shift of the Bloom filter, the filter in words of 64 bits, the buckets, the chains of hashes, each ended by a set lowest bit.
        // Indices in it are those of symbols, whose names lie in the table of strings.
        unsafe {
            let [buckets, first, words, shift] = self.hash.cast::<[u32; 4]>().read();
            if buckets == 0 || words == 0 {
                return None;
            }
            let filter = self.hash.add(4).cast::<u64>();
            let word = filter.add((name.hash / 64 % words) as usize).read_unaligned();
            let bits = (1u64 << (name.hash % 64)) | (1u64 << ((name.hash >> (shift % 32)) % 64));
            if word & bits != bits {
                return None;
            }
            let bucket = filter.add(words as usize).cast::<u32>();
            let chain = bucket.add(buckets as usize);
            let mut index = *bucket.add((name.hash % buckets) as usize);
            if index < first {
                return None;
            }
            loop {
                let hash = *chain.add((index - first) as usize);
                let symbol = &*self.symbols.add(index as usize);
                let kind = symbol.info & 0xf;
                if hash | 1 == name.hash | 1
                    && kind != NONE
                    && symbol.section != 0
                    && (self.versions.is_null() || *self.versions.add(index as usize) & HIDDEN == 0)
                    && CStr::from_ptr(self.strings.add(symbol.name as usize)) == name.text()
                {
                    let address = self.base.wrapping_add(symbol.value) as usize;
                    return Some(Found { address, is_plain: matches!(kind, VARIABLE | FUNCTION) });
                }
                if hash & 1 != 0 {
                    return None;
                }
                index += 1;
            }
        }
    }
}
