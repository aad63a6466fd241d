//! A program that installs a seccomp filter: from then on the library makes no system call of its own, for one might end the program.

#![forbid(unsafe_code)]

use crate::engine::reclaim::limit;
use crate::engine::reserve;
use crate::features::accept::parking;
use crate::os::barrier::barrier;
use crate::state::process::{self, Phase};
use crate::state::thread;

/// The program is about to install a filter: what would need system calls of ours later is undone now.
#[cold]
#[inline(never)]
pub extern "C" fn before() {
    barrier((), || {
        if process::may_note() {
            parking::put_back();
            reserve::release_for_good();
        }
    });
}

/// It has, or it only asked whether it could.
#[cold]
#[inline(never)]
pub extern "C" fn after(installed: bool) {
    // The child of a vfork has done so for itself.
    if installed && !thread::is_in_vfork() {
        process::set_phase(Phase::Sandboxed);
    } else if !installed {
        limit::look_again();
    }
}
