//! Functions that the Rust runtime finds at link time instead of importing them from libc.

use core::arch::global_asm;

/// All names are labels of one function.
macro_rules! refuse {
    ($answer:literal: $($name:literal)*) => {
        core::arch::global_asm!(
            ".pushsection .text.at_load,\"ax\",@progbits",
            $(concat!(".globl ", $name), concat!(".hidden ", $name), concat!(".type ", $name, ",@function"), concat!($name, ":"),)*
            concat!("mov x0, #", $answer),
            "ret",
            ".popsection",
        );
    };
}
pub(crate) use refuse;

// What the unwinder and the compiler's own library ask at load, to learn which extensions the processor has (SME, for multiversioned
// functions): none that anything here uses.
refuse! { "0": "__getauxval" }

// Debian's compiler library checks its stack.
global_asm!(
    ".pushsection .text.at_load,\"ax\",@progbits",
    ".globl __stack_chk_fail",
    ".hidden __stack_chk_fail",
    ".type __stack_chk_fail,@function",
    "__stack_chk_fail:",
    "b abort",
    ".popsection",
);
crate::arch::symbols::hidden_word! { "__stack_chk_guard" = "0x5ca1ab1e0ddba11" }

// Copies on cold paths: pairs of words, then bytes. Both words are read before one is written, so memcpy may copy down, and memmove's own
// loop up.
global_asm!(
    ".pushsection .text.at_load,\"ax\",@progbits",
    ".globl memcpy, memmove, memset, bcmp, strlen, strchr",
    ".hidden memcpy, memmove, memset, bcmp, strlen, strchr",
    ".type memmove,@function",
    "memmove:",
    "sub x3, x0, x1",
    "cmp x3, x2",
    "b.lo 5f",
    ".type memcpy,@function",
    "memcpy:",
    "mov x3, x0",
    "subs x2, x2, #16",
    "b.lo 2f",
    "1:",
    "ldp x4, x5, [x1], #16",
    "stp x4, x5, [x3], #16",
    "subs x2, x2, #16",
    "b.hs 1b",
    "2:",
    "adds x2, x2, #16",
    "b.eq 4f",
    "3:",
    "ldrb w4, [x1], #1",
    "strb w4, [x3], #1",
    "subs x2, x2, #1",
    "b.ne 3b",
    "4:",
    "ret",
    "5:",
    "add x1, x1, x2",
    "add x3, x0, x2",
    "subs x2, x2, #16",
    "b.lo 7f",
    "6:",
    "ldp x4, x5, [x1, #-16]!",
    "stp x4, x5, [x3, #-16]!",
    "subs x2, x2, #16",
    "b.hs 6b",
    "7:",
    "adds x2, x2, #16",
    "b.eq 4b",
    "8:",
    "ldrb w4, [x1, #-1]!",
    "strb w4, [x3, #-1]!",
    "subs x2, x2, #1",
    "b.ne 8b",
    "ret",
    ".type memset,@function",
    "memset:",
    "mov x3, x0",
    "and x1, x1, #0xff",
    "mov x4, #0x0101010101010101",
    "mul x1, x1, x4",
    "subs x2, x2, #16",
    "b.lo 2f",
    "1:",
    "stp x1, x1, [x3], #16",
    "subs x2, x2, #16",
    "b.hs 1b",
    "2:",
    "adds x2, x2, #16",
    "b.eq 4f",
    "3:",
    "strb w1, [x3], #1",
    "subs x2, x2, #1",
    "b.ne 3b",
    "4:",
    "ret",
    ".type bcmp,@function",
    "bcmp:",
    "cbz x2, 2f",
    "1:",
    "ldrb w3, [x0], #1",
    "ldrb w4, [x1], #1",
    "subs w3, w3, w4",
    "b.ne 3f",
    "subs x2, x2, #1",
    "b.ne 1b",
    "2:",
    "mov w3, #0",
    "3:",
    "mov w0, w3",
    "ret",
    ".type strlen,@function",
    "strlen:",
    "mov x1, x0",
    "1:",
    "ldrb w2, [x1], #1",
    "cbnz w2, 1b",
    "sub x0, x1, x0",
    "sub x0, x0, #1",
    "ret",
    // The unwinder's, which looks for a letter.
    ".type strchr,@function",
    "strchr:",
    "and w1, w1, #0xff",
    "1:",
    "ldrb w2, [x0]",
    "cmp w2, w1",
    "b.eq 2f",
    "add x0, x0, #1",
    "cbnz w2, 1b",
    "mov x0, #0",
    "2:",
    "ret",
    ".popsection",
);
