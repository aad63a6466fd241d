//! The backoff: how many times a call waits, and how long each wait is.

#![forbid(unsafe_code)]

use tideover_contract::settings::{Id, MILLION, Source};

use crate::arch;
use crate::state::settings::SETTINGS;

/// Exponential backoff with jitter: each wait is longer than the one before, up to a maximum.
#[derive(Clone, Copy)]
pub struct Backoff {
    /// Number of waits that are left.
    pub tries: u64,
    /// The next wait before jitter, nanoseconds.
    pub wait: u64,
    /// Longest wait before jitter, nanoseconds.
    pub longest: u64,
    /// Each wait is so many times the one before, in millionths.
    pub multiplier: u64,
    /// Each wait is longer or shorter by at most this part of it, in millionths.
    pub jitter: u64,
}

impl Backoff {
    /// Has the user set any of it? Then waits last as long as that says.
    pub fn is_set() -> bool {
        let ids = [Id::MaxRetries, Id::InitialWait, Id::BackoffMultiplier, Id::MaxWait, Id::Jitter];
        ids.into_iter().any(|id| SETTINGS.source(id as usize) != Source::Default as u8)
    }

    /// The backoff that the settings say.
    pub fn from_settings() -> Backoff {
        Backoff {
            tries: SETTINGS.get(Id::MaxRetries),
            wait: SETTINGS.get(Id::InitialWait),
            longest: SETTINGS.get(Id::MaxWait),
            multiplier: SETTINGS.get(Id::BackoffMultiplier),
            jitter: SETTINGS.get(Id::Jitter),
        }
    }

    /// The next wait with jitter, in nanoseconds; None: there are no more. `seed` is any number that differs from call to call.
    pub fn next(&mut self, seed: u64) -> Option<u64> {
        self.tries = self.tries.checked_sub(1)?;
        let wait = self.wait.min(self.longest);
        self.wait = scaled(wait, self.multiplier);
        let span = scaled(wait, self.jitter);
        // Fibonacci hashing is random enough to keep threads from waking at the same time.
        let random = (seed ^ arch::thread_pointer() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let shift = ((u128::from(random) * 2 * u128::from(span)) >> 32) as u64;
        Some((wait - span.min(wait) + shift).max(1))
    }

    /// The longest time that all waits together can take, nanoseconds.
    pub fn total(&self) -> u64 {
        let mut rest = *self;
        let mut total = 0u64;
        for _ in 0..self.tries.min(1000) {
            let wait = rest.wait.min(rest.longest);
            rest.wait = scaled(wait, rest.multiplier);
            total = total.saturating_add(wait + scaled(wait, rest.jitter));
        }
        total
    }
}

fn scaled(value: u64, millionths: u64) -> u64 {
    u64::try_from(u128::from(value) * u128::from(millionths) / u128::from(MILLION)).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tideover_contract::settings::SECOND;

    const SEEDS: Backoff =
        Backoff { tries: 5, wait: SECOND / 2, longest: 10 * SECOND, multiplier: 2 * MILLION, jitter: MILLION / 4 };

    #[test]
    fn the_backoff_is_the_seeds() {
        assert_eq!(SEEDS.total(), 19_375_000_000, "0.5 + 1 + 2 + 4 + 8 s, and a quarter more");
        let mut exact = Backoff { jitter: 0, ..SEEDS };
        let waits: Vec<u64> = core::iter::from_fn(|| exact.next(7)).map(|ns| ns / (SECOND / 10)).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80]);
        let mut long = Backoff { tries: 20, jitter: 0, ..SEEDS };
        assert_eq!(core::iter::from_fn(|| long.next(7)).max(), Some(10 * SECOND));
    }

    #[test]
    fn jitter_stays_within_its_part() {
        for seed in 0..1000 {
            let first = Backoff { ..SEEDS }.next(seed * 7919).unwrap();
            assert!((375_000_000..=625_000_000).contains(&first), "{first}");
        }
    }
}
