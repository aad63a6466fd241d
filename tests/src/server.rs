//! Real servers: how each is started so that the limit on descriptors is what it meets first, and what can be seen of it from
//! outside: CPU time, calls to accept, its error log.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::load::{Crowd, HTTP, Talk};
use crate::programs::{compile_java, free_port};
use crate::{Outcome, Page, Run, Running, Scratch, preload_fixture, program, workspace};

/// When a server comes under the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// From its start.
    AtStart,
    /// By prlimit(2), when it runs: at its start it fits its number of clients to the limit, or raises the limit (as root, the
    /// hard one, too).
    WhenItRuns,
}

/// A server that can be started.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Its name in the table.
    pub name: &'static str,
    /// How clients talk with it.
    pub talk: Talk,
    /// When it comes under the limit.
    pub limited: Limited,
    /// How it is started in a folder of its own, listening on a port; an error says what is missing on this machine.
    pub run: fn(&Path, u16) -> Result<Run, String>,
}

const REDIS: Talk = Talk { ask: "PING\r\n", answer: "+PONG\r\n" };
const MEMCACHED: Talk = Talk { ask: "version\r\n", answer: "VERSION" };
/// HTTP/2: the preface, no settings; the server acknowledges them.
const GRPC: Talk =
    Talk { ask: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", answer: "\0\0\0\x04\x01\0\0\0\0" };

/// All of them. Each writes its error log to standard error or to `error.log` in its folder.
#[rustfmt::skip]
pub const SERVERS: &[Server] = &[
    Server { name: "Python, epoll", talk: HTTP, limited: Limited::AtStart, run: |_, port| python("level.py", port) },
    Server { name: "asyncio", talk: HTTP, limited: Limited::AtStart, run: |_, port| python("asyncio_server.py", port) },
    Server { name: "tokio", talk: HTTP, limited: Limited::AtStart, run: |_, port| tokio(port, "tokio") },
    Server { name: "tokio, one thread", talk: HTTP, limited: Limited::AtStart, run: |_, port| tokio(port, "current") },
    Server { name: "tokio, ends", talk: HTTP, limited: Limited::AtStart, run: |_, port| tokio(port, "ends") },
    Server { name: "axum", talk: HTTP, limited: Limited::AtStart, run: |_, port| tokio(port, "axum") },
    Server { name: "Node.js http", talk: HTTP, limited: Limited::AtStart, run: node },
    Server { name: "nginx", talk: HTTP, limited: Limited::AtStart, run: nginx },
    Server { name: "redis-server", talk: REDIS, limited: Limited::WhenItRuns, run: redis },
    Server { name: "Apache, event", talk: HTTP, limited: Limited::AtStart, run: |folder, port| apache(folder, port, "event") },
    Server { name: "Apache, prefork", talk: HTTP, limited: Limited::AtStart, run: |folder, port| apache(folder, port, "prefork") },
    Server { name: "lighttpd", talk: HTTP, limited: Limited::WhenItRuns, run: lighttpd },
    Server { name: "memcached", talk: MEMCACHED, limited: Limited::WhenItRuns, run: memcached },
    Server { name: "JDK HttpServer", talk: HTTP, limited: Limited::AtStart, run: |folder, port| java(folder, port, "JdkServer", &[]) },
    Server { name: "Jetty", talk: HTTP, limited: Limited::AtStart, run: jetty },
    Server { name: "Netty", talk: HTTP, limited: Limited::AtStart, run: netty },
    Server { name: "gRPC, Python", talk: GRPC, limited: Limited::AtStart, run: grpc },
    Server { name: "Go net/http", talk: HTTP, limited: Limited::AtStart, run: |_, port| go(port, true) },
    Server { name: "Go net/http, no cgo", talk: HTTP, limited: Limited::AtStart, run: |_, port| go(port, false) },
];

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("servers").join(name)
}

/// A program by name, or what is missing.
fn installed(name: &str, package: &str) -> Result<Run, String> {
    std::panic::catch_unwind(|| Run::new(program(name, package))).map_err(|_| format!("{package} is not installed"))
}

