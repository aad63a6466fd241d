//! accept(2) under the limits of `limits`: a client over a limit waits in the backlog, or is refused (TIDEOVER_OVER_LIMIT).
#![forbid(unsafe_code)]

use core::ffi::c_int;

use tideover_contract::settings::{Id, SECOND, over_limit};

use super::listener::{has_clients, is_blocking, is_ours};
use super::parking::{self, Parking};
use super::request::{Next, Request};
use super::{blocking, exhaustion, limits, pace, per_client, shed, statistics};
use crate::engine::{demand, wait};
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;
use crate::state::{control, descriptors, page, process, reconcile};

/// A thread that waits for room looks at least so often, nanoseconds.
const LOOK_INTERVAL: u64 = SECOND / 10;
/// So many batches of clients are refused in one accept(2).
const BATCHES: u32 = 8;
/// So many clients over a limit of their address are turned away in one accept(2).
const MOST_IN_A_ROW: u32 = 64;

static TOLD: Repeated = Repeated::new();
static HELD_BACK: Repeated = Repeated::new();

/// May this thread accept a client now? After [`Next::Call`], [`done`] is to be told of the answer, which stands.
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub extern "C" fn ask(request: &mut Request) -> Next {
    if request.told == Some(Next::Call) {
        return Next::Answer;
    }
    let next = barrier(Next::Call, || decide(request));
    request.told = Some(next);
    next
}

fn decide(request: &mut Request) -> Next {
    let listener = request.listener;
    let _ = control::look();
    if !process::may_act() {
        return Next::Call;
    }
    statistics::tell_if_due();
    if SETTINGS.may_shed() {
        shed::let_finish();
    }
    if lacks_margin(listener) {
        return keep_waiting(request);
    }
    if !limits::are_set() {
        return Next::Call;
    }
    // Where there is a rate, no thread has a turn while it waits for a client: that would be the turn of an earlier time.
    if limits::has_rate() && is_blocking(listener) && !has_clients(listener) {
        if !sys::is_listening(listener) {
            return let_through();
        }
        return if request.may_wait() { Next::AwaitClient } else { Next::Fail(libc::EAGAIN) };
    }
    if limits::take_turn() {
        return Next::Call;
    }
    if !sys::is_listening(listener) {
        return let_through();
    }
    page::ensure();
    reconcile::reconcile_now_and_then();
    // Other threads may be about to accept as many clients as the limit allows: then it is not certain yet that there is room for none.
    if SETTINGS.get(Id::OverLimit) == over_limit::REFUSE && !limits::admit() {
        refuse(request)
    } else if is_blocking(listener) {
        wait_for_room(request)
    } else {
        put_off(listener)
    }
}

/// Are the descriptors that are free needed for clients that were accepted before? A thread that blocks in accept(2) has done with its own.
fn lacks_margin(listener: c_int) -> bool {
    if !demand::is_any() {
        return false;
    }
    if is_blocking(listener) {
        demand::is_done();
    }
    exhaustion::lacks_margin() && is_ours(listener)
}

/// Those who were accepted come first: a client waits until a descriptor is free for it, too.
fn keep_waiting(request: &mut Request) -> Next {
    let listener = request.listener;
    if !is_blocking(listener) {
        return put_off(listener);
    }
    if !blocking::waits(libc::EMFILE) {
        return Next::Call;
    }
    if !has_clients(listener) {
        return if request.may_wait() { Next::AwaitClient } else { Next::Fail(libc::EAGAIN) };
    }
    match blocking::wait(request) {
        Next::Answer => Next::Call,
        next => next,
    }
}

/// Is there room for a client now, as far as the settings and those who were accepted before are concerned? Takes a turn then.
fn may_enter() -> bool {
    !exhaustion::lacks_margin() && limits::take_turn()
}

