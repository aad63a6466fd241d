//! Functions with `...`, which stable Rust can't define: a few instructions turn one into a call with fixed arguments.

use core::ffi::c_void;

/// The System V ABI's `va_list` is an array of one of these; it is passed as its address.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct VaList {
    /// Bytes of the saved integer registers that are used up.
    integers: u32,
    /// Bytes of all saved registers that are used up.
    floats: u32,
    on_stack: *const c_void,
    in_registers: *const c_void,
}

/// The first six arguments are in registers, and the rest lie as an array behind the return address already: the five behind the path
/// are pushed there.
#[cfg(not(test))]
macro_rules! exec_list {
    ($name:ident => $collected:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                // The .cfi lines say where the return address (register 16) is meanwhile.
                ".cfi_startproc",
                "pop rax",
                ".cfi_def_cfa_offset 0",
                ".cfi_register 16, 0",
                "push r9",
                "push r8",
                "push rcx",
                "push rdx",
                "push rsi",
                "mov rsi, rsp",
                "push rax",
                ".cfi_def_cfa_offset 48",
                ".cfi_offset 16, -48",
                "call {collected}",
                "pop rcx",
                "add rsp, 40",
                "push rcx",
                ".cfi_def_cfa_offset 8",
                ".cfi_offset 16, -8",
                "ret",
                ".cfi_endproc",
                collected = sym $collected,
            )
        }
    };
}
#[cfg(not(test))]
pub(crate) use exec_list;

/// Saves the registers in which arguments are passed; of the vector registers, al tells an upper bound.
#[cfg(not(test))]
macro_rules! prepared {
    ($name:ident => $prepare:path) => {
        $crate::arch::prepared! { @ $name => $prepare; ; }
    };
    ($name:ident => $prepare:path, unless $known:path) => {
        $crate::arch::prepared! { @ $name => $prepare; "mov r11, [rip + {known}]", "test r11, r11", "jne 4f"; known = sym $known, }
    };
    (@ $name:ident => $prepare:path; $($head:literal),*; $($operand:tt)*) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                $($head,)*
                "push rbp",
                ".cfi_def_cfa_offset 16",
                ".cfi_offset 6, -16",
                "mov rbp, rsp",
                ".cfi_def_cfa_register 6",
                "sub rsp, 192",
                "mov [rbp - 8], rdi",
                "mov [rbp - 16], rsi",
                "mov [rbp - 24], rdx",
                "mov [rbp - 32], rcx",
                "mov [rbp - 40], r8",
                "mov [rbp - 48], r9",
                "mov [rbp - 56], rax",
                "test al, al",
                "je 2f",
                "movaps [rbp - 80], xmm0",
                "movaps [rbp - 96], xmm1",
                "movaps [rbp - 112], xmm2",
                "movaps [rbp - 128], xmm3",
                "movaps [rbp - 144], xmm4",
                "movaps [rbp - 160], xmm5",
                "movaps [rbp - 176], xmm6",
                "movaps [rbp - 192], xmm7",
                "2:",
                "call {prepare}",
                "mov r11, rax",
                "mov rdi, [rbp - 8]",
                "mov rsi, [rbp - 16]",
                "mov rdx, [rbp - 24]",
                "mov rcx, [rbp - 32]",
                "mov r8, [rbp - 40]",
                "mov r9, [rbp - 48]",
                "mov rax, [rbp - 56]",
                "test al, al",
                "je 3f",
                "movaps xmm0, [rbp - 80]",
                "movaps xmm1, [rbp - 96]",
                "movaps xmm2, [rbp - 112]",
                "movaps xmm3, [rbp - 128]",
                "movaps xmm4, [rbp - 144]",
                "movaps xmm5, [rbp - 160]",
                "movaps xmm6, [rbp - 176]",
                "movaps xmm7, [rbp - 192]",
                "3:",
                "leave",
                ".cfi_def_cfa 7, 8",
                "4:",
                "jmp r11",
                ".cfi_endproc",
                prepare = sym $prepare,
                $($operand)*
            )
        }
    };
}
#[cfg(not(test))]
pub(crate) use prepared;

/// What a compiler makes of va_start(3): the registers are saved above a [`VaList`].
#[cfg(not(test))]
macro_rules! listed {
    ($name:ident => $with_list:path, 2) => {
        $crate::arch::listed! { @ $name => $with_list, "16", "rdx" }
    };
    ($name:ident => $with_list:path, 3) => {
        $crate::arch::listed! { @ $name => $with_list, "24", "rcx" }
    };
    // How many bytes of registers the fixed arguments take, and in which register the list's address is passed behind them.
    (@ $name:ident => $with_list:path, $fixed:literal, $list:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 216",
                ".cfi_def_cfa_offset 224",
                "mov [rsp + 48], rdx",
                "mov [rsp + 56], rcx",
                "mov [rsp + 64], r8",
                "mov [rsp + 72], r9",
                "test al, al",
                "je 2f",
                "movaps [rsp + 80], xmm0",
                "movaps [rsp + 96], xmm1",
                "movaps [rsp + 112], xmm2",
                "movaps [rsp + 128], xmm3",
                "movaps [rsp + 144], xmm4",
                "movaps [rsp + 160], xmm5",
                "movaps [rsp + 176], xmm6",
                "movaps [rsp + 192], xmm7",
                "2:",
                concat!("mov dword ptr [rsp], ", $fixed),
                "mov dword ptr [rsp + 4], 48",
                "lea rax, [rsp + 224]",
                "mov [rsp + 8], rax",
                "lea rax, [rsp + 32]",
                "mov [rsp + 16], rax",
                concat!("mov ", $list, ", rsp"),
                "call {with_list}",
                "add rsp, 216",
                ".cfi_def_cfa_offset 8",
                "ret",
                ".cfi_endproc",
                with_list = sym $with_list,
            )
        }
    };
}
#[cfg(not(test))]
pub(crate) use listed;
