//! How it stands with descriptors for clients: why the last accept(2) failed, since when none could be served, and what that means.
#![forbid(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, accept};

use crate::engine::demand;
use crate::os::sys;
use crate::state::settings::SETTINGS;
use crate::state::{page, usage};

/// What is known of the present lack of descriptors.
struct Lack {
    /// Why accept(2) failed last: EMFILE or ENFILE; 0: it has not.
    errno: AtomicI32,
    /// Since when no client has been accepted, nanoseconds of CLOCK_MONOTONIC; 0: no accept(2) has failed yet.
    since: AtomicU64,
    /// How many clients had been accepted by then.
    accepted: AtomicU64,
}

static LACK: Lack = Lack { errno: AtomicI32::new(0), since: AtomicU64::new(0), accepted: AtomicU64::new(0) };

/// An accept(2) has failed with this errno although a client waits.
pub fn accept_has_failed(errno: c_int) {
    LACK.errno.store(errno, Relaxed);
    let accepted = page::counters().accepted.load(Relaxed);
    if LACK.accepted.swap(accepted, Relaxed) != accepted || LACK.since.load(Relaxed) == 0 {
        LACK.since.store(sys::now(), Relaxed);
    }
}

/// Are clients turned away now for whom there is no descriptor?
pub fn sheds_now() -> bool {
    let mode = SETTINGS.get(Id::Accept);
    let after = SETTINGS.get(Id::ShedAfter);
    let since = LACK.since.load(Relaxed);
    let lasts = || after != 0 && since != 0 && sys::now().saturating_sub(since) >= after;
    mode == accept::SHED || mode == accept::PARK && lasts()
}

/// May a descriptor be free? After ENFILE always true: what other processes close is not known.
pub fn has_descriptors() -> bool {
    let soft = sys::descriptor_limit(0).map_or(u64::MAX, |limit| limit.rlim_cur);
    LACK.errno.load(Relaxed) == libc::ENFILE || usage::has_room(soft)
}

/// Is a descriptor free for a client, besides those that calls for accepted clients lack?
pub fn has_descriptors_for_clients() -> bool {
    has_descriptors() && !lacks_margin()
}

/// Are descriptors free, but none for a client, since calls for accepted clients lack as many or have lacked them a moment ago?
pub fn lacks_margin() -> bool {
    if !demand::is_any() || LACK.errno.load(Relaxed) == libc::ENFILE {
        return false;
    }
    let Ok(limit) = sys::descriptor_limit(0) else { return false };
    let free = limit.rlim_cur.saturating_sub(usage::used(limit.rlim_cur));
    free > 0 && free <= demand::margin()
}

/// Will the next accept(2) surely fail, and its client have to wait?
pub fn is_full() -> bool {
    LACK.errno.load(Relaxed) == libc::EMFILE
        && !sheds_now()
        && sys::descriptor_limit(0).is_ok_and(|limit| usage::is_full(limit.rlim_cur))
}