fn python(script: &str, port: u16) -> Result<Run, String> {
    Ok(installed("python3", "python3")?.arg(source(script)).arg(port.to_string()))
}

/// Debian's, of 2022: newer ones try again each second.
fn grpc(_: &Path, port: u16) -> Result<Run, String> {
    if !Path::new("/usr/lib/python3/dist-packages/grpc").exists() {
        return Err("python3-grpcio is not installed".into());
    }
    Ok(Run::new("/usr/bin/python3").arg(source("grpc_server.py")).arg(port.to_string()))
}

/// Built at first use from crates.io, apart from the workspace.
fn tokio(port: u16, kind: &str) -> Result<Run, String> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let into = workspace().join("target/servers");
        let made = Command::new(env!("CARGO"))
            .args(["build", "--release", "--quiet", "--locked", "--manifest-path"])
            .arg(source("rust/Cargo.toml"))
            .arg("--target-dir")
            .arg(&into)
            .output()
            .map_err(|e| e.to_string())?;
        let said = String::from_utf8_lossy(&made.stderr).trim().to_string();
        if made.status.success() { Ok(into.join("release/tokio-servers")) } else { Err(said) }
    });
    Ok(Run::new(built.clone()?).args([&port.to_string(), kind]))
}

fn node(_: &Path, port: u16) -> Result<Run, String> {
    Ok(installed("node", "nodejs")?.arg(source("server.js")).arg(port.to_string()))
}

fn nginx(folder: &Path, port: u16) -> Result<Run, String> {
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .concat();
    let configuration = put(
        folder,
        "nginx.conf",
        format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }} }}\n"
        ),
    );
    Ok(installed("nginx", "nginx")?.args(["-p", &at.to_string(), "-e", "error.log", "-c"]).arg(configuration))
}

fn redis(folder: &Path, port: u16) -> Result<Run, String> {
    Ok(installed("redis-server", "redis-server")?
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .args(["--maxclients", "900", "--logfile"])
        .arg(folder.join("error.log")))
}

