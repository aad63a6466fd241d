//! AddressSanitizer: a program that is linked with the shared library of its runtime (gcc's way; clang links the runtime into the program)
//! ends at once if another library is loaded before that: "ASan runtime does not come first in initial library list". Its hooks and the
//! library's work in either order, so the check is switched off for the program.
#![forbid(unsafe_code)]

use crate::executables::elf::Elf;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The variable that the runtime reads.
pub const VARIABLE: &str = "ASAN_OPTIONS";
/// The option that switches the check off, or on.
const OPTION: &str = "verify_asan_link_order";

/// Does this name, or path, mean a shared runtime of AddressSanitizer?
pub fn is_runtime(entry: &[u8]) -> bool {
    let name = entry.rsplit(|&byte| byte == b'/').next().unwrap_or(entry);
    let ours = |start: &[u8]| name.starts_with(start) && name.windows(3).any(|part| part == b".so");
    ours(b"libasan.so") || ours(b"libclang_rt.asan")
}

/// Is this program linked with one?
pub fn is_needed_by(elf: &Elf) -> bool {
    elf.needed.iter().any(|name| is_runtime(name.as_bytes()))
}

/// The value of [`VARIABLE`] for a program that is linked with a shared runtime: with the check switched off. None: the variable stays as
/// it is, because the user has preloaded the runtime, or said how the check is to be; a warning tells then what will happen.
pub fn options(preloaded: Option<&OsStr>) -> Option<OsString> {
    let entries = preloaded.map(OsStr::as_bytes).unwrap_or_default().split(|byte| b" :".contains(byte));
    let given = std::env::var_os(VARIABLE).unwrap_or_default();
    let options = with_check_off(entries.into_iter().any(is_runtime), &given)?;
    if options == given {
        log::warn!(
            "AddressSanitizer will refuse to run it behind libtideover.so (\"ASan runtime does not come first\"), since {VARIABLE} has \
             {OPTION}=1; to help: take that out, or put its runtime into LD_PRELOAD: LD_PRELOAD=$(gcc -print-file-name=libasan.so)"
        );
        return None;
    }
    log::warn!(
        "it is built with AddressSanitizer, whose runtime wants to be the first library; running it with {VARIABLE}={OPTION}=0, so that it \
         does not end with \"ASan runtime does not come first\"; whoever sets LD_PRELOAD by hand has to set that, too"
    );
    Some(options)
}

/// What [`options`] answers, with the unchanged value where the user has switched the check on.
fn with_check_off(is_preloaded: bool, given: &OsStr) -> Option<OsString> {
    let text = given.to_string_lossy();
    let said = text.split([':', ',', ' ']).rev().find_map(|word| word.strip_prefix(OPTION)?.strip_prefix('='));
    match said {
        _ if is_preloaded => None,
        Some("0" | "false" | "no") => None,
        Some(_) => Some(given.into()),
        None => {
            let mut all = given.to_os_string();
            if !all.is_empty() {
                all.push(":");
            }
            all.push(format!("{OPTION}=0"));
            Some(all)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executables::compiled::{Program, open};

    #[test]
    fn a_program_with_the_shared_runtime_is_recognised() {
        let needs = |flags: &[&str]| is_needed_by(&Elf::read(open(Program::compile(flags).path())).unwrap());
        assert!(needs(&["-fsanitize=address"]));
        assert!(!needs(&["-fsanitize=address", "-static-libasan"]), "clang's way");
        assert!(!needs(&[]));
        assert!(is_runtime(b"/usr/lib/libclang_rt.asan-x86_64.so") && !is_runtime(b"libasan.sources.txt/x"));
    }

    #[test]
    fn what_the_user_has_said_stays() {
        let with =
            |preloaded, given: &str| with_check_off(preloaded, given.as_ref()).map(|all| all.into_string().unwrap());
        assert_eq!(with(false, "").unwrap(), "verify_asan_link_order=0");
        assert_eq!(with(false, "detect_leaks=0").unwrap(), "detect_leaks=0:verify_asan_link_order=0");
        assert_eq!(with(false, "verify_asan_link_order=1").unwrap(), "verify_asan_link_order=1");
        assert_eq!((with(false, "verify_asan_link_order=0"), with(true, "")), (None, None));
    }
}
