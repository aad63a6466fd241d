//! The library in a process: is it loaded, how is it set, and what has it counted?
#![forbid(unsafe_code)]

use super::check::Check;
use super::process::to_see;
use super::sampled::SampledProcess;
use crate::pages::snapshot::Snapshot;
use crate::pages::without_page;
use crate::processes::mappings::{self, Code};
use crate::processes::process::Environment;
use crate::settings::effective;
use crate::show::units::{ago, bytes};
use crate::system::level::Level;
use tideover_contract::settings::{Id, Kind, SETTINGS};

/// Makes the checks of the library.
pub fn of(sampled: &SampledProcess) -> Vec<Check> {
    let pid = sampled.pid;
    let environment = Environment::of(pid);
    match mappings::library(pid) {
        Code::Present => {}
        Code::Absent => return vec![absent(sampled, environment.as_ref())],
        // Its page says that it is there.
        Code::Hidden if sampled.page.is_some() => {}
        Code::Hidden => {
            let says = "this user may not see whether it is loaded";
            return vec![Check::new("library", Level::Unknown, says, to_see(pid))];
        }
    }
    let Some(snapshot) = sampled.page.as_ref().and_then(Snapshot::take) else {
        let remedy = vec![format!("tideover doctor {pid} --page-dir DIR")];
        return vec![Check::new("library", Level::Warning, without_page::WITHOUT_PAGE, remedy)];
    };
    let settings = effective::from_page(snapshot.pid, snapshot.page, environment.as_ref());
    let switches = |row: &&effective::Effective| {
        matches!(SETTINGS[row.index].kind, Kind::Choice(_) | Kind::Sink | Kind::SizeOr("off", ..))
            && row.index != Id::Log as usize
    };
    let active: Vec<String> =
        settings.iter().filter(switches).map(|row| format!("{} {}", SETTINGS[row.index].name, row.value)).collect();
    let version = crate::show::output::safe(snapshot.page.version());
    let version = if version.is_empty() { String::new() } else { format!(" {version}") };
    let mut checks = vec![Check::ok("library", format!("loaded{version}; {}{}", active.join(", "), unseen(sampled)))];
    let refused: Vec<String> = settings.iter().filter_map(effective::Effective::refusal).collect();
    if !refused.is_empty() {
        let remedy = vec![format!("tideover config {pid}")];
        checks.push(Check::new("settings", Level::Warning, refused.join("; "), remedy));
    }
    checks.push(exhaustion(&snapshot));
    checks.push(logs(&snapshot));
    checks
}

/// What the library does not see in this process: it hooks the functions that libc exports, and nothing else.
fn unseen(sampled: &SampledProcess) -> String {
    let rings = sampled.last.kinds.get("io_uring").copied().unwrap_or(0);
    let rings = if rings == 0 { String::new() } else { format!("its {rings} io_uring and ") };
    format!("; out of its reach: {rings}libraries opened with RTLD_DEEPBIND")
}

fn absent(sampled: &SampledProcess, environment: Option<&Environment>) -> Check {
    if let Some(why) = sampled.program.out_of_reach() {
        let rescue = format!("tideover rescue {} works all the same", sampled.pid);
        return Check::ok("library", format!("can't be loaded: {why}; {rescue}"));
    }
    let wanted = environment.and_then(|environment| environment.get("LD_PRELOAD"));
    if wanted.is_some_and(|list| list.to_string_lossy().contains("libtideover.so")) {
        let says = "LD_PRELOAD names it, and it is not loaded: the file is missing, or of another libc or architecture";
        return Check::new("library", Level::Warning, says, vec!["tideover run -- CMD says which".to_string()]);
    }
    Check::ok("library", "not loaded; start the program with tideover run to have it carried over what is found here")
}

fn exhaustion(snapshot: &Snapshot) -> Check {
    let count = |name| snapshot.counter("exhaustion", name);
    let (failed, gave_up) = (count("emfile").saturating_add(count("enfile")), count("gave_up"));
    let mut says =
        format!("{failed} calls found no descriptor, {} of them recovered, {gave_up} gave up", count("recovered"));
    if count("breaker_open") > 0 {
        says.push_str("; nobody waits now, after too many fruitless waits");
    }
    let level = if gave_up > 0 || count("breaker_open") > 0 { Level::Warning } else { Level::Ok };
    let remedy = vec![format!("tideover stat {0}; tideover rescue {0}", snapshot.pid)];
    Check::new("exhaustion", level, says, remedy)
}

fn logs(snapshot: &Snapshot) -> Check {
    let count = |name| snapshot.counter("logs", name);
    let mut went =
        format!("{} of lines went elsewhere, {} lost", bytes(count("diverted_bytes")), bytes(count("dropped_bytes")));
    if count("held_bytes") > 0 {
        went.push_str(&format!(", {} kept until there is space", bytes(count("held_bytes"))));
    }
    if count("degraded") > 0 {
        let says = format!("a log's disk is full, since {}; {went}", ago(count("degraded_since")));
        return Check::new(
            "diverted logs",
            Level::Critical,
            says,
            vec!["free space on the disk named under log disk".to_string()],
        );
    }
    Check::ok("diverted logs", format!("none now; {went} so far"))
}