fn apache(folder: &Path, port: u16, mpm: &str) -> Result<Run, String> {
    let at = folder.display();
    let modules: String = [&format!("mpm_{mpm}"), "authz_core", "alias"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    // More threads, or processes, than descriptors.
    let workers = match mpm {
        "event" => "StartServers 1\nServerLimit 2\nThreadLimit 128\nThreadsPerChild 128\nMaxRequestWorkers 128\n",
        _ => "StartServers 110\nMinSpareServers 10\nMaxSpareServers 110\nServerLimit 110\nMaxRequestWorkers 110\n",
    };
    let configuration = put(
        folder,
        "apache.conf",
        format!(
            "ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nDocumentRoot {at}\n{modules}{workers}\
             Mutex file:{at}\nDefaultRuntimeDir {at}\nErrorLog {at}/error.log\nLogLevel error\nKeepAliveTimeout 60\n\
             MaxKeepAliveRequests 0\nUser nobody\nGroup nogroup\nRedirect 204 /\n"
        ),
    );
    Ok(installed("apache2", "apache2-bin")?.args(["-D", "FOREGROUND", "-f"]).arg(configuration))
}

fn lighttpd(folder: &Path, port: u16) -> Result<Run, String> {
    let at = folder.display();
    let configuration = put(
        folder,
        "lighttpd.conf",
        format!(
            "server.bind = \"127.0.0.1\"\nserver.port = {port}\nserver.document-root = \"{at}\"\nserver.errorlog = \"{at}/error.log\"\n\
             server.max-fds = 1024\nserver.max-connections = 900\nserver.max-keep-alive-idle = 60\nserver.modules = (\"mod_redirect\")\n\
             url.redirect = (\"\" => \"/elsewhere\")\n"
        ),
    );
    Ok(installed("lighttpd", "lighttpd")?.arg("-D").arg("-f").arg(configuration))
}

fn memcached(_: &Path, port: u16) -> Result<Run, String> {
    Ok(installed("memcached", "memcached")?.args([
        "-u",
        "root",
        "-l",
        "127.0.0.1",
        "-t",
        "2",
        "-b",
        "1024",
        "-c",
        "900",
        "-p",
        &port.to_string(),
    ]))
}

/// Compiled anew: it takes a second.
fn java(folder: &Path, port: u16, class: &str, jars: &[&str]) -> Result<Run, String> {
    let jars: Vec<PathBuf> = jars.iter().map(|jar| Path::new("/usr/share/java").join(format!("{jar}.jar"))).collect();
    if let Some(missing) = jars.iter().find(|jar| !jar.exists()) {
        return Err(format!("{} is not installed", missing.display()));
    }
    let path: Vec<String> =
        std::iter::once(folder).chain(jars.iter().map(PathBuf::as_path)).map(|p| p.display().to_string()).collect();
    compile_java(&[source(&format!("{class}.java"))], &path.join(":"), folder);
    installed("java", "openjdk-17-jre-headless")?;
    let jars: Vec<String> = jars.iter().map(|jar| jar.display().to_string()).collect();
    Ok(crate::programs::java(folder, &jars.join(":")).args([class, &port.to_string()]))
}

fn jetty(folder: &Path, port: u16) -> Result<Run, String> {
    java(folder, port, "JettyServer", &["jetty9-server", "jetty9-http", "jetty9-io", "jetty9-util", "servlet-api"])
}

fn netty(folder: &Path, port: u16) -> Result<Run, String> {
    let jars = ["buffer", "codec", "codec-http", "common", "handler", "resolver", "transport"]
        .map(|part| format!("netty-{part}"));
    java(folder, port, "NettyServer", &jars.each_ref().map(String::as_str))
}

fn go(port: u16, cgo: bool) -> Result<Run, String> {
    let into = workspace().join("target/servers").join(if cgo { "go-cgo" } else { "go" });
    installed("go", "golang-go")?;
    let made = Command::new(program("go", "golang-go"))
        .args(["build", "-o"])
        .arg(&into)
        .arg(".")
        .current_dir(source("go"))
        .env("CGO_ENABLED", if cgo { "1" } else { "0" })
        .env("GOCACHE", workspace().join("target/servers/go-cache"))
        .env("GOFLAGS", "-mod=mod")
        .output()
        .map_err(|e| e.to_string())?;
    if !made.status.success() {
        return Err(String::from_utf8_lossy(&made.stderr).into_owned());
    }
    Ok(Run::new(into).arg(port.to_string()))
}

fn put(folder: &Path, name: &str, text: String) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a configuration can be written");
    path
}

/// A server that runs, with a counter of accepts above and one below where the library is, or would be. Killed when dropped.
#[derive(Debug)]
pub struct Started {
    /// As in the table, and whether it is preloaded.
    pub name: String,
    running: Option<Running>,
    folder: Scratch,
    port: u16,
    talk: Talk,
}

impl Server {
    /// The one of this name.
    ///
    /// # Panics
    /// If there is none.
    pub fn named(name: &str) -> &'static Server {
        SERVERS.iter().find(|server| server.name == name).unwrap_or_else(|| panic!("{name} is not in the table"))
    }

    /// Starts it under this limit, its accepts counted; `change` may add to it. An error says what is missing on this machine.
    pub fn start(&self, limit: u64, preload: bool, change: impl Fn(Run) -> Run) -> Result<Started, String> {
        let counter = preload_fixture("accepts");
        let at_start = if self.limited == Limited::AtStart { limit } else { 1024 };
        let started = self.launch(at_start, preload, |run, folder| {
            let [above, below] = ["above.so", "below.so"].map(|name| {
                let copy = folder.join(name);
                fs::copy(&counter, &copy).expect("it can be copied");
                copy
            });
            change(run.preload_before(above).preload_after(below))
        })?;
        if self.limited == Limited::WhenItRuns {
            let new = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: `new` is a valid rlimit; the old one is not asked for.
            let set = unsafe { libc::prlimit(started.pid() as i32, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut()) };
            assert_eq!(set, 0, "prlimit of {}", self.name);
        }
        Ok(started)
    }

    /// Starts it with 4,096 descriptors and nothing beside it.
    pub fn start_at_ease(&self, preload: bool, change: impl Fn(Run) -> Run) -> Result<Started, String> {
        self.launch(4096, preload, |run, _| change(run))
    }

    fn launch(&self, limit: u64, preload: bool, change: impl Fn(Run, &Scratch) -> Run) -> Result<Started, String> {
        let folder = Scratch::new();
        let port = free_port();
        // A server's children may be another user's.
        let pages = folder.join("pages");
        fs::create_dir(&pages)
            .and_then(|()| fs::set_permissions(&pages, Permissions::from_mode(0o1777)))
            .expect("it is ours");
        let run = change((self.run)(folder.path(), port)?, &folder).limit(limit).page_dir(pages).preload(preload);
        let running = Some(run.timeout(Duration::from_secs(300)).start());
        let name = format!("{}, {}", self.name, if preload { "preloaded" } else { "plain" });
        let started = Started { name, running, folder, port, talk: self.talk };
        started.wait();
        Ok(started)
    }
}

