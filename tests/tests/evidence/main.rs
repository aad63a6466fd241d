//! The library acts only where it has reason to believe that this helps: a program that has its own answer to EMFILE gets the error
//! about as fast as without the library, its tables and fd_sets stay long enough, and no client is forgotten. Each kind of program
//! that was found to be worse off with 0.1.0 has a test here, plain against preloaded; each was seen to fail on the library before
//! (`TIDEOVER_TEST_LIB` and `TIDEOVER_TEST_BIN` name another build).

mod arguments;
mod clients;
mod clocks;
mod limits;
mod listeners;
mod messages;
mod pages;
mod tables;
mod waits;

use std::time::{Duration, Instant};

use tideover_tests::{Outcome, Run};

/// A program's two runs, and how long each took from start to end.
struct Timed {
    plain: Outcome,
    preloaded: Outcome,
    plain_took: Duration,
    took: Duration,
}

/// What the library may add to a run: the machine is shared with other tests.
const GRACE: Duration = Duration::from_secs(1);

impl Timed {
    fn of(run: &Run) -> Timed {
        let run = run.clone().timeout(Duration::from_secs(100));
        let timed = |preload: bool| {
            let before = Instant::now();
            (run.clone().preload(preload).output(), before.elapsed())
        };
        let (plain, plain_took) = timed(false);
        let (preloaded, took) = timed(true);
        plain.passes();
        preloaded.passes();
        Timed { plain, preloaded, plain_took, took }
    }

    /// Asserts that the program was done about as fast as without the library.
    #[track_caller]
    fn as_fast(&self) -> &Timed {
        assert!(
            self.took <= self.plain_took + GRACE,
            "took {:.2?}, and {:.2?} without the library: {}",
            self.took,
            self.plain_took,
            self.preloaded
        );
        self
    }

    /// Asserts that it printed what it prints without the library.
    #[track_caller]
    fn as_printed(&self) -> &Timed {
        assert_eq!(self.plain.stdout, self.preloaded.stdout, "{}", self.preloaded);
        self
    }
}

/// The number after `word` in a program's output.
///
/// # Panics
/// If there is none.
#[track_caller]
fn number(outcome: &Outcome, word: &str) -> u64 {
    let text = &outcome.stdout;
    let after = text.split_once(word).unwrap_or_else(|| panic!("no {word:?}: {outcome}")).1.trim_start();
    let digits = &after[..after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len())];
    digits.parse().unwrap_or_else(|_| panic!("no number after {word:?}: {outcome}"))
}
