//! connect(2).

use core::ffi::{c_int, c_void};

use libc::{sockaddr, socklen_t};

use super::loops::real_poll;
use super::{Whole, hooks, second_chance_for};
use crate::engine::attempt::retry_for;
use crate::engine::call::{Call, Lack, Tried};
use crate::features::outgoing::timer::{Stands, Timer};
use crate::features::outgoing::{self, Plan, ports};
use crate::os::sys::{errno, set_errno};

type Address = *const sockaddr;

hooks! {
    connect(fd: c_int, address: Address, length: socklen_t) -> c_int = connecting(fd, address, length);
    __connect(fd: c_int, address: Address, length: socklen_t) -> c_int = connecting(fd, address, length);
}

#[inline(always)]
unsafe fn connecting(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    if outgoing::is_governed() {
        // SAFETY: as the caller promised.
        return unsafe { governed(call, real, fd, address, length) };
    }
    let answer = real();
    if answer < 0 && errno() == libc::EADDRNOTAVAIL {
        // SAFETY: as the caller promised; right after the call.
        return unsafe { with_a_port(answer, call, real, fd, address, length) };
    }
    answer
}

/// A limit or a time is set.
#[cold]
#[inline(never)]
unsafe fn governed(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    let plan = outgoing::plan(fd, address, length);
    if let Some(lack) = plan.take_turn() {
        // One close may end a wait that is for something else: passed on, as for calls that need several descriptors.
        let call = Call { may_block: plan.patient, needs_several: true, ..call() };
        // SAFETY: `turn` gets what it is for.
        if !unsafe { retry_for(lack, call, libc::EAGAIN, turn, (&raw const plan).cast_mut().cast()) } {
            set_errno(libc::EAGAIN);
            return -1;
        }
    }
    let mut attempt = || {
        // SAFETY: the host's own arguments.
        if plan.within == 0 || !is_libcs() { real() } else { unsafe { in_time(&plan, &mut real, fd, address, length) } }
    };
    let mut answer = attempt();
    if answer < 0 && errno() == libc::EADDRNOTAVAIL {
        // SAFETY: as the caller promised; right after the call.
        answer = unsafe { with_a_port(answer, call, attempt, fd, address, length) };
    }
    plan.ended(answer);
    answer
}

/// Is the next connect(2) the libc's own? A time can be set for that only: a library in between (torsocks, proxychains) must not be
/// passed by with a system call. It takes one of the two names.
fn is_libcs() -> bool {
    connect::real() == __connect::real()
}

/// Asks once more for a turn. The wait for it is a cancellation point, as connect(2) is.
unsafe extern "C" fn turn(plan: *mut c_void) -> Tried {
    // SAFETY: `governed` passes its own; poll(2) of nothing, without waiting.
    unsafe {
        real_poll(core::ptr::null_mut(), 0, 0);
        let lacks = (*plan.cast::<Plan>()).take_turn().is_some();
        Tried { errno: if lacks { libc::EAGAIN } else { 0 }, descriptor: -1 }
    }
}

/// A blocking connect that ends by a time.
unsafe fn in_time(
    plan: &Plan,
    real: &mut impl FnMut() -> c_int,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    // SAFETY: as above. The connect is begun by a system call of our own, which no cancellation would end.
    unsafe { real_poll(core::ptr::null_mut(), 0, 0) };
    let mut timer = Timer::begin(fd, address, length, plan.within);
    while timer.goes_on {
        let left = timer.left();
        // SAFETY: one pollfd.
        let ready = unsafe { real_poll(&raw mut timer.waits_for, 1, left) };
        match timer.judge(ready) {
            Stands::Waiting => {}
            Stands::Answered => return real(),
            Stands::Ended => return -1,
        }
    }
    timer.answer
}

/// A connect failed with EADDRNOTAVAIL. If that was for lack of a local port, it waits for one where it may.
#[cold]
#[inline(never)]
unsafe fn with_a_port<F: FnMut() -> c_int>(
    first: c_int,
    call: impl Fn() -> Call,
    mut real: F,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    if !ports::are_gone(fd, address, length) {
        return first;
    }
    let call = || Call { may_block: ports::may_wait(fd), needs_several: true, ..call() };
    // SAFETY: as the caller promised.
    unsafe { second_chance_for(Lack::Port, Whole(first), libc::EADDRNOTAVAIL, call, || Whole(real())).0 }
}
