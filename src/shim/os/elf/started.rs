//! The objects that the program was started with. They are never unloaded, so no lock is needed to look at them.

use core::ffi::{CStr, c_char};

use super::format::*;
use super::{Exports, Name};

/// Does the main executable import any of these functions? False if its headers can't be read.
pub fn main_imports(names: &[&CStr]) -> bool {
    // SAFETY: the dynamic section and the base are those of the main executable.
    main_dynamic().is_some_and(|(dynamic, base)| unsafe { imports(dynamic, base, names) })
}

/// The main executable's dynamic section, and where it is loaded.
#[unsafe(link_section = ".text.at_load")]
fn main_dynamic() -> Option<(&'static [Dynamic], u64)> {
    // SAFETY: the auxiliary vector describes the running program; what it points to stays mapped as long as it runs.
    unsafe {
        let headers = libc::getauxval(libc::AT_PHDR) as *const ProgramHeader;
        let count = libc::getauxval(libc::AT_PHNUM) as usize;
        if headers.is_null() || libc::getauxval(libc::AT_PHENT) as usize != size_of::<ProgramHeader>() {
            return None;
        }
        let headers = core::slice::from_raw_parts(headers, count);
        let base =
            headers.iter().find(|h| h.kind == PT_PHDR).map_or(0, |h| (headers.as_ptr() as u64).wrapping_sub(h.address));
        let header = headers.iter().find(|h| h.kind == PT_DYNAMIC)?;
        let dynamic = base.wrapping_add(header.address) as *const Dynamic;
        Some((core::slice::from_raw_parts(dynamic, header.memory_size as usize / size_of::<Dynamic>()), base))
    }
}

/// Does an object import any of these functions?
///
/// # Safety
/// `dynamic` is the dynamic section of an object that is loaded at `base`, and stays so.
pub(super) unsafe fn imports(dynamic: &[Dynamic], base: u64, names: &[&CStr]) -> bool {
    let entry = |tag| dynamic.iter().find(|d| d.tag == tag).map(|d| d.value);
    // glibc has relocated these pointers in place; musl leaves them relative to the base.
    let address = |value: u64| if value < base { value + base } else { value };
    let (Some(symbols), Some(strings)) = (entry(DT_SYMTAB), entry(DT_STRTAB)) else { return false };
    let (symbols, strings) = (address(symbols) as *const Symbol, address(strings) as *const c_char);
    // Undefined symbols come before the first one that the GNU hash table lists; the old table tells how many there are. Where a program
    // exports nothing, GNU ld writes a table that begins with symbol 1 and lists none: most programs for arm64 are such ones. Then it is
    // relocations that name what is imported.
    // SAFETY: the caller promises the tables of a loaded object: both kinds of hash table begin with two words of 32 bits, and the tables of
    // relocations have as many bytes as the dynamic section says.
    let count = unsafe {
        match (entry(DT_GNU_HASH), entry(DT_HASH)) {
            (Some(hash), _) => *(address(hash) as *const u32).add(1),
            (None, Some(hash)) => *(address(hash) as *const u32).add(1),
            _ => return false,
        }
    };
    let count = if count > 1 {
        count as usize
    } else {
        let highest = |table, size| {
            let (Some(table), Some(size)) = (entry(table), entry(size)) else { return 0 };
            // SAFETY: see above.
            let all = unsafe {
                core::slice::from_raw_parts(
                    address(table) as *const Relocation,
                    size as usize / size_of::<Relocation>(),
                )
            };
            all.iter().map(|one| (one.info >> 32) as usize).max().unwrap_or(0)
        };
        highest(DT_RELA, DT_RELASZ).max(highest(DT_JMPREL, DT_PLTRELSZ)) + 1
    };
    (1..count).any(|i| {
        // SAFETY: there are so many symbols in the table, as the caller promises; names are C strings in the table of strings.
        let (section, name) =
            unsafe { ((*symbols.add(i)).section, CStr::from_ptr(strings.add((*symbols.add(i)).name as usize))) };
        section == 0 && names.contains(&name)
    })
}

/// What each of them exports, from the executable to the loader.
pub fn started_with() -> impl Iterator<Item = Exports> {
    // SAFETY: the loader's list says where each object's dynamic section is; these objects are never unloaded.
    objects().filter_map(|map| unsafe { Exports::new(map.base, map.dynamic) })
}

