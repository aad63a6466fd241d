//! What is not a log, on a full disk: the same errors with the library as without, not one byte anywhere else, and data that is
//! intact when there is space again.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::outage::{Fed, Logger};
use tideover_tests::programs::{free_port, python};
use tideover_tests::{Both, Disk, Kind, Outcome, Page, Run, Running, Scratch, fixture, needs, program};

/// What is compared: end, output, and what is on the disk afterwards; with the disk's own path taken out.
fn seen(disk: &Disk, outcome: &Outcome) -> (Option<i32>, bool, String, String) {
    let path = disk.path().display().to_string();
    let neutral = |text: &str| text.replace(&path, "DISK");
    let theirs: Vec<&str> = outcome.theirs();
    (outcome.code(), outcome.timed_out, neutral(&outcome.stdout), neutral(&theirs.join("\n")))
}

/// A program on a full disk, without the library and with it: no difference. `prepare` is done with space and without the
/// library, `room` is what the disk has left then, `after` (with all space again) gives what must be the same too.
#[track_caller]
fn untouched(
    kind: Kind,
    room: u64,
    prepare: impl Fn(&Disk),
    run: impl Fn(&Disk) -> Run,
    after: impl Fn(&Disk) -> String,
) -> Both {
    let once = |preload: bool| {
        let disk = Disk::new(kind);
        prepare(&disk);
        disk.fill();
        if room > 0 {
            disk.free_some(room);
        }
        let outcome = run(&disk).preload(preload).timeout(Duration::from_secs(60)).output();
        disk.free();
        let seen = seen(&disk, &outcome);
        (seen, after(&disk), outcome)
    };
    let (plain, preloaded) = (once(false), once(true));
    let both = Both { plain: plain.2, preloaded: preloaded.2 };
    let show = || format!("plain: {}\npreloaded: {}", both.plain, both.preloaded);
    assert_eq!(plain.0, preloaded.0, "the same end and output\n{}", show());
    assert_eq!(plain.1, preloaded.1, "the same on the disk afterwards\n{}", show());
    for line in both.preloaded.ours() {
        assert!(!line.contains("go to"), "nothing goes elsewhere: {}", both.preloaded);
    }
    let name = thread::current().name().unwrap_or_default().to_string();
    println!("{name:<46} exit {:?}: {}", both.plain.code(), both.plain.theirs().last().copied().unwrap_or(""));
    both
}

fn nothing(_: &Disk) {}

fn content(name: &'static str) -> impl Fn(&Disk) -> String {
    move |disk| format!("{:?}", fs::read(disk.join(name)).map(|bytes| (bytes.len(), sum(&bytes))).ok())
}

fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |sum: u32, &b| sum.wrapping_mul(31).wrapping_add(b.into()))
}

fn sh(script: &str) -> impl Fn(&Disk) -> Run {
    let script = script.to_string();
    move |disk| Run::new(program("sh", "dash")).folder(disk.path()).args(["-c", &script])
}

fn bash(script: &str) -> impl Fn(&Disk) -> Run {
    let script = script.to_string();
    move |disk| Run::new(program("bash", "bash")).folder(disk.path()).args(["-c", &script])
}

// --- databases

/// Puts until that fails, and writes down beside the disk how often it succeeded; what it says is the same in each run.
const LEVELDB: &str = r#"
import os, sys, plyvel
put = 0
try:
    db = plyvel.DB(sys.argv[1], create_if_missing=True, write_buffer_size=1 << 16)
    for i in range(5000):
        db.put(b'%05d' % i, b'v' * 200, sync=i % 10 == 0)
        put += 1
except Exception as e:
    print(type(e).__name__, str(e)[-25:], file=sys.stderr)
open(os.path.dirname(sys.argv[1]) + '/../put', 'w').write(str(put))
"#;

fn level(disk: &Disk, script: &str) -> Run {
    python(script).arg(disk.join("level"))
}

fn level_made(disk: &Disk) {
    level(disk, "import sys, plyvel; plyvel.DB(sys.argv[1], create_if_missing=True).put(b'x', b'y' * 99)")
        .output()
        .passes();
}

/// Opens the database again: everything that was synchronised is there, and nothing that was never put.
fn level_is_sound(disk: &Disk) -> String {
    let count =
        "import sys, plyvel; print(len([k for k, v in plyvel.DB(sys.argv[1]) if k == b'x' or v == b'v' * 200]))";
    let keys: u32 = level(disk, count).output().passes().stdout.trim().parse().expect("a number");
    let beside = disk.path().parent().expect("in a folder").join("put");
    let put: u32 = fs::read_to_string(beside).expect("written down").parse().expect("a number");
    let least = if put == 0 { 1 } else { (put - 1) / 10 * 10 + 2 };
    format!("sound: {}", (least..=put + 2).contains(&keys))
}

#[needs(images)]
#[test]
fn leveldb() {
    for room in [0, 128 << 10] {
        // Its LOG is a log; here it is said to be none, so that nothing else can hide among its lines.
        let both = untouched(
            Kind::Ext4,
            room,
            level_made,
            |disk| level(disk, LEVELDB).env("TIDEOVER_LOGS_EXCEPT", "LOG"),
            level_is_sound,
        );
        both.plain.says("No space left on device");
    }
}

