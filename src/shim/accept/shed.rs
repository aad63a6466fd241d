//! Clients that are turned away: accepted and closed at once, so that they know, instead of waiting in a queue that does not move.

use core::ffi::c_int;

use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::{Id, shed_close};

use super::gate::Gate;
use super::has_clients;
use crate::events::{self, Event};
use crate::report::{More, Repeated};
use crate::settings::SETTINGS;
use crate::{page, reserve, sys};

/// At most so many at a time: the program has other things to do.
const BATCH: u32 = 64;

/// One thread at a time borrows the reserve, accepts, closes, and brings it back.
static TURN: Gate<()> = Gate::new(());
static TOLD: [Repeated; 2] = [const { Repeated::new() }; 2];

/// Why clients are turned away.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There are no descriptors for them.
    Exhausted,
    /// A limit of the user's.
    Limit,
}

/// Turns away who waits at a listener, at most a batch. Returns how many those were; None: another thread is at it.
pub fn turn_away(listener: c_int, reason: Reason) -> Option<u32> {
    let _turn = TURN.try_enter()?;
    let loan = if reason == Reason::Exhausted { reserve::lend() } else { None };
    let mut gone = 0;
    while gone < BATCH && has_clients(listener) {
        let Ok(client) = sys::accept(listener) else { break };
        if SETTINGS.get(Id::ShedClose) == shed_close::RST {
            sys::reset_on_close(client);
        } else {
            sys::drain(client);
        }
        sys::close(client);
        gone += 1;
    }
    if let Some(loan) = loan {
        loan.restore();
    }
    if gone > 0 {
        tell(listener, reason, gone);
    }
    Some(gone)
}

fn tell(listener: c_int, reason: Reason, gone: u32) {
    let counters = page::counters();
    let (counter, why) = match reason {
        Reason::Exhausted => (&counters.shed, "no descriptor is free"),
        Reason::Limit => (&counters.refused, "TIDEOVER_MAX_CLIENTS or TIDEOVER_ACCEPT_RATE is reached"),
    };
    page::add(counter, u64::from(gone));
    if let Some(more) = TOLD[reason as usize].due() {
        log::warn!("{gone} clients of listener {listener} are turned away: {why}{}", More(more));
        let kind = EventKind::Shed;
        events::emit(&Event { kind, call: "", errno: 0, fd: listener, tries: gone, waited: 0, outcome: Outcome::None });
    }
}

/// In the child of a fork.
pub fn forked() {
    TURN.forked();
}
