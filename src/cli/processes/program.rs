//! The program that a process runs, by its file: can the library act in it, and how far may its soft limit be raised?
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::sync::{LazyLock, Mutex, PoisonError};
use tideover_contract::select;

/// Entry of the auxiliary vector that says whether the loader ignored LD_PRELOAD.
const AT_SECURE: u64 = 23;

/// What is known of a program; nothing, if this user may not look into the process.
pub struct Program {
    name: Vec<u8>,
    elf: Option<Elf>,
    secure: bool,
}

impl Program {
    /// The program of a running process.
    pub fn of(pid: u32) -> Program {
        let exe = format!("/proc/{pid}/exe");
        let path = std::fs::read_link(&exe).unwrap_or_default();
        let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
        let elf = File::open(&exe).ok().and_then(Elf::read_with_symbols);
        Program { name, elf, secure: is_secure(&std::fs::read(format!("/proc/{pid}/auxv")).unwrap_or_default()) }
    }

    /// The soft limit up to which the program may be raised: see [`select::end`].
    pub fn end(&self) -> u64 {
        select::end(&self.name, |calls| {
            let imports = |name: &String| calls.iter().any(|call| call.to_bytes() == name.as_bytes());
            self.elf.as_ref().is_some_and(|elf| elf.undefined.iter().any(imports))
        })
    }

    /// Why the library can't act in it, as the end of a sentence; None if nothing speaks against it.
    pub fn out_of_reach(&self) -> Option<&'static str> {
        let elf = self.elf.as_ref()?;
        if self.secure {
            Some("it is set-uid, set-gid or has capabilities, so the loader ignores LD_PRELOAD")
        } else if elf.go {
            Some("it is a Go program, which makes its system calls itself")
        } else if elf.interpreter.is_none() {
            Some("it is statically linked, so no loader reads LD_PRELOAD")
        } else {
            None
        }
    }
}

/// Name of the file that a process runs; None if this user may not see it.
pub fn file_name(pid: u32) -> Option<Vec<u8>> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = path.file_name()?.as_bytes();
    Some(name.strip_suffix(b" (deleted)").unwrap_or(name).to_vec())
}

/// [`Program::end`] of a running process. It is a fact of the file, and the symbols of a large program take milliseconds to read,
/// so it is looked up once for each file.
pub fn end_of(pid: u32) -> u64 {
    /// Device, inode and time of the last change of a file, and the name by which it runs.
    type File = (u64, u64, i64, Vec<u8>);
    static KNOWN: LazyLock<Mutex<HashMap<File, u64>>> = LazyLock::new(Mutex::default);
    /// More files than this are not run on one machine by chance; then all is looked up anew.
    const MOST: usize = 4096;
    let exe = format!("/proc/{pid}/exe");
    let (Ok(file), Ok(path)) = (std::fs::metadata(&exe), std::fs::read_link(&exe)) else {
        return Program::of(pid).end();
    };
    let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    let key = (file.dev(), file.ino(), file.ctime(), name);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= MOST {
        known.clear();
    }
    *known.entry(key).or_insert_with(|| Program::of(pid).end())
}

/// Does the auxiliary vector, pairs of a number and a value, say that LD_PRELOAD was ignored?
fn is_secure(auxv: &[u8]) -> bool {
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, usize::from_ne_bytes) as u64;
    let (pairs, _) = auxv.as_chunks::<{ 2 * size_of::<usize>() }>();
    pairs.iter().any(|pair| {
        let (number, value) = pair.split_at(size_of::<usize>());
        word(number) == AT_SECURE && word(value) != 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_within_reach() {
        let me = Program::of(std::process::id());
        assert_eq!(me.out_of_reach(), None);
        assert_eq!(me.end(), u64::MAX);
        assert_eq!([end_of(std::process::id()), end_of(std::process::id()), end_of(u32::MAX)], [u64::MAX; 3]);
    }

    #[test]
    fn programs_are_told_apart() {
        let elf = Elf { interpreter: Some("/lib/ld.so".into()), undefined: vec!["select".into()], ..Elf::default() };
        let program = |name: &str, elf: &Elf, secure| Program { name: name.into(), elf: Some(elf.clone()), secure };
        assert_eq!(program("mydaemon", &elf, false).end(), select::FD_SETSIZE);
        assert_eq!(program("python3.11", &elf, false).end(), u64::MAX);
        let sizes = Elf { undefined: vec!["select".into(), "getdtablesize".into()], ..elf.clone() };
        assert_eq!(program("mydaemon", &sizes, false).end(), select::AS_IT_IS);
        assert_eq!(program("bash", &sizes, false).end(), select::FD_SETSIZE);
        assert!(program("su", &elf, true).out_of_reach().unwrap().contains("set-uid"));
        let without = Elf { interpreter: None, ..elf.clone() };
        assert!(program("busybox", &without, false).out_of_reach().unwrap().contains("statically"));
        let go = Elf { go: true, ..without };
        assert!(program("caddy", &go, false).out_of_reach().unwrap().contains("Go"));
        assert_eq!(Program::of(u32::MAX).out_of_reach(), None, "nothing is known");
    }

    #[test]
    fn the_auxiliary_vector_is_read_in_whole_pairs() {
        let words = |words: &[usize]| words.iter().flat_map(|w| w.to_ne_bytes()).collect::<Vec<u8>>();
        assert!(is_secure(&words(&[6, 4096, 23, 1, 0, 0])));
        assert!(!is_secure(&words(&[6, 23, 23, 0, 0, 0])));
        assert!(!is_secure(&words(&[23, 1])[..12]) && !is_secure(b""));
    }
}
