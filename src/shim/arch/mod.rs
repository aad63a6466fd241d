//! The few things that Rust can't say: raw system calls, and a thread-local without a function call.
//!
//! Rust's own thread locals reach a preloaded library through __tls_get_addr, which may allocate when a program has
//! dlopened since; hooks run inside malloc. The initial-exec model is two instructions, and is legal in a library that is
//! loaded at start-up.

#[cfg(not(test))]
mod unused;

use core::arch::{asm, global_asm};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("tideover knows x86-64 so far: arch.rs and hooks/variadic.rs are what another architecture needs");

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

/// Address of this thread's word (see [`crate::state::thread`]), zero in a new thread.
#[inline(always)]
pub fn thread_word() -> *mut u64 {
    let address;
    // SAFETY: reads the thread pointer and a link-time constant; the symbol is defined above.
    unsafe {
        asm!("mov {0}, qword ptr fs:[0]", "add {0}, qword ptr [rip + tideover_thread@GOTTPOFF]", out(reg) address,
            options(pure, nomem, nostack));
    }
    address
}

/// A number that is this thread's alone while it lives, and the same in the child of a fork.
#[inline(always)]
pub fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the x86-64 ABI keeps the thread control block's own address at fs:0.
    unsafe { asm!("mov {0}, qword ptr fs:[0]", out(reg) pointer, options(pure, nomem, nostack, preserves_flags)) };
    pointer
}

/// Roughly where this thread's stack ends now.
#[inline(always)]
pub fn stack_pointer() -> usize {
    let pointer;
    // SAFETY: reads a register.
    unsafe { asm!("mov {0}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags)) };
    pointer
}

/// syscall(2) without libc: does not touch errno, is no cancellation point, and does not come back through our own hook.
/// Returns the kernel's answer: -4095..=-1 is an errno.
///
/// # Safety
/// As for the system call named by `number`.
#[inline]
pub unsafe fn syscall(number: libc::c_long, args: [usize; 6]) -> isize {
    let answer;
    // SAFETY: the kernel's calling convention; what the call does is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") args[0], in("rsi") args[1],
            in("rdx") args[2], in("r10") args[3], in("r8") args[4], in("r9") args[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

/// Address of a function of libc that not every libc has; 0 where it is missing.
macro_rules! weak {
    ($name:literal) => {{
        let address: usize;
        // SAFETY: reads a word that the loader has filled in.
        unsafe {
            core::arch::asm!(concat!(".weak ", $name), concat!("mov {0}, qword ptr [rip + ", $name, "@GOTPCREL]"),
                out(reg) address, options(pure, nomem, nostack, preserves_flags));
        }
        address
    }};
}
pub(crate) use weak;
