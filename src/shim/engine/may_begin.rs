//! Whether anything may be done at all for a call that has failed.

#![forbid(unsafe_code)]

use core::ffi::c_int;

use crate::engine::call::Lack;
use crate::engine::reclaim;
use crate::state::process::{self, Phase};
use crate::state::{control, page, thread};

/// May anything be done for a call that lacks something? Counts the failure.
pub fn may_begin(lack: Lack, errno: c_int, stack_pointer: usize) -> bool {
    if matches!(process::phase(), Phase::Starting | Phase::Dormant | Phase::Sandboxed) {
        page::add(&page::counters().bypassed, 1);
        return false;
    }
    // The child of a vfork(2) has its parent's memory, and may not even count there.
    if !process::is_ours() || thread::is_retrying(stack_pointer) {
        return false;
    }
    page::ensure();
    if control::look() {
        page::add(&page::counters().bypassed, 1);
        return false;
    }
    let counters = page::counters();
    if reclaim::is_reclaiming(stack_pointer) {
        page::add(&counters.bypassed, 1);
        return false;
    }
    let counter = match lack {
        Lack::Descriptor if errno == libc::EMFILE => &counters.emfile,
        Lack::Descriptor => &counters.enfile,
        Lack::Port => &counters.ports_exhausted,
        Lack::Connection | Lack::EndpointConnection => &counters.limited,
    };
    page::add(counter, 1);
    true
}
