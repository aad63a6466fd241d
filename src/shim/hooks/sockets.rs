//! Sockets.

use core::arch::naked_asm;
use core::ffi::c_int;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{sockaddr, socklen_t};

use super::{blocking, descriptor, hooks, pair, second_chance};
use crate::acquire::Call;
use crate::real::Real;
use crate::{descriptors, page, sys};

hooks! {
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = descriptor() if blocking(kind);
    socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int = pair(fds) if blocking(kind);
}

/// accept4(2), and accept(2) with flags that nobody looks at.
type Accept = unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;

/// accept(2) in assembly, as write(2) is and for the same reason: the arguments go to the stack, the real call is made, and what is
/// to be noted of a client is noted by [`welcome`] when nothing more needs to be kept.
macro_rules! accept_entry {
    ($name:ident, $module:ident, $flags:pat => $plain:expr) => {
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(
            listener: c_int,
            from: *mut sockaddr,
            length: *mut socklen_t,
            flags: c_int,
        ) -> c_int {
            naked_asm!(
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
                real = sym $module::REAL,
                welcome = sym welcome,
                failed = sym $module::failed,
            )
        }

        mod $module {
            use super::*;

            /// The real function; at first, one that finds it.
            pub static REAL: AtomicPtr<()> = AtomicPtr::new(find as *mut ());

            unsafe extern "C" fn find(l: c_int, from: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
                static NAMED: Real = Real::new();
                // SAFETY: ends with a NUL, and C identifiers hold none.
                let name = unsafe {
                    core::ffi::CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes())
                };
                REAL.store(NAMED.address(name, false) as *mut (), Relaxed);
                // SAFETY: the host's own arguments.
                unsafe { real()(l, from, length, flags) }
            }

            fn real() -> Accept {
                // SAFETY: never anything but a function of this type.
                unsafe { core::mem::transmute(REAL.load(Relaxed)) }
            }

            pub unsafe extern "C" fn failed(
                listener: c_int,
                from: *mut sockaddr,
                length: *mut socklen_t,
                flags: c_int,
                answer: c_int,
            ) -> c_int {
                let $flags = flags;
                let call = || Call {
                    name: stringify!($name),
                    patient: $plain && waits(listener),
                    greedy: false,
                    backoff: None,
                };
                // SAFETY: the host's own arguments; right after the call.
                let fd = unsafe { second_chance(answer, call, || real()(listener, from, length, flags)) };
                if fd < 0 { fd } else { welcome(fd) }
            }
        }
    };
}

accept_entry!(accept, accept_impl, _ => true);
accept_entry!(accept4, accept4_impl, flags => blocking(flags));

/// A client has come.
pub(super) extern "C" fn welcome(fd: c_int) -> c_int {
    page::opened(fd);
    page::add(&page::counters().accepted, 1);
    descriptors::accepted(fd);
    fd
}

/// Is this listener in blocking mode? Asked only after a failure.
fn waits(listener: c_int) -> bool {
    sys::status_flags(listener).is_ok_and(blocking)
}
