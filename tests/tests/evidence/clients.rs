//! A client is idle only if it has had its answer and says no more.

use tideover_tests::{Run, fixture};

#[test]
fn an_idle_timeout_cuts_off_idle_clients_and_no_others() {
    let both = Run::new(fixture("evidence_idle_clients")).limit(32).env("TIDEOVER_IDLE_TIMEOUT", "1s").both();
    both.plain.passes().says("queued answered, working answered, idle open, unread answered, done");
    both.preloaded.passes().says("queued answered, working answered, idle cut off, unread answered, done");
}
