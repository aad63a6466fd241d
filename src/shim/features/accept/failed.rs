//! accept(2) has failed for lack of descriptors: the one place that decides what is done then.
//!
//! Linux hands out the number before it looks at the queue: at the limit, accept(2) fails with EMFILE even when no client waits, and even
//! where it should block. So the queue is looked at first ([`next`], for the hook). If a client waits, the engine tries to free a
//! descriptor. If it can't, it asks here for the last resort ([`LAST_RESORT`]): the listener is parked, or its clients are turned away.
#![forbid(unsafe_code)]

use core::ffi::c_int;

use super::listener::{has_clients, is_blocking, is_ours};
use super::parking::{self, Parking};
use super::request::{Next, Request};
use super::{blocking, exhaustion, pace, shed};
use crate::engine::call::{Instead, LastResortFunctions};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::{control, page, process, thread};

/// What the hook does next. Asked after each failure for lack of descriptors.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub extern "C" fn next(request: &mut Request) -> Next {
    let has_retried = request.told == Some(Next::Retry);
    let next = barrier(if has_retried { Next::Answer } else { Next::Retry }, || {
        let _ = control::look();
        match request.told {
            Some(Next::AwaitClient) => Next::Call,
            Some(Next::AskAgain | Next::Retry) if process::is_off() => Next::Answer,
            Some(Next::AskAgain) => blocking::wait(request),
            Some(Next::Retry) => after_the_engine(request),
            _ => look_at_queue(request),
        }
    });
    request.told = Some(next);
    next
}

/// Does a client wait that needs a descriptor?
fn look_at_queue(request: &mut Request) -> Next {
    let listener = request.listener;
    if !is_ours(listener) || has_clients(listener) {
        return Next::Retry;
    }
    page::ensure();
    if !request.has_waited() {
        page::add(&page::counters().phantom, 1);
    }
    if is_blocking(listener) && request.may_wait() { Next::AwaitClient } else { Next::Fail(libc::EAGAIN) }
}

/// The engine could free nothing.
fn after_the_engine(request: &mut Request) -> Next {
    if has_shed(request) {
        look_at_queue(request)
    } else if waits_for_descriptor(request) {
        blocking::wait(request)
    } else {
        Next::Answer
    }
}

/// Has the engine left it to the hook to wait for a descriptor?
fn waits_for_descriptor(request: &Request) -> bool {
    is_ours(request.listener)
        && is_blocking(request.listener)
        && !exhaustion::sheds_now()
        && blocking::waits(sys::errno())
}

/// A blocking accept(2) for which there is no descriptor: have its clients been turned away, so that it can wait for the next?
fn has_shed(request: &mut Request) -> bool {
    /// After so many attempts it is given up: another thread has long finished by then.
    const ATTEMPTS: u32 = 500;
    let listener = request.listener;
    if !exhaustion::sheds_now() || !is_ours(listener) || !is_blocking(listener) {
        return false;
    }
    if shed::turn_away(listener, shed::Reason::Exhausted).is_some_and(|gone| gone > 0 || !has_clients(listener)) {
        request.batches = 0;
        return true;
    }
    // Another thread is turning clients away, or has taken what was borrowed for that: the next close makes up for it.
    request.batches += 1;
    request.batches < ATTEMPTS && thread::count() > 1 && pace::slow_down(listener)
}

/// What the engine asks when it can free no descriptor.
pub static LAST_RESORT: LastResortFunctions = LastResortFunctions {
    decide: park_or_shed,
    succeeded: parking::put_back_if_room,
    slow_down: |listener| {
        pace::slow_down(listener);
    },
    describe: || if exhaustion::sheds_now() { "clients are turned away" } else { "clients wait until one is free" },
};

/// A client waits, and no descriptor can be freed for it: parks its listener, or turns clients away.
fn park_or_shed(listener: c_int, errno: c_int) -> Instead {
    let nothing = Instead { again: false, quiet: false, by_hook: false, paced: false };
    if !is_ours(listener) {
        return nothing;
    }
    exhaustion::accept_has_failed(errno);
    let quiet = !is_blocking(listener);
    if exhaustion::sheds_now() {
        if !quiet {
            return Instead { by_hook: true, ..nothing };
        }
        shed::turn_away(listener, shed::Reason::Exhausted);
    }
    let nothing = Instead { by_hook: !quiet && blocking::waits(errno), ..nothing };
    match parking::park(listener) {
        Parking::Parked => Instead { again: true, quiet, ..nothing },
        // A caller that asks again waits by other means than these sets.
        Parking::Again => Instead { again: true, quiet, paced: true, ..nothing },
        Parking::Watched => Instead { quiet, paced: true, ..nothing },
        Parking::Unknown => {
            page::add(&page::counters().bypassed, 1);
            Instead { paced: true, ..nothing }
        }
    }
}
