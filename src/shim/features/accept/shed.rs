//! Clients that are turned away: accepted and closed at once, so that they know, instead of waiting in a queue that does not move.

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::{Id, SECOND, shed_close};

use super::has_clients;
use crate::engine::{reserve, wait};
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::events::{self, Event};
use crate::state::page;
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;

/// At most so many at a time: the program has other things to do.
const BATCH: u32 = 64;

/// One thread at a time borrows the reserve, accepts, closes, and brings it back.
static TURN: Lock<()> = Lock::new(());
/// The reserve is not whole.
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

/// Turns away who waits at a listener, at most a batch. Returns how many those were; None: another thread is at it.
pub fn turn_away(listener: c_int, reason: Reason) -> Option<u32> {
    let _turn = TURN.try_enter()?;
    let loan = if reason == Reason::Exhausted { reserve::lend_one() } else { None };
    let counters = page::counters();
    let counter = if reason == Reason::Exhausted { &counters.shed } else { &counters.refused };
    let mut gone = 0;
    while gone < BATCH && has_clients(listener) {
        let Ok(client) = sys::accept(listener) else { break };
        if SETTINGS.get(Id::ShedClose) == shed_close::RST {
            sys::reset_on_close(client);
        } else {
            sys::drain(client);
        }
        // Counted before the client can know.
        page::add(counter, 1);
        sys::close(client);
        gone += 1;
    }
    if let Some(loan) = loan {
        loan.restore();
        replenish();
    }
    if gone > 0 {
        tell(listener, reason, gone);
    }
    Some(gone)
}

/// The reserve is made whole, now or with the next closes: another thread may have taken what was lent.
pub fn replenish() {
    reserve::fill();
    let lacks = !reserve::is_full();
    if lacks {
        wait::expect_closes();
    }
    LACKS.store(lacks, Relaxed);
}

/// Is the next descriptor that comes free for the reserve? One load.
pub fn lacks_reserve() -> bool {
    LACKS.load(Relaxed)
}

/// Where clients may be turned away, nobody accepts while another thread does that with a borrowed descriptor: he would take
/// it.
pub fn let_finish() {
    /// It may be waiting for a client itself, where another process was faster.
    const ROUNDS: u32 = 100;
    /// It may not have a processor.
    const REST: u64 = SECOND / 10_000;
    for round in 0..ROUNDS {
        if !TURN.is_taken() {
            break;
        }
        if round < ROUNDS / 2 { sys::yield_now() } else { sys::sleep(REST) }
    }
}

fn tell(listener: c_int, reason: Reason, gone: u32) {
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
    TURN.forked();
}
