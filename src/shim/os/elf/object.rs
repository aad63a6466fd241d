//! One loaded object.

use core::ffi::CStr;
use core::ops::Range;

use super::format::{DT_STRTAB, DT_SYMTAB, Dynamic, PT_DYNAMIC, PT_LOAD, ProgramHeader};
use super::{Exports, Name};

/// A loaded object, as dl_iterate_phdr(3) shows it.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    base: u64,
    headers: &'a [ProgramHeader],
}

impl<'a> Object<'a> {
    /// Of an object that is being visited.
    ///
    /// # Safety
    /// The caller is a callback of dl_iterate_phdr(3), and `info` is what that was called with.
    pub unsafe fn new(info: &'a libc::dl_phdr_info) -> Object<'a> {
        if info.dlpi_phdr.is_null() {
            return Object { base: 0, headers: &[] };
        }
        // SAFETY: the loader's lock is held, so the object's headers stay mapped as long as the callback runs, and `info` lives no longer.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr.cast(), info.dlpi_phnum.into()) };
        Object { base: info.dlpi_addr, headers }
    }

    /// Does the address lie in one of its segments?
    pub fn holds(self, address: usize) -> bool {
        let offset = (address as u64).wrapping_sub(self.base);
        self.headers.iter().any(|h| h.kind == PT_LOAD && offset.wrapping_sub(h.address) < h.memory_size)
    }

    /// Does it import any of these functions?
    pub fn imports(self, names: &[&CStr]) -> bool {
        let Some(header) = self.headers.iter().find(|h| h.kind == PT_DYNAMIC) else { return false };
        let dynamic = self.base.wrapping_add(header.address) as *const Dynamic;
        if !self.holds(dynamic as usize) {
            return false;
        }
        // SAFETY: the header says where the dynamic section of this object is, which is loaded while this value lives.
        let dynamic =
            unsafe { core::slice::from_raw_parts(dynamic, header.memory_size as usize / size_of::<Dynamic>()) };
        // An object whose tables are elsewhere was not relocated as the loader's are: the kernel's own (user-mode Linux).
        let is_here = |tag| {
            let value = dynamic.iter().find(|d| d.tag == tag).map(|d| d.value);
            value.is_some_and(|value| self.holds(if value < self.base { value + self.base } else { value } as usize))
        };
        // SAFETY: the dynamic section of this object, whose tables lie in it.
        is_here(DT_SYMTAB) && is_here(DT_STRTAB) && unsafe { super::started::imports(dynamic, self.base, names) }
    }

    /// Where its segments lie.
    pub fn span(self) -> Range<usize> {
        let loaded = || self.headers.iter().filter(|h| h.kind == PT_LOAD);
        let start = loaded().map(|h| self.base.wrapping_add(h.address)).min().unwrap_or(0);
        let end = loaded().map(|h| self.base.wrapping_add(h.address + h.memory_size)).max().unwrap_or(0);
        start as usize..end as usize
    }

    /// Its table of exported names; None if it has none of the GNU kind.
    pub fn exports(self) -> Option<Exports> {
        let header = self.headers.iter().find(|h| h.kind == PT_DYNAMIC)?;
        // SAFETY: the object's own dynamic section, at the address that its headers tell.
        unsafe { Exports::new(self.base, self.base.wrapping_add(header.address) as *const Dynamic) }
    }
}

/// Address of a function in the kernel's own library, which it maps into each process. libc has it too, but that may be
/// another's by now (libfaketime).
pub fn of_kernel(name: &Name) -> Option<usize> {
    // SAFETY: the auxiliary vector says where its ELF header is, in which e_phoff is at byte 32 and e_phnum at byte 56; it stays mapped as long
    // as the program runs.
    unsafe {
        let start = libc::getauxval(libc::AT_SYSINFO_EHDR);
        if start == 0 {
            return None;
        }
        let header = start as *const u8;
        let headers = header.add(*header.add(32).cast::<u64>() as usize).cast::<ProgramHeader>();
        let headers = core::slice::from_raw_parts(headers, *header.add(56).cast::<u16>() as usize);
        let first = headers.iter().find(|h| h.kind == PT_LOAD)?;
        let base = start.wrapping_sub(first.address).wrapping_add(first.offset);
        Object { base, headers }.exports()?.find(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_a_clock() {
        assert!(of_kernel(&Name::new(crate::arch::CLOCK_GETTIME)).is_some());
        assert_eq!(of_kernel(&Name::new(c"no_such_function")), None);
    }
}
