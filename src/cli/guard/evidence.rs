//! How far the soft limit of a process may be raised, by the objects that it has mapped: the rule of `src/contract/select.rs`.
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use crate::executables::symbols;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use tideover_contract::select;

/// How far, and why no further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Highest soft limit that may be set; u64::MAX: nothing speaks against any, [`select::AS_IT_IS`]: none.
    pub limit: u64,
    /// Why no higher, as the end of a sentence; empty if nothing speaks against any.
    pub why: String,
}

/// Device, inode and time of the last change of a file.
type FileId = (u64, u64, i64);

/// What is known of files: symbols take milliseconds to read.
#[derive(Default)]
pub struct Known {
    /// What the main executable alone says, by its file and its name.
    mains: HashMap<(FileId, Vec<u8>), End>,
    /// Do they import a function of select(2)?
    objects: HashMap<FileId, bool>,
}

fn id(path: &str) -> Option<FileId> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|file| (file.dev(), file.ino(), file.ctime()))
}

/// More objects than this are not mapped on one machine by chance; then all are looked up anew.
const MOST: usize = 8192;

/// How far the soft limit of a process may be raised. A process whose objects can't be read stays below the end of a set of select(2).
pub fn end_of(pid: u32, known: &mut Known) -> End {
    let exe = format!("/proc/{pid}/exe");
    let path = fs::read_link(&exe).unwrap_or_default();
    let name = path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default();
    let name = name.strip_suffix(b" (deleted)").map_or(name.clone(), <[u8]>::to_vec);
    let Some(id) = id(&exe) else {
        return end(select::FD_SETSIZE, "its file can't be read, so it may use select(2)");
    };
    if known.mains.len() + known.objects.len() > MOST {
        *known = Known::default();
    }
    let main = known.mains.entry((id, name)).or_insert_with_key(|(_, name)| of_main(&exe, name)).clone();
    if main.limit != u64::MAX {
        return main;
    }
    match foreign_object(pid, &path, known) {
        Some(object) => end(select::FD_SETSIZE, &format!("{object} uses select(2), whose sets end there")),
        None => main,
    }
}

fn end(limit: u64, why: &str) -> End {
    End { limit, why: why.to_string() }
}

/// What the main executable says.
fn of_main(exe: &str, name: &[u8]) -> End {
    let Some(elf) = File::open(exe).ok().and_then(Elf::read_with_symbols) else {
        return end(select::FD_SETSIZE, "its file can't be read, so it may use select(2)");
    };
    let imports = |calls: &[&std::ffi::CStr]| {
        elf.undefined.iter().any(|name| calls.iter().any(|call| call.to_bytes() == name.as_bytes()))
    };
    match select::end(name, imports) {
        select::FD_SETSIZE => return end(select::FD_SETSIZE, "it uses select(2), whose sets end there"),
        select::AS_IT_IS => {
            return end(select::AS_IT_IS, "it calls getdtablesize(3), so it may have a table of so many");
        }
        _ => {}
    }
    if elf.go && File::open(exe).ok().and_then(symbols::of_go) != Some(false) {
        return end(select::FD_SETSIZE, "it is a Go program that has a function of select(2)");
    }
    if elf.interpreter.is_none() && !elf.go {
        match File::open(exe).ok().and_then(symbols::of_static) {
            Some(false) => {}
            Some(true) => return end(select::FD_SETSIZE, "it is static and has select(2) in it, whose sets end there"),
            None => return end(select::FD_SETSIZE, "it is static and without symbols, so it may use select(2)"),
        }
    }
    end(u64::MAX, "")
}

/// An object besides the main executable that may use sets of select(2) with any number.
fn foreign_object(pid: u32, main: &std::path::Path, known: &mut Known) -> Option<String> {
    let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else {
        return Some("an object that can't be read, which maybe".to_string());
    };
    let maps = String::from_utf8_lossy(&maps);
    let code = maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.contains('x')));
    let paths: BTreeSet<&str> =
        code.filter_map(|line| line.get(line.find('/')?..)).map(|path| path.trim_end_matches(" (deleted)")).collect();
    let mut suspects = paths.into_iter().filter(|path| {
        *path != main.to_string_lossy()
            && select::counts_by_imports(path.as_bytes())
            && select::is_foreign_to_interpreter(path.as_bytes())
    });
    suspects.find(|path| imports_select(pid, path, known)).map(ToString::to_string)
}

fn imports_select(pid: u32, path: &str, known: &mut Known) -> bool {
    // The path is that in the process's own mount namespace. A file that was replaced meanwhile can't be asked.
    let by = format!("/proc/{pid}/root{path}");
    let Some(id) = id(&by) else { return path.ends_with(".so") || path.contains(".so.") };
    if let Some(known) = known.objects.get(&id) {
        return *known;
    }
    let Ok(file) = File::open(&by) else { return true };
    let calls = |name: &String| select::CALLS.iter().any(|call| call.to_bytes() == name.as_bytes());
    let uses = Elf::read_with_symbols(file).is_some_and(|elf| elf.undefined.iter().any(calls));
    known.objects.insert(id, uses);
    uses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_uses_no_select_and_bash_does() {
        let mut known = Known::default();
        assert_eq!(end_of(std::process::id(), &mut known), End { limit: u64::MAX, why: String::new() });
        let mut bash = std::process::Command::new("bash")
            .args(["-c", "read; :"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let exe = format!("/proc/{}/exe", bash.id());
        while !fs::read_link(&exe).is_ok_and(|path| path.ends_with("bash")) {
            std::thread::yield_now();
        }
        let end = end_of(bash.id(), &mut known);
        bash.kill().unwrap();
        bash.wait().unwrap();
        assert_eq!(end.limit, select::FD_SETSIZE, "{}", end.why);
        assert_eq!(end_of(u32::MAX, &mut known).limit, select::FD_SETSIZE, "nothing is known of it");
    }
}
