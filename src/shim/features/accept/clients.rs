//! Limits that the user has set: clients at once, and clients per second. Who is over them waits in the backlog, or is refused.
//!
//! A thread takes its turn before it accepts, so that threads that accept at once don't pass the limit together. It holds the turn
//! while accept(2) blocks; one that was cancelled meanwhile is found by its thread being gone.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND, over_limit};

use super::listeners::{self, Parking};
use super::{Patience, has_clients, is_blocking, may_shed, pace, shed};
use crate::engine::reclaim::limit;
use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;
use crate::state::{descriptors, page, process};

/// Threads that can have a turn at once; more than these are let through.
const TURNS: usize = 64;
/// Clients may come in bunches of a tenth of a second's worth.
const BUNCHES: u64 = 10;
const LOOK: u64 = SECOND / 10;

/// So many batches of clients are refused in one accept(2).
const BATCHES: u32 = 8;

/// Thread numbers.
#[unsafe(link_section = ".tables")]
static TAKEN: Lock<[c_int; TURNS]> = Lock::new([0; TURNS]);
/// When the clients so far would all have come at the rate allowed.
static PAID_UNTIL: AtomicU64 = AtomicU64::new(0);
static TOLD: Repeated = Repeated::new();

/// What accept(2) is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Turn {
    /// Accept, then [`done`].
    Go,
    /// Answer EAGAIN.
    Later,
    /// Answer EINTR.
    Interrupted,
    /// Wait for a client with poll(2), then ask again.
    Poll,
    /// Ask again; a cancellation point.
    Ask,
}

/// Has the user set any, or must a turn be waited for?
pub fn is_limited() -> bool {
    most() != 0 || rate() != 0 || may_shed()
}

fn most() -> u64 {
    SETTINGS.get(Id::MaxClients)
}

fn rate() -> u64 {
    SETTINGS.get(Id::AcceptRate)
}

/// Nanoseconds until the rate admits a client.
fn until_rate_admits() -> u64 {
    if rate() == 0 { 0 } else { until_paid(PAID_UNTIL.load(Relaxed)) }
}

/// The same, if as much is paid for.
fn until_paid(until: u64) -> u64 {
    let bunch = (rate() / BUNCHES).max(1) - 1;
    until.saturating_sub(bunch * (SECOND / rate())).saturating_sub(sys::now())
}

/// Is there room for a client, as far as limits are concerned?
pub fn admits() -> bool {
    (most() == 0 || page::counters().clients.load(Relaxed) < most()) && until_rate_admits() == 0
}

/// For how long there surely is none, nanoseconds.
pub fn until_admitted() -> u64 {
    match until_rate_admits() {
        0 => u64::MAX,
        time => time,
    }
}

/// May this thread accept a client now?
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub extern "C" fn ask(listener: c_int, patience: &mut Patience) -> Turn {
    barrier(Turn::Go, || {
        if !process::may_act() {
            return Turn::Go;
        }
        if may_shed() {
            shed::let_finish();
        }
        // Where there is a rate, no thread holds a turn while it waits for a client: it would have the turn of an earlier time.
        if rate() != 0 && is_blocking(listener) && !has_clients(listener) {
            if !sys::is_listening(listener) {
                return let_through();
            }
            return if patience.goes_on(listener) { Turn::Poll } else { Turn::Later };
        }
        if take_turn() {
            return Turn::Go;
        }
        if !sys::is_listening(listener) {
            return let_through();
        }
        page::ensure();
        descriptors::reconcile_now_and_then();
        // Where other threads are about to accept as many as there is room for, it is not said yet that there is none.
        if SETTINGS.get(Id::OverLimit) == over_limit::REFUSE && !admits() {
            refuse(listener, patience)
        } else {
            wait(listener, patience)
        }
    })
}

fn refuse(listener: c_int, patience: &mut Patience) -> Turn {
    if has_clients(listener) {
        patience.batches += 1;
        if patience.batches > BATCHES && !is_blocking(listener) {
            // The program has others to attend to. Its loop hears of the listener again, also an edge-triggered one.
            listeners::park(listener);
            listeners::put_back();
            return Turn::Later;
        }
        match shed::turn_away(listener, shed::Reason::Limit) {
            // There was no descriptor for that: accept(2) will find out itself.
            Some(0) if has_clients(listener) => let_through(),
            Some(_) => Turn::Ask,
            None => {
                pace(listener);
                Turn::Ask
            }
        }
    } else if !is_blocking(listener) || !patience.goes_on(listener) {
        Turn::Later
    } else {
        Turn::Poll
    }
}

