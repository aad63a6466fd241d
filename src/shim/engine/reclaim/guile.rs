//! Guile, on request. Its collector (libgc) finds what is unreachable; Guile's own finalizer thread closes it. The finalizers must not
//! run on the caller's thread: Guile's thread start-up makes a pipe on a thread that is only half made.

use core::ffi::c_int;

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, Home};
use crate::engine::call::Role;
use crate::state::process;

functions! {
    collect: unsafe extern "C" fn() = c"GC_gcollect";
    is_initialised: unsafe extern "C" fn() -> c_int = c"GC_is_init_called";
    is_registered: unsafe extern "C" fn() -> c_int = c"GC_thread_is_registered";
}

pub static COLLECTOR: Collector =
    Collector { names: NAMES, consider, collect, role: |_, _| Role::Usual, elsewhere: true, lends: true };

fn consider(home: &Home, caller: &Caller) -> Result<(), Skip> {
    let libgc = Functions::of(home);
    let (Some(is_initialised), Some(is_registered)) = (libgc.is_initialised, libgc.is_registered) else {
        return Err(Skip::Unknown);
    };
    // libgc itself calls with its lock held.
    if !caller.name().starts_with(b"libguile-") {
        return Err(Skip::ForeignCaller);
    }
    if process::is_forked() {
        return Err(Skip::Forked);
    }
    // SAFETY: both may be asked at any time; the second takes libgc's lock, which Guile does not hold around its own calls.
    unsafe {
        if is_initialised() == 0 {
            return Err(Skip::NotRunning);
        }
        if is_registered() == 0 {
            return Err(Skip::ForeignThread);
        }
    }
    Ok(())
}

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn collect(home: &Home) -> Option<Skip> {
    match Functions::of(home).collect {
        // SAFETY: a registered thread that does not hold libgc's lock, as `consider` has seen.
        Some(collect) => unsafe { collect() },
        None => return Some(Skip::Unknown),
    }
    None
}
