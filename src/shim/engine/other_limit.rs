//! EMFILE that has nothing to do with RLIMIT_NOFILE: the call has reached another limit, while descriptors are free. Nothing that the
//! library could free or wait for helps then, and the soft limit stays as it is.

#![forbid(unsafe_code)]

use crate::os::sys;
use crate::state::{thread, usage};

/// A limit for which calls fail with EMFILE, too.
pub struct OtherLimit {
    /// The calls, by their names in the manual.
    calls: &'static [&'static str],
    /// Its name.
    pub name: &'static str,
    /// The command that raises it.
    pub remedy: &'static str,
}

static LIMITS: [OtherLimit; 3] = [
    OtherLimit {
        calls: &["inotify_init", "inotify_init1"],
        name: "fs.inotify.max_user_instances, which counts all processes of a user",
        remedy: "`sysctl -w fs.inotify.max_user_instances=1024`; `tideover doctor` says who has them",
    },
    OtherLimit {
        calls: &["fanotify_init"],
        name: "fs.fanotify.max_user_groups, which counts all processes of a user",
        remedy: "`sysctl -w fs.fanotify.max_user_groups=1024`",
    },
    OtherLimit {
        calls: &["mq_open", "__mq_open_2"],
        name: "RLIMIT_MSGQUEUE, the bytes of a user's message queues",
        remedy: "`ulimit -q 8192000` before it starts, or LimitMSGQUEUE= in its systemd unit",
    },
];

/// Of any other call.
static UNKNOWN: OtherLimit = OtherLimit {
    calls: &[],
    name: "another one than that on descriptors",
    remedy: "see EMFILE in the manual page of the call",
};

/// The limit that a call of this name has reached that failed with EMFILE a moment ago; None: that on descriptors, as far as can be
/// known. Other threads may have closed descriptors since: so the call is to be made once more before this is believed. Costs two or
/// three system calls.
pub fn of(call: &str) -> Option<&'static OtherLimit> {
    /// More free descriptors than these, and than there are threads, have not just been closed.
    const FEW: u64 = 8;
    let soft = sys::descriptor_limit(0).ok()?.rlim_cur;
    let free = soft.saturating_sub(usage::used(soft));
    if free == 0 {
        return None;
    }
    let known = LIMITS.iter().find(|limit| limit.calls.contains(&call));
    known.or_else(|| (free > FEW.max(thread::count())).then_some(&UNKNOWN))
}
