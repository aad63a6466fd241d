//! How far a soft limit on descriptors may be raised: said here once for the library, `doctor`, `watch` and `rescue`.
//!
//! FD_SET(3) with a number beyond the end of a set of select(2) writes past it; and a program that asks how many descriptors
//! it can have may keep a table of that size.

use core::ffi::CStr;

use crate::glob;
use crate::settings::raise;

/// Size of a set of select(2): the first descriptor number that does not fit.
pub const FD_SETSIZE: u64 = 1024;
/// What [`end`] returns for a program that may have a table of descriptors: its limit stays as it is.
pub const AS_IT_IS: u64 = 1;
/// A program that imports one of these uses sets of select(2).
pub const CALLS: [&CStr; 5] = [c"select", c"__select", c"pselect", c"__fdelt_chk", c"__fdelt_warn"];
/// A program that imports this may have a table of descriptors.
const SIZES: [&CStr; 1] = [c"getdtablesize"];
/// Programs that import any of them but never hand over a number that they did not check.
const CHECKED: &[u8] = b"python*, perl*, ruby*, node, nodejs, java, php*, guile*";
/// The libraries of these interpreters, and their own modules, which check the numbers, too. libc calls nothing of ours.
const INTERPRETERS: &[u8] =
    b"libpython*, libperl*, libruby*, libnode*, libjvm*, libnio*, libnet*, libphp*, libguile*, libuv*, select.cpython-*, readline.cpython-*";
const INTERPRETERS_FOLDERS: &[u8] = b"*/lib-dynload/*, */perl-base/auto/*, */perl/*/auto/IO/*";
/// Programs that import getdtablesize(3), and have no table of that size.
const WITHOUT_TABLE: &[u8] = b"bash, rbash, sh, tmux, cron, lsof, start-stop-daemon";

/// The limit up to which a program of this name may be raised, as far as the program itself is concerned: u64::MAX,
/// [`FD_SETSIZE`] or [`AS_IT_IS`]. `imports` says whether it imports one of some functions.
pub fn end(program: &[u8], imports: impl Fn(&[&CStr]) -> bool) -> u64 {
    if glob::any(CHECKED, program) {
        u64::MAX
    } else if !glob::any(WITHOUT_TABLE, program) && imports(&SIZES) {
        AS_IT_IS
    } else if imports(&CALLS) {
        FD_SETSIZE
    } else {
        u64::MAX
    }
}

/// Libraries that import one of [`CALLS`], and are known from servers with many thousands of descriptors: they check their numbers, or wait
/// for one of the first.
const BEARING: &[u8] = b"libc.*, libcrypto*, libssl*, libglib-*, libgio-*, libevent*, libcurl*, libapr-*, libxml2*, libpam*, libgcrypt*, libsasl2*, libtirpc*, libX11*, libxcb*, libdbus-*, libresolv*, libnss_*, libpq*, libmariadb*, libsystemd*, libgnutls*, libkrb5*, libgssapi*, libavahi*, libreadline*, libedit*, libcap-ng*, libaudit*, libdb-*, libcares*, libsnmp*, libssh*, libncurses*, libtinfo*, libwrap*, libmilter*, libhiredis*, libodbc*, libnl-*, libusb-*, libpcap*, libcups*, libldap*, liblber*, libunbound*, libldns*, libisc*, libdns*, libasound*, libpulse*, libjack*, libQt*, libgtk-*";

/// Do the imports of this object, by the path of its file, say that sets of select(2) may be used with any number? The main executable,
/// whose path is empty, is asked by [`imports_sets`]; the kernel's own object (linux-vdso) imports nothing.
pub fn counts_by_imports(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    !name.is_empty()
        && !glob::any(BEARING, name)
        && is_foreign_to_interpreter(path)
        && !name.starts_with(b"libtideover")
        && !name.starts_with(b"linux-")
}

/// Shells, which show their soft limit to people (`ulimit -n`): it is not raised only because they ask for it.
const SHELLS: &[u8] = b"sh, bash, rbash, dash, ash, zsh*, ksh*, mksh, fish, tcsh, csh, busybox, getconf, prlimit";

