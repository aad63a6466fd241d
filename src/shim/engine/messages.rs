//! The messages about calls that lacked something: one line that names what is in use, what was tried, and the command that helps.

#![forbid(unsafe_code)]

use core::ffi::c_int;
use core::fmt::Display;

use libc::rlimit;

use crate::engine::call::Lack;
use crate::engine::other_limit::OtherLimit;
use crate::engine::reclaim::limit::{self, Remedy};
use crate::state::report::{About, ErrnoName, More, Repeated, Seconds};
use crate::state::{descriptors, reconcile, usage};

/// The messages so far, to keep back repetitions.
struct Messages {
    /// Calls that failed, by [`Lack`].
    gave_up: [Repeated; Lack::COUNT],
    /// Calls that waited and then succeeded, by [`Lack`].
    recovered: [Repeated; Lack::COUNT],
    /// Calls of accept(2) whose clients wait.
    parked: Repeated,
    /// Calls that reached another limit.
    other_limit: Repeated,
    /// Messages that came without their descriptors.
    lost: Repeated,
}

static MESSAGES: Messages = Messages {
    gave_up: [const { Repeated::new() }; Lack::COUNT],
    recovered: [const { Repeated::new() }; Lack::COUNT],
    parked: Repeated::new(),
    other_limit: Repeated::new(),
    lost: Repeated::new(),
};

/// Logs that a call has waited for `waited` nanoseconds and then succeeded, unless one like it was logged a moment ago.
pub fn recovered(call: &str, lack: Lack, errno: c_int, waited: u64) {
    if let Some(more) = MESSAGES.recovered[lack as usize].due() {
        // A limit that the user has set has only done what it is for.
        let level = if lack.is_limit() { log::Level::Info } else { log::Level::Warn };
        let (name, waited) = (ErrnoName(errno), Seconds(waited));
        let about = About { level, kind: "recovered", call, errno, ..About::NOTHING };
        about.log(format_args!("{call}: {lack} ({name}), waited {waited} for one{}", More(more)));
    }
}

/// Logs that a call has reached another limit than that on descriptors.
pub fn other_limit(call: &str, limit: &OtherLimit) {
    if let Some(more) = MESSAGES.other_limit.due() {
        let (name, remedy) = (limit.name, limit.remedy);
        let remedy: Option<&dyn Display> = Some(&format_args!("to help: {remedy}"));
        let about = About { kind: "other_limit", call, errno: libc::EMFILE, remedy, ..About::NOTHING };
        about.log(format_args!(
            "{call}: EMFILE, but descriptors are free: the limit that is reached is {name}{}",
            More(more)
        ));
    }
}

/// Logs that a message came without some of its descriptors.
pub fn descriptors_lost() {
    if let Some(more) = MESSAGES.lost.due() {
        let remedy: Option<&dyn Display> = Some(&"to help: a higher `ulimit -n`");
        let about = About { kind: "descriptors_lost", call: "recvmsg", remedy, ..About::NOTHING };
        about.log(format_args!(
            "recvmsg: descriptors that were sent are lost, since there was no number for them (MSG_CTRUNC){}",
            More(more)
        ));
    }
}

/// A call that fails, or an accept(2) whose client waits.
pub struct GaveUp {
    /// Name of the call, as in its man page.
    pub call: &'static str,
    /// What it lacked.
    pub lack: Lack,
    /// Its errno; EMFILE and ENFILE have different remedies.
    pub errno: c_int,
    /// What was tried, in words.
    pub tried: &'static str,
    /// Nanoseconds since its first failure.
    pub waited: u64,
    /// It is an accept(2) whose client waits in the listener's queue.
    pub parked: bool,
}

impl GaveUp {
    /// Logs it, unless one like it was logged a moment ago.
    pub fn log(&self) {
        let repeated = if self.parked { &MESSAGES.parked } else { &MESSAGES.gave_up[self.lack as usize] };
        let Some(more) = repeated.due() else { return };
        if !self.parked {
            reconcile::reconcile(descriptors::CLIENT | descriptors::OUTGOING);
        }
        let more = More(more);
        let GaveUp { call, lack, tried, .. } = self;
        let (errno, waited) = (ErrnoName(self.errno), Seconds(self.waited));
        let kind = if self.parked { "parked" } else { "exhausted" };
        let about = About { kind, call, errno: self.errno, ..About::NOTHING };
        if *lack != Lack::Descriptor {
            let about = About { remedy: Some(&lack.remedy()), ..about };
            about.log(format_args!("{call}: {lack} ({errno}); {tried} ({waited}){more}"));
        } else if self.errno == libc::ENFILE {
            let remedy: &dyn Display = &"to help: `sysctl -w fs.file-max=...`, see /proc/sys/fs/file-nr";
            let about = About { remedy: Some(remedy), ..about };
            about.log(format_args!("{call}: the system is out of descriptors ({errno}); {tried} {waited}{more}"));
        } else {
            let limit = limit::read().unwrap_or(rlimit { rlim_cur: 0, rlim_max: 0 });
            let (soft, hard) = (limit.rlim_cur, limit.rlim_max);
            let used = usage::used(soft);
            let remedy = Remedy { soft: limit::ceiling(limit), hard };
            let about = About { descriptors: Some([used, soft, hard]), remedy: Some(&remedy), ..about };
            about.log(format_args!(
                "{call}: no descriptor left ({errno}): {used} in use, soft limit {soft}, hard limit {hard}; {tried} ({waited}){more}"
            ));
        }
    }
}
