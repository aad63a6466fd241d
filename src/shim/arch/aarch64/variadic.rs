//! Functions with `...`, which stable Rust can't define: a few instructions turn one into a call with fixed arguments. Linux passes the
//! arguments of `...` as it passes others: integers and pointers in x0 to x7, floating-point numbers in q0 to q7, what is left on the stack.

use core::ffi::{c_int, c_void};

/// AAPCS64's `va_list`, a structure of more than 16 bytes: it is passed as the address of a copy.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VaList {
    /// The next argument on the stack.
    on_stack: *const c_void,
    /// Behind the saved x7.
    integers_end: *const c_void,
    /// Behind the saved q7.
    floats_end: *const c_void,
    /// Bytes from `integers_end` back to the next integer, negative; 0 or more when they are used up.
    integers: c_int,
    /// As `integers`, of `floats_end`.
    floats: c_int,
}

// What `listed!` writes there.
#[cfg(not(test))]
const _: () = assert!(core::mem::offset_of!(VaList, integers) == 24 && size_of::<VaList>() == 32);

/// The arguments behind the path go below those that lie on the stack already, and are one array with them.
#[cfg(not(test))]
macro_rules! exec_list {
    ($name:ident => $collected:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "str x30, [sp, #-64]!",
                ".cfi_def_cfa_offset 64",
                ".cfi_offset 30, -64",
                "stp x1, x2, [sp, #8]",
                "stp x3, x4, [sp, #24]",
                "stp x5, x6, [sp, #40]",
                "str x7, [sp, #56]",
                "add x1, sp, #8",
                "bl {collected}",
                "ldr x30, [sp], #64",
                ".cfi_restore 30",
                ".cfi_def_cfa_offset 0",
                "ret",
                ".cfi_endproc",
                collected = sym $collected,
            )
        }
    };
}
#[cfg(not(test))]
pub(crate) use exec_list;

/// Saves the registers in which arguments are passed, with x8, which says where a structure is returned. x16 may be used between a call and
/// the function that it reaches, and a jump by it is allowed where a processor checks branches (BTI). The address in `known` is read with
/// acquire: what its function reads was written before it.
#[cfg(not(test))]
macro_rules! prepared {
    ($name:ident => $prepare:path) => {
        $crate::arch::prepared! { @ $name => $prepare; ; }
    };
    ($name:ident => $prepare:path, unless $known:path) => {
        $crate::arch::prepared! { @ $name => $prepare;
            "adr x16, {known}", "ldar x16, [x16]", "cbnz x16, 4f"; known = sym $known, }
    };
    (@ $name:ident => $prepare:path; $($head:literal),*; $($operand:tt)*) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                $($head,)*
                "stp x29, x30, [sp, #-224]!",
                ".cfi_def_cfa_offset 224",
                ".cfi_offset 29, -224",
                ".cfi_offset 30, -216",
                "mov x29, sp",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "stp x4, x5, [sp, #48]",
                "stp x6, x7, [sp, #64]",
                "str x8, [sp, #80]",
                "stp q0, q1, [sp, #96]",
                "stp q2, q3, [sp, #128]",
                "stp q4, q5, [sp, #160]",
                "stp q6, q7, [sp, #192]",
                "bl {prepare}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldp x4, x5, [sp, #48]",
                "ldp x6, x7, [sp, #64]",
                "ldr x8, [sp, #80]",
                "ldp q0, q1, [sp, #96]",
                "ldp q2, q3, [sp, #128]",
                "ldp q4, q5, [sp, #160]",
                "ldp q6, q7, [sp, #192]",
                "ldp x29, x30, [sp], #224",
                ".cfi_restore 29",
                ".cfi_restore 30",
                ".cfi_def_cfa_offset 0",
                "4:",
                "br x16",
                ".cfi_endproc",
                prepare = sym $prepare,
                $($operand)*
            )
        }
    };
}
#[cfg(not(test))]
pub(crate) use prepared;

/// What a compiler makes of va_start(3): x0 to x7 and q0 to q7 are saved above a [`VaList`].
#[cfg(not(test))]
macro_rules! listed {
    ($name:ident => $with_list:path, 2) => {
        $crate::arch::listed! { @ $name => $with_list, "48", "x2" }
    };
    ($name:ident => $with_list:path, 3) => {
        $crate::arch::listed! { @ $name => $with_list, "40", "x3" }
    };
    // How many bytes of integer registers are behind the fixed arguments, and in which register the list's address is passed behind them.
    (@ $name:ident => $with_list:path, $left:literal, $list:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub sp, sp, #240",
                ".cfi_def_cfa_offset 240",
                "str x30, [sp]",
                ".cfi_offset 30, -240",
                "stp x2, x3, [sp, #64]",
                "stp x4, x5, [sp, #80]",
                "stp x6, x7, [sp, #96]",
                "stp q0, q1, [sp, #112]",
                "stp q2, q3, [sp, #144]",
                "stp q4, q5, [sp, #176]",
                "stp q6, q7, [sp, #208]",
                "add x9, sp, #240",
                "add x10, sp, #112",
                "stp x9, x10, [sp, #16]",
                concat!("mov w10, #-", $left),
                "mov w11, #-128",
                "str x9, [sp, #32]",
                "stp w10, w11, [sp, #40]",
                concat!("add ", $list, ", sp, #16"),
                "bl {with_list}",
                "ldr x30, [sp]",
                ".cfi_restore 30",
                "add sp, sp, #240",
                ".cfi_def_cfa_offset 0",
                "ret",
                ".cfi_endproc",
                with_list = sym $with_list,
            )
        }
    };
}
#[cfg(not(test))]
pub(crate) use listed;