#[needs(images)]
#[test]
fn leveldb_sends_nothing_but_its_log_elsewhere() {
    for room in [0, 128 << 10] {
        let disk = Disk::new(Kind::Ext4);
        level_made(&disk);
        disk.fill();
        if room > 0 {
            disk.free_some(room);
        }
        let outcome = level(&disk, LEVELDB).preload(true).output();
        outcome.says("No space left on device");
        disk.free();
        assert_eq!(level_is_sound(&disk), "sound: true", "{outcome}");
        // 2024/11/20-11:41:51.732537 139849429235520 Recovering log #3; the first may be the rest of a line.
        let is_log =
            |l: &&str| l.len() > 26 && l.as_bytes()[4] == b'/' && l.as_bytes()[10] == b'-' && l.as_bytes()[19] == b'.';
        let others: Vec<&str> = outcome.stdout.lines().skip(1).filter(|l| !is_log(l)).collect();
        assert!(others.is_empty(), "not of its LOG: {others:?}");
        assert!(!outcome.stdout.contains("vvvv"), "data went elsewhere");
    }
}

#[needs(images)]
#[test]
fn rocksdb() {
    let ldb =
        |disk: &Disk| Run::new(program("ldb", "rocksdb-tools")).arg(format!("--db={}", disk.join("rocks").display()));
    let rows: String = (0..4000).map(|i| format!("key{i:05} ==> {}\n", "v".repeat(200))).collect();
    for room in [0, 300 << 10] {
        let both = untouched(
            Kind::Xfs,
            room,
            |disk| {
                ldb(disk).args(["--create_if_missing", "put", "first", "value"]).output().passes();
            },
            |disk| ldb(disk).args(["--disable_wal=false", "load"]).stdin(&rows),
            |disk| {
                let first = ldb(disk).args(["get", "first"]).output();
                first.passes();
                let scan = ldb(disk).args(["scan", "--max_keys=100000"]).output();
                format!("{}{}", first.stdout, scan.stdout.lines().count())
            },
        );
        // Debian's build ends with a failed assertion when its log can't be written.
        assert!(!both.plain.succeeded(), "{}", both.plain);
    }
}

#[needs(mounts)]
#[test]
fn sqlite_with_either_journal() {
    for journal in ["delete", "wal", "truncate", "persist"] {
        let sqlite = |disk: &Disk, text: &str| {
            Run::new(program("sqlite3", "sqlite3")).folder(disk.path()).arg("app.sqlite").stdin(text)
        };
        let prepare = format!("pragma journal_mode={journal}; create table t(x); insert into t values('before');");
        let insert = format!(
            "pragma journal_mode={journal};\ninsert into t values(zeroblob(60000));\n\
             insert into t select zeroblob(60000) from t;\ninsert into t select zeroblob(60000) from t;\nselect count(*) from t;\n"
        );
        untouched(
            Kind::Tmpfs,
            100 << 10,
            |disk| {
                sqlite(disk, &prepare).output().passes();
            },
            |disk| sqlite(disk, &insert),
            |disk| sqlite(disk, "pragma integrity_check; select count(*) from t;").output().passes().stdout.clone(),
        )
        .plain
        .says("disk is full");
    }
}

