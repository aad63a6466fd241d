//! Functions with `...` that need more than their fixed arguments. Stable Rust can't define such functions; a few instructions of
//! [`crate::arch`] turn one into a call with fixed arguments.

use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::AtomicUsize;

use super::composites::make_room;
use super::kinds::named;
use super::processes::{execve, execvp};
use crate::arch::{exec_list, listed, prepared};
use crate::features::logs::dprintf;
use crate::os::real::Real;
use crate::state::usage;

type Strings = *const *const c_char;

// execl(3) and its variants: the arguments behind the path, laid out as an array, are what execv(3) and its variants take.
exec_list! { execl => execl_array }
exec_list! { execlp => execlp_array }
exec_list! { execle => execle_array }

unsafe extern "C" {
    static environ: Strings;
}

/// # Safety
/// As execv(3).
unsafe extern "C" fn execl_array(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: promised by the caller; the environment is libc's.
    unsafe { execve::execve::execve(path, arguments, environ) }
}

/// # Safety
/// As execvp(3).
unsafe extern "C" fn execlp_array(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: promised by the caller.
    unsafe { execvp::execvp::execvp(file, arguments) }
}

/// # Safety
/// As execv(3), with one pointer more behind the NULL that ends the arguments: an environment, as execve(2) takes it.
unsafe extern "C" fn execle_array(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: promised by the caller.
    unsafe {
        let mut end = arguments;
        while !(*end).is_null() {
            end = end.add(1);
        }
        execve::execve::execve(path, arguments, *end.add(1).cast::<Strings>())
    }
}

// syslog(3): room is made for the connection that it may open.
prepared! { syslog => prepare_syslog }
prepared! { __syslog_chk => prepare_syslog_chk }

extern "C" fn prepare_syslog() -> usize {
    #[unsafe(link_section = ".tables")]
    static REAL: Real = Real::new();
    prepare("syslog");
    REAL.address(c"syslog", false)
}

extern "C" fn prepare_syslog_chk() -> usize {
    #[unsafe(link_section = ".tables")]
    static REAL: Real = Real::new();
    prepare("__syslog_chk");
    REAL.address(c"__syslog_chk", false)
}

fn prepare(name: &'static str) {
    if usage::is_tight() {
        make_room(named(name, true));
    }
}

/// dprintf(3) and its variants: the first call finds out whether this libc's own will do (see [`mod@dprintf`]).
macro_rules! printing {
    ($($name:ident, $known:ident, $choose:ident => $ours:path;)*) => {
        $(#[unsafe(link_section = ".tables")]
        static $known: AtomicUsize = AtomicUsize::new(0);

        prepared! { $name => $choose, unless $known }

        extern "C" fn $choose() -> usize {
            #[unsafe(link_section = ".tables")]
            static REAL: Real = Real::new();
            // SAFETY: it ends with a NUL, and a C identifier holds none.
            let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
            dprintf::choose(&$known, &REAL, name, $ours as *const () as usize)
        })*
    };
}

printing! {
    dprintf, DPRINTF, choose_dprintf => listed_dprintf;
    vdprintf, VDPRINTF, choose_vdprintf => dprintf::vdprintf;
    __dprintf_chk, DPRINTF_CHK, choose_dprintf_chk => listed_dprintf_chk;
    __vdprintf_chk, VDPRINTF_CHK, choose_vdprintf_chk => dprintf::vdprintf_chk;
}

// With the arguments behind the fixed ones as a va_list.
listed! { listed_dprintf => dprintf::vdprintf, 2 }
listed! { listed_dprintf_chk => dprintf::vdprintf_chk, 3 }
