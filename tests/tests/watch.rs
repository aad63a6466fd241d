//! `tideover watch`: who is told, how often, and what it does by itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tideover_tests::running::tell;
use tideover_tests::{Disk, Kind, Run, Running, Scratch, fixture, needs, program, tideover, workspace};

/// A webhook: keeps what is posted to it, and answers each with the next of its statuses, then with 204.
struct Hook {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Value>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Hook {
    fn open(address: &str, statuses: &[u16]) -> Hook {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().unwrap();
        let (posts, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, end, mut statuses) = (posts.clone(), over.clone(), statuses.to_vec());
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let status = if statuses.is_empty() { 204 } else { statuses.remove(0) };
                let stream = stream.unwrap();
                let mut reader = BufReader::new(&stream);
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).unwrap_or(0) > 2 {
                    let header = line.to_ascii_lowercase();
                    length = header.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().unwrap());
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                if status == 204 {
                    kept.lock().unwrap().push(serde_json::from_slice(&body).expect("JSON"));
                }
                let _ = write!(&stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        Hook { address, posts, over, thread: Some(thread) }
    }

    /// What has come of a process.
    fn of(&self, pid: u32) -> Vec<Value> {
        self.posts.lock().unwrap().iter().filter(|post| post["pid"] == pid).cloned().collect()
    }

