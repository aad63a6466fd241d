//! Databases: LevelDB, RocksDB, SQLite, Redis, PostgreSQL, MariaDB.

use tideover_tests::databases::{as_postgres, mariadb_data};

use super::*;

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

/// A redis-server with an append-only file in a folder, and a client that it has answered.
fn redis_with_aof(folder: &Path, log: &Path, policy: &str, preload: bool) -> (Running, BufReader<TcpStream>) {
    let port = free_port();
    let server = Run::new(program("redis-server", "redis-server"))
        .folder(folder)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
        .args(["--appendonly", "yes", "--appendfsync", policy, "--auto-aof-rewrite-percentage", "0", "--logfile"])
        .arg(log)
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
}

/// Redis with an append-only file on a disk that becomes full: how many of 200 SETs were taken, the first refusal, and how many
/// keys there are after a restart with space.
fn redis_aof(policy: &str, preload: bool) -> (u32, String, u32) {
    let disk = Disk::new(Kind::Tmpfs);
    let logs = Scratch::new();
    let start = |preload: bool| redis_with_aof(disk.path(), &logs.join("redis.txt"), policy, preload);
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
    let page = preload.then(|| server.page());
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

/// PostgreSQL on data in `data` of a folder, reached by a socket there; it has answered.
fn postgres_on(folder: &Scratch, port: u16, preload: bool) -> Killed {
    let server = as_postgres("postgres")
        .folder(folder.path())
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-c", "listen_addresses=", "-c", &format!("port={port}")])
        .args(["-c", &format!("unix_socket_directories={}", folder.path().display())])
        .args(["-c", "log_line_prefix=", "-c", "restart_after_crash=off"])
        .preload(preload)
        .start();
    let socket = folder.join(&format!(".s.PGSQL.{port}"));
    let end = Instant::now() + Duration::from_secs(30);
    while !(socket.exists() && psql(folder, port, "select 1;").succeeded()) {
        assert!(!server.ended() && Instant::now() < end, "postgres does not start: {server:?}");
        thread::sleep(Duration::from_millis(50));
    }
    Killed(Some(server))
}

/// PostgreSQL whose write-ahead log has no space left: how many of 40 inserts of 1,000 rows were committed, how many rows there are
/// after a restart with space, and how the server ended.
fn postgres_wal(preload: bool) -> (usize, String, Outcome) {
    let disk = Disk::new(Kind::Ext4);
    let folder = Scratch::new();
    for open in [disk.path(), folder.path()] {
        fs::set_permissions(open, PermissionsExt::from_mode(0o777)).expect("it is ours");
    }
    as_postgres("initdb")
        .args(["-A", "trust", "--no-sync", "--wal-segsize=1", "-D"])
        .arg(folder.join("data"))
        .arg("-X")
        .arg(disk.join("pg_wal"))
        .output()
        .passes();
    let port = free_port();
    let mut server = postgres_on(&folder, port, preload);
    psql(&folder, port, "create table t(x text);").passes();
    disk.fill();
    let insert = "insert into t select repeat('x', 900) from generate_series(1, 1000);\n".repeat(40);
    let client = psql(&folder, port, &insert);
    let committed = client.stdout.matches("INSERT").count();
    let running = server.0.take().expect("started");
    running.signal(libc::SIGINT);
    let outcome = running.finish();
    disk.free();
    let mut again = postgres_on(&folder, port, false);
    let rows = psql(&folder, port, "select count(*) from t;").passes().stdout.clone();
    let running = again.0.take().expect("started");
    running.signal(libc::SIGINT);
    running.finish();
    assert_eq!(outcome.stdout, "", "nothing goes to standard output: {outcome}");
    (committed, rows.trim().to_string(), outcome)
}

#[needs(images)]
#[test]
fn postgresql_write_ahead_log() {
    let (plain, preloaded) = (postgres_wal(false), postgres_wal(true));
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
        let folder = mariadb_data();
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
        let page = preload.then(|| running.page());
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
