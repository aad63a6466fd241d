//! The entries of write(2) and accept(2): the arguments go to the stack, the real call is made, its answer is looked at. A compiler takes
//! twice as many instructions to save registers. x29 stays the caller's, so that a walk along frame pointers passes these frames by. The
//! statics are less than 1 MiB away, the reach of an `ldr` of a label: the library is smaller.

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
                "ldr w9, {diverted}",
                "cbnz w9, 3f",
                "stp x2, x30, [sp, #-32]!",
                ".cfi_def_cfa_offset 32",
                ".cfi_offset 30, -24",
                "stp x0, x1, [sp, #16]",
                "ldr x9, {real}",
                "blr x9",
                "ldp x2, x30, [sp]",
                ".cfi_remember_state",
                ".cfi_restore 30",
                "cmp x0, x2",
                "b.ne 2f",
                "add sp, sp, #32",
                ".cfi_def_cfa_offset 0",
                "ret",
                "2:",
                ".cfi_restore_state",
                ".cfi_restore 30",
                "mov x3, x0",
                "ldp x0, x1, [sp, #16]",
                "add sp, sp, #32",
                ".cfi_def_cfa_offset 0",
                "b {short}",
                "3:",
                "b {care}",
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
                "str x30, [sp, #-48]!",
                ".cfi_def_cfa_offset 48",
                ".cfi_offset 30, -48",
                "stp x0, x1, [sp, #16]",
                "stp x2, x3, [sp, #32]",
                "ldr x9, {real}",
                "blr x9",
                "tbnz w0, #31, 2f",
                ".cfi_remember_state",
                "ldr x30, [sp], #48",
                ".cfi_restore 30",
                ".cfi_def_cfa_offset 0",
                "b {welcome}",
                "2:",
                ".cfi_restore_state",
                "mov w4, w0",
                "ldp x0, x1, [sp, #16]",
                "ldp x2, x3, [sp, #32]",
                "ldr x30, [sp], #48",
                ".cfi_restore 30",
                ".cfi_def_cfa_offset 0",
                "b {failed}",
                ".cfi_endproc",
                real = sym $real,
                welcome = sym $welcome,
                failed = sym $failed,
            )
        }
    };
}
pub(crate) use accept_entry;
