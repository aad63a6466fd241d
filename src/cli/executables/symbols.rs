//! The functions that a program without imports has in itself, static or Go: does it use sets of select(2)?
#![forbid(unsafe_code)]

use object::elf::{self, FileHeader64};
use object::read::ReadCache;
use object::read::elf::{FileHeader, Sym};
use object::{Endianness, elf::SHT_SYMTAB};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Functions of a static C program whose linking says that it calls select(2) or uses its sets.
const OF_C: [&[u8]; 6] = [b"select", b"__select", b"pselect", b"__pselect", b"__fdelt_chk", b"__fdelt_warn"];
/// The functions of Go that call select(2). They take sets that their callers have filled by index, past whose end Go panics.
const OF_GO: [&[u8]; 4] =
    [b"syscall.Select", b"syscall.Pselect", b"golang.org/x/sys/unix.Select", b"golang.org/x/sys/unix.Pselect"];
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// Does a static program's table of symbols have a function of select(2)? None if it was stripped of its symbols.
pub fn of_static(file: File) -> Option<bool> {
    let cache = ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(&cache).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, &cache).ok()?;
    let symbols = sections.symbols(endian, &cache, SHT_SYMTAB).ok()?;
    let mut functions = 0;
    for symbol in symbols.iter().filter(|symbol| symbol.st_type() == elf::STT_FUNC) {
        functions += 1;
        if symbol.name(endian, symbols.strings()).is_ok_and(|name| OF_C.contains(&name)) {
            return Some(true);
        }
    }
    (functions > 0).then_some(false)
}

/// Does a Go program have a function that calls select(2)? Its own table of function names, from which it prints stack traces, is there
/// also when the program was stripped. None if the file can't be read.
pub fn of_go(mut file: File) -> Option<bool> {
    file.seek(SeekFrom::Start(0)).ok()?;
    let mut piece = vec![0; PIECE];
    let mut kept = 0;
    loop {
        let read = file.read(&mut piece[kept..]).ok()?;
        if read == 0 {
            return Some(false);
        }
        let end = kept + read;
        if names_select(&piece[..end]) {
            return Some(true);
        }
        // A name may lie across the border of two pieces.
        let rest = end.min(64);
        piece.copy_within(end - rest..end, 0);
        kept = rest;
    }
}

/// Names in Go's table end with a zero byte.
fn names_select(bytes: &[u8]) -> bool {
    let end = b"elect\0";
    let ends = bytes.windows(end.len()).enumerate().filter(|(_, window)| window == end);
    ends.into_iter().any(|(at, _)| OF_GO.iter().any(|name| bytes[..at + end.len() - 1].ends_with(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executables::compiled::{Program, open};

    #[test]
    fn a_static_program_is_known_by_its_symbols() {
        let without = Program::compile(&["-static"]);
        assert_eq!(of_static(open(without.path())), Some(false));
        let stripped = Program::compile(&["-static", "-s"]);
        assert_eq!(of_static(open(stripped.path())), None);
    }

    #[test]
    fn names_are_whole_words_of_the_table() {
        assert!(names_select(b"\0syscall.Select\0x") && names_select(b"golang.org/x/sys/unix.Pselect\0"));
        assert!(!names_select(b"reflect.Select\0") && !names_select(b"syscall.Select4\0") && !names_select(b""));
        assert_eq!(of_go(open("/bin/sh")), Some(false));
    }
}