    fn wait_for(&self, pid: u32, count: usize) -> Vec<Value> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let posts = self.of(pid);
            if posts.len() >= count {
                return posts;
            }
            assert!(Instant::now() < end, "{} of {count} alerts came: {posts:?}", posts.len());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = std::net::TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn watch(pages: &Scratch, more: &[&str]) -> Run {
    let run = Run::new(tideover()).args(["watch", "--interval", "50ms", "--page-dir"]).arg(pages.path());
    run.args(more).timeout(Duration::from_secs(60))
}

fn end(running: Running) -> String {
    running.signal(libc::SIGTERM);
    running.finish().stdout
}

fn told(post: &Value) -> String {
    let word = |key: &str| post[key].as_str().unwrap_or_default().to_string();
    format!("{} {} {}", word("alert"), word("state"), word("severity"))
}

fn ebb(pages: &Scratch, preload: bool) -> Running {
    let mut ebb = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(preload).start();
    tell(&mut ebb, "drain");
    ebb
}

#[test]
fn an_alert_is_told_once_and_cleared_once() {
    let pages = Scratch::new();
    let hook = Hook::open("127.0.0.1:0", &[]);
    let url = format!("http://{}/hook", hook.address);
    // A look may find it half full: one threshold, one alert.
    let watch = watch(&pages, &["--only", "ebb", "--warning", "90", "--calm", "200ms", "--webhook", &url]).start();
    let mut ebb = ebb(&pages, false);
    let pid = ebb.pid();
    tell(&mut ebb, "fill");
    let first = hook.wait_for(pid, 1);
    assert_eq!(told(&first[0]), "usage raised critical");
    assert_eq!(first[0]["message"], format!("ebb (process {pid}): 64 of 64 descriptors in use (100 %)"));
    assert_eq!(first[0]["remedy"], format!("tideover rescue {pid}; tideover doctor {pid}"));
    tell(&mut ebb, "drain");
    let both = hook.wait_for(pid, 2);
    assert_eq!(told(&both[1]), "usage cleared critical");
    assert_ne!(both[0]["id"], both[1]["id"]);
    // Looks go on every 50 ms: nothing is said again.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(hook.of(pid).len(), 2);
    ebb.finish();
    let said = end(watch);
    assert_eq!(said.lines().filter(|line| line.contains(&format!("(process {pid})"))).count(), 2, "{said}");
}

#[test]
fn alerts_wait_for_a_receiver_that_is_down_and_each_comes_once() {
    let pages = Scratch::new();
    let address = Hook::open("127.0.0.1:0", &[]).address.to_string();
    let url = format!("http://{address}/");
    let watch = watch(&pages, &["--only", "ebb", "--warning", "90", "--calm", "100ms", "--webhook", &url]).start();
    let mut ebb = ebb(&pages, true);
    let pid = ebb.pid();
    let said = |words: &[&str]| {
        let all = words.iter().map(|word| format!("{word}: ebb (process {pid})")).collect::<Vec<_>>();
        let end = Instant::now() + Duration::from_secs(50);
        while !watch.stdout_so_far().contains("watching") || !all.iter().all(|it| watch.stdout_so_far().contains(it)) {
            assert!(Instant::now() < end, "not all of {all:?}: {}", watch.stdout_so_far());
            thread::sleep(Duration::from_millis(20));
        }
    };
    said(&[]);
    tell(&mut ebb, "fill");
    said(&["raised critical usage", "raised critical gave_up"]);
    tell(&mut ebb, "drain");
    said(&["cleared critical usage", "cleared critical gave_up"]);
    // Now it is up; at first it can't take any.
    let hook = Hook::open(&address, &[500, 503]);
    let posts = hook.wait_for(pid, 4);
    let mut all: Vec<String> = posts.iter().map(told).collect();
    assert!(all[0].contains("raised"), "in order: {all:?}");
    all.sort();
    let each =
        ["gave_up cleared critical", "gave_up raised critical", "usage cleared critical", "usage raised critical"];
    assert_eq!(all, each);
    thread::sleep(Duration::from_millis(500));
    assert_eq!(hook.of(pid).len(), 4, "nothing twice");
    ebb.finish();
    end(watch);
}

#[test]
fn a_program_at_its_limit_is_rescued_when_that_is_asked_for() {
    let pages = Scratch::new();
    // The control: without --rescue it stays full.
    // Nobody else's program has this name: others that live at their limit on this machine are none of our business.
    let name = format!("full{}", std::process::id());
    // A link: a copy is busy for as long as a child that another test has just forked still has it open.
    std::os::unix::fs::symlink(fixture("rescued"), pages.join(&name)).unwrap();
    let mut full = Run::new(pages.join(&name)).soft(64).hard(4096).start();
    full.wait_for("full after");
    let raised = format!("raised critical usage: {name} (process {})", full.pid());
    let mut watching = watch(&pages, &["--only", &name]).start();
    watching.wait_for(&raised);
    for _ in 0..3 {
        full.wait_for("still full");
    }
    end(watching);
    let mut rescuing = watch(&pages, &["--rescue", "--only", &name]).start();
    let line = rescuing.wait_for(&raised);
    assert!(line.contains("; rescued: full") && line.contains("soft limit was 64, is 4096"), "{line}");
    full.wait_for("recovered");
    full.finish().passes();
    end(rescuing);
}

#[needs(mounts)]
#[test]
fn zombies_and_full_log_disks_are_told() {
    let (pages, scratch) = (Scratch::new(), Scratch::new());
    let disk = Disk::new(Kind::Tmpfs);
    let told = scratch.join("told");
    let command = format!("echo \"$ALERT_NAME $ALERT_STATE $ALERT_SEVERITY $ALERT_PID\" >>{}", told.display());
    // All twelve before the first look, which could fall among them.
    let mut zombies = Run::new(fixture("sick")).args(["zombies", "12"]).start();
    zombies.wait_for("sick");
    let mut watch = watch(&pages, &["--only", "sick,bash", "--calm", "100ms", "--exec", &command]).start();
    watch.wait_for(&format!("raised warning zombies: sick (process {}): 12 of its children", zombies.pid()));
    let log = disk.join("app.log");
    let script = format!("exec 2>>{}; while read line; do echo $line >&2; echo done; done", log.display());
    let sh = Run::new("bash").args(["-c", &script]).env("TIDEOVER_FALLBACK", "stdout");
    let mut logger = sh.page_dir(pages.path()).preload(true).start();
    tell(&mut logger, "healthy");
    disk.fill();
    // More than the slack of its last block.
    tell(&mut logger, &"diverted ".repeat(1000));
    watch.wait_for("raised critical degraded: bash");
    disk.free();
    while !std::fs::read_to_string(&log).unwrap().contains("back") {
        tell(&mut logger, "back");
        thread::sleep(Duration::from_millis(50));
    }
    watch.wait_for("cleared critical degraded: bash");
    let zombie_maker = zombies.pid();
    zombies.finish();
    watch.wait_for(&format!("cleared warning zombies: sick (process {zombie_maker})"));
    let lines = [
        format!("zombies raised warning {zombie_maker}\n"),
        format!("degraded raised critical {}\n", logger.pid()),
        format!("degraded cleared critical {}\n", logger.pid()),
        format!("zombies cleared warning {zombie_maker}\n"),
    ];
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let said = std::fs::read_to_string(&told).unwrap_or_default();
        if lines.iter().all(|line| said.matches(line).count() == 1) {
            break;
        }
        assert!(Instant::now() < until, "not each of {lines:?} once: {said}");
        thread::sleep(Duration::from_millis(50));
    }
    logger.finish();
    end(watch);
}

#[test]
fn mistakes_are_refused_at_the_start() {
    let pages = Scratch::new();
    watch(&pages, &["--webhook", "example.org"]).output().fails().says("is no URL; say http://");
    watch(&pages, &["--warning", "95"]).output().fails().says("--warning can't be above --critical");
    Run::new(tideover()).args(["watch", "--page-dir", "/nonexistent"]).output().fails().says("--page-dir");
}

#[test]
fn systemd_takes_the_unit() {
    let unit = workspace().join("contrib/systemd/tideover-watch.service");
    let text = std::fs::read_to_string(&unit).unwrap();
    let start =
        text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/tideover ")).expect("it starts us");
    let options = text.lines().find_map(|line| line.strip_prefix("Environment=TIDEOVER_WATCH=")).expect("options");
    let words: Vec<&str> =
        start.split(' ').map(|word| if word == "$TIDEOVER_WATCH" { options } else { word }).collect();
    Run::new(tideover()).args(words).arg("--help").output().passes();
    // The unit as it would be installed, with the built command in the place of /usr/local/bin/tideover.
    let scratch = Scratch::new();
    let here = text.replace("/usr/local/bin/tideover", tideover().to_str().unwrap()).replace("Documentation=", "#");
    let here = scratch.write("tideover-watch.service", &here);
    let verified = Run::new(program("systemd-analyze", "systemd")).arg("verify").arg(here).output();
    assert!(verified.succeeded() && !verified.stderr.contains("tideover-watch"), "{verified}");
}

/// A webhook by https: says its port, then each body that is posted to it.
const HTTPS: &str = "
import http.server, ssl, sys
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers['Content-Length'])).decode(), flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *words): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Hook)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print('port', server.server_port, flush=True)
server.serve_forever()
";

