//! Load and exit: the constructor and the destructor.

use core::ffi::{c_char, c_int};
use core::mem::transmute;

use tideover_contract::glob;
use tideover_contract::settings::Id;

use super::tables;
use crate::arch::weak;
use crate::os::barrier::barrier;
use crate::state::handlers;
use crate::state::process::{self, Phase};
use crate::state::settings::SETTINGS;
use crate::state::{page, report};

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// glibc and musl both run this after libc itself is ready and before the program's own constructors.
#[cfg_attr(not(test), used, unsafe(link_section = ".init_array"))]
#[cfg_attr(test, allow(dead_code))]
static CONSTRUCTOR: extern "C" fn() = load;

/// Runs when the program exits, after its atexit(3) handlers.
#[cfg_attr(not(test), used, unsafe(link_section = ".fini_array"))]
#[cfg_attr(test, allow(dead_code))]
static DESTRUCTOR: extern "C" fn() = unload;

#[unsafe(link_section = ".text.at_load")]
extern "C" fn load() {
    barrier((), begin);
}

fn begin() {
    // SAFETY: getauxval only reads.
    let trusted = unsafe { libc::getauxval(libc::AT_SECURE) } == 0;
    // SAFETY: the first thing that happens here, and programs have one thread now; environ is libc's.
    let read = unsafe { SETTINGS.read(environ, trusted) };
    let name = process::program();
    let meant = (read.only.trim_ascii().is_empty() || glob::any(read.only, name)) && !glob::any(read.except, name);
    if SETTINGS.flag(Id::Disable) || !meant || is_second_copy() {
        process::set_phase(Phase::Dormant);
        return page::ignore();
    }
    process::adopt();
    // First: messages go to stderr only if it is what it was.
    let to_file = crate::state::streams::remember();
    report::start();
    #[cfg(not(test))]
    crate::os::barrier::start();
    read.complain();
    handlers::set(&tables::HANDLERS);
    at_fork(before_fork, forked);
    #[cfg(not(test))]
    crate::hooks::resolve_common();
    crate::features::outgoing::start();
    page::start();
    crate::features::logs::start(to_file);
    process::set_phase(Phase::Active);
}

#[unsafe(link_section = ".text.at_fork")]
extern "C" fn before_fork() {
    barrier((), tables::before_fork);
}

#[unsafe(link_section = ".text.at_fork")]
extern "C" fn forked() {
    tables::on_fork();
}

/// pthread_atfork(3). In glibc it is a part of each program, and calls the first of these; in musl the other is it.
fn at_fork(before: extern "C" fn(), child: extern "C" fn()) {
    type Handler = Option<extern "C" fn()>;
    let (glibc, musl) = (weak!("__register_atfork"), weak!("pthread_atfork"));
    // SAFETY: libc's functions, and a handler that stays mapped (the library is linked nodelete). No handle of ours: the handler is
    // never taken back.
    unsafe {
        if glibc != 0 {
            let register: extern "C" fn(Handler, Handler, Handler, *const ()) -> c_int = transmute(glibc);
            register(Some(before), None, Some(child), core::ptr::null());
        } else if musl != 0 {
            let register: extern "C" fn(Handler, Handler, Handler) -> c_int = transmute(musl);
            register(Some(before), None, Some(child));
        }
    }
}

#[unsafe(link_section = ".text.at_load")]
extern "C" fn unload() {
    barrier((), || {
        if process::may_act() {
            page::retire();
            process::set_phase(Phase::Exiting);
        }
    });
}

/// Another copy of this library comes first in the search order: two engines would wait twice for each descriptor.
#[cfg(not(test))]
fn is_second_copy() -> bool {
    use crate::os::real;

    let first = real::dlsym(real::Scope::Everywhere, c"tideover_version");
    first != 0 && first != crate::hooks::capi::tideover_version as *const () as usize
}

#[cfg(test)]
fn is_second_copy() -> bool {
    false
}