impl Started {
    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// The page of that.
    pub fn page(&self) -> Page {
        self.running().page()
    }

    /// It runs.
    pub fn running(&self) -> &Running {
        self.running.as_ref().expect("it has not been ended")
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Clients of it, none yet.
    pub fn crowd(&self) -> Crowd {
        Crowd::new(self.port, self.talk)
    }

    /// Does it answer a client within this time?
    pub fn answers(&self, time: Duration) -> bool {
        let mut crowd = self.crowd();
        crowd.come(1);
        crowd.pass(time) && crowd.served.len() == 1
    }

    fn wait(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.answers(Duration::from_secs(10)) {
            assert!(
                !self.running().ended() && Instant::now() < end,
                "{} does not start: {:?}",
                self.name,
                self.running()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// CPU time of all its processes so far. For each what its living threads have used, to the nanosecond, or what the kernel says of
    /// all of them, in steps of 10 ms, whichever is more; and what its children had used that are gone.
    pub fn cpu(&self) -> Duration {
        let group = self.pid().to_string();
        let used = |process: fs::DirEntry| -> Option<Duration> {
            let stat = fs::read_to_string(process.path().join("stat")).ok()?;
            // After the name, which may hold anything: state ppid pgrp ... utime stime cutime cstime, the 12th to the 15th.
            let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            let ticks = |from: usize| fields[from..from + 2].iter().filter_map(|f| f.parse::<u64>().ok()).sum::<u64>();
            let threads = fs::read_dir(process.path().join("task")).ok()?.flatten();
            let exact = threads.filter_map(|thread| {
                let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
                text.split(' ').next()?.parse::<u64>().ok()
            });
            let living = Duration::from_nanos(exact.sum()).max(Duration::from_millis(10 * ticks(11)));
            (fields[2] == group).then_some(living + Duration::from_millis(10 * ticks(13)))
        };
        fs::read_dir("/proc").expect("/proc").flatten().filter_map(used).sum()
    }

    /// Calls to accept so far that reached the kernel.
    pub fn tried(&self) -> u64 {
        self.count("below", 0)
    }

    /// Calls to accept so far in which the program was told that it has no descriptor left.
    pub fn emfile(&self) -> u64 {
        self.count("above", 8)
    }

    fn count(&self, which: &str, at: usize) -> u64 {
        let bytes = fs::read(self.folder.join(&format!("{which}.so.counts"))).unwrap_or_default();
        bytes.get(at..at + 8).map_or(0, |field| u64::from_ne_bytes(field.try_into().expect("8 bytes")))
    }

    /// Lines on standard error and in its error log so far: its own, and the library's.
    pub fn logged(&self) -> (usize, usize) {
        let text =
            self.running().stderr_so_far() + &fs::read_to_string(self.folder.join("error.log")).unwrap_or_default();
        let ours = text.lines().filter(|line| line.starts_with("tideover[")).count();
        (text.lines().count() - ours, ours)
    }

    /// Ends it.
    pub fn stop(mut self) -> Outcome {
        let running = self.running.take().expect("it has not been ended");
        running.signal(libc::SIGTERM);
        running.finish()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // SAFETY: kill(2) touches no memory; the server has not been waited for, so the group is its own.
            unsafe { libc::kill(-(running.pid() as i32), libc::SIGKILL) };
            running.finish();
        }
    }
}
