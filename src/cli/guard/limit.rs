//! Raising the soft limit of a target by prlimit(2), before it is reached.
#![forbid(unsafe_code)]

use crate::guard::evidence::End;
use crate::system::sysctl;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tideover_contract::select;
use tideover_contract::settings::{Id, default_value, raise};

/// Part of the soft limit in use, in percent, from which on it is raised.
pub const NEAR: u64 = 80;

/// Soft and hard limit; u64::MAX for unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// Is so much in use that the limit is to be raised, also by what was added since the last look?
pub fn is_near(used: u64, growth: u64, soft: u64) -> bool {
    used.saturating_mul(100) >= soft.saturating_mul(NEAR) || used.saturating_add(growth) >= soft
}

/// The next soft limit: twice as high, as far as all allow; None if it is as high as it may be.
pub fn next(limits: Limits, end: &End) -> Option<u64> {
    let kernel = sysctl("fs.nr_open").unwrap_or(select::FD_SETSIZE);
    let cap = default_value(Id::RaiseCap as usize).min(kernel);
    let highest = select::ceiling(limits.soft, limits.hard, raise::AUTO, cap, || end.limit);
    let next = limits.soft.saturating_mul(2).min(highest);
    (next > limits.soft).then_some(next)
}

/// Why it is as high as it may be, and what would help, as the end of a sentence.
pub fn why_not(pid: u32, limits: Limits, end: &End) -> String {
    let Limits { soft, hard } = limits;
    if soft >= hard {
        let more = hard.saturating_mul(4).min(default_value(Id::RaiseCap as usize)).max(hard.saturating_add(1));
        format!(
            "its soft limit is its hard limit, {hard}; more by: sudo prlimit --pid {pid} --nofile={more}:{more}, or LimitNOFILE= in its systemd unit"
        )
    } else if !end.why.is_empty() && soft >= end.limit.min(hard) {
        format!("its soft limit is {soft}, and {}", end.why)
    } else {
        format!("its soft limit is {soft}, and no limit is raised past {}", default_value(Id::RaiseCap as usize))
    }
}

/// Sets the soft limit, and leaves the hard limit as it is. The process is alive: its pidfd says so, and keeps its number.
pub fn raise_to(pid: u32, limits: Limits, soft: u64) -> Result<(), Errno> {
    let limit = Rlimit { current: Some(soft), maximum: (limits.hard != u64::MAX).then_some(limits.hard) };
    let id = i32::try_from(pid).ok().and_then(Pid::from_raw);
    prlimit(id.ok_or(Errno::SRCH).map(Some)?, Resource::Nofile, limit).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_in_time_and_not_too_far() {
        assert!(is_near(80, 0, 100) && is_near(60, 40, 100) && !is_near(79, 5, 100) && !is_near(1, 1, u64::MAX));
        let any = End { limit: u64::MAX, why: String::new() };
        let select = End { limit: select::FD_SETSIZE, why: "it uses select(2)".to_string() };
        let table = End { limit: select::AS_IT_IS, why: "it has a table".to_string() };
        let limits = |soft, hard| Limits { soft, hard };
        assert_eq!(next(limits(100, 4096), &any), Some(200));
        assert_eq!(next(limits(100, 150), &any), Some(150));
        assert_eq!(next(limits(150, 150), &any), None);
        assert_eq!([next(limits(900, 4096), &select), next(limits(1024, 4096), &select)], [Some(1024), None]);
        assert_eq!(next(limits(100, 4096), &table), None);
        assert!(why_not(7, limits(1024, 4096), &select).contains("select(2)"));
        assert!(why_not(7, limits(100, 4096), &table).contains("table"));
        assert!(why_not(7, limits(100, 100), &any).contains("prlimit --pid 7 --nofile=400:400"));
    }
}
