//! What an ELF file says about what can be preloaded into it: class, machine, loader, needed libraries, symbols.
//!
//! Only the ranges that are needed are read, so that a Java or Node binary of 100 MB does not take longer to start.
#![forbid(unsafe_code)]

use object::elf::{self, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, Sym};
use object::{Endianness, ReadCache};
use std::fs::File;

/// The C library that a file was built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libc {
    /// The GNU C library.
    Glibc,
    /// musl, the C library of Alpine Linux.
    Musl,
}

impl Libc {
    /// Recognises a C library by the path of its loader, or by its own.
    fn by_file(path: &str) -> Option<Libc> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
        if starts(&["ld-musl-", "libc.musl-"]) || name == "libc.so" {
            Some(Libc::Musl)
        } else if starts(&["ld-linux", "ld64.so.", "libc.so."]) {
            Some(Libc::Glibc)
        } else {
            None
        }
    }

    /// Its name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Libc::Glibc => "glibc",
            Libc::Musl => "musl",
        }
    }
}

/// The parts of an ELF file that decide whether a library can be preloaded into it.
#[derive(Clone, Debug, Default)]
pub struct Elf {
    /// Its class in bits, 32 or 64.
    pub bits: u8,
    /// Is it little-endian?
    pub little: bool,
    /// Its machine (e_machine).
    pub machine: u16,
    /// Is its type ET_DYN: a shared library, or a program that may be loaded at any address?
    pub relocatable: bool,
    /// Path of its loader (PT_INTERP), which reads LD_PRELOAD. None in static programs and in most libraries.
    pub interpreter: Option<String>,
    /// Names of the libraries that it needs (DT_NEEDED).
    pub needed: Vec<String>,
    /// Its own name as a library (DT_SONAME).
    pub soname: Option<String>,
    /// Was it built by the Go toolchain?
    pub go: bool,
    /// Symbols that it imports; filled in by [`Elf::read_with_symbols`] alone.
    pub undefined: Vec<String>,
    /// Symbols that it exports; filled in by [`Elf::read_with_symbols`] alone.
    pub defined: Vec<String>,
}

impl Elf {
    /// Reads a file of either class and byte order; None if it is no ELF file, or a broken one.
    pub fn read(file: File) -> Option<Elf> {
        let cache = ReadCache::new(file);
        read::<FileHeader64<Endianness>>(&cache, false).or_else(|| read::<FileHeader32<Endianness>>(&cache, false))
    }

    /// Reads a file with its dynamic symbols. Node exports 100,000 of them, so `run` reads those of the library alone.
    pub fn read_with_symbols(file: File) -> Option<Elf> {
        let cache = ReadCache::new(file);
        read::<FileHeader64<Endianness>>(&cache, true).or_else(|| read::<FileHeader32<Endianness>>(&cache, true))
    }

    /// Its C library: that of a program by its loader, that of a library by the libraries that it needs.
    pub fn libc(&self) -> Option<Libc> {
        self.interpreter.iter().chain(&self.needed).find_map(|path| Libc::by_file(path))
    }

    /// Its architecture for messages: `64-bit x86-64`.
    pub fn architecture(&self) -> String {
        let name = match elf::Machine(self.machine) {
            elf::EM_X86_64 => "x86-64",
            elf::EM_386 => "i386",
            elf::EM_AARCH64 => "aarch64",
            elf::EM_ARM => "arm",
            elf::EM_RISCV => "risc-v",
            elf::EM_PPC64 => "ppc64",
            elf::EM_S390 => "s390",
            elf::EM_LOONGARCH => "loongarch",
            elf::EM_MIPS => "mips",
            _ => return format!("{}-bit machine {}", self.bits, self.machine),
        };
        let order = if self.little || self.bits == 32 || name.starts_with("s390") { "" } else { " big-endian" };
        format!("{}-bit {name}{order}", self.bits)
    }

    /// Can one process load both files?
    pub fn same_architecture(&self, other: &Elf) -> bool {
        (self.bits, self.little, self.machine) == (other.bits, other.little, other.machine)
    }

    /// The C library whose loader this is, in a file of this path. `ld-linux-x86-64.so.2 PROGRAM` has no loader and
    /// reads LD_PRELOAD all the same; musl's names itself only by its path.
    pub fn loader_of(&self, path: &str) -> Option<Libc> {
        let names = self.soname.as_deref().into_iter().chain([path]);
        if self.interpreter.is_some() { None } else { names.into_iter().find_map(Libc::by_file) }
    }
}

