//! The circuit breaker: after so many waits in a row that gave up, nobody waits for a while.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::Id;

use crate::report::{More, Repeated, Seconds};
use crate::settings::SETTINGS;
use crate::{page, sys};

static FRUITLESS: AtomicU64 = AtomicU64::new(0);
static OPEN_UNTIL: AtomicU64 = AtomicU64::new(0);
static TRIPPED: Repeated = Repeated::new();

/// Must calls fail at once? When the cool-down is over, one wait is let through; if that gives up too, it opens again.
pub fn is_open() -> bool {
    let until = OPEN_UNTIL.load(Relaxed);
    if until == 0 {
        return false;
    }
    if sys::now() < until {
        return true;
    }
    OPEN_UNTIL.store(0, Relaxed);
    page::counters().breaker_open.store(0, Relaxed);
    false
}

/// A wait ended with a descriptor.
pub fn succeeded() {
    FRUITLESS.store(0, Relaxed);
}

/// A wait gave up.
pub fn gave_up() {
    let limit = SETTINGS.get(Id::BreakerFailures);
    if limit == 0 || FRUITLESS.fetch_add(1, Relaxed) + 1 < limit {
        return;
    }
    let cooldown = SETTINGS.get(Id::BreakerCooldown);
    if OPEN_UNTIL.swap(sys::now() + cooldown, Relaxed) == 0 {
        page::add(&page::counters().breaker_trips, 1);
        page::counters().breaker_open.store(1, Relaxed);
        if let Some(more) = TRIPPED.due() {
            let waits = FRUITLESS.load(Relaxed);
            log::warn!(
                "{waits} waits in a row found no descriptor: nobody waits for {}{}",
                Seconds(cooldown),
                More(more)
            );
        }
    }
}

/// In the child of a fork.
pub fn forked() {
    FRUITLESS.store(0, Relaxed);
    OPEN_UNTIL.store(0, Relaxed);
}