/// Is the soft limit to be raised before this program is told it?
pub fn is_raised_before_telling(program: &[u8]) -> bool {
    !glob::any(SHELLS, program)
}

/// Does this program ask for its limit, and have no table of that length?
pub fn has_no_table(program: &[u8]) -> bool {
    glob::any(WITHOUT_TABLE, program)
}

/// Does this program check the numbers that it puts into sets of select(2)?
pub fn is_checked(program: &[u8]) -> bool {
    glob::any(CHECKED, program)
}

/// Does the program itself use sets of select(2) with numbers that it does not check? For the library, which sees the calls of all
/// other objects, and those by which a program is told its limit.
pub fn imports_sets(program: &[u8], imports: impl Fn(&[&CStr]) -> bool) -> bool {
    !is_checked(program) && imports(&CALLS)
}

/// Is this object, by the path of its file, another than an interpreter and what it is made of? Empty: the main executable.
pub fn is_foreign_to_interpreter(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    !path.is_empty() && !glob::any(INTERPRETERS, name) && !glob::any(INTERPRETERS_FOLDERS, path)
}

/// The highest soft limit that may be set, at least `soft`. `mode` is a number of [`raise`], `cap` the value of
/// TIDEOVER_RAISE_CAP, `end` what [`end`] says of the program; it is asked only if it matters.
pub fn ceiling(soft: u64, hard: u64, mode: u64, cap: u64, end: impl FnOnce() -> u64) -> u64 {
    match mode {
        raise::OFF => soft,
        raise::FORCE => hard.min(cap).max(soft),
        _ => hard.min(cap).min(end()).max(soft),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_raised_as_far_as_all_allow() {
        let auto = |soft, end| ceiling(soft, 5000, raise::AUTO, 4000, || end);
        assert_eq!([auto(64, u64::MAX), auto(64, FD_SETSIZE), auto(64, AS_IT_IS)], [4000, 1024, 64]);
        assert_eq!(auto(4500, u64::MAX), 4500, "never lowered");
        assert_eq!(ceiling(64, 3000, raise::FORCE, 4000, || panic!("not asked")), 3000);
        assert_eq!(ceiling(64, 3000, raise::OFF, 4000, || panic!("not asked")), 64);
    }

    #[test]
    fn a_program_is_known_by_what_it_imports() {
        let end_of = |program: &str, names: &[&CStr]| {
            end(program.as_bytes(), |asked| asked.iter().any(|name| names.contains(name)))
        };
        assert_eq!(end_of("mydaemon", &[c"pselect"]), FD_SETSIZE);
        assert_eq!(end_of("mydaemon", &[c"pselect", c"getdtablesize"]), AS_IT_IS);
        assert_eq!(end_of("bash", &[c"pselect", c"getdtablesize"]), FD_SETSIZE);
        assert_eq!(end_of("python3.11", &[c"select", c"getdtablesize"]), u64::MAX);
        assert_eq!(end_of("mydaemon", &[c"poll"]), u64::MAX);
    }

    #[test]
    fn libraries_that_servers_have_count_only_when_they_call() {
        let counts = |path: &str| counts_by_imports(path.as_bytes());
        assert!(!counts("/lib/x86_64-linux-gnu/libtirpc.so.3") && !counts("/lib/x86_64-linux-gnu/libsasl2.so.2"));
        assert!(!counts("/usr/lib/x86_64-linux-gnu/libcrypto.so.3") && !counts("") && !counts("/opt/libtideover.so"));
        assert!(counts("/opt/app/libold.so.1"));
    }

    #[test]
    fn an_interpreter_is_made_of_several_objects() {
        let foreign = |path: &str| is_foreign_to_interpreter(path.as_bytes());
        assert!(!foreign("") && !foreign("/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0"));
        assert!(!foreign("/usr/lib/python3.11/lib-dynload/select.cpython-311-x86_64-linux-gnu.so"));
        assert!(foreign("/usr/lib/x86_64-linux-gnu/libtcl8.6.so") && foreign("/opt/app/fast.cpython-311.so"));
    }
}
