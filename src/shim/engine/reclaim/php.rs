//! PHP, if TIDEOVER_GC names it. It is not collected by default, because an exception that a destructor throws meanwhile would come out of
//! the call that found no descriptor.

use core::ffi::c_int;

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, LoadedRuntime};
use crate::engine::call::Role;
use crate::os::sys;
use crate::state::process;

functions! {
    collect: unsafe extern "C" fn() -> c_int = c"zend_gc_collect_cycles";
    is_enabled: unsafe extern "C" fn() -> bool = c"gc_enabled";
    is_protected: unsafe extern "C" fn() -> bool = c"gc_protected";
    threaded: unsafe extern "C" fn() = c"tsrm_get_ls_cache"; // only builds with threads have it
}

/// See [`Collector`].
pub static COLLECTOR: Collector = Collector {
    names: NAMES,
    may_collect,
    collect,
    role: |_, _| Role::Usual,
    has_finalizer_thread: false,
    lends_reserve: true,
};

/// See [`Collector::may_collect`].
fn may_collect(loaded: &LoadedRuntime, caller: &Caller) -> Result<(), Skip> {
    let php = Functions::of(loaded);
    let (Some(is_enabled), Some(is_protected), None) = (php.is_enabled, php.is_protected, php.threaded) else {
        return Err(Skip::Unknown);
    };
    if !loaded.is(&caller.span) {
        return Err(Skip::ForeignCaller);
    }
    if sys::gettid() != process::pid() {
        return Err(Skip::ForeignThread);
    }
    // SAFETY: both read the collector's state, which only PHP's one thread uses, and this is it: the build has no threads (`threaded`), and
    // it is the process's first.
    unsafe {
        if is_protected() {
            return Err(Skip::Collecting);
        }
        if !is_enabled() {
            return Err(Skip::Disabled);
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
        // SAFETY: the caller promises that `may_collect` has answered Ok: this is PHP's only thread, and it is not in a collection.
        Some(collect) => drop(unsafe { collect() }),
        None => return Some(Skip::Unknown),
    }
    None
}
