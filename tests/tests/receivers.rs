//! The receivers of `tideover watch`: the shapes that they take, what they are sent, and what is said of those that fail.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tideover_tests::running::tell;
use tideover_tests::{Outcome, Run, Running, Scratch, fixture, program, tideover};

/// What a receiver answers to each request: the whole text of an answer, or nothing, ever.
#[derive(Clone, Copy)]
enum Answer {
    Text(&'static str),
    Never,
}

const TAKEN: Answer = Answer::Text("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");

/// A request as it came.
#[derive(Clone, Debug)]
struct Post {
    head: String,
    body: Value,
}

/// A server of HTTP that keeps what it gets.
struct Receiver {
    address: SocketAddr,
    posts: Arc<Mutex<Vec<Post>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    fn open(answer: Answer) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().unwrap();
        let (posts, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (kept, end) = (posts.clone(), over.clone());
        let thread = thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if end.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                kept.lock().unwrap().push(post(&stream));
                match answer {
                    Answer::Text(text) => drop((&stream).write_all(text.as_bytes())),
                    Answer::Never => silent.push(stream),
                }
            }
        });
        Receiver { address, posts, over, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/hook/S3CRET", self.address)
    }

    fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn post(stream: &TcpStream) -> Post {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) <= 2 {
            break;
        }
        let lower = line.to_ascii_lowercase();
        length = lower.strip_prefix("content-length: ").map_or(length, |number| number.trim().parse().unwrap());
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Post { head, body: serde_json::from_slice(&body).expect("JSON") }
}

/// A program of a name that nobody else has, all of whose descriptors are in use.
struct Full {
    running: Running,
    name: String,
    folder: Scratch,
}

impl Full {
    fn start(before: &[u8]) -> Full {
        let folder = Scratch::new();
        let id = format!("{}", std::process::id());
        let mut bytes = before.to_vec();
        bytes.extend(id.as_bytes());
        // A link: a copy is busy for as long as a child that another test has just forked still has it open.
        let path = folder.path().join(OsString::from_vec(bytes.clone()));
        std::os::unix::fs::symlink(fixture("ebb"), &path).unwrap();
        let mut running = Run::new(path).limit(64).start();
        tell(&mut running, "fill");
        Full { running, name: String::from_utf8_lossy(&bytes).into_owned(), folder }
    }

    fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// One look at it.
    fn once(&self, words: &[&str]) -> Outcome {
        self.watch(&[&["--once"], words].concat()).output()
    }

    fn watch(&self, words: &[&str]) -> Run {
        // The first letters of these names differ, and no other program has this number in its name.
        let only = format!("{}*{}", &self.name[..1], std::process::id());
        let run = Run::new(tideover()).args(["watch", "--interval", "50ms", "--calm", "100ms", "--only", &only]);
        run.arg("--page-dir").arg(self.folder.path()).args(words).timeout(Duration::from_secs(60))
    }
}

fn of(post: &Post, pid: u32) -> bool {
    post.body.to_string().contains(&format!("process {pid}"))
}

/// The one post about this process.
#[track_caller]
fn the_post(receiver: &Receiver, pid: u32) -> Post {
    let mut posts = receiver.posts();
    posts.retain(|post| of(post, pid));
    assert_eq!(posts.len(), 1, "{posts:?}");
    posts.remove(0)
}

fn secret(folder: &Scratch, name: &str, text: &str) -> String {
    let path = folder.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_string()
}

/// An object has these keys, each with a text, and no others.
#[track_caller]
fn texts(value: &Value, keys: &[&str]) {
    let mut names: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut keys = keys.to_vec();
    names.sort_unstable();
    keys.sort_unstable();
    assert_eq!(names, keys, "{value}");
    assert!(value.as_object().unwrap().values().all(Value::is_string), "{value}");
}

#[test]
fn json_goes_to_standard_output_and_to_receivers_with_their_headers() {
    let full = Full::start(b"json");
    let (receiver, folder) = (Receiver::open(TAKEN), Scratch::new());
    let headers = secret(&folder, "headers", "# of a test\nAuthorization: Bearer T0KEN\n");
    let words = ["--format", "json", "--header", "X-Team: storage", "--header", "X-Two: 2", "--header-file", &headers];
    let looked = full.once(&[&words[..], &["--webhook", &receiver.url()]].concat());
    assert_eq!(looked.code(), Some(2), "{looked}");
    let post = the_post(&receiver, full.pid());
    for header in ["x-team: storage", "x-two: 2", "authorization: bearer t0ken", "content-type: application/json"] {
        assert!(post.head.to_ascii_lowercase().contains(&format!("{header}\r\n")), "{}", post.head);
    }
    let lines: Vec<Value> = looked.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let line = lines.iter().find(|line| line["pid"] == full.pid()).expect("a line");
    assert_eq!(line, &post.body);
    assert_eq!((&line["alert"], &line["severity"], &line["since"]), (&"usage".into(), &"critical".into(), &line["at"]));
    assert!(line["key"].as_str().unwrap().starts_with(&format!("usage-{}-", full.pid())), "{line}");
    assert!(looked.stderr.is_empty(), "{looked}");
    full.running.finish();
}

