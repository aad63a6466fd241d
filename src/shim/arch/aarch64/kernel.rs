//! Layouts and names of the kernel's.

#![forbid(unsafe_code)]

use core::ffi::CStr;
use core::mem::offset_of;

/// As in the generic signal.h of the kernel. Arm64 defines SA_RESTORER, so the field for it is there.
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
// Padded, where x86-64 packs it.
const _: () = assert!(offset_of!(libc::epoll_event, u64) == 8 && size_of::<libc::epoll_event>() == 16);

impl KernelAction {
    /// Zeros.
    pub const fn new() -> KernelAction {
        KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 }
    }
}

/// In the vDSO.
pub const CLOCK_GETTIME: &CStr = c"__kernel_clock_gettime";
