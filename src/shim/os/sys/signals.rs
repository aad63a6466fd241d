//! Signals.

use core::ffi::c_int;

use super::{Errno, call};
use crate::arch::KernelAction;

/// rt_sigprocmask(2): blocks all signals in this thread. Returns the mask that was before.
pub fn block_signals() -> Result<u64, Errno> {
    block(u64::MAX)
}

/// rt_sigprocmask(2): blocks all signals in this thread but those that a fault of its own raises: the kernel ends a process that blocks
/// these. Returns the mask that was before.
pub fn block_signals_but_faults() -> Result<u64, Errno> {
    block(without(u64::MAX, &FAULTS))
}

/// As [`block_signals_but_faults`], and without the two by which libc cancels threads and sets their ids. Returns the mask that was before.
pub fn block_handlers() -> Result<u64, Errno> {
    const CANCEL: [c_int; 2] = [32, 33];
    block(without(without(u64::MAX, &FAULTS), &CANCEL))
}

const FAULTS: [c_int; 7] =
    [libc::SIGILL, libc::SIGTRAP, libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGSEGV, libc::SIGSYS];

fn without(set: u64, signals: &[c_int]) -> u64 {
    signals.iter().fold(set, |set, signal| set & !(1 << (signal - 1)))
}

/// Blocks these besides those that are blocked already. Returns the mask that was before.
fn block(signals: u64) -> Result<u64, Errno> {
    let mut mask = 0u64;
    call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const signals, &raw mut mask, 8).map(|_| mask)
}

/// Undoes [`block_signals`] and [`block_handlers`].
pub fn restore_signals(mask: u64) {
    let _ = call!(SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0, 8);
}

/// rt_sigpending(2): is this signal, which is blocked, pending?
pub fn is_pending(signal: c_int) -> bool {
    let mut pending = 0u64;
    call!(SYS_rt_sigpending, &raw mut pending, 8).is_ok() && pending & 1 << (signal - 1) != 0
}

/// rt_sigtimedwait(2) without waiting: takes one pending signal of this number, which is blocked. One that was sent to this thread comes
/// before one that was sent to the process.
pub fn take_signal(signal: c_int) {
    let set = 1u64 << (signal - 1);
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = call!(SYS_rt_sigtimedwait, &raw const set, 0, &raw const now, 8);
}

/// Has this signal a handler that interrupts calls that block: one without SA_RESTART?
pub fn interrupts(signal: c_int) -> bool {
    let mut action = KernelAction::new();
    call!(SYS_rt_sigaction, signal, 0, &raw mut action, 8).is_ok()
        && action.handler != libc::SIG_DFL
        && action.handler != libc::SIG_IGN
        && action.flags & libc::SA_RESTART as u64 == 0
}

/// sigaltstack(2): the lowest address of the signal stack that the caller runs on; None if it runs on none.
pub fn alternate_stack() -> Option<usize> {
    let mut stack = core::mem::MaybeUninit::<libc::stack_t>::zeroed();
    call!(SYS_sigaltstack, 0, stack.as_mut_ptr()).ok()?;
    // SAFETY: zeros are a valid stack_t, and the kernel has filled it in.
    let stack = unsafe { stack.assume_init() };
    (stack.ss_flags & libc::SS_ONSTACK != 0).then_some(stack.ss_sp as usize)
}
