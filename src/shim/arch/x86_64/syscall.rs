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
    // SAFETY: the kernel's calling convention: it changes rax, rcx and r11, and memory only as the caller has promised.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}
