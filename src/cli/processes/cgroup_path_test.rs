//! /proc/PID/cgroup as service managers and container engines make it. `ID` stands for 64 hex digits, `UID` for a uuid.
#![forbid(unsafe_code)]

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const UID: &str = "2f0b8a46-50d4-4d6d-9b3e-6f1c9f7b2a11";

fn read(text: &str) -> Option<Origin> {
    origin(&text.replace("UID", UID).replace("UI_D", &UID.replace('-', "_")).replace("ID", ID))
}

fn unit(name: &str) -> Option<Origin> {
    Some(Origin::Unit(name.into(), None))
}

fn container(engine: &'static str) -> Option<Origin> {
    Some(Origin::Container(engine, ID.into()))
}

fn pod() -> Option<Origin> {
    Some(Origin::Pod(UID.into(), Some(ID.into())))
}

/// What made the group, the text, and what is read from it.
type Row = (&'static str, &'static str, Option<Origin>);

/// The first half of the table.
fn first_rows() -> Vec<Row> {
    vec![
        ("systemd, v2", "0::/system.slice/nginx.service\n", unit("nginx.service")),
        (
            "systemd, v1",
            "12:pids:/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service\n0::/\n",
            unit("nginx.service"),
        ),
        ("systemd, template", "0::/system.slice/system-getty.slice/getty@tty1.service\n", unit("getty@tty1.service")),
        ("systemd, escaped", "0::/system.slice/my\\x2dapp.service\n", unit("my-app.service")),
        (
            "systemd, delegated",
            "0::/system.slice/postgresql@15-main.service/worker/docker-ID.scope\n",
            unit("postgresql@15-main.service"),
        ),
        (
            "systemd, a user's",
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/foo.service\n",
            Some(Origin::Unit("foo.service".into(), Some(1000))),
        ),
        ("systemd, a session", "0::/user.slice/user-1000.slice/session-3.scope\n", None),
        ("Docker, v1, cgroupfs", "4:memory:/docker/ID\n1:name=systemd:/docker/ID\n", container("docker")),
        ("Docker, v2, cgroupfs", "0::/docker/ID\n", container("docker")),
        ("Docker, v1, systemd", "4:memory:/system.slice/docker-ID.scope\n", container("docker")),
        ("Docker, v2, systemd", "0::/system.slice/docker-ID.scope\n", container("docker")),
        (
            "Docker, rootless",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope\n",
            container("docker"),
        ),
        ("Docker in Docker", "0::/docker/ID/docker/ffff\n", container("docker")),
        ("Docker, its daemon", "0::/system.slice/docker.service\n", unit("docker.service")),
        ("Docker, seen from another container", "0::/../ID\n", container("container")),
        ("podman, v2", "0::/machine.slice/libpod-ID.scope/container\n", container("podman")),
        ("podman, v1", "4:memory:/machine.slice/libpod-ID.scope\n", container("podman")),
        ("podman, cgroupfs", "4:memory:/libpod_parent/libpod-ID\n", container("podman")),
        (
            "podman, rootless",
            "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container\n",
            container("podman"),
        ),
    ]
}

/// The rest of it.
fn other_rows() -> Vec<Row> {
    vec![
        ("podman, a unit of Quadlet", "0::/system.slice/web.service/libpod-payload-ID\n", unit("web.service")),
        ("podman, its monitor", "0::/machine.slice/libpod-conmon-ID.scope\n", None),
        ("containerd, nerdctl", "0::/system.slice/nerdctl-ID.scope\n", container("containerd")),
        ("containerd, ctr", "0::/default/ID\n", container("containerd")),
        ("containerd, v1", "4:memory:/k8s.io/ID\n", container("containerd")),
        (
            "Kubernetes, containerd, systemd",
            "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUI_D.slice/cri-containerd-ID.scope\n",
            pod(),
        ),
        ("Kubernetes, containerd, cgroupfs, v1", "4:memory:/kubepods/burstable/podUID/ID\n", pod()),
        ("Kubernetes, containerd, guaranteed, v2", "0::/kubepods/podUID/ID\n", pod()),
        (
            "Kubernetes, containerd, mixed drivers",
            "4:memory:/system.slice/containerd.service/kubepods-besteffort-podUI_D.slice:cri-containerd:ID\n",
            pod(),
        ),
        ("Kubernetes, CRI-O, v2", "0::/kubepods.slice/kubepods-podUI_D.slice/crio-ID.scope/container\n", pod()),
        ("Kubernetes, CRI-O, v1", "4:memory:/kubepods/besteffort/podUID/crio-ID\n", pod()),
        (
            "Kubernetes, Docker",
            "4:memory:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUI_D.slice/docker-ID.scope\n",
            pod(),
        ),
        (
            "Kubernetes, kind",
            "0::/docker/ID/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUI_D.slice/cri-containerd-ID.scope\n",
            container("docker"),
        ),
        (
            "Kubernetes, kind, inside",
            "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podUI_D.slice/cri-containerd-ID.scope\n",
            pod(),
        ),
        ("Kubernetes, k3s", "0::/kubepods/besteffort/podUID/ID\n", pod()),
        ("LXC, v2", "0::/lxc.payload.web/system.slice/nginx.service\n", Some(Origin::Container("lxc", "web".into()))),
        ("LXC, v1", "4:memory:/lxc/web\n", Some(Origin::Container("lxc", "web".into()))),
        (
            "systemd-nspawn",
            "0::/machine.slice/machine-web\\x2d1.scope/payload\n",
            Some(Origin::Container("machine", "web-1".into())),
        ),
        ("inside of a container", "0::/\n", None),
        ("no control groups", "", None),
    ]
}

#[test]
fn paths_of_all_engines_are_read() {
    for (who, text, expected) in first_rows().into_iter().chain(other_rows()) {
        assert_eq!(read(text), expected, "{who}: {text}");
    }
}

#[test]
fn paths_that_lie_name_nobody_else() {
    // A user's own groups stay that user's, and a container's those of its container.
    let own = read("0::/user.slice/user-7.slice/user@7.service/app.slice/nginx.service\n");
    assert_eq!(own, Some(Origin::Unit("nginx.service".into(), Some(7))));
    assert_eq!(read("0::/system.slice/docker-ID.scope/system.slice/nginx.service\n"), container("docker"));
    for odd in [
        "0",
        "::",
        "0::",
        "x:y:docker-1.scope",
        "0::/pod/podUID-/podxyz",
        "0::/docker/\u{e9}\u{e9}",
        "0::/a\\x2",
        "0::/\\xzz",
    ] {
        assert_eq!(read(odd), None, "{odd}");
    }
    let deep = format!("0::{}\n", "/a".repeat(100_000));
    assert_eq!(read(&deep), None);
}
