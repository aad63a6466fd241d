//! The entries of write(2) and accept(2): the arguments go to the stack, the real call is made, its answer is looked at. A compiler takes
//! twice as many instructions to save registers.

/// Eleven instructions on the way through.
macro_rules! write_entry {
    ($name:ident: diverted = $diverted:path, real = $real:path, short = $short:path, care = $care:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            fd: core::ffi::c_int,
            data: *const core::ffi::c_void,
            count: libc::size_t,
        ) -> libc::ssize_t {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "cmp dword ptr [rip + {diverted}], 0",
                "jne 3f",
                "sub rsp, 24",
                ".cfi_def_cfa_offset 32",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "call qword ptr [rip + {real}]",
                "cmp rax, [rsp + 16]",
                "jne 2f",
                "add rsp, 24",
                ".cfi_def_cfa_offset 8",
                "ret",
                "2:",
                ".cfi_def_cfa_offset 32",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, rax",
                "add rsp, 24",
                ".cfi_def_cfa_offset 8",
                "jmp {short}",
                "3:",
                "jmp {care}",
                ".cfi_endproc",
                diverted = sym $diverted,
                real = sym $real,
                short = sym $short,
                care = sym $care,
            )
        }
    };
}
pub(crate) use write_entry;

/// What is to be noted of a client is noted by a function that nothing needs to be kept for.
macro_rules! accept_entry {
    ($name:ident: real = $real:path, welcome = $welcome:path, failed = $failed:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            listener: core::ffi::c_int,
            address: *mut libc::sockaddr,
            length: *mut libc::socklen_t,
            flags: core::ffi::c_int,
        ) -> core::ffi::c_int {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "sub rsp, 40",
                ".cfi_def_cfa_offset 48",
                "mov [rsp], rdi",
                "mov [rsp + 8], rsi",
                "mov [rsp + 16], rdx",
                "mov [rsp + 24], rcx",
                "call qword ptr [rip + {real}]",
                "test eax, eax",
                "js 2f",
                "mov edi, eax",
                "add rsp, 40",
                ".cfi_def_cfa_offset 8",
                "jmp {welcome}",
                "2:",
                ".cfi_def_cfa_offset 48",
                "mov rdi, [rsp]",
                "mov rsi, [rsp + 8]",
                "mov rdx, [rsp + 16]",
                "mov rcx, [rsp + 24]",
                "mov r8d, eax",
                "add rsp, 40",
                ".cfi_def_cfa_offset 8",
                "jmp {failed}",
                ".cfi_endproc",
                real = sym $real,
                welcome = sym $welcome,
                failed = sym $failed,
            )
        }
    };
}
pub(crate) use accept_entry;
