//! Ends of threads. The first pthread_exit(3) or pthread_cancel(3) of a process loads the unwinder, and ends the process when it can't:
//! "libgcc_s.so.1 must be installed for pthread_exit to work". Python ends its daemon threads that way, at its limit or not.

use core::ffi::{c_char, c_int, c_void};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tideover_contract::settings::SECOND;

use super::composites::make_room;
use super::hooks;
use crate::arch::weak;
use crate::engine::call::Call;
use crate::engine::{reclaim, reserve};
use crate::os::barrier::barrier;
use crate::os::real::Real;
use crate::os::sys;
use crate::state::{process, usage};

/// How long loading the unwinder is tried, nanoseconds: other threads may take what was free a moment ago, but a program that is ending
/// will soon have ended.
const TRY_FOR: u64 = 10 * SECOND;
/// Nanoseconds between two tries.
const PAUSE: u64 = SECOND / 1000;

/// The unwinder is loaded, and stays. Kept here, because to ask again would wait for the loader's lock.
#[unsafe(link_section = ".tables")]
static LOADED: AtomicBool = AtomicBool::new(false);

hooks! {
    pthread_exit(answer: *mut c_void) -> () = ending();
    pthread_cancel(thread: libc::pthread_t) -> c_int = unwinding();
}

/// pthread_exit(3).
#[inline(always)]
fn ending(call: impl Fn() -> Call, real: impl FnMut()) {
    reclaim::thread_ends();
    if !usage::is_tight() {
        // The real function loads it now, or ends the process.
        LOADED.store(true, Relaxed);
    }
    unwinding(call, real);
}

/// The real function unwinds this thread or another.
#[inline(always)]
fn unwinding<R>(call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    if !LOADED.load(Relaxed) && usage::is_tight() {
        load_unwinder(call());
    }
    real()
}

/// Loads the unwinder as the real function would, but tries it more than once. This thread is about to wait for the loader in any case.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn load_unwinder(call: Call) {
    // Only glibc has its unwinder in another library.
    if weak!("__register_atfork") == 0 {
        return;
    }
    barrier((), || {
        let end = sys::now() + TRY_FOR;
        while process::may_act() && sys::now() < end {
            if load() {
                LOADED.store(true, Relaxed);
                break;
            }
            if !reserve::release() {
                make_room(call);
                sys::sleep(PAUSE);
            }
        }
    });
}

/// Loads the unwinder; false if that failed.
fn load() -> bool {
    #[unsafe(link_section = ".tables")]
    static DLOPEN: Real = Real::new();
    type Dlopen = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;
    // SAFETY: the function of this name has this type, and the name is a C string. The library runs no code of its own when it is loaded.
    unsafe {
        let dlopen = core::mem::transmute::<usize, Dlopen>(DLOPEN.address(c"dlopen", true));
        !dlopen(c"libgcc_s.so.1".as_ptr(), libc::RTLD_NOW).is_null()
    }
}
