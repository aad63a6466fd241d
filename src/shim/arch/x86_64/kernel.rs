//! Layouts and names of the kernel's.

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::mem::offset_of;

/// As in arch/x86/include/uapi/asm/signal.h; `sa_mask` is last, so that it can grow.
#[repr(C)]
pub struct KernelAction {
    /// SIG_DFL, SIG_IGN or the address of a function.
    pub handler: usize,
    /// SA_RESTART and its like.
    pub flags: u64,
    restorer: usize,
    /// Signals that are blocked while the handler runs.
    pub mask: u64,
}

const _: () = assert!(offset_of!(KernelAction, mask) == 24 && size_of::<KernelAction>() == 32);

impl KernelAction {
    /// Zeros.
    pub const fn new() -> KernelAction {
        KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 }
    }
}

/// In the vDSO.
pub const CLOCK_GETTIME: &CStr = c"__vdso_clock_gettime";
