//! OpenJDK. Its own libraries make system calls from native methods, a state in which a thread may call into the VM. The VM itself
//! (libjvm, and libzip and libjimage, which its class loader calls) may not be called from its own calls. A collection finds what is
//! unreachable; the Cleaner, a thread of the JVM's, then closes it within a millisecond, and opens a socket pair before its first
//! socket.

use core::ffi::{c_int, c_void};

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, Home};
use crate::engine::call::Role;
use crate::os::sys;
use crate::state::{process, thread};

/// JNI's JavaVM: a pointer to a table of functions.
type Vm = *const *const Table;

#[repr(C)]
struct Table {
    reserved: [usize; 3],
    destroy: usize,
    attach: usize,
    detach: usize,
    environment: unsafe extern "C" fn(Vm, *mut *mut c_void, c_int) -> c_int,
}

functions! {
    // Not System.gc by JNI: no Java code runs, a pending exception stays, and -XX:+DisableExplicitGC counts.
    collect: unsafe extern "C" fn() = c"JVM_GC";
    created: unsafe extern "C" fn(*mut Vm, c_int, *mut c_int) -> c_int = c"JNI_GetCreatedJavaVMs";
}

pub static COLLECTOR: Collector = Collector { names: NAMES, consider, collect, role, elsewhere: true, lends: false };

/// The libraries whose calls are native methods.
const NATIVE: [&[u8]; 3] = [b"libjava.so", b"libnio.so", b"libnet.so"];
/// The JVM's names for its threads, as far as the kernel keeps them.
const FINALIZERS: [&[u8]; 3] = [b"Common-Cleaner\0", b"Finalizer\0", b"Reference Handl\0"];
const JNI_VERSION_1_8: c_int = 0x0001_0008;
/// A JVM has more threads than this; the child of a fork has one.
const FEWEST_THREADS: u64 = 4;

fn consider(home: &Home, caller: &Caller) -> Result<(), Skip> {
    let jvm = Functions::of(home);
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
    // SAFETY: JNI: fills in at most one; then the table is that of a running VM.
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

/// The VM's own files are such as the container's limits, which the thread that collects reads. If the thread that closes what is
/// unreachable finds no descriptor when it initialises the class of sockets, none is ever closed again.
fn role(home: &Home, caller: Option<&Caller>) -> Role {
    if caller.is_some_and(|caller| home.is(&caller.span)) {
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

#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
extern "C" fn collect(home: &Home) -> Option<Skip> {
    match Functions::of(home).collect {
        // SAFETY: an attached thread in a native method, as `consider` has seen.
        Some(collect) => unsafe { collect() },
        None => return Some(Skip::Unknown),
    }
    None
}
