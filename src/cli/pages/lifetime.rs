//! Whose page is this: a living process's, or one that is gone?
#![forbid(unsafe_code)]

use crate::processes::process::Alive;
use tideover_contract::page::View;

/// A process can't make its page before it starts; start times in /proc are whole ticks, clocks are read a moment
/// apart.
const SLACK_NS: u64 = 20_000_000;

/// The verdict on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Its process runs.
    Live,
    /// Its process is gone; the number may be another's by now.
    Gone,
}

/// Judges a page by the process that has its number now.
pub fn judge(page: View, process: Option<Alive>, tick_ns: u64) -> Life {
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

    fn verdict(process: Option<Option<u64>>) -> Life {
        let bytes = forge(7, state::LIVE, 100 * SECOND);
        judge(View::new(&bytes).unwrap(), process.map(|started_ns| Alive { started_ns }), TICK)
    }

    #[test]
    fn a_page_lives_as_long_as_the_process_that_made_it() {
        assert_eq!(verdict(Some(Some(99 * SECOND))), Life::Live);
        assert_eq!(verdict(Some(Some(100 * SECOND + TICK))), Life::Live, "rounding is no proof");
        assert_eq!(verdict(Some(None)), Life::Live, "hidden, but alive");
        assert_eq!(verdict(None), Life::Gone);
        assert_eq!(verdict(Some(Some(101 * SECOND))), Life::Gone, "the number is another's");
    }
}
