//! The soft limit of programs that this one executes: the original one, since the new program knows nothing of a raise, and may have
//! tables of that size (select(2)).

#![forbid(unsafe_code)]

use libc::rlimit;

use super::limit::{is_raised, original};
use crate::os::sys;
use crate::state::usage;

/// So many descriptors must be free in a new program, or a quarter of its limit if that is less: its loader and its start-up open some.
const NEEDED: u64 = 16;

/// The limits that a program should have that is executed now. None: those of this process, because the library has not raised them, or
/// because the inherited descriptors fill the original limit, so that not even the program's loader could open a file.
fn limit_for_exec() -> Option<rlimit> {
    let soft = original()?;
    let limit = sys::descriptor_limit(0).ok().filter(is_raised)?;
    let needed = NEEDED.min(soft / 4);
    let inherited = |fd: u64| sys::descriptor_flags(fd as i32).is_ok_and(|flags| flags & libc::FD_CLOEXEC == 0);
    let has_room = usage::used(limit.rlim_cur) + needed <= soft
        || (0..soft).filter(|&fd| !inherited(fd)).nth(needed as usize).is_some();
    has_room.then_some(rlimit { rlim_cur: soft.min(limit.rlim_max), ..limit })
}

/// Sets the original soft limit in this process, before an execve(2). Returns the limits before, for [`undo`].
pub fn set() -> Option<rlimit> {
    let original = limit_for_exec()?;
    let limit = sys::descriptor_limit(0).ok()?;
    sys::set_descriptor_limit(0, original).ok()?;
    Some(limit)
}

/// The execve(2) has failed: sets the limits that [`set`] returned, unless somebody else has set others meanwhile.
pub fn undo(limit: rlimit) {
    let given = original().map(|soft| soft.min(limit.rlim_max));
    if sys::descriptor_limit(0).is_ok_and(|now| Some(now.rlim_cur) == given) {
        let _ = sys::set_descriptor_limit(0, limit);
    }
}

/// Sets the original soft limit in a child that was just spawned. Until now, while it started, it had the raised one.
pub fn set_in_child(pid: i32) {
    if let Some(original) = limit_for_exec()
        && sys::descriptor_limit(pid).is_ok_and(|limit| is_raised(&limit))
    {
        let _ = sys::set_descriptor_limit(pid, original);
    }
}
