//! vfork(2).

/// It returns twice on one stack, so nothing can be called around it: as in glibc, the return address waits in a register that the kernel
/// leaves alone.
macro_rules! vfork_entry {
    ($name:ident: mark = $mark:path, failed = $failed:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() -> libc::pid_t {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "mov rdx, qword ptr fs:[0]",
                "add rdx, qword ptr [rip + tideover_thread@GOTTPOFF]",
                "mov rsi, [rdx]",
                "or qword ptr [rdx], {mark}",
                "pop rdi",
                ".cfi_def_cfa_offset 0",
                ".cfi_register 16, 5",
                "mov eax, {vfork}",
                "syscall",
                "push rdi",
                ".cfi_def_cfa_offset 8",
                ".cfi_offset 16, -8",
                "test eax, eax",
                "je 2f",
                "mov [rdx], rsi",
                "js 3f",
                "2:",
                "ret",
                "3:",
                "mov edi, eax",
                "neg edi",
                "jmp {failed}",
                ".cfi_endproc",
                mark = const $mark,
                vfork = const libc::SYS_vfork,
                failed = sym $failed,
            )
        }
    };
}
pub(crate) use vfork_entry;
