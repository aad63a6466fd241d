//! What a running test has declared by `#[needs(...)]`, and whether that still holds.

use std::cell::RefCell;
use std::fs;

pub use tideover_needs::{lacking_when_built, needs};

use crate::rights::{self, RIGHTS};
use crate::workspace;

thread_local! {
    static DECLARED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Called by tests with `#[needs]` when they begin: the macro has put it there.
///
/// # Panics
/// If one of the rights is lacking, which it was not when the test was built, or the test was asked for by `--include-ignored`.
pub fn declare(names: &[&str]) {
    for name in names {
        let right = RIGHTS.iter().find(|right| right.name == *name);
        let lacking = right.and_then(|right| right.lacking());
        assert!(
            lacking.is_none(),
            "this test needs the right {name:?}, which is lacking: {}",
            lacking.unwrap_or_default()
        );
    }
    DECLARED.set(names.iter().map(|name| name.to_string()).collect());
}

/// For what only works where a right is given.
///
/// # Panics
/// If the test that runs on this thread has not declared any of these rights.
#[track_caller]
pub fn assert_declared(names: &[&str]) {
    let declared = DECLARED.with_borrow(|declared| declared.iter().any(|name| names.contains(&name.as_str())));
    assert!(declared, "put #[needs({})] above this test: it can't be run everywhere", names[0]);
}

/// Asserts that the rights are those with which the tests were built: they decide which tests are ignored.
///
/// # Panics
/// If not; the next `cargo test` builds the tests with `#[needs]` anew.
pub fn same_as_when_built(lacking_then: &[&str]) {
    let now = rights::all_lacking();
    if now != lacking_then {
        fs::write(rights::stamp(workspace()), format!("{now:?}")).expect("target can be written to");
        panic!(
            "the tests were built where these rights were lacking: {lacking_then:?}; now these are: {now:?}; test once more"
        );
    }
}
