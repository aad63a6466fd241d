//! The service that a process belongs to, by which sums and alerts are told apart: its systemd unit, its container or pod, else
//! the script or jar that it interprets.
#![forbid(unsafe_code)]

use crate::processes::cgroup_path::{Origin, origin};
use crate::processes::{process, program, script};
use crate::show::output::safe;
use std::collections::HashMap;
use std::fs;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest name that is shown, in characters.
const LONGEST: usize = 96;
/// So many digits of a container's id are shown, as `docker ps` does.
const ID: usize = 12;

/// The service of a process, safe to print; None if nothing names it. A container that this command is in itself tells nothing
/// apart, and is not named.
pub fn of(pid: u32) -> Option<String> {
    static OWN: LazyLock<Option<Origin>> = LazyLock::new(|| origin_of(std::process::id()));
    let named = match origin_of(pid) {
        Some(origin @ (Origin::Container(..) | Origin::Pod(..))) if Some(&origin) == OWN.as_ref() => None,
        origin => origin.map(|origin| name(&origin)),
    };
    let named = named.or_else(|| script_of(pid))?;
    let text: String = safe(named.as_bytes()).chars().take(LONGEST).collect();
    (!text.is_empty()).then_some(text)
}

/// [`of`], remembered for a minute: a scrape asks for each of thousands of processes. `started` tells a process from a later one
/// of the same number.
pub fn remembered(pid: u32, started: u64) -> Option<String> {
    type Known = HashMap<(u32, u64), (Instant, Option<String>)>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    const FRESH: Duration = Duration::from_secs(60);
    const MOST: usize = 20_000;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(&(pid, started)) {
        Some((at, service)) if at.elapsed() < FRESH => service.clone(),
        _ => {
            if known.len() >= MOST {
                known.retain(|_, (at, _)| at.elapsed() < FRESH);
            }
            let service = of(pid);
            if known.len() < MOST {
                known.insert((pid, started), (Instant::now(), service.clone()));
            }
            service
        }
    }
}

fn origin_of(pid: u32) -> Option<Origin> {
    origin(&String::from_utf8_lossy(&process::file(pid, "cgroup")?))
}

fn name(origin: &Origin) -> String {
    match origin {
        Origin::Unit(unit, None) => unit.clone(),
        Origin::Unit(unit, Some(user)) => format!("user-{user}/{unit}"),
        Origin::Container(engine, id) => match known_container(engine, id) {
            Some(name) => format!("{engine}-{name}"),
            None => format!("{engine}-{}", short(id)),
        },
        Origin::Pod(uid, container) => match container.as_deref().and_then(known_pod) {
            Some(name) => name,
            None => match container {
                Some(id) => format!("pod-{uid}/{}", short(id)),
                None => format!("pod-{uid}"),
            },
        },
    }
}

fn short(id: &str) -> &str {
    if id.len() == 64 { id.get(..ID).unwrap_or(id) } else { id }
}

/// The name that the engine has for a container, from its own files, which root may read.
fn known_container(engine: &str, id: &str) -> Option<String> {
    match engine {
        "docker" => {
            let text = fs::read_to_string(format!("/var/lib/docker/containers/{id}/config.v2.json")).ok()?;
            let config: serde_json::Value = serde_json::from_str(&text).ok()?;
            Some(config.get("Name")?.as_str()?.trim_start_matches('/').to_string())
        }
        "podman" => {
            let text = fs::read_to_string("/var/lib/containers/storage/overlay-containers/containers.json").ok()?;
            let all: serde_json::Value = serde_json::from_str(&text).ok()?;
            let own = all.as_array()?.iter().find(|one| one.get("id").and_then(|it| it.as_str()) == Some(id))?;
            Some(own.get("names")?.get(0)?.as_str()?.to_string())
        }
        _ => None,
    }
}

/// `namespace/pod/container`, from the name of the log that the kubelet makes for each container:
/// /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log.
fn known_pod(id: &str) -> Option<String> {
    let end = format!("-{id}.log");
    fs::read_dir("/var/log/containers").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let mut parts = name.strip_suffix(&end)?.splitn(3, '_');
        let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
        Some(format!("{namespace}/{pod}/{container}"))
    })
}

fn script_of(pid: u32) -> Option<String> {
    let words = process::words(pid);
    let program = program::file_name(pid).unwrap_or_default();
    script::name(&program, &words, || {
        Some(fs::read_link(format!("/proc/{pid}/cwd")).ok()?.to_string_lossy().into_owned())
    })
}

/// The name of a user, as /etc/passwd has it; its number if it has none.
pub fn user_name(user: u32) -> String {
    static USERS: LazyLock<String> = LazyLock::new(|| fs::read_to_string("/etc/passwd").unwrap_or_default());
    let named = USERS.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then(|| safe(name.as_bytes()))
    });
    named.unwrap_or_else(|| user.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_names() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(name(&Origin::Unit("a.service".into(), None)), "a.service");
        assert_eq!(name(&Origin::Unit("a.service".into(), Some(7))), "user-7/a.service");
        assert_eq!(name(&Origin::Container("docker", id.clone())), "docker-0123456789ab");
        assert_eq!(name(&Origin::Container("lxc", "web".into())), "lxc-web");
        assert_eq!(name(&Origin::Pod("u".into(), Some(id))), "pod-u/0123456789ab");
        assert_eq!(name(&Origin::Pod("u".into(), None)), "pod-u");
    }

    #[test]
    fn a_script_names_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nightly-report");
        std::fs::write(&path, "read x\n").unwrap();
        let mut sh = std::process::Command::new("sh");
        let mut child = sh.arg(&path).stdin(std::process::Stdio::piped()).spawn().unwrap();
        while process::words(child.id()).len() < 2 || program::file_name(child.id()).is_none() {
            std::thread::yield_now();
        }
        let script = script_of(child.id());
        assert_eq!(script.as_deref(), Some("nightly-report"));
        assert_eq!(remembered(child.id(), 1), of(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(of(u32::MAX), None);
        assert_eq!((user_name(0), user_name(4_000_000_000)), ("root".into(), "4000000000".into()));
    }
}