#[test]
fn one_look_says_by_its_exit_status_what_it_found() {
    let mut full = Full::start(b"once");
    let critical = full.once(&["--critical", "95"]);
    assert_eq!(critical.code(), Some(2), "{critical}");
    critical.says(&format!("raised critical usage: {} (process {})", full.name, full.pid()));
    tell(&mut full.running, "drain");
    let fine = full.once(&[]);
    // The machine itself may be short of memory.
    let short = fine.stdout.contains("the system: ");
    assert!(!fine.stdout.contains("(process ") && (short || fine.code() == Some(0)), "{fine}");
    assert_eq!(short, fine.stdout != "no alerts\n", "{fine}");
    let some = full.once(&["--warning", "1", "--critical", "100"]);
    assert!(some.code() == Some(1) || short, "{some}");
    some.says(&format!("raised warning usage: {} (process {})", full.name, full.pid()));
    for mistake in [&["--header", "SECRET"][..], &["--format", "slack"], &["--format", "xml"]] {
        let refused = full.once(mistake);
        assert!(refused.code() == Some(3) && !refused.stderr.contains("SECRET"), "{mistake:?}: {refused}");
    }
    let nowhere = Run::new(tideover()).args(["watch", "--once", "--page-dir", "/nonexistent"]).output();
    assert_eq!(nowhere.code(), Some(3), "{nowhere}");
    full.running.finish();
}

#[test]
fn slack_gets_text_and_blocks_in_which_a_program_cannot_mention_a_channel() {
    let full = Full::start(b"<!a>&");
    let receiver = Receiver::open(Answer::Text("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"));
    let looked = full.once(&["--format", "slack", "--webhook", &receiver.url()]);
    assert_eq!(looked.code(), Some(2), "{looked}");
    let body = the_post(&receiver, full.pid()).body;
    // In alphabetical order or in that of the text, as the features of serde_json are that the whole workspace is built with.
    let keys = body.as_object().unwrap().keys().map(String::as_str).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(keys, ["blocks", "text"].into(), "{body}");
    let text = body["text"].as_str().unwrap();
    let name = full.name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    assert!(text.starts_with(":red_circle: critical on ") && text.contains(&name) && !text.contains('<'), "{text}");
    let blocks = body["blocks"].as_array().unwrap();
    assert_eq!((&blocks[0]["type"], &blocks[1]["type"]), (&"section".into(), &"context".into()));
    for shown in [&blocks[0]["text"], &blocks[1]["elements"][0]] {
        texts(shown, &["type", "text"]);
        assert!(shown["type"] == "mrkdwn" && (1..=3000).contains(&shown["text"].as_str().unwrap().len()), "{shown}");
    }
    full.running.finish();
}

#[test]
fn pagerduty_triggers_and_resolves_one_incident() {
    let mut full = Full::start(b"pager");
    let (receiver, folder) = (Receiver::open(TAKEN), Scratch::new());
    let key = secret(&folder, "key", "0123456789abcdef0123456789abcdef\n");
    let words = ["--warning", "90", "--format", "pagerduty", "--routing-key-file", &key, "--webhook", &receiver.url()];
    let mut watching = full.watch(&words).start();
    watching.wait_for("raised critical usage");
    tell(&mut full.running, "drain");
    watching.wait_for("cleared critical usage");
    let end = Instant::now() + Duration::from_secs(30);
    while receiver.posts().iter().filter(|post| of(post, full.pid())).count() < 2 {
        assert!(Instant::now() < end, "{:?}", receiver.posts());
        thread::sleep(Duration::from_millis(20));
    }
    let posts: Vec<Value> = receiver.posts().into_iter().filter(|it| of(it, full.pid())).map(|it| it.body).collect();
    assert_eq!((&posts[0]["event_action"], &posts[1]["event_action"]), (&"trigger".into(), &"resolve".into()));
    assert_eq!(posts[0]["dedup_key"], posts[1]["dedup_key"]);
    for post in &posts {
        assert_eq!(post["routing_key"], "0123456789abcdef0123456789abcdef");
        assert!((1..=255).contains(&post["dedup_key"].as_str().unwrap().len()), "{post}");
        let payload = &post["payload"];
        assert!((1..=1024).contains(&payload["summary"].as_str().unwrap().len()), "{payload}");
        assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()), "{payload}");
        let mut rest = payload.clone();
        assert!(rest.as_object_mut().unwrap().remove("custom_details").unwrap().is_object());
        texts(&rest, &["summary", "source", "severity", "timestamp", "component", "group", "class"]);
    }
    watching.signal(libc::SIGTERM);
    let told = watching.finish();
    assert!(!told.stdout.contains("0123456789abcdef") && !told.stderr.contains("0123456789abcdef"), "{told}");
    full.running.finish();
}

