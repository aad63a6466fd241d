//! Sockets.

use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{sockaddr, socklen_t};

use super::answer::{Answer, is_exhausted};
use super::hooks;
use super::kinds::{blocking, descriptor, named, pair};
use super::real_poll::poll_one;
use super::retry::second_chance;
use crate::arch::accept_entry;
use crate::engine::call::{Call, LastResort};
use crate::features::accept::request::{Next, Request};
use crate::features::accept::{self, admission, failed, parking, per_client};
use crate::os::cancel::test_cancel;
use crate::os::real::Real;
use crate::os::sys;
use crate::state::process::{self, Phase};
use crate::state::{descriptors, page};

hooks! {
    socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = descriptor() if blocking(kind);
    socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int = pair(fds) if blocking(kind);
    listen(fd: c_int, backlog: c_int) -> c_int = listening(fd);
}

/// listen(2): from here on it is noted which epoll sets watch the socket. Many clients may come at once, so what a server needs is made
/// ready.
#[inline(always)]
fn listening(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int, fd: c_int) -> c_int {
    let answer = real();
    if answer == 0 {
        let is_new = descriptors::marks(fd) & descriptors::LISTENER == 0;
        descriptors::classify(fd, descriptors::LISTENER);
        if is_new {
            parking::listens(fd);
        }
        super::resolve_all();
        page::provide();
    }
    answer
}

/// accept4(2), and accept(2) with flags that nobody looks at.
type Accept = unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t, c_int) -> c_int;

