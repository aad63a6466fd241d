//! vfork(2), which arm64 has as clone(2).

/// It returns twice on one stack, so nothing can be kept there: the return address and the word wait in registers, all of which but x0 the
/// kernel leaves alone.
macro_rules! vfork_entry {
    ($name:ident: mark = $mark:path, failed = $failed:path) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() -> libc::pid_t {
            core::arch::naked_asm!(
                ".cfi_startproc",
                "adrp x9, :gottprel:tideover_thread",
                "ldr x9, [x9, :gottprel_lo12:tideover_thread]",
                "mrs x10, tpidr_el0",
                "add x9, x9, x10",
                "ldr x10, [x9]",
                "movz x11, #{mark_low}",
                "movk x11, #{mark_next}, lsl #16",
                "movk x11, #{mark_third}, lsl #32",
                "movk x11, #{mark_high}, lsl #48",
                "orr x11, x10, x11",
                "str x11, [x9]",
                "mov x0, #{flags}",
                "mov x1, #0",
                "mov x2, #0",
                "mov x3, #0",
                "mov x4, #0",
                "mov x8, #{clone}",
                "svc #0",
                "cbz x0, 2f",
                "str x10, [x9]",
                "tbnz x0, #63, 3f",
                "2:",
                "ret",
                "3:",
                "neg w0, w0",
                "b {failed}",
                ".cfi_endproc",
                mark_low = const $mark & 0xffff,
                mark_next = const $mark >> 16 & 0xffff,
                mark_third = const $mark >> 32 & 0xffff,
                mark_high = const $mark >> 48,
                flags = const libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                clone = const libc::SYS_clone,
                failed = sym $failed,
            )
        }
    };
}
pub(crate) use vfork_entry;
