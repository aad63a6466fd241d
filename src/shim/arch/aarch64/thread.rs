//! The thread's word, its pointer and its stack.

use core::arch::{asm, global_asm};

global_asm!(
    ".pushsection .tbss,\"awT\",@nobits",
    ".p2align 3",
    ".hidden tideover_thread",
    ".globl tideover_thread",
    ".type tideover_thread,@object",
    ".size tideover_thread,8",
    "tideover_thread:",
    ".zero 8",
    ".popsection",
);

/// Four instructions: the offset from the thread pointer is a word that the loader has filled in.
#[inline(always)]
pub fn thread_word() -> *mut u64 {
    let address;
    // SAFETY: reads the thread pointer and a word of the GOT; the symbol is defined above.
    unsafe {
        asm!("adrp {0}, :gottprel:tideover_thread", "ldr {0}, [{0}, :gottprel_lo12:tideover_thread]", "mrs {1}, tpidr_el0",
            "add {0}, {0}, {1}", out(reg) address, out(reg) _, options(pure, nomem, nostack, preserves_flags));
    }
    address
}

/// Address of the thread control block.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register, which the ABI gives to the thread control block.
    unsafe { asm!("mrs {0}, tpidr_el0", out(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}

/// Thread control blocks lie a stack and a guard apart, and the guard is 64 KiB here (glibc's ARCH_MIN_GUARD_SIZE).
#[inline(always)]
pub fn thread_spread() -> usize {
    thread_pointer() >> 16
}

/// The register.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// See [`crate::arch`]. For cold paths.
pub fn is_on_valgrind() -> bool {
    const RUNNING_ON_VALGRIND: usize = 0x1001;
    let request = [RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0];
    let answer: usize;
    // SAFETY: the rotations are by 128 bits in all, so they and the `orr` change nothing. Valgrind reads the request, and writes the answer
    // into x3.
    unsafe {
        asm!("ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61", "orr x10, x10, x10",
            inout("x3") 0usize => answer, in("x4") request.as_ptr(), options(nostack));
    }
    answer != 0
}
