//! Limits of the process, of its container and of the system.
#![forbid(unsafe_code)]

use super::check::{Check, set};
use super::sampled::SampledProcess;
use crate::pages::obtainable::obtainable;
use crate::processes::process;
use crate::settings::policy::thresholds;
use crate::show::units::bytes;
use crate::system::cgroup;
use crate::system::level::{Level, Thresholds};
use crate::system::{self, Share};
use tideover_contract::select;

/// Checks the soft and the hard limit of the process.
pub fn of(sampled: &SampledProcess) -> Vec<Check> {
    let (pid, (soft, hard), used) = (sampled.pid, sampled.limits, sampled.last.used);
    let view = sampled.page.as_ref().and_then(|page| page.view());
    let end = sampled.program.end();
    let within = obtainable(pid, sampled.limits, view);
    let more = hard.max(used).saturating_mul(4).min(system::sysctl("fs.nr_open").unwrap_or(1 << 20));
    let raise_hard = vec![
        format!("sudo prlimit --pid {pid} --nofile={more}:{more}"),
        format!("for good: LimitNOFILE={more} under [Service] in its unit, or docker run --ulimit nofile={more}"),
    ];
    let raise_soft = if soft < hard && end == select::AS_IT_IS {
        vec![format!("LimitNOFILE={hard} under [Service] in its unit, or `ulimit -n {hard}` before it starts")]
    } else if soft < hard {
        let line = format!("for good: LimitNOFILE={hard} under [Service] in its unit, or start it with tideover run");
        vec![format!("tideover rescue {pid}"), line]
    } else {
        raise_hard.clone()
    };
    let mut soft_check = Check::share("soft limit", Share { used, max: soft }, "descriptors in use", raise_soft);
    if within > soft {
        // The library raises the soft limit as needed, so the level depends on how far it may be raised.
        soft_check.level = Thresholds::usage().level(Share { used, max: within }.percent());
        soft_check.says.push_str(&format!("; the library raises it to at most {within}"));
        soft_check.remedy.retain(|_| soft_check.level != Level::Ok);
    }
    let mut checks = vec![soft_check];
    checks.push(Check::share("hard limit", Share { used, max: hard }, "descriptors in use", raise_hard));
    if soft < hard {
        match end {
            select::AS_IT_IS => checks.push(Check::ok(
                "table",
                "it calls getdtablesize(3), and may have a table of so many: rescue and library leave its limit as it is",
            )),
            select::FD_SETSIZE => checks.push(Check::ok(
                "select",
                "it uses select(2), which corrupts memory with numbers past 1024: rescue and library stop there",
            )),
            _ => {}
        }
    }
    if let Some(nr_open) = system::sysctl("fs.nr_open") {
        let level = Thresholds::usage().level(Share { used, max: nr_open }.percent());
        let says = format!("no hard limit can be above {nr_open}");
        checks.push(Check::new("fs.nr_open", level, says, set("fs.nr_open", nr_open.saturating_mul(2))));
    }
    checks
}

/// Checks open files, processes and memory of the system, and processes and memory of the container that `pid` is in.
pub fn shared(pid: u32) -> Vec<Check> {
    let mut checks = Vec::new();
    if let Some(share) = system::files() {
        checks.push(Check::share(
            "fs.file-max",
            share,
            "open files, all processes",
            set("fs.file-max", share.max.saturating_mul(2)),
        ));
    }
    if let Some(share) = system::tasks() {
        let remedy =
            [set("kernel.pid_max", 4_194_304), set("kernel.threads-max", share.max.saturating_mul(2))].concat();
        checks.push(Check::share("tasks", share, "processes and threads", remedy));
    }
    if let Some(share) = cgroup::tasks(pid) {
        let more = share.max.saturating_mul(2);
        let remedy = vec![format!(
            "TasksMax={more} under [Service] in its unit, or docker update --pids-limit {more} CONTAINER"
        )];
        checks.push(Check::share("container tasks", share, "processes and threads", remedy));
    }
    if let Some(share) = system::memory() {
        let remedy = vec!["ps -eo pid,rss,comm --sort=-rss | head".to_string()];
        checks.push(memory("memory", share, String::new(), remedy));
    }
    if let Some(share) = cgroup::memory(pid) {
        let more = bytes(share.max.saturating_mul(2)).replace(' ', "").replace("iB", "");
        let remedy =
            vec![format!("MemoryMax={more} under [Service] in its unit, or docker update --memory {more} CONTAINER")];
        checks.push(memory("container memory", share, String::new(), remedy));
    }
    checks
}

/// The memory of the process, as part of that of its container or of the system.
pub fn memory_of(sampled: &SampledProcess) -> Option<Check> {
    let resident = process::resident(sampled.pid)?;
    let total = cgroup::memory(sampled.pid).or_else(system::memory)?.max;
    let share = Share { used: resident, max: total };
    let says = format!("{} resident, {:.1} % of what there is", bytes(resident), share.percent());
    Some(Check::ok("resident", says))
}

/// Its address space, where that is limited (RLIMIT_AS).
pub fn address_space(sampled: &SampledProcess) -> Option<Check> {
    let share = process::address_space(sampled.pid)?;
    let thresholds = thresholds(sampled.policy.as_ref(), "address_space", Some(&sampled.name));
    let level = thresholds.map_or(Level::Ok, |thresholds| thresholds.level(share.percent()));
    let says = format!("{} of {} in use ({:.1} %)", bytes(share.used), bytes(share.max), share.percent());
    let more = share.max.saturating_mul(2);
    let remedy = vec![
        format!("sudo prlimit --pid {} --as={more}", sampled.pid),
        format!("for good: LimitAS={more} under [Service] in its unit, or `ulimit -v` before it starts"),
    ];
    Some(Check::new("address space", level, says, remedy))
}

fn memory(name: &'static str, share: Share, more: String, remedy: Vec<String>) -> Check {
    let says = format!("{} of {} in use ({:.1} %){more}", bytes(share.used), bytes(share.max), share.percent());
    Check::new(name, Thresholds::MEMORY.level(share.percent()), says, remedy)
}
