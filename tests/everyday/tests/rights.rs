//! Which tests are ignored is decided when they are compiled; here is noticed when that was elsewhere.

use tideover_tests::needs::{lacking_when_built, same_as_when_built};
use tideover_tests::{Disk, Kind};

/// On every machine, so that nobody forgets it.
#[test]
#[should_panic(expected = "put #[needs(mounts)] above this test")]
fn a_disk_in_a_test_that_has_not_declared_it_fails_the_test() {
    Disk::new(Kind::Tmpfs);
}

#[test]
fn the_tests_were_built_with_the_rights_that_they_run_with() {
    same_as_when_built(lacking_when_built!());
}
