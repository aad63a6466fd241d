//! Whose process is this, and may the library act in it?

use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};

use crate::os::sys;

/// What the library may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Phase {
    /// Our constructor has not run: another library's constructor, or malloc, called a hook.
    Starting = 0,
    /// Everything.
    Active = 1,
    /// Nothing: switched off, not this program's turn, or a second copy of the library.
    Dormant = 2,
    /// The program installed a seccomp filter: no system call of our own any more, one might end the host.
    Sandboxed = 3,
    /// exit(3) has come as far as our destructor: free, but never wait.
    Exiting = 4,
}

static PHASE: AtomicU32 = AtomicU32::new(Phase::Starting as u32);
/// The process that the state in this memory describes. A vfork child shares the memory but not the number.
static PID: AtomicI32 = AtomicI32::new(0);

/// This process was made by fork(2) and has not executed a program since.
static FORKED: AtomicBool = AtomicBool::new(false);

/// See [`FORKED`].
pub fn is_forked() -> bool {
    FORKED.load(Relaxed)
}

/// The present phase.
pub fn phase() -> Phase {
    match PHASE.load(Relaxed) {
        1 => Phase::Active,
        2 => Phase::Dormant,
        3 => Phase::Sandboxed,
        4 => Phase::Exiting,
        _ => Phase::Starting,
    }
}

/// Moves on. Dormant and Sandboxed are final.
pub fn set_phase(next: Phase) {
    if !matches!(phase(), Phase::Dormant | Phase::Sandboxed) {
        PHASE.store(next as u32, Relaxed);
    }
}

/// The program has called exit(3).
pub extern "C" fn set_phase_ending() {
    if phase() == Phase::Active && is_ours() {
        PHASE.store(Phase::Exiting as u32, Relaxed);
    }
}

/// Takes note of the process id, at load and in the child of a fork.
pub fn adopt() {
    if phase() != Phase::Sandboxed {
        PID.store(sys::getpid(), Relaxed);
    }
}

/// The recorded process id.
pub fn pid() -> i32 {
    PID.load(Relaxed)
}

/// Is the caller the process that this memory describes? False in the child of vfork(2), clone(2) or _Fork(3), which run no
/// fork handler: there every call must pass through, and nothing may be written.
pub fn is_ours() -> bool {
    sys::getpid() == pid()
}

/// May the library make system calls and act for this process?
#[unsafe(link_section = ".text.at_load")]
pub fn may_act() -> bool {
    matches!(phase(), Phase::Active | Phase::Exiting) && is_ours()
}

/// In the child of a fork.
pub fn forked() {
    adopt();
    FORKED.store(true, Relaxed);
}

unsafe extern "C" {
    static program_invocation_short_name: *const c_char;
}

/// Name of the program, without its directory.
pub fn program() -> &'static [u8] {
    // SAFETY: libc sets it before constructors run, to a C string that it never changes; a program that does change it
    // (some set it for err(3)) stores another C string.
    unsafe {
        if program_invocation_short_name.is_null() {
            return b"?";
        }
        CStr::from_ptr(program_invocation_short_name).to_bytes()
    }
}
