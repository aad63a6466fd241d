//! Functions that the Rust runtime finds at link time instead of importing them from libc.

use core::arch::global_asm;

/// All names are labels of one function.
macro_rules! refuse {
    ($answer:literal: $($name:literal)*) => {
        core::arch::global_asm!(
            ".pushsection .text.at_load,\"ax\",@progbits",
            $(concat!(".globl ", $name), concat!(".hidden ", $name), concat!(".type ", $name, ",@function"), concat!($name, ":"),)*
            concat!("mov rax, ", $answer),
            "ret",
            ".popsection",
        );
    };
}
pub(crate) use refuse;

// Short copies on cold paths. The kernel clears the direction flag for signal handlers.
global_asm!(
    ".pushsection .text.at_load,\"ax\",@progbits",
    ".globl memcpy, memmove, memset, bcmp, strlen",
    ".hidden memcpy, memmove, memset, bcmp, strlen",
    ".type memcpy,@function",
    "memcpy:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "rep movsb",
    "ret",
    ".type memmove,@function",
    "memmove:",
    "mov rax, rdi",
    "mov rcx, rdx",
    "sub rax, rsi",
    "cmp rax, rdx",
    "mov rax, rdi",
    "jb 2f",
    "rep movsb",
    "ret",
    "2:",
    "lea rdi, [rdi + rcx - 1]",
    "lea rsi, [rsi + rcx - 1]",
    "std",
    "rep movsb",
    "cld",
    "ret",
    ".type memset,@function",
    "memset:",
    "mov r8, rdi",
    "mov rcx, rdx",
    "mov eax, esi",
    "rep stosb",
    "mov rax, r8",
    "ret",
    ".type bcmp,@function",
    "bcmp:",
    "mov rcx, rdx",
    "xor eax, eax",
    "repe cmpsb",
    "setne al",
    "ret",
    ".type strlen,@function",
    "strlen:",
    "xor eax, eax",
    "2:",
    "cmp byte ptr [rdi + rax], 0",
    "je 3f",
    "inc rax",
    "jmp 2b",
    "3:",
    "ret",
    ".popsection",
);
