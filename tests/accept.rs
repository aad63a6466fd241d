//! Servers at their limit, and clients that are counted: one small server per hazard.

use tideover_tests::{Run, fixture};

#[test]
fn clients_are_counted_however_they_are_copied_and_closed() {
    let both = Run::new(fixture("clients")).both();
    both.plain.fails().says("no library");
    both.preloaded.passes().says("0 wrong");
}