#[test]
fn https_goes_to_those_whose_certificate_the_system_trusts() {
    let (pages, keys) = (Scratch::new(), Scratch::new());
    let openssl = |words: &str| {
        Run::new(program("openssl", "openssl")).args(words.split(' ')).folder(keys.path()).output().passes();
    };
    keys.write("names", "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=tideover-test-ca -days 2");
    openssl("req -newkey rsa:2048 -nodes -keyout hook.key -out hook.csr -subj /CN=localhost");
    openssl("x509 -req -in hook.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out hook.pem -days 2 -extfile names");
    let python = Run::new(program("python3", "python3")).args(["-c", HTTPS, "hook.pem", "hook.key"]);
    let mut hook = python.folder(keys.path()).timeout(Duration::from_secs(60)).start();
    let port = hook.wait_for("port ").split_off(5);
    let url = format!("https://localhost:{port}/secret");
    let mut ebb = ebb(&pages, false);
    tell(&mut ebb, "fill");
    // The control: nobody vouches for it. Its messages come on standard output, so that they can be waited for.
    let words = format!("exec {} \"$@\" 2>&1", tideover().display());
    let args = ["watch", "--only", "ebb", "--webhook", &url, "--page-dir", pages.path().to_str().unwrap()];
    let watching = Run::new("sh").args(["-c", &words, "sh"]).args(args).timeout(Duration::from_secs(60));
    let mut strangers = watching.start();
    strangers.wait_for("the webhook at localhost does not take an alert");
    let said = end(strangers);
    assert!(said.contains("raised critical usage: ebb") && !said.contains("secret"), "{said}");
    assert!(!hook.stdout_so_far().contains("usage"), "{}", hook.stdout_so_far());
    let trusting = watching.env("SSL_CERT_FILE", keys.join("ca.pem")).start();
    let line = hook.wait_for(&format!("\"pid\":{}", ebb.pid()));
    assert!(line.contains("\"alert\":\"usage\""), "{line}");
    end(trusting);
    end(hook);
    ebb.finish();
}
