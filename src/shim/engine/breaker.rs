//! The circuit breaker: after TIDEOVER_BREAKER_FAILURES waits in a row that gave up, no call waits for TIDEOVER_BREAKER_COOLDOWN.
//!
//! There is one for each thing that is waited for: that no local port comes free says nothing about descriptors.

#![forbid(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::Id;

use crate::engine::call::Lack;
use crate::os::sys;
use crate::state::page;
use crate::state::report::{More, Repeated, Seconds};
use crate::state::settings::SETTINGS;

/// A circuit breaker.
pub struct Breaker {
    /// What is waited for, for the message.
    missing: &'static str,
    /// Waits that gave up since the last one that succeeded.
    failures: AtomicU64,
    /// Until when calls fail at once, nanoseconds of CLOCK_MONOTONIC; 0: it is closed, and calls may wait.
    open_until: AtomicU64,
    /// The messages so far that it opened.
    message: Repeated,
}

static BREAKERS: [Breaker; 4] = [
    Breaker::new("descriptor"),
    Breaker::new("local port"),
    Breaker::new("turn to connect"),
    Breaker::new("descriptor"),
];

/// The breaker for waits that nobody has asked for. It only shows in the page: whether such waits may begin is said by `evidence`.
pub fn unasked() -> &'static Breaker {
    &BREAKERS[3]
}

/// The breaker for waits of this kind.
pub fn of(lack: Lack) -> &'static Breaker {
    &BREAKERS[match lack {
        Lack::Descriptor => 0,
        Lack::Port => 1,
        Lack::Connection | Lack::EndpointConnection => 2,
    }]
}

impl Breaker {
    const fn new(missing: &'static str) -> Breaker {
        Breaker { missing, failures: AtomicU64::new(0), open_until: AtomicU64::new(0), message: Repeated::new() }
    }

    /// Must calls fail at once? When the cool-down is over, calls may wait again; the next wait that gives up opens the breaker again.
    pub fn is_open(&self) -> bool {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return false;
        }
        if sys::now() < until {
            return true;
        }
        self.open_until.store(0, Relaxed);
        publish();
        false
    }

    /// A wait ended with success: the count of failures begins anew.
    pub fn succeeded(&self) {
        self.failures.store(0, Relaxed);
    }

    /// A wait gave up: counts it, and opens the breaker if there were too many in a row.
    pub fn gave_up(&self) {
        let limit = SETTINGS.get(Id::BreakerFailures);
        if limit == 0 || self.failures.fetch_add(1, Relaxed) + 1 < limit {
            return;
        }
        let cooldown = SETTINGS.get(Id::BreakerCooldown);
        if self.open_until.swap(sys::now() + cooldown, Relaxed) == 0 {
            page::add(&page::counters().breaker_trips, 1);
            publish();
            if let Some(more) = self.message.due() {
                let waits = self.failures.load(Relaxed);
                log::warn!(
                    "{waits} waits in a row found no {}: nobody waits for {}{}",
                    self.missing,
                    Seconds(cooldown),
                    More(more)
                );
            }
        }
    }
}

impl Breaker {
    /// A wait has seen nothing that would end it: no call waits until there is a sign that waiting helps.
    pub fn trip(&self) {
        if SETTINGS.get(Id::BreakerFailures) == 0 {
            return;
        }
        if self.open_until.swap(sys::now() + SETTINGS.get(Id::BreakerCooldown), Relaxed) == 0 {
            page::add(&page::counters().breaker_trips, 1);
            publish();
        }
    }

    /// There is such a sign.
    pub fn close(&self) {
        if self.open_until.load(Relaxed) != 0 {
            self.open_until.store(0, Relaxed);
            publish();
        }
    }
}

/// Notes in the page whether any breaker is open.
fn publish() {
    let open = BREAKERS.iter().any(|breaker| breaker.open_until.load(Relaxed) != 0);
    page::counters().breaker_open.store(u64::from(open), Relaxed);
}

/// In the child of a fork: all are closed.
pub fn forked() {
    for breaker in &BREAKERS {
        breaker.failures.store(0, Relaxed);
        breaker.open_until.store(0, Relaxed);
    }
}