/// Redis with an append-only file on a disk that becomes full: how many of 200 SETs were taken, the first refusal, and how many
/// keys there are after a restart with space.
fn redis_aof(policy: &str, preload: bool) -> (u32, String, u32) {
    let disk = Disk::new(Kind::Tmpfs);
    let logs = Scratch::new();
    let start = |preload: bool| {
        let port = free_port();
        let server = Run::new(program("redis-server", "redis-server"))
            .folder(disk.path())
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-percentage", "0", "--logfile"])
            .arg(logs.join("redis.txt"))
            .timeout(Duration::from_secs(60))
            .preload(preload)
            .start();
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(client) = TcpStream::connect(("127.0.0.1", port)) {
                let mut client = BufReader::new(client);
                if ask(&mut client, "PING").starts_with("+PONG") {
                    return (server, client);
                }
            }
            assert!(Instant::now() < end && !server.ended(), "redis does not start: {server:?}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    let (server, mut client) = start(preload);
    for i in 0..20 {
        assert!(ask(&mut client, &format!("SET before{i} {}", "v".repeat(100))).starts_with("+OK"));
    }
    thread::sleep(Duration::from_millis(1200)); // everysec has synchronised once
    disk.fill();
    let (mut taken, mut refusal) = (0, String::new());
    for i in 0..200 {
        let answer = ask(&mut client, &format!("SET key{i} {}", "v".repeat(100)));
        if answer.starts_with("+OK") {
            taken += 1;
        } else if refusal.is_empty() {
            refusal = answer;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let page = Page::read(server.page_dir(), server.pid());
    server.signal(libc::SIGTERM);
    let ended_plainly = Instant::now() + Duration::from_secs(2);
    while !server.ended() && Instant::now() < ended_plainly {
        thread::sleep(Duration::from_millis(10));
    }
    if !server.ended() {
        server.signal(libc::SIGKILL); // it will not stop while it can't write its file
    }
    let outcome = server.finish();
    assert_eq!(outcome.stdout, "", "not a byte of the file on standard output: {outcome}");
    assert!(!outcome.stderr.contains("$3"), "{outcome}");
    if let Some(page) = page {
        assert_eq!(page.counter("logs", "diverted_bytes") + page.counter("logs", "dropped_bytes"), 0);
    }
    disk.free();
    let (server, mut client) = start(false);
    let keys = ask(&mut client, "DBSIZE").trim().trim_start_matches(':').parse().expect("a number");
    server.signal(libc::SIGTERM);
    server.finish();
    (taken, refusal, keys)
}

fn ask(client: &mut BufReader<TcpStream>, command: &str) -> String {
    let mut answer = String::new();
    let asked = client.get_mut().write_all(format!("{command}\r\n").as_bytes()).is_ok()
        && client.read_line(&mut answer).is_ok();
    if asked { answer } else { String::new() }
}

#[needs(mounts)]
#[test]
fn redis_append_only_file() {
    for policy in ["everysec", "no"] {
        let (plain, preloaded) = (redis_aof(policy, false), redis_aof(policy, true));
        println!("redis AOF, {policy}: plain {plain:?}, preloaded {preloaded:?}");
        for (taken, refusal, keys) in [&plain, &preloaded] {
            assert!(refusal.contains("MISCONF") && refusal.contains("No space left"), "{refusal}");
            assert!(*taken < 200);
            // What was taken before the first failed write is there; what was refused is not.
            assert!(*keys >= 20 && *keys <= 20 + taken, "{keys} keys, {taken} taken");
        }
    }
}

struct Killed(Option<Running>);

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(server) = &self.0 {
            // SAFETY: kill(2) touches no memory; the server has not been waited for.
            unsafe { libc::kill(-(server.pid() as i32), libc::SIGKILL) };
        }
    }
}

/// A program of PostgreSQL's, as the user that it insists on.
fn postgres(name: &str) -> Run {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = versions.map(|v| v.path().join("bin").join(name)).filter(|p| p.is_file()).max();
    Run::new(program("setpriv", "util-linux"))
        .args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"])
        .arg(path.unwrap_or_else(|| program(name, "postgresql")))
        .timeout(Duration::from_secs(60))
}

#[needs(images)]
#[test]
fn postgresql_write_ahead_log() {
    let once = |preload: bool| {
        let disk = Disk::new(Kind::Ext4);
        let folder = Scratch::new();
        for open in [disk.path(), folder.path()] {
            fs::set_permissions(open, PermissionsExt::from_mode(0o777)).expect("it is ours");
        }
        let wal = disk.join("pg_wal");
        let data = folder.join("data");
        postgres("initdb")
            .args(["-A", "trust", "--no-sync", "--wal-segsize=1", "-D"])
            .arg(&data)
            .arg("-X")
            .arg(&wal)
            .output()
            .passes();
        let port = free_port();
        let start = |preload: bool| {
            let server = postgres("postgres")
                .folder(folder.path())
                .arg("-D")
                .arg(&data)
                .args(["-c", "listen_addresses=", "-c", &format!("port={port}")])
                .args(["-c", &format!("unix_socket_directories={}", folder.path().display())])
                .args(["-c", "log_line_prefix=", "-c", "restart_after_crash=off"])
                .preload(preload)
                .start();
            let socket = folder.join(&format!(".s.PGSQL.{port}"));
            let end = Instant::now() + Duration::from_secs(30);
            while !(socket.exists() && psql(&folder, port, "select 1;").succeeded()) {
                assert!(!server.ended() && Instant::now() < end, "postgres does not start: {server:?}");
                thread::sleep(Duration::from_millis(50));
            }
            Killed(Some(server))
        };
        let mut server = start(preload);
        psql(&folder, port, "create table t(x text);").passes();
        disk.fill();
        let insert = "insert into t select repeat('x', 900) from generate_series(1, 1000);\n".repeat(40);
        let client = psql(&folder, port, &insert);
        let committed = client.stdout.matches("INSERT").count();
        let running = server.0.take().expect("started");
        running.signal(libc::SIGINT);
        let outcome = running.finish();
        disk.free();
        let mut again = start(false);
        let rows = psql(&folder, port, "select count(*) from t;").passes().stdout.clone();
        let running = again.0.take().expect("started");
        running.signal(libc::SIGINT);
        running.finish();
        assert_eq!(outcome.stdout, "", "nothing goes to standard output: {outcome}");
        (committed, rows.trim().to_string(), outcome)
    };
    let (plain, preloaded) = (once(false), once(true));
    println!(
        "PostgreSQL WAL: plain {} committed, {} rows; preloaded {}, {}",
        plain.0, plain.1, preloaded.0, preloaded.1
    );
    for (committed, rows, outcome) in [&plain, &preloaded] {
        assert!(outcome.stderr.contains("No space left on device"), "{outcome}");
        assert_eq!(rows, &(committed * 1000).to_string(), "what was committed is there: {outcome}");
    }
    assert_eq!(plain.2.code(), preloaded.2.code());
}

fn psql(folder: &Scratch, port: u16, text: &str) -> Outcome {
    Run::new(program("psql", "postgresql-client"))
        .args(["-X", "-A", "-t", "-U", "postgres", "-p", &port.to_string(), "-h"])
        .args([folder.path(), Path::new("postgres")])
        .stdin(text)
        .output()
}

#[needs(mounts)]
#[test]
fn mariadb_binary_log() {
    let once = |preload: bool| {
        // A server that was killed does not start again without its binary log, so each has its own data.
        let folder = Scratch::new();
        let made = Run::new(program("mariadb-install-db", "mariadb-server-core"))
            .args(["--no-defaults", "--user=root", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.join("data").display()))
            .timeout(Duration::from_secs(60))
            .output();
        made.passes();
        let disk = Disk::new(Kind::Tmpfs);
        let socket = folder.join("socket");
        let server = Run::new(program("mariadbd", "mariadb-server-core"))
            .args([
                "--no-defaults",
                "--user=root",
                "--skip-networking",
                "--innodb-buffer-pool-size=8M",
                "--server-id=1",
            ])
            .arg(format!("--datadir={}", folder.join("data").display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--log-bin={}", disk.join("mysqld-bin").display()))
            .timeout(Duration::from_secs(60))
            .preload(preload)
            .start();
        let mut server = Killed(Some(server));
        let end = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(!server.0.as_ref().expect("started").ended() && Instant::now() < end, "{:?}", server.0);
            thread::sleep(Duration::from_millis(20));
        }
        let client = Run::new(program("mariadb", "mariadb-client-core"))
            .args(["--no-defaults", "--batch", "--force", "--user=root"])
            .arg(format!("--socket={}", socket.display()))
            .timeout(Duration::from_secs(2));
        client.clone().stdin("create or replace database d; create table d.t(x text);").output().passes();
        disk.fill();
        // The server waits a minute for space before it answers; the client does not.
        let insert = "insert into d.t values (repeat('x', 1000));\n".repeat(50);
        let asked = client.stdin(insert).output();
        let running = server.0.take().expect("started");
        let page = Page::read(running.page_dir(), running.pid());
        running.signal(libc::SIGKILL);
        let outcome = running.finish();
        assert!(outcome.stdout.is_empty(), "nothing goes to standard output: {outcome}");
        if let Some(page) = page {
            assert_eq!(page.counter("logs", "diverted_bytes") + page.counter("logs", "dropped_bytes"), 0);
        }
        let binlog = fs::read(disk.join("mysqld-bin.000001")).expect("it is there");
        (asked.timed_out, binlog.starts_with(b"\xfebin"), outcome.stderr.contains("Disk is full") || asked.timed_out)
    };
    let (plain, preloaded) = (once(false), once(true));
    println!("MariaDB binlog: plain {plain:?}, preloaded {preloaded:?}");
    assert_eq!(plain, preloaded);
    assert!(plain.2, "it was full");
}

// --- git

fn git(disk: &Disk) -> Run {
    Run::new(program("git", "git"))
        .folder(disk.path())
        .env("HOME", disk.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_DATE", "2024-01-01T00:00:00Z")
        .env("GIT_COMMITTER_DATE", "2024-01-01T00:00:00Z")
        .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(["-c", "gc.auto=0", "-c", "maintenance.auto=false"])
}

fn repository(disk: &Disk) {
    git(disk).args(["init", "-q", "--template=", "."]).output().passes();
    git(disk).args(["commit", "-q", "--allow-empty", "-m", "first"]).output().passes();
    git(disk).args(["branch", "other"]).output().passes();
}

fn repository_is_sound(disk: &Disk) -> String {
    let fsck = git(disk).args(["fsck", "--full"]).output();
    let log = git(disk).args(["reflog", "show", "--all"]).output();
    fsck.passes();
    format!("{}{}", fsck.stderr, log.stdout)
}

fn second_commit(disk: &Disk) -> Run {
    git(disk).args(["commit", "--allow-empty", "-m", "second"])
}

#[needs(mounts)]
#[test]
fn git_commit() {
    untouched(Kind::Tmpfs, 0, repository, second_commit, repository_is_sound).plain.fails();
    untouched(Kind::Tmpfs, 8192, repository, second_commit, repository_is_sound);
}

#[needs(images)]
#[test]
fn git_commit_on_ext4() {
    untouched(Kind::Ext4, 0, repository, second_commit, repository_is_sound).plain.fails();
}

#[needs(mounts)]
#[test]
fn git_reflog() {
    // Enough entries that a page of the reflog is used up on the full disk; git itself appends to it.
    let many = |disk: &Disk| {
        let script = "i=0; while [ $i -lt 60 ]; do \
                        git -c user.name=t -c user.email=t@example.org update-ref -m \"move $i of many\" \
                        refs/heads/other HEAD 2>&1 >&2; echo \"$i: $?\" >&2; i=$((i + 1)); done";
        Run::new(program("sh", "dash"))
            .folder(disk.path())
            .env("HOME", disk.path())
            .env("GIT_COMMITTER_DATE", "2024-01-01T00:00:00Z")
            .args(["-c", script])
    };
    untouched(Kind::Tmpfs, 0, repository, many, repository_is_sound);
    let append = bash(
        "for i in {1..60}; do echo \"0000000000000000000000000000000000000000 \
         1111111111111111111111111111111111111111 t <t@example.org> 1700000000 +0000\tmove $i\" >> .git/logs/refs/heads/other \
         || echo \"failed $i\" >&2; done",
    );
    untouched(Kind::Tmpfs, 0, repository, append, content(".git/logs/refs/heads/other")).plain.says("failed 60");
}

// --- things that append, and are no logs

fn history_on(kind: Kind) {
    let script = "HISTFILE=$PWD/.bash_history; set -o history; for i in {1..200}; do history -s \"command number $i\"; done; \
                  history -a; echo \"append $?\" >&2; history -w; echo \"write $?\" >&2";
    let before = |disk: &Disk| fs::write(disk.join(".bash_history"), "ls\n").expect("there is space");
    untouched(kind, 0, before, bash(script), content(".bash_history"));
}

#[needs(mounts)]
#[test]
fn bash_history() {
    history_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn bash_history_on_ext4() {
    history_on(Kind::Ext4);
}

#[needs(mounts)]
#[test]
fn files_by_name_that_are_no_logs() {
    let names = [
        "data.csv",
        "notes.txt",
        "appendonly.aof",
        "app.db-wal",
        "app.db-journal",
        "000003.log",
        "log.0000000001",
        "mysqld-bin.000001",
        "known_hosts",
        "authorized_keys",
        "mbox",
        "dhcpd.leases",
        "wtmp",
        ".python_history",
        "access.log.gz",
        "Maildir/new/1700000000.log",
        "wal/segment.log",
        "pg_wal/x.log",
        ".git/logs/HEAD",
        ".hg/undo.log",
        "mail/root",
        "journal/system.log",
        "audit.log",
        "translog.sst",
    ];
    let script: String = names
        .iter()
        .map(|name| {
            format!("for i in {{1..30}}; do echo \"some text, line $i\" >> {name} || echo \"{name} $i\" >&2; done;")
        })
        .collect();
    let before = move |disk: &Disk| {
        for name in names {
            let path = disk.join(name);
            fs::create_dir_all(path.parent().expect("in a folder")).expect("there is space");
            fs::write(path, "").expect("there is space");
        }
    };
    let both = untouched(Kind::Tmpfs, 0, before, bash(&script), nothing_after);
    for name in names {
        both.plain.says(&format!("{name} 30"));
    }
}

fn nothing_after(_: &Disk) -> String {
    String::new()
}

#[needs(mounts)]
#[test]
fn output_that_is_data() {
    // The shell opens the file, the program writes it: nothing says that it is a log.
    for script in [
        "seq 1 20000 > numbers.csv",
        "seq 1 20000 > numbers.txt",
        "seq 1 20000 > numbers",
        "seq 20000 -1 1 | sort -n > sorted.txt",
        "seq 20000 -1 1 | sort -n -o sorted.txt",
        "seq 1 20000 | tee copy.txt > /dev/null",
        "seq 1 20000 >> numbers.csv",
        "seq 1 20000 | awk '{ print $1, $1 * 2 }' > table.tsv",
        "sed s/a/bbbbbbbbbbbbbbbbbbbb/ letters.txt > more.txt",
        "printf 'some text\\n' > config.yaml.new && mv config.yaml.new config.yaml",
    ] {
        let before = |disk: &Disk| fs::write(disk.join("letters.txt"), "a\n".repeat(3000)).expect("there is space");
        let both = untouched(
            Kind::Tmpfs,
            0,
            before,
            bash(&format!("set -o pipefail; {script}; echo \"exit $?\" >&2")),
            content("numbers.csv"),
        );
        both.plain.does_not_say("exit 0");
    }
}

#[needs(mounts)]
#[test]
fn dd_cp_and_tar() {
    let source = |disk: &Disk| {
        let folder = disk.path().parent().expect("a disk is mounted in a folder").join("source");
        fs::create_dir_all(&folder).expect("it can be made");
        fs::write(folder.join("text.log"), "a line of text\n".repeat(20_000)).expect("there is space");
        fs::write(folder.join("bytes"), vec![7; 300_000]).expect("there is space");
        fs::write(disk.join("there.log"), "already there\n").expect("there is space");
    };
    for script in [
        "dd if=/dev/zero of=zero bs=4k count=100 status=none",
        "dd if=../source/bytes of=there.log bs=4k oflag=append conv=notrunc status=none",
        "dd if=../source/text.log of=copy.txt bs=1000 conv=fsync status=none",
        "cp ../source/text.log copy.log",
        "cp --sparse=always ../source/bytes copy",
        "cp -r ../source tree 2> ../said; ended=$?; sort ../said >&2; (exit $ended)",
        "tar -cf packed.tar -C .. source",
        "tar -C .. -cf - source > packed.tar",
        "tar -C .. -czf - source | cat > packed.tar.gz && tar -C .. -cf packed.tar source",
        "tar -C .. -cf ../source/ok.tar source/text.log; tar -xf ../source/ok.tar",
        "install ../source/text.log installed.log",
        "truncate -s 1M sparse; mkdir folder; ln -s x link; echo \"made $?\" >&2; cp ../source/bytes sparse",
    ] {
        let both =
            untouched(Kind::Tmpfs, 0, source, sh(&format!("{script}; echo \"exit $?\" >&2")), content("there.log"));
        both.plain.does_not_say("exit 0");
    }
}

/// Where nothing can be created: only a log that is opened to be appended to may seem to be. Everything else is refused.
fn new_files_on(kind: Kind) {
    let source = |disk: &Disk| {
        fs::write(disk.join("there.log"), "already there\n").expect("there is space");
        // Data is written while there is space; btrfs and xfs could not even take notice of it later.
        fs::write(disk.join("source.log"), "a line of text\n".repeat(3000)).expect("there is space");
    };
    let scripts = [
        "echo text > data.csv",
        "echo text >> data.csv",
        "echo text > new.log",
        "set -o noclobber; echo text > new.log",
        "cp source.log new.log",
        "cp --reflink=never source.log new.log",
        "dd if=source.log of=new.log bs=4k status=none",
        "dd if=source.log of=new.log bs=4k oflag=append status=none",
        "install source.log new.log",
        "tar -cf packed.tar source.log",
        "tar -cf new.log source.log",
        "touch new.log",
        "sqlite3 new.db 'create table t(x)' 2> /dev/null",
        "python3 -c 'open(\"new.log\", \"x\")' 2> /dev/null",
        "python3 -c 'open(\"new.log\", \"w\")' 2> /dev/null",
        // A name that a log has, but what is written is none: the error comes with the write rather than the open.
        "python3 -c 'f = open(\"new.log\", \"ab+\"); f.write(bytes(range(256))); f.flush()' 2> /dev/null",
        "python3 -c 'f = open(\"new.log\", \"ab\", 0); f.write(b\"From me@example.org\\n\")' 2> /dev/null",
        "python3 -c 'import os; f = open(\"new.log\", \"ab\"); f.write(b\"text\"); os.fsync(f); f.flush()' 2> /dev/null",
        "python3 -c 'f = open(\"new.log\", \"ab\", 0); f.truncate(100)' 2> /dev/null",
        "python3 -c 'import os; f = open(\"new.log\", \"ab\", 0); os.pwrite(f.fileno(), b\"text\", 0)' 2> /dev/null",
        "python3 -c 'import os; f = os.open(\"new.log\", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_SYNC)' 2> /dev/null",
        "python3 -c 'import os; f = os.open(\"new.log\", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_EXCL)' 2> /dev/null",
        "for name in appendonly.aof x-journal 000004.log mbox known_hosts .bash_history; do echo text >> $name; done",
        "mkdir folder",
        "ln -s there.log link.log",
        "mkfifo fifo.log",
    ];
    for script in scripts {
        // What a full btrfs still has room for is not the same from one to the next.
        if kind == Kind::Btrfs && script.starts_with("mkfifo") {
            continue;
        }
        let both = untouched(
            kind,
            0,
            source,
            bash(&format!("PATH=/usr/bin:/bin; {script}; echo \"exit $?\" >&2; ls -A | grep -v filler >&2")),
            |disk| {
                let mut names: Vec<_> =
                    fs::read_dir(disk.path()).expect("a folder").flatten().map(|e| e.file_name()).collect();
                names.sort();
                format!("{names:?} {}", content("there.log")(disk))
            },
        );
        let failed = !both.plain.stderr.contains("exit 0");
        println!("{kind:?}: {script:<60} {}", if failed { "refused" } else { "possible" });
    }
}

#[needs(images)]
#[test]
fn new_files_on_a_full_xfs() {
    new_files_on(Kind::Xfs);
}

#[needs(images)]
#[test]
fn new_files_on_a_full_btrfs() {
    new_files_on(Kind::Btrfs);
}

#[needs(images)]
#[test]
fn new_files_over_quota() {
    new_files_on(Kind::Quota);
}

/// A log that could not be created has a stand-in; whatever shows that it is no log, or more than one, gets the error that its
/// creation had: never success, and never the stand-in's own EPERM.
#[needs(images)]
#[test]
fn a_stand_in_takes_nothing_but_log_lines() {
    let kind = Kind::Xfs;
    let disk = Disk::new(kind);
    disk.fill();
    let mut wrong = vec![];
    for what in [
        "f.write(bytes(range(256)))",
        "f.write(b'From someone@example.org Mon Jan 1\\n')",
        "f.write(b'*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\na\\r\\n$1\\r\\nb\\r\\n')",
        "f.write(b'text\\n'); os.fsync(f); f.write(b'more\\n')",
        "os.fdatasync(f); f.write(b'more\\n')",
        "f.truncate(100)",
        "os.pwrite(f.fileno(), b'text', 0)",
        "os.pwritev(f.fileno(), [b'text'], 0)",
        "os.posix_fallocate(f.fileno(), 0, 1000)",
    ] {
        let script = format!(
            "import os, sys\ntry:\n    f = open('new.log', 'ab', 0)\n    {what}\nexcept OSError as e: sys.exit(e.errno)"
        );
        let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", &script]);
        assert_eq!(run.output().code(), Some(libc::ENOSPC), "{what}");
        let outcome = run.preload(true).output();
        let seen = outcome.stdout.replace("text\n", "");
        if outcome.code() != Some(libc::ENOSPC) || !seen.is_empty() {
            wrong.push(format!("{what}: exit {:?}, {} bytes on standard output", outcome.code(), outcome.stdout.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Found by reading: the verdict "log" stood although the writer had asked for durability since.
#[needs(mounts)]
#[test]
fn a_log_whose_writer_asks_for_durability_gets_the_true_error_from_then_on() {
    let disk = Disk::new(Kind::Tmpfs);
    fs::write(disk.join("app.log"), "").expect("there is space");
    disk.fill();
    let script = "import os, sys\ntry:\n    f = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n    \
                  os.write(f, b'one\\n'); os.fsync(f); os.write(f, b'two\\n')\nexcept OSError as e: sys.exit(e.errno)";
    let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script]);
    let both = run.both();
    assert_eq!((both.plain.code(), both.plain.stdout.as_str()), (Some(libc::ENOSPC), ""), "{}", both.plain);
    let preloaded = &both.preloaded;
    assert_eq!((preloaded.code(), preloaded.stdout.as_str()), (Some(libc::ENOSPC), "one\n"), "{preloaded}");
}

/// Found by trying: the filter said that all was well, and the log was replaced by the part that there was space for.
#[needs(mounts)]
#[test]
fn a_filter_that_rewrites_a_log_says_that_its_disk_is_full() {
    for filter in ["grep -v DEBUG", "sed s/INFO/info/", "awk 1", "tac"] {
        let seen = [false, true].map(|preload| {
            let disk = Disk::new(Kind::Tmpfs);
            let line = |n: u32| format!("2026-01-01 INFO a line of a log of some length, number {n}\n");
            fs::write(disk.join("app.log"), (0..2500).map(line).collect::<String>()).expect("there is space");
            let script = format!("{filter} app.log > new.log && mv new.log app.log");
            let outcome = Run::new("sh").args(["-c", &script]).folder(disk.path()).preload(preload).output();
            (outcome.succeeded(), fs::read_to_string(disk.join("app.log")).expect("it is there").lines().count())
        });
        assert_eq!(seen, [(false, 2500); 2], "{filter}");
    }
}

/// Found by reading: its number was forgotten before the stream was flushed.
#[needs(mounts)]
#[test]
fn a_durable_files_last_records_get_the_true_error_when_it_is_closed() {
    for how in ["fclose", "freopen"] {
        let seen = [false, true].map(|preload| {
            let disk = Disk::new(Kind::Tmpfs);
            let run = Run::new(fixture("disk_last")).arg(how).arg(disk.join("app.log")).arg(disk.join("filler"));
            let outcome = run.preload(preload).output();
            outcome.passes();
            let said = outcome.stderr.lines().filter(|line| line.starts_with(how)).collect::<String>();
            (said, outcome.stdout, fs::read(disk.join("app.log")).expect("it is there").len())
        });
        assert_eq!(seen[0], seen[1]);
        assert!(how == "freopen" || seen[0].0 == "fclose: not, ENOSPC", "{seen:?}");
    }
}

// --- downloads that are resumed

/// Serves 200,000 bytes of text, from where it is asked to, until dropped.
struct Server(u16);

impl Server {
    fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        thread::spawn(move || {
            let body = "the content of a file that is downloaded\n".repeat(5000);
            for client in listener.incoming() {
                let Ok(mut client) = client else { continue };
                let mut request = String::new();
                let mut lines = BufReader::new(client.try_clone().expect("a descriptor is left"));
                while lines.read_line(&mut request).is_ok_and(|n| n > 2) {}
                if request.starts_with("GET /stop") {
                    return;
                }
                let lower = request.to_lowercase();
                let from = lower.split("range: bytes=").nth(1).and_then(|r| r.split('-').next()?.parse().ok());
                let (status, start) = from.map_or(("200 OK", 0), |start: usize| ("206 Partial Content", start));
                let last = body.len() - 1;
                let _ = write!(
                    client,
                    "HTTP/1.0 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
                     Content-Range: bytes {start}-{last}/{}\r\n\r\n{}",
                    body.len() - start,
                    body.len(),
                    &body[start..]
                );
                // Until the client has what it wants, or gives up.
                let _ = client.shutdown(std::net::Shutdown::Write);
                let _ = client.read(&mut [0; 1]);
            }
        });
        Server(port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(mut client) = TcpStream::connect(("127.0.0.1", self.0)) {
            let _ = client.write_all(b"GET /stop HTTP/1.0\r\n\r\n");
        }
    }
}

/// A download that has got some of it; `name` in full is 200,000 bytes of text.
fn resumed(name: &'static str, run: impl Fn(&Disk, &str) -> Run) -> Both {
    let server = Server::start();
    let text = "the content of a file that is downloaded\n".repeat(1000);
    untouched(
        Kind::Tmpfs,
        0,
        |disk| fs::write(disk.join(name), &text).expect("there is space"),
        |disk| run(disk, &format!("http://127.0.0.1:{}/{name}", server.0)).folder(disk.path()),
        content(name),
    )
}

fn wget(_: &Disk, url: &str) -> Run {
    Run::new(program("wget", "wget")).args(["-q", "-c", "-t", "1", url])
}

fn curl(_: &Disk, url: &str) -> Run {
    Run::new(program("curl", "curl")).args(["-sS", "-C", "-", "-O", url])
}

#[needs(mounts)]
#[test]
fn wget_continues() {
    let both = resumed("archive.txt", wget);
    assert_eq!(both.plain.code(), Some(3), "a file error: {}", both.plain);
}

#[needs(mounts)]
#[test]
fn curl_continues() {
    let both = resumed("archive.txt", curl);
    assert_eq!(both.plain.code(), Some(23), "a write error: {}", both.plain);
}

#[needs(mounts)]
#[test]
fn wget_continues_a_file_that_has_the_name_of_a_log() {
    // What it downloads may well be a log, as text as any: it is data all the same.
    resumed("server.log", wget);
}

#[needs(mounts)]
#[test]
fn curl_continues_a_file_that_has_the_name_of_a_log() {
    resumed("server.log", curl);
}

/// Copies ../text.log, 30,000 bytes of lines, onto the end of there.log, which has a line.
fn copy_that_appends(script: &str) {
    let source = |disk: &Disk| {
        let folder = disk.path().parent().expect("a disk is mounted in a folder");
        fs::write(folder.join("text.log"), "a line of text\n".repeat(2000)).expect("there is space");
        fs::write(disk.join("there.log"), "already there\n").expect("there is space");
    };
    untouched(Kind::Tmpfs, 0, source, sh(&format!("{script}; echo \"exit $?\" >&2")), content("there.log"));
}

#[needs(mounts)]
#[test]
fn copies_that_append_to_a_file_that_has_the_name_of_a_log() {
    copy_that_appends("dd if=../text.log of=there.log bs=4k oflag=append conv=notrunc status=none");
}

#[needs(mounts)]
#[test]
fn rsync_appends_to_a_file_that_has_the_name_of_a_log() {
    program("rsync", "rsync");
    copy_that_appends("rsync --append --inplace ../text.log there.log");
}

#[needs(mounts)]
#[test]
fn a_log_that_was_synchronised_once_is_no_log_any_more() {
    // Whoever asks for durability gets the truth, whatever the name.
    let script = "import os, sys\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
         for call in sys.argv[1:]: eval(call)\n\
         failed = 0\nfor i in range(100):\n    \
         try: failed += os.write(log, b'a line of text, and more of it to fill a page\\n') != 46\n    \
         except OSError as e: failed += 1; last = e\n\
         print(failed, last, file=sys.stderr)";
    for call in [
        "os.fsync(log)",
        "os.fdatasync(log)",
        "os.posix_fallocate(log, 0, 10)",
        "os.pwrite(log, b'x', 0)",
        "os.ftruncate(log, 100)",
    ] {
        untouched(
            Kind::Tmpfs,
            0,
            |disk| fs::write(disk.join("app.log"), "a line\n").expect("there is space"),
            |disk| Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script, call]),
            content("app.log"),
        )
        .plain
        .says("No space left on device");
    }
    for flag in ["os.O_SYNC", "os.O_DSYNC"] {
        untouched(
            Kind::Tmpfs,
            0,
            |disk| fs::write(disk.join("app.log"), "a line\n").expect("there is space"),
            |disk| {
                let script = script.replace("os.O_APPEND", &format!("os.O_APPEND | {flag}"));
                Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", &script])
            },
            content("app.log"),
        );
    }
}

#[needs(mounts)]
#[test]
fn bytes_that_are_no_text_are_no_log_lines() {
    let script = "import os, sys\nlog = os.open('app.log', os.O_WRONLY | os.O_APPEND)\n\
         try:\n    while True: os.write(log, sys.argv[1].encode('latin-1') * 100)\nexcept OSError as e: print(e, file=sys.stderr)";
    for payload in
        ["\u{0}\u{1}binary", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "From someone@example.org Mon Jan 1\n"]
    {
        let payload = payload.replace('\u{0}', "\u{7f}\u{2}");
        untouched(
            Kind::Tmpfs,
            0,
            |disk| fs::write(disk.join("app.log"), "").expect("there is space"),
            |disk| Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script, &payload]),
            content("app.log"),
        )
        .plain
        .says("No space left on device");
    }
}

#[needs(mounts)]
#[test]
fn a_writer_of_both_gets_the_truth_for_its_data() {
    // One process, one full disk: its log goes elsewhere, its table does not.
    let disk = Disk::new(Kind::Tmpfs);
    fs::write(disk.join("app.log"), "").expect("there is space");
    let script = "import os, sys\n\
         log = os.open('app.log', os.O_WRONLY | os.O_APPEND)\ndata = os.open('table.csv', os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n\
         for line in sys.stdin:\n    \
         if line.startswith(':'): open(line[1:-1], 'w').close(); continue\n    \
         os.write(log, line.encode())\n    \
         try: os.write(data, line.encode())\n    except OSError as e: print('data', e, file=sys.stderr)\n";
    let run = Run::new(program("python3", "python3")).folder(disk.path()).args(["-c", script]).preload(true);
    let mut fed = Fed::start(&run);
    fed.log(1..=10);
    disk.fill();
    fed.log(11..=110);
    let outcome = fed.end();
    outcome.passes();
    assert!(outcome.stderr.matches("data [Errno 28]").count() > 50, "{outcome}");
    let account = tideover_tests::numbered::Account::new(
        &fs::read_to_string(disk.join("app.log")).expect("it is there"),
        &outcome.stdout,
    );
    account.complete(1..=110, 1);
}

#[needs(mounts)]
#[test]
fn nothing_is_made_where_there_was_nothing() {
    untouched(Kind::Tmpfs, 0, nothing, sh("ls -A; echo hello"), |disk| {
        format!("{:?}", fs::read_dir(disk.path()).map(Iterator::count))
    });
}
