//! What the path of a control group says about a process: its systemd unit, its container, its pod.
//!
//! Who may make control groups below his own gives them any name, so of several names in a path the outermost counts, which
//! systemd, the container engine or the kubelet gave; below a user's own service manager all is said to be that user's.
#![forbid(unsafe_code)]

/// What a process belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A unit of systemd: its name, and the user whose service manager runs it, if that is not the system's.
    Unit(String, Option<u32>),
    /// A container: the engine, and the id of 64 hex digits, or the name.
    Container(&'static str, String),
    /// A pod of Kubernetes: its uid, and the id of the container if the path has it.
    Pod(String, Option<String>),
}

/// Services whose control groups hold those of containers, with some settings of their engines.
const ENGINES: [&str; 8] = [
    "docker.service",
    "containerd.service",
    "podman.service",
    "crio.service",
    "kubelet.service",
    "k3s.service",
    "rke2-server.service",
    "rke2-agent.service",
];
/// Prefixes of the scopes of containers, and whose they are.
const SCOPES: [(&str, &str); 7] = [
    ("docker-", "docker"),
    ("libpod-payload-", "podman"),
    ("libpod-", "podman"),
    ("nerdctl-", "containerd"),
    ("cri-containerd-", "containerd"),
    ("containerd-", "containerd"),
    ("crio-", "crio"),
];
/// Folders whose children are control groups of containers, and whose they are.
const FOLDERS: [(&str, &str); 6] = [
    ("docker", "docker"),
    ("libpod_parent", "podman"),
    ("default", "containerd"),
    ("k8s.io", "containerd"),
    ("moby", "docker"),
    ("lxc", "lxc"),
];

/// Reads /proc/PID/cgroup. Of several hierarchies, v2 is asked first, then systemd's of v1, then the others.
pub fn origin(text: &str) -> Option<Origin> {
    let mut lines: Vec<(u8, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let rank = match parts.next()? {
                "" => 0,
                "name=systemd" => 1,
                _ => 2,
            };
            Some((rank, parts.next()?))
        })
        .collect();
    lines.sort_by_key(|line| line.0);
    lines.into_iter().find_map(|(_, path)| of_path(path))
}

fn of_path(path: &str) -> Option<Origin> {
    let mut user = None;
    let mut pod = None;
    let mut engine_unit = None;
    let mut parent = "";
    // containerd writes `kubepods-podX.slice:cri-containerd:ID` when it takes one driver's path for the other's.
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != "..");
    for whole in parts.take(64) {
        for part in whole.split(':').take(4) {
            let name = unescaped(part);
            if let Some(uid) = pod_uid(&name) {
                pod = pod.or(Some(uid));
            } else if let Some((engine, id)) = container(&name, parent) {
                return Some(match pod {
                    Some(pod) => Origin::Pod(pod, Some(id)),
                    None => Origin::Container(engine, id),
                });
            } else if let Some(uid) = name.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")) {
                user = uid.parse().ok().or(user);
            } else if name.ends_with(".service") && pod.is_none() {
                let unit = Origin::Unit(name.clone(), user);
                if !ENGINES.contains(&&*name) {
                    return Some(unit);
                }
                engine_unit = engine_unit.or(Some(unit));
            }
            parent = part;
        }
    }
    pod.map(|pod| Origin::Pod(pod, None)).or(engine_unit)
}

/// `pod1234...` by the driver cgroupfs, `kubepods-burstable-pod1234_....slice` by systemd's.
fn pod_uid(name: &str) -> Option<String> {
    let uid = match name.strip_suffix(".slice") {
        Some(slice) if slice.starts_with("kubepods") || slice.starts_with("kubelet-kubepods") => {
            slice.rsplit_once("-pod")?.1
        }
        _ => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    // A uuid, or the hash of a static pod's manifest.
    let plain = uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    ((uid.len() == 36 || uid.len() == 32) && plain).then_some(uid)
}

fn container(name: &str, parent: &str) -> Option<(&'static str, String)> {
    let stem = name.strip_suffix(".scope").unwrap_or(name);
    for (prefix, engine) in SCOPES {
        if let Some(id) = stem.strip_prefix(prefix).filter(|id| is_id(id)) {
            return Some((engine, id.to_string()));
        }
    }
    if let Some(name) = stem.strip_prefix("lxc.payload.") {
        return Some(("lxc", name.to_string()));
    }
    if let Some(name) = name.strip_suffix(".scope").and_then(|stem| stem.strip_prefix("machine-")) {
        return Some(("machine", name.to_string()));
    }
    if parent == "lxc" {
        return Some(("lxc", name.to_string()));
    }
    let folder = FOLDERS.iter().find(|folder| folder.0 == parent).map(|folder| folder.1);
    is_id(name).then(|| (folder.unwrap_or("container"), name.to_string()))
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// systemd writes a byte that its names can't hold as `\x2d`.
fn unescaped(name: &str) -> String {
    let mut text = Vec::new();
    let mut rest = name.as_bytes();
    while let [first, more @ ..] = rest {
        let hex = match (first, more) {
            (b'\\', [b'x', a, b, ..]) => {
                std::str::from_utf8(&[*a, *b]).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
            }
            _ => None,
        };
        text.push(hex.unwrap_or(*first));
        rest = if hex.is_some() { &more[3..] } else { more };
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
#[path = "cgroup_path_test.rs"]
mod tests;
