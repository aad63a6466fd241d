//! How much may be diverted. A program that appends until ENOSPC would never see it: a prototype filled another disk with 74 GB.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND};

use crate::state::page;
use crate::state::settings::SETTINGS;

static WINDOW: AtomicU64 = AtomicU64::new(0);
static IN_WINDOW: AtomicU64 = AtomicU64::new(0);

/// May so many bytes go elsewhere? If so, they are counted against the caps; if not, this is the one that is reached.
pub fn admit(bytes: u64, now: u64) -> Result<(), Id> {
    let total = SETTINGS.get(Id::FallbackTotal);
    if total != 0 && page::counters().diverted_bytes.load(Relaxed).saturating_add(bytes) > total {
        return Err(Id::FallbackTotal);
    }
    let minute = now / (60 * SECOND) + 1;
    if WINDOW.load(Relaxed) != minute && WINDOW.swap(minute, Relaxed) != minute {
        IN_WINDOW.store(0, Relaxed);
    }
    let limit = SETTINGS.get(Id::FallbackLimit);
    let counted = |used: u64| Some(used.saturating_add(bytes)).filter(|&sum| sum <= limit);
    IN_WINDOW.fetch_update(Relaxed, Relaxed, counted).map(drop).map_err(|_| Id::FallbackLimit)
}

/// They did not go.
pub fn give_back(bytes: u64) {
    let _ = IN_WINDOW.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
}
