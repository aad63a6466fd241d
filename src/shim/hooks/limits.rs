//! Functions by which a program shows how long its tables of descriptors are: those that tell it the limit, after which it may make a
//! table of that size, and those for sets of select(2), which have room for 1024.

use core::ffi::{c_int, c_long};

use super::hooks;
use crate::engine::call::Call;
use crate::engine::reclaim::tables;

hooks! {
    sysconf(name: c_int) -> c_long = configured(name);
    __sysconf(name: c_int) -> c_long = configured(name);
    getdtablesize() -> c_int = told();
    __fdelt_chk(fd: c_long) -> c_long = in_set();
    __fdelt_warn(fd: c_long) -> c_long = in_set();
}

/// sysconf(3), which returns the soft limit for _SC_OPEN_MAX.
#[inline(always)]
fn configured(_: impl Fn() -> Call, mut real: impl FnMut() -> c_long, name: c_int) -> c_long {
    if name == libc::_SC_OPEN_MAX {
        tables::before_telling();
    }
    real()
}

/// getdtablesize(3), which returns the soft limit.
#[inline(always)]
fn told(_: impl Fn() -> Call, mut real: impl FnMut() -> c_int) -> c_int {
    tables::before_telling();
    real()
}

/// What FD_SET(3) calls in a program that was compiled with _FORTIFY_SOURCE.
#[inline(always)]
fn in_set(_: impl Fn() -> Call, mut real: impl FnMut() -> c_long) -> c_long {
    if !tables::has_sets() {
        tables::learn_sets();
    }
    real()
}
