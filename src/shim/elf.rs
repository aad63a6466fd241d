//! What the main executable imports, and where the kernel keeps its clock, read from headers in memory: no lock, no file.

use core::ffi::{CStr, c_char};

#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

#[repr(C)]
struct Dynamic {
    tag: i64,
    value: u64,
}

#[repr(C)]
struct Symbol {
    name: u32,
    info: u8,
    other: u8,
    section: u16,
    value: u64,
    size: u64,
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_GNU_HASH: i64 = 0x6fff_fef5;

/// Does the main executable import any of these functions? False if its headers can't be read.
pub fn main_imports(names: &[&CStr]) -> bool {
    // SAFETY: the auxiliary vector describes the running program; what it points to stays mapped as long as it runs.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const ProgramHeader;
        let count = libc::getauxval(libc::AT_PHNUM) as usize;
        if headers.is_null() || libc::getauxval(libc::AT_PHENT) as usize != size_of::<ProgramHeader>() {
            return false;
        }
        let headers = core::slice::from_raw_parts(headers, count);
        let base =
            headers.iter().find(|h| h.kind == PT_PHDR).map_or(0, |h| (headers.as_ptr() as u64).wrapping_sub(h.address));
        headers.iter().find(|h| h.kind == PT_DYNAMIC).is_some_and(|h| {
            let dynamic = base.wrapping_add(h.address) as *const Dynamic;
            let size = h.memory_size as usize / size_of::<Dynamic>();
            imports(core::slice::from_raw_parts(dynamic, size), base, names)
        })
    }
}

/// # Safety
/// `dynamic` is the dynamic section of an object that is loaded at `base`.
unsafe fn imports(dynamic: &[Dynamic], base: u64, names: &[&CStr]) -> bool {
    let entry = |tag| dynamic.iter().find(|d| d.tag == tag).map(|d| d.value);
    // glibc has relocated these pointers in place; musl leaves them relative to the base.
    let address = |value: u64| if value < base { value + base } else { value };
    let (Some(symbols), Some(strings)) = (entry(DT_SYMTAB), entry(DT_STRTAB)) else { return false };
    let (symbols, strings) = (address(symbols) as *const Symbol, address(strings) as *const c_char);
    // Undefined symbols come before the first one that the GNU hash table lists; the old table tells how many there are.
    // SAFETY: both tables begin with u32 words.
    let count = unsafe {
        match (entry(DT_GNU_HASH), entry(DT_HASH)) {
            (Some(hash), _) => *(address(hash) as *const u32).add(1),
            (None, Some(hash)) => *(address(hash) as *const u32).add(1),
            _ => return false,
        }
    };
    (1..count as usize).any(|i| {
        // SAFETY: below the count; names are C strings in the string table.
        let (section, name) =
            unsafe { ((*symbols.add(i)).section, CStr::from_ptr(strings.add((*symbols.add(i)).name as usize))) };
        section == 0 && names.contains(&name)
    })
}

/// Address of a function in the kernel's own library, which it maps into each process. libc has it too, but that may be
/// another's by now (libfaketime).
pub fn of_kernel(name: &CStr) -> Option<usize> {
    // SAFETY: the auxiliary vector says where its ELF header is; it stays mapped as long as the program runs.
    unsafe {
        let base = libc::getauxval(libc::AT_SYSINFO_EHDR);
        if base == 0 {
            return None;
        }
        let header = base as *const u8;
        let headers = header.add(*header.add(32).cast::<u64>() as usize).cast::<ProgramHeader>();
        let headers = core::slice::from_raw_parts(headers, *header.add(56).cast::<u16>() as usize);
        let first = headers.iter().find(|h| h.kind == PT_LOAD)?;
        let base = base.wrapping_sub(first.address).wrapping_add(first.offset);
        let dynamic = headers.iter().find(|h| h.kind == PT_DYNAMIC)?;
        let entries = base.wrapping_add(dynamic.address) as *const Dynamic;
        let entries = core::slice::from_raw_parts(entries, dynamic.memory_size as usize / size_of::<Dynamic>());
        let table = |tag| Some(base.wrapping_add(entries.iter().find(|d| d.tag == tag)?.value));
        let (symbols, strings) = (table(DT_SYMTAB)? as *const Symbol, table(DT_STRTAB)? as *const c_char);
        let count = *(table(DT_HASH)? as *const u32).add(1);
        let symbols = core::slice::from_raw_parts(symbols, count as usize);
        let found = symbols.iter().find(|s| s.section != 0 && CStr::from_ptr(strings.add(s.name as usize)) == name)?;
        Some(base.wrapping_add(found.value) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_has_a_clock() {
        assert!(of_kernel(c"__vdso_clock_gettime").is_some());
        assert_eq!(of_kernel(c"no_such_function"), None);
    }

    #[test]
    fn the_test_program_imports_what_rust_uses() {
        assert!(main_imports(&[c"no_such_function", c"write"]));
        assert!(!main_imports(&[c"no_such_function", c"__fdelt_chk"]));
    }
}
