//! Ending the clients that have been idle for longest, of a target that has no descriptor left while others wait to be accepted.
#![forbid(unsafe_code)]

use crate::before_exec::foreign;
use crate::guard::sockets::Tcp;
use rustix::fd::{AsFd, OwnedFd};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// No more are ended at once than this: what the program does then is looked at first.
const AT_ONCE: usize = 16;
/// A client from which data came so lately is not idle, whatever `--idle` says.
const LATELY: Duration = Duration::from_secs(1);
/// If a program has closed none of those that were ended after this time, no more are ended: it does not help.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients that were ended, until their process has closed them.
#[derive(Debug, Default)]
pub struct Ended {
    inodes: HashSet<u64>,
    last_closed: Option<Instant>,
}

impl Ended {
    /// Has the program left them open for so long that ending more would be in vain?
    pub fn is_in_vain(&self) -> bool {
        !self.inodes.is_empty() && self.last_closed.is_some_and(|at| at.elapsed() > PATIENCE)
    }
}

/// Ends as many as wait to be accepted, at most [`AT_ONCE`], of those that have been idle for at least `longer`. Returns the number of
/// each that was ended, and for how long it had been idle.
pub fn end(pidfd: &OwnedFd, tcp: &Tcp, longer: Duration, ended: &mut Ended) -> Vec<(i32, Duration)> {
    let still: HashSet<u64> = tcp.quiet.iter().map(|it| it.1).filter(|inode| ended.inodes.contains(inode)).collect();
    if still.len() < ended.inodes.len() || ended.inodes.is_empty() {
        ended.last_closed = Some(Instant::now());
    }
    ended.inodes = still;
    let longer = longer.max(LATELY);
    let wanted = usize::try_from(tcp.waiting()).unwrap_or(AT_ONCE).min(AT_ONCE);
    // Those that were ended and are not closed yet make room, too.
    let Some(wanted) = wanted.checked_sub(ended.inodes.len()).filter(|wanted| *wanted > 0) else { return Vec::new() };
    if ended.is_in_vain() {
        return Vec::new();
    }
    let limit = u32::try_from(longer.as_millis()).unwrap_or(u32::MAX);
    let fresh = tcp.quiet.iter().filter(|it| !ended.inodes.contains(&it.1));
    let mut idle: Vec<(u32, i32, u64)> = fresh
        .filter_map(|&(number, inode)| {
            let idle = foreign::idle(pidfd.as_fd(), number, inode).ok()?;
            Some((idle.sent.min(idle.received), number, inode))
        })
        .filter(|it| it.0 >= limit)
        .collect();
    idle.sort_unstable_by(|one, other| other.cmp(one));
    let mut done = Vec::new();
    for (ms, number, inode) in idle {
        if done.len() == wanted {
            break;
        }
        if foreign::end_input(pidfd.as_fd(), number, inode, limit) == Ok(true) {
            ended.inodes.insert(inode);
            done.push((number, Duration::from_millis(ms.into())));
        }
    }
    done
}