fn read<Header: FileHeader<Endian = Endianness>>(data: &ReadCache<File>, with_symbols: bool) -> Option<Elf> {
    let header = Header::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let mut found = Elf {
        bits: if header.is_class_64() { 64 } else { 32 },
        little: header.is_little_endian(),
        machine: header.e_machine(endian).0,
        relocatable: header.e_type(endian) == elf::ET_DYN,
        ..Elf::default()
    };
    for segment in header.program_headers(endian, data).ok()? {
        if let Ok(Some(path)) = segment.interpreter(endian, data) {
            found.interpreter = Some(text(path));
        }
    }
    // Section headers may be stripped. The rest is then not known, and the program is taken for one that can be guarded.
    let Ok(sections) = header.sections(endian, data) else { return Some(found) };
    found.go = sections.section_by_name(endian, b".go.buildinfo").is_some();
    if let Ok(dynamic) = sections.dynamic_table(endian, data) {
        for entry in &dynamic {
            match entry.tag {
                elf::DT_NEEDED => found.needed.extend(dynamic.string(entry).ok().map(text)),
                elf::DT_SONAME => found.soname = dynamic.string(entry).ok().map(text),
                _ => {}
            }
        }
    }
    if with_symbols && let Ok(symbols) = sections.symbols(endian, data, elf::SHT_DYNSYM) {
        for symbol in symbols.iter() {
            let Ok(name) = symbol.name(endian, symbols.strings()) else { continue };
            match symbol.st_bind() {
                elf::STB_GLOBAL if symbol.is_undefined(endian) => found.undefined.push(text(name)),
                elf::STB_GLOBAL | elf::STB_WEAK if !symbol.is_undefined(endian) => found.defined.push(text(name)),
                _ => {}
            }
        }
    }
    Some(found)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executables::compiled::{Program, open};

    #[test]
    fn programs_of_this_machine_are_told_apart() {
        let shell = Elf::read(open("/bin/sh")).unwrap();
        assert!(
            shell.interpreter.is_some() && shell.libc().is_some() && shell.loader_of("/bin/sh").is_none() && !shell.go
        );
        assert!(Elf::read(open("/etc/passwd")).is_none());
        let loader = Elf::read(open(shell.interpreter.as_deref().unwrap())).unwrap();
        assert_eq!(loader.loader_of("loader"), shell.libc());
        assert!(loader.same_architecture(&shell), "{} {}", loader.architecture(), shell.architecture());
        assert!(shell.undefined.is_empty() && !Elf::read_with_symbols(open("/bin/sh")).unwrap().undefined.is_empty());
    }

    #[test]
    fn a_static_program_has_no_loader() {
        for flag in ["-static", "-static-pie"] {
            let program = Program::compile(&[flag]);
            let elf = Elf::read(open(program.path())).unwrap();
            assert!(elf.interpreter.is_none() && elf.loader_of("program").is_none(), "{flag}");
        }
    }

    #[test]
    fn the_loader_names_the_c_library() {
        let program = Program::compile(&["-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"]);
        assert_eq!(Elf::read(open(program.path())).unwrap().libc(), Some(Libc::Musl));
        let library = Elf { needed: vec!["libc.musl-aarch64.so.1".into()], ..Elf::default() };
        assert_eq!(library.libc(), Some(Libc::Musl));
        let library = Elf { needed: vec!["libgcc_s.so.1".into(), "libc.so.6".into()], ..Elf::default() };
        assert_eq!(library.libc(), Some(Libc::Glibc));
    }

    #[test]
    fn go_programs_are_recognised() {
        let program = Program::compile(&["-DGO"]);
        assert!(Elf::read(open(program.path())).unwrap().go);
    }

    #[test]
    fn a_truncated_file_is_not_believed() {
        let whole = std::fs::read("/bin/sh").unwrap();
        let directory = tempfile::tempdir().unwrap();
        for length in [0, 4, 20, 64, 100, 700, 4096] {
            let path = directory.path().join("cut");
            std::fs::write(&path, &whole[..length.min(whole.len())]).unwrap();
            let _ = Elf::read_with_symbols(open(&path));
        }
    }
}
