//! Programs that use select(2): FD_SET(3) beyond its end writes past the set, so their soft limit is not raised above it.

use core::ffi::CStr;

/// The first descriptor number that does not fit a set.
pub const END: u64 = 1024;
/// A program that imports one of these uses sets.
pub const CALLS: [&CStr; 5] = [c"select", c"__select", c"pselect", c"__fdelt_chk", c"__fdelt_warn"];
/// Programs that import getdtablesize(3), and have no table of that size.
pub const SIZED: &[u8] = b"bash, rbash, sh, tmux, cron, lsof, start-stop-daemon";
/// Programs that import them but never hand over a number that they did not check.
pub const CHECKED: &[u8] = b"python*, perl*, ruby*, node, nodejs, java, php*, guile*";
