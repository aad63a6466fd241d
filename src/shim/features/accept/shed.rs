//! Turning clients away: they are accepted and closed at once, so that they know, instead of waiting in a queue that does not move.
#![forbid(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::{Id, SECOND, shed_close};

use super::listener::has_clients;
use crate::engine::{reserve, wait};
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::events::{self, Event};
use crate::state::page;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;

/// So many clients are turned away at a time: the program has others to serve.
const BATCH: u32 = 64;

/// Taken by the thread that turns clients away: it borrows from the reserve, accepts, closes, and brings back what it borrowed.
static TURNING_AWAY: Lock<()> = Lock::new(());
/// Is a descriptor missing in the reserve?
static LACKS: AtomicBool = AtomicBool::new(false);
static TOLD: [Repeated; 2] = [const { Repeated::new() }; 2];

/// Why clients are turned away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are no descriptors for them.
    Exhausted,
    /// A limit of the user's.
    Limit,
}

/// Turns away the clients that wait at a listener, at most a batch. Returns how many those were; None: another thread is doing that.
pub fn turn_away(listener: c_int, reason: Reason) -> Option<u32> {
    let _lock = TURNING_AWAY.try_enter()?;
    let loan = if reason == Reason::Exhausted { reserve::lend_one() } else { None };
    let counters = page::counters();
    let counter = if reason == Reason::Exhausted { &counters.shed } else { &counters.refused };
    let mut gone = 0;
    while gone < BATCH && has_clients(listener) {
        let Ok(client) = sys::accept(listener) else { break };
        hang_up(client, counter);
        gone += 1;
    }
    if let Some(loan) = loan {
        loan.restore();
        replenish();
    }
    if gone > 0 {
        report(listener, reason, gone);
    }
    Some(gone)
}

/// Closes a client that is turned away (TIDEOVER_SHED_CLOSE), and counts it.
pub fn hang_up(client: c_int, counter: &AtomicU64) {
    if SETTINGS.get(Id::ShedClose) == shed_close::RST {
        sys::reset_on_close(client);
    } else {
        sys::drain(client);
    }
    // Counted before the client can know.
    page::add(counter, 1);
    sys::close(client);
}

/// Fills the reserve, now or with the next closes: another thread may have taken what was borrowed from it.
pub fn replenish() {
    reserve::fill();
    let lacks = !reserve::is_full();
    if lacks {
        wait::expect_closes();
    }
    LACKS.store(lacks, Relaxed);
}

/// Does the next descriptor that comes free belong into the reserve? One load.
pub fn lacks_reserve() -> bool {
    LACKS.load(Relaxed)
}

/// Waits until no other thread turns clients away with a borrowed descriptor: an accept(2) meanwhile would take that descriptor.
pub fn let_finish() {
    /// How often it is looked whether that is over: that thread may sleep in accept(2) where another process took the client.
    const ROUNDS: u32 = 100;
    /// Sleep between two looks of the second half, nanoseconds: that thread may not have a processor.
    const REST: u64 = SECOND / 10_000;
    for round in 0..ROUNDS {
        if !TURNING_AWAY.is_taken() {
            break;
        }
        if round < ROUNDS / 2 { sys::yield_now() } else { sys::sleep(REST) }
    }
}

fn report(listener: c_int, reason: Reason, gone: u32) {
    let why = match reason {
        Reason::Exhausted => "no descriptor is free",
        Reason::Limit => "TIDEOVER_MAX_CLIENTS or TIDEOVER_ACCEPT_RATE is reached",
    };
    if let Some(more) = TOLD[reason as usize].due() {
        log::warn!("{gone} clients of listener {listener} are turned away: {why}{}", More(more));
        let kind = EventKind::Shed;
        events::emit(&Event { kind, call: "", errno: 0, fd: listener, tries: gone, waited: 0, outcome: Outcome::None });
    }
}

/// In the child of a fork.
pub fn forked() {
    TURNING_AWAY.forked();
}
