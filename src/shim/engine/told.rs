//! What is said of a call that lacked something: one line that names what is used, what was tried, and the command that helps.

#![forbid(unsafe_code)]

use core::ffi::c_int;

use libc::rlimit;

use crate::engine::call::Lack;
use crate::engine::reclaim::limit::{self, Remedy};
use crate::state::report::{ErrnoName, More, Repeated, Seconds};
use crate::state::{descriptors, usage};

/// The lines so far, by what was lacked.
struct Told {
    gave_up: [Repeated; Lack::COUNT],
    recovered: [Repeated; Lack::COUNT],
    /// Of an accept(2) whose client waits.
    parked: Repeated,
}

static TOLD: Told = Told {
    gave_up: [const { Repeated::new() }; Lack::COUNT],
    recovered: [const { Repeated::new() }; Lack::COUNT],
    parked: Repeated::new(),
};

/// A call has waited, and succeeded.
pub fn recovered(call: &str, lack: Lack, errno: c_int, waited: u64) {
    if let Some(more) = TOLD.recovered[lack as usize].due() {
        // A limit that the user set has only done what it is for.
        let level = if lack.is_limit() { log::Level::Info } else { log::Level::Warn };
        let (errno, waited) = (ErrnoName(errno), Seconds(waited));
        log::log!(level, "{call}: {lack} ({errno}), waited {waited} for one{}", More(more));
    }
}

/// A call that fails, or whose client waits.
pub struct GaveUp {
    /// Name of the call.
    pub call: &'static str,
    /// What it lacked.
    pub lack: Lack,
    /// Its errno.
    pub errno: c_int,
    /// What was tried.
    pub tried: &'static str,
    /// Nanoseconds since its first failure.
    pub waited: u64,
    /// It is an accept(2) whose client waits.
    pub parked: bool,
}

impl GaveUp {
    /// Says it, unless one like it was said a moment ago.
    pub fn say(&self) {
        let kind = if self.parked { &TOLD.parked } else { &TOLD.gave_up[self.lack as usize] };
        let Some(more) = kind.due() else { return };
        if !self.parked {
            descriptors::reconcile(descriptors::CLIENT | descriptors::OUTGOING);
        }
        let more = More(more);
        let GaveUp { call, lack, tried, .. } = self;
        let (errno, waited) = (ErrnoName(self.errno), Seconds(self.waited));
        if *lack != Lack::Descriptor {
            log::warn!("{call}: {lack} ({errno}); {tried} ({waited}){more}; {}", lack.remedy());
        } else if self.errno == libc::ENFILE {
            log::warn!(
                "{call}: the system is out of descriptors ({errno}); {tried} {waited}{more}; to help: `sysctl -w fs.file-max=...`, see /proc/sys/fs/file-nr"
            );
        } else {
            let limit = limit::look().unwrap_or(rlimit { rlim_cur: 0, rlim_max: 0 });
            let used = usage::used(limit.rlim_cur);
            let remedy = Remedy { soft: limit::ceiling(limit), hard: limit.rlim_max };
            log::warn!(
                "{call}: no descriptor left ({errno}): {used} in use, soft limit {}, hard limit {}; {tried} ({waited}){more}; {remedy}",
                limit.rlim_cur,
                limit.rlim_max,
            );
        }
    }
}
