//! What loaded objects import and export, read from their own headers in memory: no lock, no file, no dlsym(3), which waits for
//! another thread's dlopen(3) and replaces the host's dlerror(3) when it finds nothing.

use core::ffi::{CStr, c_char};
use core::ops::Range;

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
const DT_NULL: i64 = 0;
const DT_HASH: i64 = 4;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_DEBUG: i64 = 21;
const DT_GNU_HASH: i64 = 0x6fff_fef5;
const DT_VERSYM: i64 = 0x6fff_fff0;

/// Does the main executable import any of these functions? False if its headers can't be read.
pub fn main_imports(names: &[&CStr]) -> bool {
    // SAFETY: the main executable's own.
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

/// A name to be looked up, with its hash. The text itself, padded with zeros: a pointer would be a relocation at every start.
pub struct Name {
    hash: u32,
    text: [u8; 36],
}

impl Name {
    /// Hashes it.
    #[unsafe(link_section = ".text.at_load")]
    pub const fn new(text: &CStr) -> Name {
        let bytes = text.to_bytes();
        let mut name = Name { hash: 5381, text: [0; 36] };
        let mut i = 0;
        while i < bytes.len() {
            name.hash = name.hash.wrapping_mul(33).wrapping_add(bytes[i] as u32);
            name.text[i] = bytes[i];
            i += 1;
        }
        assert!(i < name.text.len(), "too long");
        name
    }
}

impl Name {
    fn text(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).unwrap_or(c"")
    }
}

/// A loaded object, as dl_iterate_phdr(3) shows it.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    base: u64,
    headers: &'a [ProgramHeader],
}

impl<'a> Object<'a> {
    /// # Safety
    /// From within a callback of dl_iterate_phdr(3), with its own information.
    pub unsafe fn new(info: &'a libc::dl_phdr_info) -> Object<'a> {
        if info.dlpi_phdr.is_null() {
            return Object { base: 0, headers: &[] };
        }
        // SAFETY: the object's own headers, which stay mapped as long as the callback runs.
        let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr.cast(), info.dlpi_phnum.into()) };
        Object { base: info.dlpi_addr, headers }
    }

    /// Does the address lie in one of its segments?
    pub fn holds(self, address: usize) -> bool {
        let offset = (address as u64).wrapping_sub(self.base);
        self.headers.iter().any(|h| h.kind == PT_LOAD && offset.wrapping_sub(h.address) < h.memory_size)
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
        // SAFETY: the object's own dynamic section, mapped like all of it.
        unsafe { Exports::new(self.base, self.base.wrapping_add(header.address) as *const Dynamic) }
    }
}

/// The loader's `struct link_map`, as far as <link.h> tells.
#[repr(C)]
struct LinkMap {
    base: u64,
    name: *const c_char,
    dynamic: *const Dynamic,
    next: *const LinkMap,
    previous: *const LinkMap,
}

/// The beginning of the loader's `struct r_debug`.
#[repr(C)]
struct Debug {
    version: i32,
    first: *const LinkMap,
    breakpoint: u64,
    state: i32,
    loader: u64,
}

/// What the objects export that the program was started with, from the executable to the loader. They never go, so no lock is
/// needed to look at them.
pub fn started_with() -> impl Iterator<Item = Exports> {
    // SAFETY: each object's own dynamic section.
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
        // SAFETY: the object's own dynamic section. One that can't be read may be what defines it: dlsym(3) can read it.
        if let Some(found) = unsafe { Exports::new(map.base, map.dynamic) }?.look_up(name) {
            return found.address();
        }
    }
    None
}

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
    // SAFETY: as above.
    let first = debug.and_then(|debug| unsafe { debug.first.as_ref() });
    // SAFETY: as above; names are C strings. Behind the loader is what was loaded later, and may go.
    core::iter::successors(first, move |map| unsafe {
        let name = if map.name.is_null() { c"" } else { CStr::from_ptr(map.name) };
        let name = name.to_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or(&[]);
        if name.starts_with(b"ld-") || loader != 0 && map.base == loader { None } else { map.next.as_ref() }
    })
}

