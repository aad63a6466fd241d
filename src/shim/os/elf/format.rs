//! Layouts of the ELF format, 64 bits wide, and of the loader's list of objects: as in <elf.h> and <link.h>.

#![forbid(unsafe_code)]
#![allow(missing_docs, reason = "the fields of elf(5)")]

use core::ffi::c_char;

/// `Elf64_Phdr`.
#[repr(C)]
pub struct ProgramHeader {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub physical: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub align: u64,
}

/// `Elf64_Dyn`.
#[repr(C)]
pub struct Dynamic {
    pub tag: i64,
    pub value: u64,
}

/// `Elf64_Sym`.
#[repr(C)]
pub struct Symbol {
    pub name: u32,
    pub info: u8,
    pub other: u8,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

/// `Elf64_Rela`.
#[repr(C)]
pub struct Relocation {
    pub address: u64,
    /// The symbol's index in the upper half, and the kind.
    pub info: u64,
    pub addend: i64,
}

pub const PT_LOAD: u32 = 1;
pub const PT_DYNAMIC: u32 = 2;
pub const PT_PHDR: u32 = 6;
pub const DT_NULL: i64 = 0;
pub const DT_PLTRELSZ: i64 = 2;
pub const DT_HASH: i64 = 4;
pub const DT_STRTAB: i64 = 5;
pub const DT_SYMTAB: i64 = 6;
pub const DT_RELA: i64 = 7;
pub const DT_RELASZ: i64 = 8;
pub const DT_DEBUG: i64 = 21;
pub const DT_JMPREL: i64 = 23;
pub const DT_GNU_HASH: i64 = 0x6fff_fef5;
pub const DT_VERSYM: i64 = 0x6fff_fff0;

const _: () = {
    assert!(size_of::<ProgramHeader>() == size_of::<libc::Elf64_Phdr>());
    assert!(size_of::<Symbol>() == size_of::<libc::Elf64_Sym>());
    assert!(size_of::<Relocation>() == size_of::<libc::Elf64_Rela>());
};

/// The loader's `struct link_map`, as far as <link.h> tells.
#[repr(C)]
pub struct LinkMap {
    pub base: u64,
    pub name: *const c_char,
    pub dynamic: *const Dynamic,
    pub next: *const LinkMap,
    pub previous: *const LinkMap,
}

/// The beginning of the loader's `struct r_debug`.
#[repr(C)]
pub struct Debug {
    pub version: i32,
    pub first: *const LinkMap,
    pub breakpoint: u64,
    pub state: i32,
    pub loader: u64,
}
