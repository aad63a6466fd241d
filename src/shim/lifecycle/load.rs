//! Load and exit: the constructor and the destructor.

use core::ffi::{c_char, c_int};
use core::mem::transmute;

use tideover_contract::settings::Id;

use super::tables;
use crate::arch::weak;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::environment::variable;
use crate::state::handlers;
use crate::state::process::{self, Phase};
use crate::state::settings::SETTINGS;
use crate::state::{page, report, streams};

unsafe extern "C" {
    /// environ(7).
    static environ: *const *const c_char;
}

/// The constructor: glibc and musl call it when libc itself is ready, before the program's own constructors.
#[cfg_attr(not(test), used, unsafe(link_section = ".init_array"))]
#[cfg_attr(test, allow(dead_code))]
static CONSTRUCTOR: extern "C" fn() = load;

/// The destructor: runs when the program exits, after its atexit(3) handlers.
#[cfg_attr(not(test), used, unsafe(link_section = ".fini_array"))]
#[cfg_attr(test, allow(dead_code))]
static DESTRUCTOR: extern "C" fn() = unload;

#[unsafe(link_section = ".text.at_load")]
extern "C" fn load() {
    barrier((), begin);
}

/// Starts the parts of the library, unless it is to do nothing in this process.
fn begin() {
    let trusted = !sys::is_secure();
    let name = process::program();
    // SAFETY: until this constructor has set the phase, no hook uses the settings, and the program has no other thread yet. `environ` is
    // libc's array of the environment; what `read` holds of it is used in this function only, in which no code of the program runs.
    let read = unsafe { SETTINGS.read(environ, trusted, name) };
    if SETTINGS.flag(Id::Disable) || !read.is_meant || is_second_copy() {
        process::set_phase(Phase::Dormant);
        return page::ignore();
    }
    if !trusted {
        // A set-uid program's logs are not its caller's to read, and standard output and standard error are the caller's.
        SETTINGS.be_silent();
    }
    process::adopt();
    // Before the first message: messages go to stderr only if it is still open on this file.
    let to_file = streams::remember();
    if trusted {
        // SAFETY: environ is libc's, and nobody changes it now.
        let said = |name| unsafe { variable(environ, name) };
        streams::remember_environment(said(b"JOURNAL_STREAM"), said(b"GATEWAY_INTERFACE"));
    }
    report::start();
    #[cfg(not(test))]
    crate::os::barrier::start();
    SETTINGS.are_read();
    read.complain();
    handlers::set(&tables::HANDLERS);
    at_fork(before_fork, forked);
    #[cfg(not(test))]
    crate::hooks::resolve_common();
    crate::features::outgoing::start();
    page::start();
    crate::features::logs::start(to_file);
    process::set_phase(Phase::Active);
    if to_file && trusted {
        // A cron job's output: lines of the job before may be held for that file, and come before those of this one.
        crate::features::logs::put_back_what_is_left();
    }
}

#[unsafe(link_section = ".text.at_fork")]
extern "C" fn before_fork() {
    barrier((), tables::before_fork);
}

#[unsafe(link_section = ".text.at_fork")]
extern "C" fn forked() {
    tables::on_fork();
}

/// pthread_atfork(3). With glibc that function is linked into each program, and calls `__register_atfork` of libc; musl has it in libc.
fn at_fork(before: extern "C" fn(), child: extern "C" fn()) {
    type Handler = Option<extern "C" fn()>;
    let (glibc, musl) = (weak!("__register_atfork"), weak!("pthread_atfork"));
    // SAFETY: the addresses are those of libc's functions of these names, which have these types. The handlers stay mapped, since the library
    // is linked with `-z nodelete`. NULL instead of a DSO handle: they are never unregistered.
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
        if process::may_note() {
            process::set_phase(Phase::Exiting);
            crate::features::logs::ending();
            report::ending();
            page::retire();
        }
    });
}

/// Has the process another copy of this library, before this one in the search order? Two copies would wait twice for each descriptor.
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