/// What glibc's libc.so.6 exports. None with musl, whose library is its loader.
pub fn libc() -> Option<Exports> {
    started_with().find(|exports| exports.find(&Name::new(c"__libc_start_main")).is_some())
}

/// The hash table of an object's exported names.
pub struct Exports {
    base: u64,
    hash: *const u32,
    symbols: *const Symbol,
    strings: *const c_char,
    /// A version for each symbol, or null.
    versions: *const u16,
}

/// A name that an object defines.
struct Found {
    address: usize,
    /// Its value is the address itself: not a function that chooses one (IFUNC), no thread-local variable.
    is_plain: bool,
}

impl Found {
    fn address(self) -> Option<usize> {
        self.is_plain.then_some(self.address)
    }
}

impl Exports {
    /// # Safety
    /// `dynamic` is the dynamic section of an object that is loaded at `base`.
    #[unsafe(link_section = ".text.at_load")]
    unsafe fn new(base: u64, dynamic: *const Dynamic) -> Option<Exports> {
        let mut exports = Exports {
            base,
            hash: core::ptr::null(),
            symbols: core::ptr::null(),
            strings: core::ptr::null(),
            versions: core::ptr::null(),
        };
        let mut entry = dynamic;
        // SAFETY: promised by the caller; the section ends with DT_NULL.
        while let Some(&Dynamic { tag, value }) = unsafe { entry.as_ref() }.filter(|entry| entry.tag != DT_NULL) {
            // As in `imports`: glibc has relocated these, but not in the vDSO.
            let address = if value < base { value + base } else { value };
            match tag {
                DT_GNU_HASH => exports.hash = address as *const u32,
                DT_SYMTAB => exports.symbols = address as *const Symbol,
                DT_STRTAB => exports.strings = address as *const c_char,
                DT_VERSYM => exports.versions = address as *const u16,
                _ => {}
            }
            // SAFETY: not at the end yet.
            entry = unsafe { entry.add(1) };
        }
        (!exports.hash.is_null() && !exports.symbols.is_null() && !exports.strings.is_null()).then_some(exports)
    }

    /// Address of an exported function or variable.
    pub fn find(&self, name: &Name) -> Option<usize> {
        self.look_up(name).and_then(Found::address)
    }

    /// The default version of a name.
    #[unsafe(link_section = ".text.at_load")]
    fn look_up(&self, name: &Name) -> Option<Found> {
        const NONE: u8 = 0;
        const VARIABLE: u8 = 1;
        const FUNCTION: u8 = 2;
        const HIDDEN: u16 = 0x8000;
        // SAFETY: the layout of DT_GNU_HASH: bucket count, first symbol, size and shift of the Bloom filter, the filter in
        // words of 64 bits, the buckets, the chains of hashes, each ended by a set lowest bit.
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

/// Address of a function in the kernel's own library, which it maps into each process. libc has it too, but that may be
/// another's by now (libfaketime).
pub fn of_kernel(name: &Name) -> Option<usize> {
    // SAFETY: the auxiliary vector says where its ELF header is; it stays mapped as long as the program runs.
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

    #[test]
    fn the_test_program_imports_what_rust_uses() {
        assert!(main_imports(&[c"no_such_function", c"write"]));
        assert!(!main_imports(&[c"no_such_function", c"__fdelt_chk"]));
    }

    #[test]
    fn real_functions_are_those_that_dlsym_finds() {
        let mut found = 0;
        for line in include_str!("../exports.txt").lines() {
            let name = std::ffi::CString::new(line).expect("a name");
            if let Some(address) = next(&Name::new(&name)) {
                assert_eq!(address, crate::os::real::dlsym(libc::RTLD_NEXT, &name), "{line}");
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
