//! Closes of descriptors that are counted because somebody waits, and sleeping until there is one.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU32, AtomicU64};

use tideover_contract::settings::SECOND;

use crate::engine::tickets::Tickets;
use crate::os::sys;

/// Longest sleep before the call is tried again, nanoseconds.
pub const LONGEST_SLEEP: u64 = SECOND / 10;

/// The count, and the ticket by which a close knows that somebody waits.
pub static TICKETS: Tickets = Tickets { closes: AtomicU32::new(0), last: AtomicU64::new(0), next: AtomicU64::new(1) };

/// Sleeps until `is_done` answers true, which is asked after each close and every 100 ms; at most for `longest` nanoseconds.
pub fn sleep_until(is_done: impl Fn() -> bool, longest: u64) {
    let end = sys::now() + longest;
    loop {
        let seen = expect_closes();
        let left = end.saturating_sub(sys::now());
        if is_done() || left == 0 {
            return pass_wakeup_on();
        }
        let _ = sys::futex_wait(&TICKETS.closes, seen, left.min(LONGEST_SLEEP));
    }
}

/// Announces that the calling thread waits: from here on closes are counted, no close is missed, and
/// [`Handlers::on_awaited_close`](crate::state::handlers::Handlers::on_awaited_close) is called for each. Returns the count of closes so far, for
/// [`sleep_until_close`].
pub fn expect_closes() -> u32 {
    TICKETS.announce()
}

/// Sleeps until more than `seen` closes have been counted, at most for so many nanoseconds. False: a signal handler has run that
/// interrupts blocked calls.
pub fn sleep_until_close(seen: u32, nanoseconds: u64) -> bool {
    sys::futex_wait(&TICKETS.closes, seen, nanoseconds) != Err(libc::EINTR) || !handlers_interrupt()
}

/// Wakes another thread that sleeps on the count of closes, since this one may have been woken by a close that it has no use for.
pub fn pass_wakeup_on() {
    wake_sleeping(1);
}

/// Does a signal have a handler without SA_RESTART? Such a handler asks for blocked calls to be interrupted. Those of profilers' timers and
/// the like have SA_RESTART, and must not cut waits short.
pub fn handlers_interrupt() -> bool {
    // All but the two by which libc cancels threads and sets their ids.
    (1..=64).filter(|signal| !(32..=33).contains(signal)).any(sys::interrupts)
}

/// Wakes threads that sleep on the count. Returns how many.
pub fn wake_sleeping(most: i32) -> usize {
    sys::futex_wake(&TICKETS.closes, most)
}