/// GET of a path, as JSON.
fn get(address: &str, path: &str) -> Option<Value> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn a_real_alertmanager_has_the_alert_while_it_stands() {
    let mut full = Full::start(b"am");
    let folder = Scratch::new();
    let config = folder.write("am.yml", "route: {receiver: none}\nreceivers: [{name: none}]\n");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let manager = Run::new(program("prometheus-alertmanager", "prometheus-alertmanager"));
    let manager = manager.arg(format!("--config.file={}", config.display()));
    let manager = manager.arg(format!("--storage.path={}", folder.path().display()));
    let manager = manager.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
    let manager = manager.timeout(Duration::from_secs(120)).start();
    let name = full.name.clone();
    // The alerts about the program, once there are so many.
    let active = |count: usize| {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let all = get(&address, "/api/v2/alerts?active=true");
            let ours = all.as_ref().and_then(Value::as_array).map(|all| {
                all.iter().filter(|it| it["labels"]["program"] == name.as_str()).cloned().collect::<Vec<_>>()
            });
            match ours {
                Some(ours) if ours.len() == count => return ours,
                other => assert!(Instant::now() < end, "{count} alerts: {other:?}, {}", manager.stderr_so_far()),
            }
            thread::sleep(Duration::from_millis(50));
        }
    };
    active(0);
    let url = format!("http://{address}/api/v2/alerts");
    let mut watching = full.watch(&["--warning", "90", "--format", "alertmanager", "--webhook", &url]).start();
    watching.wait_for("raised critical usage");
    let alert = active(1).remove(0);
    let labels = &alert["labels"];
    assert_eq!((&labels["alertname"], &labels["severity"]), (&"TideoverUsage".into(), &"critical".into()), "{alert}");
    assert_eq!(labels["pid"], full.pid().to_string());
    assert!(alert["annotations"]["description"].as_str().unwrap().starts_with("tideover rescue"), "{alert}");
    assert!(alert["endsAt"].as_str() > alert["startsAt"].as_str(), "it stands: {alert}");
    tell(&mut full.running, "drain");
    watching.wait_for("cleared critical usage");
    active(0);
    watching.signal(libc::SIGTERM);
    let told = watching.finish();
    assert!(!told.stderr.contains("refuses"), "{told}");
    full.running.finish();
    manager.signal(libc::SIGKILL);
    manager.finish();
}

#[test]
fn a_receiver_that_refuses_redirects_or_hangs_is_named_and_the_watch_goes_on() {
    let full = Full::start(b"refuse");
    let redirect = "HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/S3CRET\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 32\r\nConnection: close\r\n\r\ninvalid_payload at /hook/S3CRET\n\n";
    for (answer, cause, remedy) in [
        (
            Answer::Text(refusal),
            "answers 400 (invalid_payload at ...)",
            "see whether --format is that of this receiver",
        ),
        (
            Answer::Text(redirect),
            "redirects to elsewhere.example (302), which is not followed",
            "put the URL where it leads",
        ),
        (Answer::Never, "has not answered within 300ms", "see whether it runs, and whether a firewall is between"),
    ] {
        let (odd, fine) = (Receiver::open(answer), Scratch::new());
        let told = fine.join("told");
        let exec = format!("echo $ALERT_PID >>{}", told.display());
        let url = odd.url();
        // Its messages come on standard output, so that they can be waited for.
        let run = full.watch(&["--timeout", "300ms", "--webhook", &url, "--exec", &exec]);
        let mut words = vec![OsString::from("-c"), "exec \"$@\" 2>&1".into(), "sh".into()];
        words.extend(run.command());
        let mut watching = Run::new("sh").args(words).timeout(Duration::from_secs(60)).start();
        let line = watching.wait_for(cause);
        assert!(line.contains(remedy) && line.contains("the webhook at 127.0.0.1"), "{line}");
        assert!(!line.contains("S3CRET"), "{line}");
        let end = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(&told).unwrap_or_default().contains(&full.pid().to_string()) {
            assert!(Instant::now() < end, "the other receiver waits for this one");
            thread::sleep(Duration::from_millis(20));
        }
        assert!(!watching.ended(), "the watch has ended");
        watching.signal(libc::SIGTERM);
        watching.finish();
    }
    full.running.finish();
}

#[test]
fn a_name_that_is_no_utf8_gives_valid_json_in_every_format() {
    let full = Full::start(b"n\xff\x01\"\\");
    let folder = Scratch::new();
    let key = secret(&folder, "key", "key\n");
    for format in ["json", "slack", "pagerduty", "alertmanager"] {
        let receiver = Receiver::open(TAKEN);
        let mut words = vec!["--format", format, "--webhook"];
        let url = receiver.url();
        words.push(&url);
        if format == "pagerduty" {
            words.extend(["--routing-key-file", &key]);
        }
        let looked = full.once(&words);
        assert_eq!(looked.code(), Some(2), "{looked}");
        let body = the_post(&receiver, full.pid()).body.to_string();
        assert!(body.contains('\u{fffd}'), "{body}");
    }
    full.running.finish();
}
