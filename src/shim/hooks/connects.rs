//! connect(2).

use core::ffi::{c_int, c_void};

use libc::{sockaddr, socklen_t};

use super::answer::NoDescriptor;
use super::hooks;
use super::real_poll::{poll_one, real_poll};
use super::retry::second_chance_for;
use crate::engine::attempt::retry_for;
use crate::engine::call::{Call, Lack, Tried};
use crate::features::outgoing::timer::{Progress, Timer};
use crate::features::outgoing::{self, Plan, ports};
use crate::os::sys::{errno, set_errno};

type Address = *const sockaddr;

hooks! {
    connect(fd: c_int, address: Address, length: socklen_t) -> c_int = connecting(fd, address, length);
    __connect(fd: c_int, address: Address, length: socklen_t) -> c_int = connecting(fd, address, length);
}

/// # Safety
/// The arguments are what `real` passes to connect(2).
#[inline(always)]
unsafe fn connecting(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    if outgoing::is_governed() {
        // SAFETY: promised by the caller.
        return unsafe { governed(call, real, fd, address, length) };
    }
    let answer = real();
    if answer < 0 && errno() == libc::EADDRNOTAVAIL {
        // SAFETY: promised by the caller.
        return unsafe { with_a_port(answer, call, real, fd, address, length) };
    }
    answer
}

/// connect(2) under a limit or a timeout that the user has set.
///
/// # Safety
/// The arguments are what `real` passes to connect(2).
#[cold]
#[inline(never)]
unsafe fn governed(
    call: impl Fn() -> Call,
    mut real: impl FnMut() -> c_int,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    // SAFETY: promised by the caller.
    let plan = unsafe { outgoing::plan(fd, address, length) };
    if let Some(lack) = plan.take_turn() {
        // `needs_several`: a close may wake this call although it frees nothing of use to it; then it passes the wake-up on.
        let call = Call { may_block: plan.blocks, needs_several: true, ..call() };
        // SAFETY: `ask_again` is given the plan, which lives until `retry_for` returns and is only read meanwhile.
        if !unsafe { retry_for(lack, call, libc::EAGAIN, ask_again, (&raw const plan).cast_mut().cast()) } {
            set_errno(libc::EAGAIN);
            return -1;
        }
    }
    let mut attempt = || {
        if plan.timeout == 0 || !is_libcs() {
            real()
        } else {
            // SAFETY: promised by the caller.
            unsafe { in_time(&plan, &mut real, fd, address, length) }
        }
    };
    let mut answer = attempt();
    if answer < 0 && errno() == libc::EADDRNOTAVAIL {
        // SAFETY: promised by the caller.
        answer = unsafe { with_a_port(answer, call, attempt, fd, address, length) };
    }
    plan.ended(answer);
    answer
}

/// Is the next connect(2) the libc's own? A timeout works for that only: a library in between (torsocks, proxychains) must not be passed
/// by with a system call of our own. Such a library replaces one of the two names.
fn is_libcs() -> bool {
    connect::real() == __connect::real()
}

/// Asks once more for a turn. A cancellation point, as connect(2) is.
///
/// # Safety
/// `plan` points to a [`Plan`].
unsafe extern "C" fn ask_again(plan: *mut c_void) -> Tried {
    // SAFETY: poll(2) of nothing, without waiting; the caller promises a plan.
    unsafe {
        real_poll(core::ptr::null_mut(), 0, 0);
        let lacks = (*plan.cast::<Plan>()).take_turn().is_some();
        Tried { errno: if lacks { libc::EAGAIN } else { 0 }, descriptor: -1 }
    }
}

/// A blocking connect(2) that ends after a timeout.
///
/// # Safety
/// The arguments are what `real` passes to connect(2).
unsafe fn in_time(
    plan: &Plan,
    real: &mut impl FnMut() -> c_int,
    fd: c_int,
    address: Address,
    length: socklen_t,
) -> c_int {
    // A cancellation point: the connect is begun by a system call of our own, which no cancellation would end.
    // SAFETY: poll(2) of nothing, without waiting.
    unsafe { real_poll(core::ptr::null_mut(), 0, 0) };
    // SAFETY: promised by the caller.
    let mut timer = unsafe { Timer::begin(fd, address, length, plan.timeout) };
    while timer.goes_on {
        let left = timer.left();
        let ready = poll_one(&mut timer.waits_for, left);
        match timer.judge(ready) {
            Progress::Waiting => {}
            Progress::Answered => return real(),
            Progress::Failed => return -1,
        }
    }
    timer.answer
}

/// A connect has failed with EADDRNOTAVAIL. If that was for lack of a local port, it waits for one, where it may.
///
/// # Safety
/// The arguments are what `real` passes to connect(2).
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
    // SAFETY: promised by the caller.
    if !unsafe { ports::are_exhausted(fd, address, length) } {
        return first;
    }
    let call = || Call { may_block: ports::may_wait(fd), needs_several: true, ..call() };
    second_chance_for(Lack::Port, NoDescriptor(first), libc::EADDRNOTAVAIL, call, || NoDescriptor(real())).0
}
