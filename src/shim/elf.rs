//! What the main executable imports, read from its own headers in memory: no lock, no file.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_program_imports_what_rust_uses() {
        assert!(main_imports(&[c"no_such_function", c"write"]));
        assert!(!main_imports(&[c"no_such_function", c"__fdelt_chk"]));
    }
}
