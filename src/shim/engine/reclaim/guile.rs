//! Guile, if TIDEOVER_GC names it. Its collector (libgc) finds what is unreachable; Guile's own finalizer thread closes it. Finalizers must
//! not run on the calling thread: when Guile starts a thread it makes a pipe on it, and the thread is not ready for Scheme code then.

use core::ffi::c_int;

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, LoadedRuntime};
use crate::engine::call::Role;
use crate::state::process;

functions! {
    collect: unsafe extern "C" fn() = c"GC_gcollect";
    is_initialised: unsafe extern "C" fn() -> c_int = c"GC_is_init_called";
    is_registered: unsafe extern "C" fn() -> c_int = c"GC_thread_is_registered";
}

/// See [`Collector`].
pub static COLLECTOR: Collector = Collector {
    names: NAMES,
    may_collect,
    collect,
    role: |_, _| Role::Usual,
    has_finalizer_thread: true,
    lends_reserve: true,
};

/// See [`Collector::may_collect`].
fn may_collect(loaded: &LoadedRuntime, caller: &Caller) -> Result<(), Skip> {
    let libgc = Functions::of(loaded);
    let (Some(is_initialised), Some(is_registered)) = (libgc.is_initialised, libgc.is_registered) else {
        return Err(Skip::Unknown);
    };
    // Not for calls of libgc itself, which holds its lock then.
    if !caller.name().starts_with(b"libguile-") {
        return Err(Skip::ForeignCaller);
    }
    if process::is_forked() {
        return Err(Skip::Forked);
    }
    // SAFETY: any thread may call both at any time at which it does not hold libgc's lock, which the second takes. The caller is Guile,
    // which does not hold that lock around its own calls.
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

/// Collects, see [`Collector::collect`].
///
/// # Safety
/// [`may_collect`] has answered Ok for the same call, on the same thread.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
unsafe extern "C" fn collect(loaded: &LoadedRuntime) -> Option<Skip> {
    match Functions::of(loaded).collect {
        // SAFETY: the caller promises that `may_collect` has answered Ok: the thread is registered, and does not hold libgc's lock.
        Some(collect) => unsafe { collect() },
        None => return Some(Skip::Unknown),
    }
    None
}
