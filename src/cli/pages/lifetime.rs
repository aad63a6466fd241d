//! Does the process that made a page still run?
#![forbid(unsafe_code)]

use crate::processes::process::Alive;
use tideover_contract::page::View;

/// How much later than its page a process may seem to have started, in nanoseconds: start times in /proc are whole ticks,
/// and the two clocks are not read at the same moment.
const SLACK_NS: u64 = 20_000_000;

/// Whether the process that made a page still runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Live,
    /// It has ended. Another process may have its number by now.
    Gone,
}

/// Compares a page with the process that has its number now: one that started later than the page was made is another.
pub fn compare(page: View, process: Option<Alive>, tick_ns: u64) -> Life {
    let Some(process) = process else { return Life::Gone };
    let latest = page.started_boot_ns().saturating_add(tick_ns).saturating_add(SLACK_NS);
    if process.started_ns.is_some_and(|started| started > latest) {
        return Life::Gone;
    }
    Life::Live
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use tideover_contract::page::state;

    const TICK: u64 = 10_000_000;
    const SECOND: u64 = 1_000_000_000;

    fn life(process: Option<Option<u64>>) -> Life {
        let bytes = forge(7, state::LIVE, 100 * SECOND);
        compare(View::new(&bytes).unwrap(), process.map(|started_ns| Alive { started_ns }), TICK)
    }

    #[test]
    fn a_page_lives_as_long_as_the_process_that_made_it() {
        assert_eq!(life(Some(Some(99 * SECOND))), Life::Live);
        assert_eq!(life(Some(Some(100 * SECOND + TICK))), Life::Live, "rounding is no proof");
        assert_eq!(life(Some(None)), Life::Live, "hidden, but alive");
        assert_eq!(life(None), Life::Gone);
        assert_eq!(life(Some(Some(101 * SECOND))), Life::Gone, "the number is another's");
    }
}
