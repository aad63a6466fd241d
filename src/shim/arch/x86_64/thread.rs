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

/// Two instructions: the offset from the thread pointer is a word that the loader has filled in.
#[inline(always)]
pub fn thread_word() -> *mut u64 {
    let address;
    // SAFETY: reads the thread pointer and a word of the GOT; the symbol is defined above.
    unsafe {
        asm!("mov {0}, qword ptr fs:[0]", "add {0}, qword ptr [rip + tideover_thread@GOTTPOFF]", out(reg) address,
            options(pure, nomem, nostack));
    }
    address
}

/// Address of the thread control block.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the ABI keeps the thread control block's own address at fs:0.
    unsafe { asm!("mov {0}, qword ptr fs:[0]", out(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}

/// Its page number: thread control blocks lie a stack and a guard page of 4 KiB apart.
#[inline(always)]
pub fn thread_spread() -> usize {
    thread_pointer() >> 12
}

/// The register.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// See [`crate::arch`]. For cold paths.
pub fn is_on_valgrind() -> bool {
    const RUNNING_ON_VALGRIND: usize = 0x1001;
    let request = [RUNNING_ON_VALGRIND, 0, 0, 0, 0, 0];
    let answer: usize;
    // SAFETY: the rotations are by 128 bits in all, so they and the exchange change nothing but the flags. Valgrind reads the request, and
    // writes the answer into rdx.
    unsafe {
        asm!("rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            inout("rdx") 0usize => answer, in("rax") request.as_ptr(), inout("rdi") 0usize => _, options(nostack));
    }
    answer != 0
}
