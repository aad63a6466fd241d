//! The checks of a process, in the order of the report.

use super::check::{Check, Level};
use super::patient::Patient;
use super::{disks, guard, inotify, leaks, limits};
use crate::process::owner;

/// All of them.
pub fn checks(patient: &Patient) -> Vec<Check> {
    let mut checks = limits::of(patient);
    checks.extend(limits::shared(patient.pid));
    checks.extend(limits::memory_of(patient));
    checks.extend(leaks::of(patient));
    checks.push(connections(patient));
    checks.push(zombies(patient));
    checks.extend(inotify::of(&patient.all, owner(patient.pid)));
    checks.extend(disks::under_logs(patient));
    checks.extend(disks::deleted(patient));
    checks.extend(guard::of(patient));
    checks
}

/// The peer of a CLOSE_WAIT socket has closed it long ago; only the program itself can.
fn connections(patient: &Patient) -> Check {
    let waiting = patient.last.tcp.get("CLOSE_WAIT").copied().unwrap_or(0);
    let all: u64 = patient.last.tcp.values().sum();
    let of_soft = waiting as f64 * 100.0 / patient.limits.0.max(1) as f64;
    let few = waiting < 10 || waiting * 10 < all;
    let level = if few { Level::Ok } else { Level::of(of_soft, 0.0, 50.0) };
    let says = match (waiting, all) {
        (_, 0) => "no tcp socket".to_string(),
        (0, _) => format!("{all} tcp sockets, none left over by its peer"),
        _ => format!("{waiting} of {all} tcp sockets are in CLOSE_WAIT: closed by the peer, not by the program"),
    };
    let look = format!("who they are: ss -tnp state close-wait | grep pid={},", patient.pid);
    Check::new("tcp", level, says, vec![look, format!("until it is mended: restart process {}", patient.pid)])
}

fn zombies(patient: &Patient) -> Check {
    let (pid, count) = (patient.pid, patient.zombies.len());
    if count == 0 {
        return Check::ok("zombies", "every child that ended was waited for");
    }
    let some: Vec<String> = patient.zombies.iter().take(5).map(u32::to_string).collect();
    let more = if count > some.len() { ", ..." } else { "" };
    let says =
        format!("{count} children of {} have ended and were not waited for ({}{more})", patient.name, some.join(", "));
    let mut remedy = vec![format!("kill -CHLD {pid} reminds it; restarting process {pid} removes them")];
    if pid == 1 {
        remedy.push("for good: docker run --init, or tini as the image's ENTRYPOINT".to_string());
    }
    Check::new("zombies", if count >= 100 { Level::Critical } else { Level::Warning }, says, remedy)
}
