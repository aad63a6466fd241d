//! Sockets.

use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{sockaddr, socklen_t};

use super::{Answer, blocking, descriptor, hooks, pair, second_chance};
use crate::arch::{accept_entry, weak};
use crate::engine::call::{Call, LastResort, is_exhaustion};
use crate::features::accept::clients::{self, Turn};
use crate::features::accept::{self, Patience, Queue};
use crate::os::barrier::barrier;
use crate::os::real::Real;
use crate::os::sys;
use crate::state::{descriptors, page};

hooks! {
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = descriptor() if blocking(kind);
    socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int = pair(fds) if blocking(kind);
    listen(fd: c_int, backlog: c_int) -> c_int = listening(fd);
}

/// listen(2): from here on its epoll sets are noted. Clients may come all at once.
#[inline(always)]
unsafe fn listening(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int) -> c_int {
    let answer = real();
    if answer == 0 {
        descriptors::classify(fd, descriptors::LISTENER);
        super::resolve_all();
        page::provide();
    }
    answer
}

/// accept4(2), and accept(2) with flags that nobody looks at.
type Accept = unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;

/// accept(2) and accept4(2): the real call, then [`welcome`] or `failed`.
macro_rules! accepting {
    ($name:ident, $module:ident, $flags:pat => $plain:expr) => {
        accept_entry! { $name: real = $module::REAL, welcome = welcome, failed = $module::failed }

        mod $module {
            use super::*;

            /// The real function; at first, one that finds it; with limits, one that asks them first.
            pub static REAL: AtomicPtr<()> = AtomicPtr::new(find as *mut ());

            fn found() -> Accept {
                #[unsafe(link_section = ".tables")]
                static NAMED: Real = Real::new();
                // SAFETY: ends with a NUL, and C identifiers hold none; found by its name, it has this type.
                unsafe {
                    let name = CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes());
                    core::mem::transmute(NAMED.address(name, false))
                }
            }

            unsafe extern "C" fn find(l: c_int, from: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
                let real: Accept = if has_limits() { limited } else { found() };
                REAL.store(real as *mut (), Relaxed);
                // SAFETY: the host's own arguments.
                unsafe { real(l, from, length, flags) }
            }

            unsafe extern "C" fn limited(l: c_int, from: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
                // SAFETY: the host's own arguments.
                unsafe { in_turn(l, || found()(l, from, length, flags)) }
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
                    may_block: $plain && waits(listener),
                    needs_several: false,
                    backoff: None,
                    last_resort: last_resort(listener),
                };
                // SAFETY: never anything but a function of this type.
                let real: Accept = unsafe { core::mem::transmute(REAL.load(Relaxed)) };
                // SAFETY: the host's own arguments; right after the call.
                let fd = unsafe { carry_over(answer, listener, call, || real(listener, from, length, flags)) };
                if fd < 0 { fd } else { welcome(fd) }
            }
        }
    };
}

accepting!(accept, accept_impl, _ => true);
accepting!(accept4, accept4_impl, flags => blocking(flags));

/// Before the first accept: does the user limit clients?
extern "C" fn has_limits() -> bool {
    barrier(false, || {
        let limited = clients::is_limited();
        if limited {
            clients::check();
        }
        accept::begin();
        limited
    })
}

/// accept(2) under the limits of the user.
unsafe fn in_turn(listener: c_int, real: impl Fn() -> c_int) -> c_int {
    let mut patience = Patience::new();
    loop {
        match clients::ask(listener, &mut patience) {
            Turn::Go => {
                let fd = real();
                let errno = sys::errno();
                clients::done(fd);
                sys::set_errno(errno);
                return fd;
            }
            Turn::Ask => test_cancel(),
            Turn::Poll => match wait_for_client(listener, &patience) {
                0 => {}
                wrong => return fail(wrong),
            },
            Turn::Later => return fail(libc::EAGAIN),
            Turn::Interrupted => return fail(libc::EINTR),
        }
    }
}

/// A cancellation point. Before glibc 2.34 it is in libpthread, which a program that can be cancelled has loaded.
#[inline(always)]
pub(super) fn test_cancel() {
    let address = weak!("pthread_testcancel");
    if address != 0 {
        // SAFETY: pthread_testcancel(3); nothing is held here.
        unsafe { core::mem::transmute::<usize, extern "C" fn()>(address)() };
    }
}

fn fail(errno: c_int) -> c_int {
    sys::set_errno(errno);
    -1
}

/// accept(2) failed. For lack of descriptors, and nobody waits: EAGAIN, or it waits for a client as it would have. Else as every
/// call that makes one.
pub(super) unsafe fn carry_over<R: Answer>(
    first: R,
    listener: c_int,
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> R,
) -> R {
    let mut answer = first;
    let mut patience = Patience::new();
    loop {
        // SAFETY: right after the call.
        if !unsafe { answer.failure() }.is_some_and(is_exhaustion) {
            return answer;
        }
        match accept::queue(listener, &mut patience) {
            Queue::Pass => {
                // SAFETY: as the caller promised.
                answer = unsafe { second_chance(answer, &call, &mut real) };
                // SAFETY: right after the call.
                let exhausted = unsafe { answer.failure() }.is_some_and(is_exhaustion);
                if !(exhausted && accept::has_shed(listener, &mut patience)) {
                    return answer;
                }
            }
            Queue::Empty => {
                sys::set_errno(libc::EAGAIN);
                return answer;
            }
            Queue::Wait => match wait_for_client(listener, &patience) {
                0 => answer = real(),
                wrong => {
                    sys::set_errno(wrong);
                    return answer;
                }
            },
        }
    }
}

/// What the engine does with the client that waits at this listener, when nothing can be freed for it.
pub(super) fn last_resort(listener: c_int) -> Option<LastResort> {
    Some(LastResort { listener, functions: &accept::LAST_RESORT })
}

/// Sleeps until a client comes: 0, or the errno that accept(2) would give. A cancellation point, as accept(2) is.
fn wait_for_client(listener: c_int, patience: &Patience) -> c_int {
    let mut ready = sys::pollfd(listener, libc::POLLIN);
    // SAFETY: one pollfd.
    match unsafe { super::loops::real_poll(&raw mut ready, 1, patience.milliseconds) } {
        0 => libc::EAGAIN,
        -1 if sys::errno() == libc::EINTR && patience.is_interrupted() => libc::EINTR,
        _ => 0,
    }
}

/// A client has come.
pub(super) extern "C" fn welcome(fd: c_int) -> c_int {
    page::opened(fd);
    page::add(&page::counters().accepted, 1);
    descriptors::accepted(fd);
    fd
}

/// Is this listener in blocking mode? Asked only after a failure.
pub(super) fn waits(listener: c_int) -> bool {
    crate::state::process::phase() != crate::state::process::Phase::Sandboxed
        && sys::status_flags(listener).is_ok_and(blocking)
}