/// accept(2) and accept4(2): the real call, then [`client_accepted`] or `failed`.
macro_rules! accepting {
    ($name:ident, $module:ident, $flags:pat => $plain:expr) => {
        accept_entry! { $name: real = $module::REAL, welcome = client_accepted, failed = $module::failed }

        mod $module {
            use super::*;

            /// The real function; until the first call, one that finds it; where there are limits, one that asks them first.
            pub static REAL: AtomicPtr<()> = AtomicPtr::new(find as *mut ());

            fn found() -> Accept {
                #[unsafe(link_section = ".tables")]
                static NAMED: Real = Real::new();
                // SAFETY: the name ends with a NUL, and a C identifier holds none; the function of this name has this type.
                unsafe {
                    let name = CStr::from_bytes_with_nul_unchecked(concat!(stringify!($name), "\0").as_bytes());
                    core::mem::transmute(NAMED.address(name, false))
                }
            }

            /// # Safety
            /// As accept4(2).
            unsafe extern "C" fn find(l: c_int, from: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
                let real: Accept = if accept::begin() { limited } else { found() };
                REAL.store(real as *mut (), Relaxed);
                // SAFETY: promised by the caller.
                unsafe { real(l, from, length, flags) }
            }

            /// # Safety
            /// As accept4(2).
            unsafe extern "C" fn limited(l: c_int, from: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int {
                // SAFETY: promised by the caller.
                let call = || unsafe { found()(l, from, length, flags) };
                if accept::must_ask() {
                    // SAFETY: promised by the caller.
                    return unsafe { accept_under_limits(l, length, call) };
                }
                REAL.store(found() as *mut (), Relaxed);
                call()
            }

            /// From here on, accept(2) asks first, until there is no more reason to.
            pub fn ask_first() {
                let _ = REAL.compare_exchange(found() as *mut (), limited as *mut (), Relaxed, Relaxed);
            }

            /// The real call has answered less than 0.
            ///
            /// # Safety
            /// As accept4(2).
            pub unsafe extern "C" fn failed(
                listener: c_int,
                from: *mut sockaddr,
                length: *mut socklen_t,
                flags: c_int,
                answer: c_int,
            ) -> c_int {
                let $flags = flags;
                let call = || named(stringify!($name), $plain && may_sleep_at(listener));
                // SAFETY: `REAL` holds nothing but functions of this type.
                let real: Accept = unsafe { core::mem::transmute(REAL.load(Relaxed)) };
                // SAFETY: promised by the caller.
                let fd = accept_failed(answer, listener, call, || unsafe { real(listener, from, length, flags) });
                if fd < 0 { fd } else { client_accepted(fd) }
            }
        }
    };
}

accepting!(accept, accept_impl, _ => true);
accepting!(accept4, accept4_impl, flags => blocking(flags));

/// Calls for accepted clients lack descriptors: accept(2) asks first whether one is free for another client.
pub fn ask_before_accept() {
    accept_impl::ask_first();
    accept4_impl::ask_first();
}

/// accept(2) under the limits that the user has set, and while calls for accepted clients lack descriptors. Clients over a limit of their
/// address are turned away, and `real` is called again, with `length` as it was: the real call writes the length of an address there.
///
/// # Safety
/// `length` is what `real` passes to accept(2).
unsafe fn accept_under_limits(listener: c_int, length: *mut socklen_t, real: impl Fn() -> c_int) -> c_int {
    let in_turn = |_, _| {
        let fd = real();
        let errno = sys::errno();
        admission::done(fd);
        sys::set_errno(errno);
        fd
    };
    let is_known = per_client::are_noted() && sys::is_readable(length.cast(), size_of::<socklen_t>());
    // SAFETY: it can be read, as the kernel has just said, and the program leaves it alone during its call.
    let room = is_known.then(|| unsafe { length.read_unaligned() });
    let mut turned_away = 0;
    loop {
        let fd = until_answered(&mut Request::new(listener), admission::ask, -1, in_turn);
        if fd < 0 || !admission::turns_away(listener, fd) {
            return fd;
        }
        if let Some(room) = room {
            // SAFETY: the real call has just written there.
            unsafe { length.write_unaligned(room) };
        }
        turned_away += 1;
        if !admission::goes_on(listener, turned_away) {
            sys::set_errno(libc::EAGAIN);
            return -1;
        }
    }
}

/// accept(2) has returned `first`, less than 0. If that was for lack of descriptors, does what `features/accept` decides.
pub fn accept_failed<R: Answer>(first: R, listener: c_int, call: impl Fn() -> Call, mut real: impl FnMut() -> R) -> R {
    if !is_exhausted(first) {
        return first;
    }
    let last_resort = Some(LastResort { listener, functions: &failed::LAST_RESORT });
    let call = || Call { last_resort, ..call() };
    let make = |by_engine, answer| if by_engine { second_chance(answer, call, &mut real) } else { real() };
    until_answered(&mut Request::new(listener), failed::next, first, make)
}

/// Does what `decide` says until the call has an answer. `answer` is the answer so far. `make` makes the real call, or, with `true`, has the
/// engine make it again after such an answer. It is one function rather than two, which would have to share the real call by a
/// `RefCell`: that can panic, and its guard would be in the way of a cancellation.
#[inline(always)]
fn until_answered<R: Answer>(
    request: &mut Request,
    decide: extern "C" fn(&mut Request) -> Next,
    mut answer: R,
    mut make: impl FnMut(bool, R) -> R,
) -> R {
    loop {
        match decide(request) {
            Next::Call => answer = make(false, answer),
            Next::Retry => answer = make(true, answer),
            Next::AwaitClient => match wait_for_client(request) {
                0 => continue,
                errno => {
                    sys::set_errno(errno);
                    return answer;
                }
            },
            Next::AskAgain => {
                test_cancel();
                continue;
            }
            Next::Fail(errno) => {
                sys::set_errno(errno);
                return answer;
            }
            Next::Answer => return answer,
        }
        if !is_exhausted(answer) {
            return answer;
        }
    }
}

/// Sleeps until a client comes: 0, or the errno that accept(2) would set. A cancellation point, as accept(2) is.
fn wait_for_client(request: &Request) -> c_int {
    let mut ready = sys::pollfd(request.listener, libc::POLLIN);
    match poll_one(&mut ready, request.timeout) {
        0 => libc::EAGAIN,
        -1 if sys::errno() == libc::EINTR && request.is_interrupted() => libc::EINTR,
        _ => 0,
    }
}

/// accept(2) has returned this descriptor: counts it. Returns it, too.
pub extern "C" fn client_accepted(fd: c_int) -> c_int {
    page::opened(fd);
    page::add(&page::counters().accepted, 1);
    descriptors::accepted(fd);
    fd
}

/// May accept(2) on this listener sleep for a descriptor? Only in blocking mode. Asked after it has failed for lack of one.
pub fn may_sleep_at(listener: c_int) -> bool {
    process::phase() != Phase::Sandboxed && sys::status_flags(listener).is_ok_and(blocking)
}
