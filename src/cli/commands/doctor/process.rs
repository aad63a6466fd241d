//! All checks of a process, in the order of the report.
#![forbid(unsafe_code)]

use super::check::Check;
use super::sampled::SampledProcess;
use super::{disks, inotify, leaks, library, limits};
use crate::processes::process::{owner, user};
use crate::settings::policy::thresholds;
use crate::system::level::{Level, Thresholds};
use rustix::process::geteuid;

/// Makes all checks.
pub fn checks(sampled: &SampledProcess) -> Vec<Check> {
    let mut checks = limits::of(sampled);
    checks.extend(limits::shared(sampled.pid));
    checks.extend(limits::memory_of(sampled));
    checks.extend(limits::address_space(sampled));
    checks.push(zombies(sampled));
    checks.extend(inotify::of(&sampled.all, owner(sampled.pid)));
    if sampled.last.unseen > 0 {
        checks.push(unseen(sampled));
    } else {
        checks.extend(leaks::of(sampled));
        checks.push(connections(sampled));
        checks.extend(disks::under_logs(sampled));
        checks.extend(disks::deleted(sampled));
    }
    checks.extend(library::of(sampled));
    checks
}

/// In the place of the checks of leaks, connections and files, which nobody could make who does not see what is open.
fn unseen(sampled: &SampledProcess) -> Check {
    let says = format!(
        "this user may count them, and not see what {} of {} are open on: leaks, connections, deleted files and log disks are \
         not checked",
        sampled.last.unseen, sampled.last.used
    );
    Check::new("descriptors", Level::Unknown, says, to_see(sampled.pid))
}

/// What it takes to look into a process.
pub fn to_see(pid: u32) -> Vec<String> {
    if !geteuid().is_root() {
        return vec![format!("sudo tideover doctor {pid}")];
    }
    // Root without CAP_SYS_PTRACE, as in a container by default, may look into its own processes alone.
    let user = user(pid).map_or_else(|| "USER".to_string(), |user| user.to_string());
    vec![
        format!(
            "as its user: setpriv --reuid={user} --clear-groups tideover doctor {pid}, or docker exec -u {user} CONTAINER ..."
        ),
        "as root of a container: docker run --cap-add=SYS_PTRACE, or securityContext.capabilities.add: [SYS_PTRACE]"
            .into(),
    ]
}

/// Connections in CLOSE_WAIT, in percent of the soft limit.
const CLOSE_WAIT: Thresholds = Thresholds::high(0.0, 50.0);

/// Connections by state. In CLOSE_WAIT the peer has closed the connection, and only the program itself can close its side.
fn connections(sampled: &SampledProcess) -> Check {
    let waiting = sampled.last.tcp.get("CLOSE_WAIT").copied().unwrap_or(0);
    let all: u64 = sampled.last.tcp.values().sum();
    let of_soft = waiting as f64 * 100.0 / sampled.limits.0.max(1) as f64;
    let few = waiting < 10 || waiting * 10 < all;
    let level = if few { Level::Ok } else { CLOSE_WAIT.level(of_soft) };
    let idle = |state: &str| sampled.last.tcp.get(state).copied().unwrap_or(0);
    let open = all - idle("LISTEN") - idle("CLOSE");
    let many = thresholds(sampled.policy.as_ref(), "connections", Some(&sampled.name));
    let many = many.map_or(Level::Ok, |thresholds| thresholds.level(open as f64));
    if many > level {
        let says = format!("{open} connections are open; alert_connections in the policy file calls that many");
        let look = format!("whose they are: ss -tnp | grep pid={},; tideover stat {0}", sampled.pid);
        return Check::new("tcp", many, says, vec![look]);
    }
    let says = match (waiting, all) {
        (_, 0) => "no tcp socket".to_string(),
        (0, _) => format!("{all} tcp sockets, none left over by its peer"),
        _ => format!("{waiting} of {all} tcp sockets are in CLOSE_WAIT: closed by the peer, not by the program"),
    };
    let look = format!("who they are: ss -tnp state close-wait | grep pid={},", sampled.pid);
    Check::new("tcp", level, says, vec![look, format!("until it is mended: restart process {}", sampled.pid)])
}

fn zombies(sampled: &SampledProcess) -> Check {
    let (pid, count) = (sampled.pid, sampled.zombies.len());
    if count == 0 {
        return Check::ok("zombies", "every child that ended was waited for");
    }
    let some: Vec<String> = sampled.zombies.iter().take(5).map(u32::to_string).collect();
    let more = if count > some.len() { ", ..." } else { "" };
    let says =
        format!("{count} children of {} have ended and were not waited for ({}{more})", sampled.name, some.join(", "));
    let mut remedy = vec![format!("kill -CHLD {pid} reminds it; restarting process {pid} removes them")];
    if pid == 1 {
        remedy.push("for good: docker run --init, or tini as the image's ENTRYPOINT".to_string());
    }
    // Watched for a moment, one that stays is a mistake of the program already; the policy file may say otherwise.
    let said = sampled.policy.as_ref().filter(|policy| policy.alerts.iter().any(|given| given.row.name == "zombies"));
    let level = match said {
        None if count >= 100 => Level::Critical,
        None => Level::Warning,
        policy => thresholds(policy, "zombies", Some(&sampled.name)).map_or(Level::Ok, |it| it.level(count as f64)),
    };
    Check::new("zombies", level, says, remedy)
}
