//! The circuit breaker: after so many waits in a row that gave up, nobody waits for a while.
//!
//! There is one for each thing that is waited for: that no port comes free says nothing about descriptors.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::Id;

use crate::engine::call::Lack;
use crate::os::sys;
use crate::state::page;
use crate::state::report::{More, Repeated, Seconds};
use crate::state::settings::SETTINGS;

/// A breaker, and what it is for.
pub struct Breaker {
    missing: &'static str,
    fruitless: AtomicU64,
    open_until: AtomicU64,
    tripped: Repeated,
}

static BREAKERS: [Breaker; 3] =
    [Breaker::new("descriptor"), Breaker::new("local port"), Breaker::new("turn to connect")];

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
        Breaker { missing, fruitless: AtomicU64::new(0), open_until: AtomicU64::new(0), tripped: Repeated::new() }
    }

    /// Must calls fail at once? When the cool-down is over, one wait is let through; if that gives up too, it opens again.
    pub fn is_open(&self) -> bool {
        let until = self.open_until.load(Relaxed);
        if until == 0 {
            return false;
        }
        if sys::now() < until {
            return true;
        }
        self.open_until.store(0, Relaxed);
        show();
        false
    }

    /// A wait ended well.
    pub fn succeeded(&self) {
        self.fruitless.store(0, Relaxed);
    }

    /// A wait gave up.
    pub fn gave_up(&self) {
        let limit = SETTINGS.get(Id::BreakerFailures);
        if limit == 0 || self.fruitless.fetch_add(1, Relaxed) + 1 < limit {
            return;
        }
        let cooldown = SETTINGS.get(Id::BreakerCooldown);
        if self.open_until.swap(sys::now() + cooldown, Relaxed) == 0 {
            page::add(&page::counters().breaker_trips, 1);
            show();
            if let Some(more) = self.tripped.due() {
                let waits = self.fruitless.load(Relaxed);
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

/// Is any open?
fn show() {
    let open = BREAKERS.iter().any(|breaker| breaker.open_until.load(Relaxed) != 0);
    page::counters().breaker_open.store(u64::from(open), Relaxed);
}

/// In the child of a fork.
pub fn forked() {
    for breaker in &BREAKERS {
        breaker.fruitless.store(0, Relaxed);
        breaker.open_until.store(0, Relaxed);
    }
}