fn wait(listener: c_int, patience: &mut Patience) -> Turn {
    if is_blocking(listener) {
        if !patience.goes_on(listener) {
            return Turn::Later;
        }
        tell();
        let seen = wait::expect_closes();
        if take_turn() {
            return Turn::Go;
        }
        let time = until_admitted().min(LOOK).min(patience.milliseconds as u32 as u64 * 1_000_000);
        return if wait::sleep_until_close(seen, time) || !patience.is_interrupted() {
            Turn::Ask
        } else {
            Turn::Interrupted
        };
    }
    if !has_clients(listener) {
        return Turn::Later;
    }
    tell();
    match listeners::park(listener) {
        // A client may have left before closes were noticed.
        Parking::Parked | Parking::Again if take_turn() => {
            listeners::put_back();
            Turn::Go
        }
        Parking::Parked => Turn::Later,
        Parking::Again | Parking::Watched => {
            pace(listener);
            Turn::Later
        }
        Parking::Unknown => {
            page::add(&page::counters().bypassed, 1);
            let_through()
        }
    }
}

fn tell() {
    if let Some(more) = TOLD.due() {
        log::info!("clients wait: TIDEOVER_MAX_CLIENTS or TIDEOVER_ACCEPT_RATE is reached{}", More(more));
    }
}

/// Pays for a client. False: the rate admits none now, and this is none that comes all the same.
fn pay(comes: bool) -> bool {
    rate() == 0 || {
        let paid = |until: u64| (comes || until_paid(until) == 0).then(|| until.max(sys::now()) + SECOND / rate());
        PAID_UNTIL.fetch_update(Relaxed, Relaxed, paid).is_ok()
    }
}

/// Go, though there is no turn to be had, or no client to come.
fn let_through() -> Turn {
    pay(true);
    Turn::Go
}

/// It has not come.
fn pay_back() {
    if rate() != 0 {
        let _ = PAID_UNTIL.fetch_update(Relaxed, Relaxed, |until| Some(until.saturating_sub(SECOND / rate())));
    }
}

/// False: over a limit.
fn take_turn() -> bool {
    if !pay(false) {
        return false;
    }
    let taken = take_place();
    if !taken {
        pay_back();
    }
    taken
}

/// One of the places of TIDEOVER_MAX_CLIENTS.
fn take_place() -> bool {
    if most() == 0 {
        return true;
    }
    // A signal handler that accepts while its thread takes a turn gets none, and needs none.
    let Some(mut taken) = TAKEN.enter() else { return true };
    let me = sys::gettid();
    for turn in taken.iter_mut() {
        if *turn == me || *turn != 0 && !sys::is_thread(*turn) {
            *turn = 0;
        }
    }
    let others = taken.iter().filter(|turn| **turn != 0).count() as u64;
    if page::counters().clients.load(Relaxed) + others >= most() {
        return false;
    }
    if let Some(turn) = taken.iter_mut().find(|turn| **turn == 0) {
        *turn = me;
    }
    true
}

/// Ends a turn: accept(2) gave this descriptor, or failed.
pub extern "C" fn done(fd: c_int) {
    barrier((), || {
        if !process::may_act() {
            return;
        }
        if fd >= 0 {
            // Counted before the turn ends, so that the limit is never passed.
            descriptors::count_in(fd, descriptors::CLIENT);
            descriptors::add(fd, descriptors::FRESH);
        } else {
            pay_back();
        }
        if most() != 0
            && let Some(mut taken) = TAKEN.enter()
        {
            let me = sys::gettid();
            taken.iter_mut().filter(|turn| **turn == me).for_each(|turn| *turn = 0);
        }
        if fd < 0 {
            // Another thread may have been told that there is no room.
            wait::wake_all();
        }
    });
}

/// Before the first accept(2): a limit that can never be reached is said to be none.
pub fn check() {
    let top = limit::read().map_or(u64::MAX, limit::ceiling);
    if most() > top {
        log::warn!("TIDEOVER_MAX_CLIENTS={} has no effect: the limit on descriptors is {top}", most());
    }
}

/// In the child of a fork: no thread but this one has a turn.
pub fn forked() {
    TAKEN.forked();
    if most() != 0
        && let Some(mut taken) = TAKEN.enter()
    {
        *taken = [0; TURNS];
    }
}
