//! TIDEOVER_MAX_CLIENTS and TIDEOVER_ACCEPT_RATE: is there room for another client?
//!
//! A thread takes a turn before it accepts, so that threads that accept at once don't pass the limit together. It keeps the turn while
//! accept(2) blocks. A thread that was cancelled meanwhile does not give its turn back; that it has ended is seen by its number.
#![deny(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND};

use crate::engine::reclaim::limit;
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::page;
use crate::state::settings::SETTINGS;

/// Threads that can have a turn at once; more than these are let through.
const TURNS: usize = 64;
/// Clients may come in bunches of this part of a second's worth.
const BUNCHES: u64 = 10;

/// Numbers of the threads that have a turn; 0: a free place.
#[allow(unsafe_code, reason = "names its place, see layout.ld")]
#[unsafe(link_section = ".tables")]
static TAKEN: Lock<[c_int; TURNS]> = Lock::new([0; TURNS]);
/// When the clients so far would all have come, had they come at the rate allowed; nanoseconds of CLOCK_MONOTONIC.
static PAID_UNTIL: AtomicU64 = AtomicU64::new(0);

/// Does accept(2) have to ask first? Because there is a limit, or because another thread may be turning clients away.
pub fn are_set() -> bool {
    most() != 0 || has_rate() || SETTINGS.may_shed()
}

fn most() -> u64 {
    SETTINGS.get(Id::MaxClients)
}

fn rate() -> u64 {
    SETTINGS.get(Id::AcceptRate)
}

/// Is there a limit on clients per second?
pub fn has_rate() -> bool {
    rate() != 0
}

/// Nanoseconds until the rate admits a client.
fn until_rate_admits() -> u64 {
    if has_rate() { until_due(PAID_UNTIL.load(Relaxed)) } else { 0 }
}

/// Nanoseconds until the rate admits a client, when all clients so far are paid for at that time.
fn until_due(paid_until: u64) -> u64 {
    let bunch = (rate() / BUNCHES).max(1) - 1;
    paid_until.saturating_sub(bunch * (SECOND / rate())).saturating_sub(sys::now())
}

/// Is there room for a client, as far as the limits are concerned?
pub fn admit() -> bool {
    (most() == 0 || page::counters().clients.load(Relaxed) < most()) && until_rate_admits() == 0
}

/// For how many nanoseconds the rate surely admits none; u64::MAX: it would admit one now.
pub fn until_admitted() -> u64 {
    match until_rate_admits() {
        0 => u64::MAX,
        time => time,
    }
}

/// Takes a turn. False: a limit is reached.
pub fn take_turn() -> bool {
    if !pay(false) {
        return false;
    }
    let taken = take_place();
    if !taken {
        pay_back();
    }
    taken
}

/// Counts a client that is let through although there is no turn to be had, or may not come.
pub fn let_through() {
    pay(true);
}

/// Ends this thread's turn. `fd` is what accept(2) returned; -1: no client has come, and another thread may have been told that there is
/// no room.
pub fn end_turn(fd: c_int) {
    if fd < 0 {
        pay_back();
    }
    if most() != 0
        && let Some(mut taken) = TAKEN.enter()
    {
        let me = sys::gettid();
        taken.iter_mut().filter(|turn| **turn == me).for_each(|turn| *turn = 0);
    }
}

/// Counts a client towards TIDEOVER_ACCEPT_RATE. False: the rate admits no client now. With `comes` the client is accepted whatever the
/// rate is, and is counted always.
fn pay(comes: bool) -> bool {
    !has_rate() || {
        let paid = |until: u64| (comes || until_due(until) == 0).then(|| until.max(sys::now()) + SECOND / rate());
        PAID_UNTIL.fetch_update(Relaxed, Relaxed, paid).is_ok()
    }
}

/// Undoes a [`pay`], for a client that has not come.
fn pay_back() {
    if has_rate() {
        let _ = PAID_UNTIL.fetch_update(Relaxed, Relaxed, |until| Some(until.saturating_sub(SECOND / rate())));
    }
}

/// Takes one of the places of TIDEOVER_MAX_CLIENTS.
fn take_place() -> bool {
    if most() == 0 {
        return true;
    }
    // A signal handler that accepts while its thread takes a turn gets none, and needs none.
    let Some(mut taken) = TAKEN.enter() else { return true };
    let me = sys::gettid();
    for turn in taken.iter_mut() {
        if *turn == me || *turn != 0 && !sys::has_thread(*turn) {
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

/// Before the first accept(2): says so if TIDEOVER_MAX_CLIENTS is a limit that can never be reached.
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
