//! PHP, on request: a destructor that throws would make the exception come out of the call that found no descriptor.

use core::ffi::c_int;

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, Home};
use crate::engine::call::Role;
use crate::os::sys;
use crate::state::process;

functions! {
    collect: unsafe extern "C" fn() -> c_int = c"zend_gc_collect_cycles";
    is_enabled: unsafe extern "C" fn() -> bool = c"gc_enabled";
    is_protected: unsafe extern "C" fn() -> bool = c"gc_protected";
    threaded: unsafe extern "C" fn() = c"tsrm_get_ls_cache"; // only builds with threads have it
}

pub static COLLECTOR: Collector =
    Collector { names: NAMES, consider, collect, role: |_, _| Role::Usual, elsewhere: false, lends: true };

fn consider(home: &Home, caller: &Caller) -> Result<(), Skip> {
    let php = Functions::of(home);
    let (Some(is_enabled), Some(is_protected), None) = (php.is_enabled, php.is_protected, php.threaded) else {
        return Err(Skip::Unknown);
    };
    if !home.is(&caller.span) {
        return Err(Skip::ForeignCaller);
    }
    if sys::gettid() != process::pid() {
        return Err(Skip::ForeignThread);
    }
    // SAFETY: both read the collector's state, on PHP's only thread.
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

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn collect(home: &Home) -> Option<Skip> {
    match Functions::of(home).collect {
        // SAFETY: PHP's only thread, not in a collection, as `consider` has seen.
        Some(collect) => drop(unsafe { collect() }),
        None => return Some(Skip::Unknown),
    }
    None
}
