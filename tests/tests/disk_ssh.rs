//! A verbose ssh below git and rsync, whose log's disk is full. Found in the field: the log's lines came out on standard output, where the
//! pack was to be, and the clone failed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tideover_tests::disk::own_mounts;
use tideover_tests::programs::{bash, free_port};
use tideover_tests::{Disk, Kind, Run, Scratch, needs, program};

/// A server for root with a key of its own, on a port of its own.
struct Server {
    folder: Scratch,
    port: u16,
    process: Child,
}

impl Server {
    fn start() -> Server {
        let folder = Scratch::new();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).expect("it is ours");
        for name in ["host", "user"] {
            let mut keygen = Command::new(program("ssh-keygen", "openssh-client"));
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
            assert!(keygen.status().expect("ssh-keygen runs").success());
        }
        fs::copy(folder.join("user.pub"), folder.join("authorized")).expect("it was made");
        let port = free_port();
        // In a /run of the test's own.
        own_mounts();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]).status();
        assert!(mounted.expect("mount runs").success());
        fs::create_dir("/run/sshd").expect("sshd wants it");
        let mut process = Command::new(program("sshd", "openssh-server"));
        process.args(["-D", "-f", "/dev/null", "-p", &port.to_string(), "-h"]).arg(folder.join("host"));
        for option in ["ListenAddress=127.0.0.1", "StrictModes=no", "UsePAM=no", "PermitRootLogin=yes"] {
            process.args(["-o", option]);
        }
        process.arg("-o").arg(format!("AuthorizedKeysFile={}", folder.join("authorized").display()));
        process.arg("-o").arg(format!("PidFile={}", folder.join("pid").display()));
        let process = process.stderr(Stdio::null()).spawn().expect("sshd starts");
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Server { folder, port, process }
    }

    /// An ssh that says everything it does in this log.
    fn ssh(&self, log: &Path) -> String {
        let key = self.folder.join("user");
        format!(
            "ssh -vvv -E {} -F /dev/null -p {} -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null",
            log.display(),
            self.port,
            key.display()
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs it without the library and with it, while the log's disk is full; `result` says what came of it.
#[track_caller]
fn as_without(run: impl Fn(&str, &Path) -> Run, result: impl Fn(&Path) -> String) {
    let server = Server::start();
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.join("ssh.log");
    fs::write(&log, "").expect("there is space");
    disk.fill();
    let seen = [false, true].map(|preload| {
        let scratch = Scratch::new();
        let run = run(&server.ssh(&log), scratch.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let run = run.env("HOME", scratch.path()).env("TIDEOVER_FALLBACK", "auto").env("TIDEOVER_LOG", "off");
        let outcome = run.preload(preload).output();
        outcome.passes();
        // What ssh logs comes to its standard error with the library, and nowhere else.
        assert_eq!(outcome.stderr.contains("debug1: "), preload, "{outcome}");
        (outcome.stdout, result(scratch.path()))
    });
    assert_eq!(seen[0], seen[1]);
    assert!(seen[0].1.contains("content"), "{seen:?}");
}

#[needs(mounts, root)]
#[test]
fn git_clones_over_an_ssh_that_logs_everything() {
    let source = Scratch::new();
    let setup = "cd \"$1\" && git init -q . && echo content > file && git add file && git -c user.name=u -c user.email=u@h commit -qm one";
    bash(setup).arg("bash").arg(source.path()).env("HOME", source.path()).output().passes();
    as_without(
        |ssh, folder| {
            let from = format!("root@127.0.0.1:{}", source.path().display());
            let run = Run::new(program("git", "git")).args(["-c", "safe.directory=*", "clone", "-q", &from, "copy"]);
            run.folder(folder).env("GIT_SSH_COMMAND", ssh)
        },
        |folder| fs::read_to_string(folder.join("copy/file")).expect("it was cloned"),
    );
}

#[needs(mounts, root)]
#[test]
fn rsync_copies_over_an_ssh_that_logs_everything() {
    let source = Scratch::new();
    let file = source.write("file", "content\n");
    as_without(
        |ssh, folder| {
            let from = format!("root@127.0.0.1:{}", file.display());
            Run::new(program("rsync", "rsync")).args(["-e", ssh, &from]).arg(folder.join("copy"))
        },
        |folder| fs::read_to_string(folder.join("copy")).expect("it was copied"),
    );
}

#[needs(mounts, root)]
#[test]
fn what_a_command_says_through_ssh_is_what_it_says() {
    as_without(|ssh, _| bash(&format!("{ssh} root@127.0.0.1 echo content")), |_| "content".to_string());
}