/// Where a function is that the program would have called without us, if that is in what it was started with: as dlsym(3) with
/// RTLD_NEXT finds it, but without the loader's lock, which a thread holds while it waits for another in a constructor.
#[unsafe(link_section = ".text.at_load")]
pub fn next(name: &Name) -> Option<usize> {
    unsafe extern "C" {
        #[link_name = "_DYNAMIC"]
        static OURS: [Dynamic; 0];
    }
    for map in objects().skip_while(|map| !core::ptr::eq(map.dynamic, (&raw const OURS).cast())).skip(1) {
        // An object that can't be read may be what defines it: dlsym(3) can read it.
        // SAFETY: the loader's list says where the object's dynamic section is; these objects are never unloaded.
        if let Some(found) = unsafe { Exports::new(map.base, map.dynamic) }?.look_up(name) {
            return found.address();
        }
    }
    None
}

/// The loader's list, from the executable to the loader itself.
#[unsafe(link_section = ".text.at_load")]
fn objects() -> impl Iterator<Item = &'static LinkMap> {
    // SAFETY: main_dynamic is the executable's; the loader has put the address of its list there, and keeps that whole.
    let debug = unsafe {
        main_dynamic()
            .and_then(|(dynamic, _)| dynamic.iter().take_while(|d| d.tag != DT_NULL).find(|d| d.tag == DT_DEBUG))
            .map_or(core::ptr::null(), |d| d.value as *const Debug)
            .as_ref()
    };
    let loader = debug.map_or(0, |debug| debug.loader);
    // SAFETY: null, or the first entry of the loader's list, which is never freed: it is the executable's.
    let first = debug.filter(|_| loader != 0).and_then(|debug| unsafe { debug.first.as_ref() });
    // What comes behind the loader was loaded later, and may go.
    // SAFETY: the entries up to the loader are never freed. Both libcs say where the loader is; its name would have to be read for each look-up.
    core::iter::successors(first, move |map| unsafe { if map.base == loader { None } else { map.next.as_ref() } })
}

/// What glibc's libc.so.6 exports. None with musl, whose library is its loader.
pub fn libc() -> Option<Exports> {
    started_with().find(|exports| exports.find(&Name::new(c"__libc_start_main")).is_some())
}

#[cfg(test)]
mod tests {
    use super::super::Object;
    use super::*;
    use crate::os::real::{Scope, dlsym};

    #[test]
    fn the_test_program_imports_what_rust_uses() {
        assert!(main_imports(&[c"no_such_function", c"write"]));
        assert!(!main_imports(&[c"no_such_function", c"__fdelt_chk"]));
    }

    #[test]
    fn real_functions_are_those_that_dlsym_finds() {
        let mut found = 0;
        for line in include_str!("../../exports.txt").lines() {
            let name = std::ffi::CString::new(line).expect("a name");
            if let Some(address) = next(&Name::new(&name)) {
                assert_eq!(address, dlsym(Scope::BehindUs, &name), "{line}");
                found += 1;
            }
        }
        assert!(found > 150, "{found}");
    }

    #[test]
    fn functions_of_loaded_objects_are_found_where_dlsym_finds_them() {
        unsafe extern "C" fn look(info: *mut libc::dl_phdr_info, _: usize, found: *mut core::ffi::c_void) -> i32 {
            // SAFETY: dl_iterate_phdr(3) passes its own, and the pointer given below.
            let (info, found) = unsafe { (&*info, &mut *found.cast::<Vec<usize>>()) };
            // SAFETY: within the callback.
            let object = unsafe { Object::new(info) };
            let exports = object.exports();
            for name in [Name::new(c"pthread_atfork"), Name::new(c"getpid"), Name::new(c"no_such_function")] {
                let address = exports.as_ref().and_then(|exports| exports.find(&name));
                if let Some(address) = address {
                    assert!(object.holds(address) && object.span().contains(&address));
                    found.push(address);
                }
            }
            0
        }
        let without_lock = started_with().find_map(|exports| exports.find(&Name::new(c"getpid")));
        assert_eq!(without_lock, Some(libc::getpid as *const () as usize));
        let mut found = Vec::<usize>::new();
        // SAFETY: the callback takes what is passed.
        unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut found).cast()) };
        assert!(found.contains(&(libc::getpid as *const () as usize)), "{found:x?}");
        assert!(!found.contains(&0));
    }
}
