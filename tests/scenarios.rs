//! What users have reported of descriptor exhaustion, each report as a program that shows it: without the library as it was
//! reported, with the library as it was wished.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tideover_tests::{Outcome, Run, Scratch, fixture, program};

/// Compiles a Java program; gives the folder of its classes.
fn java_classes(scratch: &Scratch, name: &str, classpath: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(format!("{name}.java"));
    let into = scratch.join("classes");
    let result = Command::new(program("ecj", "ecj"))
        .args(["-17", "-nowarn", "-proc:none", "-cp", classpath, "-d"])
        .arg(&into)
        .arg(&source)
        .output()
        .expect("ecj runs");
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
    into
}

fn java(classes: &Path, classpath: &str) -> Run {
    Run::new(program("java", "openjdk-17-jre-headless"))
        .args(["-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Xmx64m", "-cp"])
        .arg(format!("{}:{classpath}", classes.display()))
        .timeout(Duration::from_secs(60))
}

// redis#246

#[test]
fn a_log_that_is_opened_for_each_line_has_them_all() {
    let scratch = Scratch::new();
    let log = scratch.join("redis.log");
    let run = Run::new(fixture("log_per_line")).arg(&log).arg("20").limit(64);
    run.output().passes().says("20 of 20 lines lost");
    assert_eq!(fs::read_to_string(&log).expect("the log"), "");

    let mut running = run.preload(true).start();
    running.wait_for("0 of 20 lines lost");
    let page = running.page();
    running.finish().passes();
    let lines = fs::read_to_string(&log).expect("the log");
    let wanted: String = (1..=20).map(|n| format!("{n}: a line of the log\n")).collect();
    assert_eq!(lines, wanted);
    assert_eq!(page.exhaustion("emfile"), 20, "each line met the limit");
    assert_eq!(page.exhaustion("recovered"), 20);
}

// log4j2#1261

/// The numbers of the messages in a log and in what it was renamed to.
fn messages(log: &Path) -> Vec<u32> {
    let old = fs::read_to_string(log.with_extension("log.1")).unwrap_or_default();
    let new = fs::read_to_string(log).unwrap_or_default();
    (old + &new).lines().filter_map(|line| line.strip_prefix("message ")?.trim().parse().ok()).collect()
}

/// A program that logs ten messages and renames its log before the sixth. From the moment when that is done another thread has
/// every descriptor, for a second.
fn rolls_over(name: &str, run: impl Fn(&Path) -> Run) -> Outcome {
    let all: Vec<u32> = (1..=10).collect();
    let scratch = Scratch::new();
    let log = scratch.join("app.log");
    let plain = run(&log).output();
    plain.passes();
    assert_ne!(messages(&log), all, "{name}: {plain}");

    let scratch = Scratch::new();
    let log = scratch.join("app.log");
    let preloaded = run(&log).preload(true).output();
    preloaded.passes();
    assert_eq!(messages(&log), all, "{name}: {preloaded}");
    assert!(preloaded.theirs().is_empty(), "{name} had nothing to complain of: {preloaded}");
    plain
}

#[test]
fn log4j_logs_on_when_descriptors_were_gone_exactly_during_rollover() {
    let jars = "/usr/share/java/log4j-api.jar:/usr/share/java/log4j-core.jar";
    assert!(Path::new("/usr/share/java/log4j-core.jar").exists(), "install the Debian package liblog4j2-java");
    let scratch = Scratch::new();
    let classes = java_classes(&scratch, "Rollover", jars);
    // Without the library it logs nothing any more, though there are descriptors again.
    rolls_over("log4j2", |log| java(&classes, jars).arg("Rollover").arg(log).limit(64))
        .says("message 10: org.apache.logging.log4j.core.appender.AppenderLoggingException");
}

#[test]
fn python_logs_on_when_descriptors_were_gone_exactly_during_rollover() {
    let script = r#"
import logging.handlers, os, sys, threading, time

class Rotating(logging.handlers.RotatingFileHandler):
    def shouldRollover(self, record):
        return record.args == (6,)
    def rotate(self, source, dest):
        os.rename(source, dest)
        taken = []
        while not os.path.exists('/proc/self/fd/63'): taken.append(os.dup(0))
        def free():
            time.sleep(1)
            for fd in taken: os.close(fd)
        freeing.append(threading.Thread(target=free))
        freeing[0].start()

freeing = []
log = logging.getLogger()
log.addHandler(Rotating(sys.argv[1], backupCount=1))
for i in range(1, 11):
    log.warning('message %d', i)
freeing[0].join()
"#;
    let python = |log: &Path| Run::new(program("python3", "python3")).args(["-c", script]).arg(log).limit(64);
    rolls_over("python", python).says("Too many open files");
}

// bun#36140

#[test]
fn at_the_limit_connect_and_threads_are_what_they_are_without_the_library() {
    // Nobody will close a thing: waiting is cut short.
    let impatient = |run: Run| {
        run.limit(64)
            .timeout(Duration::from_secs(60))
            .env("TIDEOVER_MAX_RETRIES", "1")
            .env("TIDEOVER_INITIAL_WAIT", "10ms")
    };
    let in_c = impatient(Run::new(fixture("connect_at_limit"))).both();
    in_c.same_but_for_messages();
    in_c.plain.passes();
    let wanted = "socket: EMFILE\nnon-blocking socket: EMFILE\nconnect with a socket made before: ok\n\
                  connect to nobody: ECONNREFUSED\ngetaddrinfo: ok\nthread: ok\nsocket: EMFILE\n";
    assert_eq!(in_c.plain.stdout, wanted);

    let python = r#"
import errno, os, socket, threading
listener = socket.create_server(('127.0.0.1', 0))
taken = []
try:
    while True: taken.append(os.dup(0))
except OSError: pass
def connects():
    try: socket.create_connection(listener.getsockname())
    except OSError as e: print('connect:', errno.errorcode[e.errno])
connects()
thread = threading.Thread(target=connects)
thread.start()
thread.join()
"#;
    let in_python = impatient(Run::new(program("python3", "python3")).args(["-c", python])).both();
    in_python.same_but_for_messages();
    assert_eq!(in_python.plain.passes().stdout, "connect: EMFILE\nconnect: EMFILE\n");

    let node = r#"
const fs = require('fs'), net = require('net'), crypto = require('crypto');
const server = net.createServer().listen(0, '127.0.0.1', () => {
  const taken = [];
  try { for (;;) taken.push(fs.openSync('/dev/null')); } catch (e) { console.log('open:', e.code); }
  const ended = (what) => {
    console.log('connect:', what);
    // Four threads start now.
    crypto.pbkdf2('a', 'b', 1, 8, 'sha1', (e) => { console.log('thread:', e ? e.code : 'ok'); process.exit(); });
  };
  net.connect(server.address().port, '127.0.0.1', () => ended('ok')).on('error', (e) => ended(e.code));
});
"#;
    let in_node = impatient(Run::new(program("node", "nodejs")).args(["-e", node])).both();
    in_node.same_but_for_messages();
    assert_eq!(in_node.plain.passes().stdout, "open: EMFILE\nconnect: EMFILE\nthread: ok\n");

    let scratch = Scratch::new();
    let classes = java_classes(&scratch, "Connects", "");
    let in_java = impatient(java(&classes, "").arg("Connects")).both();
    in_java.same_but_for_messages();
    in_java.plain.passes().says("connect: Too many open files\nthread: ok");
}
