//! Standard output (or standard error) as a sink when it is a pipe, without a system call for each line that asks whether it still is
//! that pipe: fstat(2) costs as much as the line. What fstat(2) said is valid for 1 ms, and no longer once a hook sees the number
//! closed or replaced.
#![deny(unsafe_code)]

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::SECOND;

use super::sink;
use crate::os::sys;
use crate::state::descriptors::{self, PIPE};
use crate::state::thread;

/// How long an answer of fstat(2) is valid, nanoseconds.
const VALIDITY: u64 = SECOND / 1000;
/// How long no answer is valid after a hook has seen the number change, nanoseconds.
const CHANGE: u64 = SECOND / 100;

/// When the number may be used without asking: at times from `invalid_until` on that are before `valid_until`.
struct Check {
    /// The last answer is valid until then, CLOCK_MONOTONIC nanoseconds; 0: it was never asked.
    valid_until: AtomicU64,
    /// Until then the number is being closed or replaced, CLOCK_MONOTONIC nanoseconds.
    invalid_until: AtomicU64,
}

static CHECK: Check = Check { valid_until: AtomicU64::new(0), invalid_until: AtomicU64::new(0) };

/// The program is about to close or to replace the pipe's number. Also in the child of a fork, which may do so by calls that have no
/// hook: daemon(3).
pub fn changes() {
    CHECK.invalid_until.store(sys::now() + CHANGE, Relaxed);
}

/// The program has closed or replaced one of the numbers. Says again that the number changes, for if that took longer than
/// [`CHANGE`], another thread may have asked fstat(2) meanwhile.
#[cold]
#[inline(never)]
#[allow(unsafe_code, reason = "only where it stands in the library (layout.ld)")]
#[unsafe(link_section = ".text.on_success")]
pub extern "C" fn changed() {
    if CHECK.valid_until.load(Relaxed) != 0 {
        changes();
    }
}

/// The descriptor of the first sink, if that is a pipe at its own number whose reader reads. `now` is CLOCK_MONOTONIC in
/// nanoseconds.
pub fn descriptor(now: u64) -> Option<i32> {
    let stream = sink::pipe()?;
    let is_valid = (CHECK.invalid_until.load(Relaxed)..CHECK.valid_until.load(Relaxed)).contains(&now);
    // The child of a vfork has descriptors of its own, and its parent's memory.
    let in_vfork = thread::is_in_vfork();
    if in_vfork || !is_valid || descriptors::marks(stream.number) & PIPE == 0 {
        let status = sys::fstat(stream.number).ok()?;
        if !stream.is_file(&status) || status.st_mode & libc::S_IFMT != libc::S_IFIFO {
            return None;
        }
        if !in_vfork {
            descriptors::add(stream.number, PIPE);
            CHECK.valid_until.store(now + VALIDITY, Relaxed);
        }
    }
    sink::is_plain(stream).then_some(stream.number)
}
