//! OpenJDK. Its own libraries make system calls from native methods, a state in which a thread may call into the VM. The VM itself
//! (libjvm, and libzip and libjimage, which its class loader calls) may not be called from its own calls. A collection finds what is
//! unreachable; the Cleaner, a thread of the JVM's, then closes it within a millisecond, and opens a socket pair before its first
//! socket.

use core::ffi::{c_int, c_void};

use tideover_contract::collection::Skip;

use super::collect::Collector;
use super::functions::functions;
use super::loaded::{Caller, Home};
use crate::{process, thread};

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

pub static COLLECTOR: Collector = Collector { names: NAMES, consider, collect, holds_up, elsewhere: true };

/// The libraries whose calls are native methods.
const NATIVE: [&[u8]; 3] = [b"libjava.so", b"libnio.so", b"libnet.so"];
const JNI_VERSION_1_8: c_int = 0x0001_0008;
/// A JVM has more threads than this; the child of a fork has one.
const FEWEST_THREADS: u64 = 4;

fn consider(home: &Home, caller: &Caller) -> Result<(), Skip> {
    let jvm = Functions::of(home);
    let Some(created) = jvm.created else { return Err(Skip::Unknown) };
    if !NATIVE.contains(&caller.name()) {
        return Err(Skip::ForeignCaller);
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

/// The VM's own files: heap and processor limits of the container, read by the thread that collects.
fn holds_up(home: &Home, caller: Option<&Caller>) -> bool {
    caller.is_some_and(|caller| home.is(&caller.span))
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