/// Refuses the clients that wait at the listener.
fn refuse(request: &mut Request) -> Next {
    let listener = request.listener;
    if !has_clients(listener) {
        let waits = is_blocking(listener) && request.may_wait();
        return if waits { Next::AwaitClient } else { Next::Fail(libc::EAGAIN) };
    }
    request.batches += 1;
    if request.batches > BATCHES && !is_blocking(listener) {
        // The program has other clients to serve. Putting the listener back makes its loop hear of it again, also an edge-triggered one.
        parking::park(listener);
        parking::put_back();
        return Next::Fail(libc::EAGAIN);
    }
    match shed::turn_away(listener, shed::Reason::Limit) {
        // There was no descriptor for that: accept(2) will find out itself.
        Some(0) if has_clients(listener) => let_through(),
        Some(_) => Next::AskAgain,
        None => {
            pace::slow_down(listener);
            Next::AskAgain
        }
    }
}

/// A blocking accept(2) sleeps until there may be room.
fn wait_for_room(request: &mut Request) -> Next {
    if !request.may_wait() {
        return Next::Fail(libc::EAGAIN);
    }
    report();
    let seen = wait::expect_closes();
    if limits::take_turn() {
        return Next::Call;
    }
    let time = limits::until_admitted().min(LOOK_INTERVAL).min(request.timeout as u32 as u64 * 1_000_000);
    if wait::sleep_until_close(seen, time) || !request.is_interrupted() {
        Next::AskAgain
    } else {
        Next::Fail(libc::EINTR)
    }
}

/// A non-blocking accept(2) leaves its client in the backlog, and parks the listener.
fn put_off(listener: c_int) -> Next {
    if !has_clients(listener) {
        return Next::Fail(libc::EAGAIN);
    }
    report();
    match parking::park(listener) {
        // A client may have left before closes were noticed.
        Parking::Parked | Parking::Again if may_enter() => {
            parking::put_back();
            Next::Call
        }
        Parking::Parked => Next::Fail(libc::EAGAIN),
        Parking::Again | Parking::Watched => {
            pace::slow_down(listener);
            Next::Fail(libc::EAGAIN)
        }
        Parking::Unknown => {
            page::add(&page::counters().bypassed, 1);
            let_through()
        }
    }
}

fn let_through() -> Next {
    limits::let_through();
    Next::Call
}

fn report() {
    if !limits::are_set() {
        if let Some(more) = HELD_BACK.due() {
            log::info!(
                "clients wait: calls for clients that were accepted before need the descriptors that are free{}",
                More(more)
            );
        }
        return;
    }
    if let Some(more) = TOLD.due() {
        log::info!("clients wait: TIDEOVER_MAX_CLIENTS or TIDEOVER_ACCEPT_RATE is reached{}", More(more));
    }
}

/// Ends this thread's turn: accept(2) has returned this descriptor, or -1.
pub extern "C" fn done(fd: c_int) {
    barrier((), || {
        if !process::may_note() {
            return;
        }
        if fd >= 0 {
            // Counted before the turn ends, so that the limit is never passed.
            descriptors::count_in(fd, descriptors::CLIENT);
            descriptors::add(fd, descriptors::FRESH);
        }
        limits::end_turn(fd);
        if fd < 0 && limits::are_set() {
            // Another thread may have been told that there is no room.
            wait::look_again();
        }
    });
}

/// The program's accept(2) has returned this client, after [`done`]: notes it where a setting asks for that, or turns it away. True: it is
/// turned away, and accept(2) goes on.
pub extern "C" fn turns_away(listener: c_int, client: c_int) -> bool {
    barrier(false, || per_client::are_noted() && process::may_act() && per_client::turn_away(listener, client))
}

/// So many clients in a row were turned away at a listener: may accept(2) go on with the next? If not, its answer is EAGAIN, and the
/// program's loop hears of the listener again, also an edge-triggered one.
pub extern "C" fn goes_on(listener: c_int, turned_away: u32) -> bool {
    barrier(false, || {
        let goes_on = turned_away < MOST_IN_A_ROW || is_blocking(listener);
        if !goes_on {
            parking::park(listener);
            parking::put_back();
        }
        goes_on
    })
}
