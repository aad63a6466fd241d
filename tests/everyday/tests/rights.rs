//! Which tests are ignored is decided when they are compiled; here is noticed when that was elsewhere.

use tideover_tests::needs::{lacking_when_built, same_as_when_built};

#[test]
fn the_tests_were_built_with_the_rights_that_they_run_with() {
    same_as_when_built(lacking_when_built!());
}
