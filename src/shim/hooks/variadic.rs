//! Functions with `...` that need more than their fixed arguments. Stable Rust can't define variadic functions; a few
//! instructions can turn one into a call with fixed arguments.

use core::arch::naked_asm;
use core::ffi::{CStr, c_char, c_int};
use core::sync::atomic::AtomicUsize;

use super::composites::make_room;
use super::processes::{execve, execvp};
use crate::engine::call::Call;
use crate::features::logs::dprintf;
use crate::os::real::Real;
use crate::state::usage;

type Strings = *const *const c_char;

/// execl(3) and its kin: the arguments behind the path, laid out as an array, are what the execv kind wants. The System V ABI
/// passes the first five in registers, and the rest already lie as an array behind the return address: push the five there.
macro_rules! exec_list {
    ($name:ident => $collected:ident) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
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

exec_list!(execl => execl_array);
exec_list!(execlp => execlp_array);
exec_list!(execle => execle_array);

unsafe extern "C" {
    static environ: Strings;
}

unsafe extern "C" fn execl_array(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: the host's own arguments, ended by the NULL that it passed.
    unsafe { execve::execve::execve(path, arguments, environ) }
}

unsafe extern "C" fn execlp_array(file: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as above.
    unsafe { execvp::execvp::execvp(file, arguments) }
}

unsafe extern "C" fn execle_array(path: *const c_char, arguments: Strings) -> c_int {
    // SAFETY: as above; the environment is the argument behind the NULL.
    unsafe {
        let mut end = arguments;
        while !(*end).is_null() {
            end = end.add(1);
        }
        execve::execve::execve(path, arguments, *end.add(1).cast::<Strings>())
    }
}

/// A function that calls `$prepare`, then goes on as it came, all argument registers intact, to where that says. With `unless`, a
/// word that is not zero says so without a call.
macro_rules! prepared {
    ($name:ident => $prepare:ident $(unless $known:path)?) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                ".cfi_startproc",
                $(known!($known),)?
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
                $(known = sym $known,)?
            )
        }
    };
}

/// The beginning of a function that may be [`prepared`] already.
macro_rules! known {
    ($known:path) => {
        "mov r11, [rip + {known}]\ntest r11, r11\njne 4f"
    };
}

// syslog(3): room is made for the connection that it may open.
prepared!(syslog => prepare_syslog);
prepared!(__syslog_chk => prepare_syslog_chk);

extern "C" fn prepare_syslog() -> usize {
    #[unsafe(link_section = ".tables")]
    static REAL: Real = Real::new();
    prepare("syslog");
    REAL.address(c"syslog", false)
}

extern "C" fn prepare_syslog_chk() -> usize {
    #[unsafe(link_section = ".tables")]
    static REAL: Real = Real::new();
    prepare("__syslog_chk");
    REAL.address(c"__syslog_chk", false)
}

fn prepare(name: &'static str) {
    if usage::is_tight() {
        make_room(Call { name, may_block: true, needs_several: false, backoff: None, last_resort: None });
    }
}

/// dprintf(3) and its kin: at the first call, it is known whether this libc's own will do (see [`dprintf`]).
macro_rules! printing {
    ($($name:ident, $known:ident, $choose:ident => $ours:path;)*) => {
        $(#[unsafe(link_section = ".tables")]
        static $known: AtomicUsize = AtomicUsize::new(0);

        prepared!($name => $choose unless $known);

        extern "C" fn $choose() -> usize {
            #[unsafe(link_section = ".tables")]
            static REAL: Real = Real::new();
            // SAFETY: ends with a NUL, and C identifiers hold none.
            let name = unsafe { CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes()) };
            dprintf::choose(&$known, &REAL, name, $ours as *const () as usize)
        })*
    };
}

printing! {
    dprintf, DPRINTF, choose_dprintf => listed_dprintf;
    vdprintf, VDPRINTF, choose_vdprintf => dprintf::vdprintf;
    __dprintf_chk, DPRINTF_CHK, choose_dprintf_chk => listed_dprintf_chk;
    __vdprintf_chk, VDPRINTF_CHK, choose_vdprintf_chk => dprintf::vdprintf_chk;
}

/// Calls `$with_list` with the arguments behind the `$fixed` bytes of fixed ones as a va_list, its address in `$list`: what a
/// compiler makes of va_start(3).
macro_rules! listed {
    ($name:ident => $with_list:path, $fixed:literal, $list:literal) => {
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(
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

listed!(listed_dprintf => dprintf::vdprintf, 16, "rdx");
listed!(listed_dprintf_chk => dprintf::vdprintf_chk, 24, "rcx");
