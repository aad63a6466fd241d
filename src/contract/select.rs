//! How far a program's soft limit may be raised. FD_SET(3) beyond the end of a set of select(2) writes past it; and a program that asks
//! how many descriptors it can have may keep a table of so many.

use core::ffi::CStr;

use crate::glob;

/// The first descriptor number that does not fit a set.
pub const END: u64 = 1024;
/// The end of a program with a table: no further than it is.
pub const AS_IT_IS: u64 = 1;
/// A program that imports one of these uses sets.
const CALLS: [&CStr; 5] = [c"select", c"__select", c"pselect", c"__fdelt_chk", c"__fdelt_warn"];
/// A program that imports this may have a table.
const SIZES: [&CStr; 1] = [c"getdtablesize"];
/// Programs that import any of them but never hand over a number that they did not check.
const CHECKED: &[u8] = b"python*, perl*, ruby*, node, nodejs, java, php*, guile*";
/// Programs that import getdtablesize(3), and have no table of that size.
const WITHOUT_TABLE: &[u8] = b"bash, rbash, sh, tmux, cron, lsof, start-stop-daemon";

/// The limit up to which a program of this name may be raised; `imports` says whether it imports one of some functions.
pub fn end(program: &[u8], imports: impl Fn(&[&CStr]) -> bool) -> u64 {
    if glob::any(CHECKED, program) {
        u64::MAX
    } else if !glob::any(WITHOUT_TABLE, program) && imports(&SIZES) {
        AS_IT_IS
    } else if imports(&CALLS) {
        END
    } else {
        u64::MAX
    }
}
