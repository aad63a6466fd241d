//! OpenJDK. Its own libraries make system calls in native methods, where a thread may call into the VM. In calls that the VM itself makes
//! (libjvm, and libzip and libjimage, which its class loader uses) the VM must not be called. A collection finds what is unreachable;
//! the Cleaner, a thread of the JVM's, closes it within a millisecond. Before it closes its first socket it opens a socket pair.

use core::ffi::{c_int, c_void};

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, LoadedRuntime};
use crate::engine::call::Role;
use crate::os::sys;
use crate::state::{process, thread};

/// `JavaVM *` of JNI: points to a pointer to a table of functions.
type Vm = *const *const Table;

/// `struct JNIInvokeInterface_` of JNI, as far as it is used.
#[repr(C)]
struct Table {
    reserved: [usize; 3],
    destroy: usize,
    attach: usize,
    detach: usize,
    /// GetEnv.
    environment: unsafe extern "C" fn(Vm, *mut *mut c_void, c_int) -> c_int,
}

functions! {
    // Not System.gc() through JNI: this runs no Java code, leaves a pending exception alone, and obeys -XX:+DisableExplicitGC.
    collect: unsafe extern "C" fn() = c"JVM_GC";
    created: unsafe extern "C" fn(*mut Vm, c_int, *mut c_int) -> c_int = c"JNI_GetCreatedJavaVMs";
}

/// See [`Collector`].
pub static COLLECTOR: Collector =
    Collector { names: NAMES, may_collect, collect, role, has_finalizer_thread: true, lends_reserve: false };

/// The libraries that make their calls in native methods.
const NATIVE: [&[u8]; 3] = [b"libjava.so", b"libnio.so", b"libnet.so"];
/// Names of the threads that close what is unreachable, as far as the kernel keeps them (15 bytes).
const FINALIZERS: [&[u8]; 3] = [b"Common-Cleaner\0", b"Finalizer\0", b"Reference Handl\0"];
const JNI_VERSION_1_8: c_int = 0x0001_0008;
/// A JVM has at least so many threads; the child of a fork has one.
const FEWEST_THREADS: u64 = 4;

/// See [`Collector::may_collect`].
fn may_collect(loaded: &LoadedRuntime, caller: &Caller) -> Result<(), Skip> {
    let jvm = Functions::of(loaded);
    let Some(created) = jvm.created else { return Err(Skip::Unknown) };
    if !NATIVE.contains(&caller.name()) {
        return Err(Skip::ForeignCaller);
    }
    if is_finalizer() {
        return Err(Skip::Collecting);
    }
    if process::is_forked() && thread::count() < FEWEST_THREADS {
        return Err(Skip::Forked);
    }
    let (mut vm, mut count): (Vm, c_int) = (core::ptr::null(), 0);
    // SAFETY: JNI_GetCreatedJavaVMs stores at most as many pointers as it is told there is room for, one. A VM that it returned, not null,
    // points to its table, and GetEnv may be called on any thread.
    unsafe {
        if created(&raw mut vm, 1, &raw mut count) != 0 || count < 1 || vm.is_null() {
            return Err(Skip::NotRunning);
        }
        let mut environment = core::ptr::null_mut();
        if ((**vm).environment)(vm, &raw mut environment, JNI_VERSION_1_8) != 0 {
            return Err(Skip::ForeignThread);
        }
    }
    Ok(())
}

/// See [`Collector::role`]. The VM itself opens files such as the container's limits, which the collecting thread reads. If the thread
/// that closes what is unreachable finds no descriptor when it initialises the class of sockets, no socket is ever closed again.
fn role(loaded: &LoadedRuntime, caller: Option<&Caller>) -> Role {
    if caller.is_some_and(|caller| loaded.is(&caller.span)) {
        Role::Internal
    } else if is_finalizer() {
        Role::Finalizing
    } else {
        Role::Usual
    }
}

fn is_finalizer() -> bool {
    sys::thread_name().is_ok_and(|name| FINALIZERS.iter().any(|finalizer| name.starts_with(finalizer)))
}

/// Collects, see [`Collector::collect`].
///
/// # Safety
/// [`may_collect`] has answered Ok for the same call, on the same thread.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
unsafe extern "C" fn collect(loaded: &LoadedRuntime) -> Option<Skip> {
    match Functions::of(loaded).collect {
        // SAFETY: the caller promises that `may_collect` has answered Ok: the thread is attached to a running VM, and in a native method.
        Some(collect) => unsafe { collect() },
        None => return Some(Skip::Unknown),
    }
    None
}
