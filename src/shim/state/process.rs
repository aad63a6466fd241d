//! What is known of this process, and whether the library may act in it.

use core::ffi::{CStr, c_char};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};

use crate::os::sys;

/// What the library may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Phase {
    /// Our constructor has not run yet: another library's constructor, or malloc(3), has called a hook. It may do nothing.
    Starting = 0,
    /// It may do everything.
    Active = 1,
    /// It may do nothing: it is switched off, for all programs or for this one, or it is a second copy of the library.
    Dormant = 2,
    /// The program has installed a seccomp filter: the library makes no system call of its own any more, since the filter might end the
    /// process for it.
    Sandboxed = 3,
    /// The program is in exit(3): it may free descriptors, but not wait.
    Exiting = 4,
}

/// What is known of this process.
struct Process {
    /// A [`Phase`].
    phase: AtomicU32,
    /// Number of the process that this memory describes. The child of a vfork(2) has the same memory, and another number.
    pid: AtomicI32,
    /// It was made by fork(2), and has not called execve(2) since.
    is_forked: AtomicBool,
    /// It was told to pass everything through (`control`).
    is_off: AtomicBool,
}

static PROCESS: Process = Process {
    phase: AtomicU32::new(Phase::Starting as u32),
    pid: AtomicI32::new(0),
    is_forked: AtomicBool::new(false),
    is_off: AtomicBool::new(false),
};

/// Was this process made by fork(2), without an execve(2) since?
pub fn is_forked() -> bool {
    PROCESS.is_forked.load(Relaxed)
}

/// The present phase.
pub fn phase() -> Phase {
    match PROCESS.phase.load(Relaxed) {
        1 => Phase::Active,
        2 => Phase::Dormant,
        3 => Phase::Sandboxed,
        4 => Phase::Exiting,
        _ => Phase::Starting,
    }
}

/// Sets the phase, unless it is Dormant or Sandboxed, which are final.
pub fn set_phase(next: Phase) {
    if !matches!(phase(), Phase::Dormant | Phase::Sandboxed) {
        PROCESS.phase.store(next as u32, Relaxed);
    }
}

/// The program has called exit(3).
pub extern "C" fn set_phase_ending() {
    if phase() == Phase::Active && is_ours() {
        PROCESS.phase.store(Phase::Exiting as u32, Relaxed);
    }
}

/// Notes the process id, at load and in the child of a fork.
pub fn adopt() {
    if phase() != Phase::Sandboxed {
        PROCESS.pid.store(sys::getpid(), Relaxed);
    }
}

/// The process id that [`adopt`] has noted.
pub fn pid() -> i32 {
    PROCESS.pid.load(Relaxed)
}

/// Is the calling process the one that this memory describes? False in the child of vfork(2), clone(2) or _Fork(3), which run no fork
/// handler: there a hook only makes its real call, and may write to no memory.
pub fn is_ours() -> bool {
    sys::getpid() == pid()
}

/// Is the caller this process, also before our constructor has run? Then the library may ask the kernel, and do nothing else.
pub fn may_ask() -> bool {
    phase() == Phase::Starting || is_ours()
}

/// Does the library act, as far as memory alone tells? The child of a vfork(2) has its parent's memory: see [`may_note`].
#[inline(always)]
pub fn acts() -> bool {
    matches!(phase(), Phase::Active | Phase::Exiting)
}

/// May the library make system calls in this process, and keep its records? Also while it is told to pass everything through.
#[unsafe(link_section = ".text.at_load")]
pub fn may_note() -> bool {
    acts() && is_ours()
}

/// Was the library told to pass everything through?
pub fn is_off() -> bool {
    PROCESS.is_off.load(Relaxed)
}

/// Notes what the library was told.
pub fn set_off(is_off: bool) {
    PROCESS.is_off.store(is_off, Relaxed);
}

/// May the library act for this process?
pub fn may_act() -> bool {
    may_note() && !is_off()
}

/// In the child of a fork: it is a process of its own.
pub fn forked() {
    adopt();
    PROCESS.is_forked.store(true, Relaxed);
}

unsafe extern "C" {
    /// program_invocation_short_name(3).
    static program_invocation_short_name: *const c_char;
}

/// Name of the program, without its directory.
pub fn program() -> &'static [u8] {
    // SAFETY: libc sets it before constructors run, to a C string that lives as long as the process; a program that sets it for err(3)
    // stores a pointer to another such string.
    unsafe {
        if program_invocation_short_name.is_null() {
            return b"?";
        }
        CStr::from_ptr(program_invocation_short_name).to_bytes()
    }
}
