//! Raw system calls.

use core::arch::asm;

/// syscall(2) without libc.
///
/// # Safety
/// The arguments are what the system call of this number asks for: pointers among them point to memory that it may read or write as its
/// man page says, and what it does to the process leaves alone what Rust relies on.
#[inline]
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the kernel's calling convention: it changes x0 and no other register, and memory only as the caller has promised.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") args[0] as isize => answer, in("x1") args[1], in("x2") args[2],
            in("x3") args[3], in("x4") args[4], in("x5") args[5], options(nostack));
    }
    answer
}
