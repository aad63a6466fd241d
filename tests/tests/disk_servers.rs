//! Logs of real servers while their disk is full, from servers in the foreground on private ports: without the library lines are
//! lost, with it none. What did not fit is on the standard output that the server was started with.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tideover_tests::databases::{as_postgres, mariadb_data, postgres_program};
use tideover_tests::numbered::payload;
use tideover_tests::outage::{Fed, Logger, compared, nothing_lost_in_any_form};
use tideover_tests::programs::free_port;
use tideover_tests::{Disk, Kind, Outcome, Run, Running, Scratch, needs, program};

/// A server, and how it is talked to. Killed if the test fails.
struct Server<T> {
    running: Option<Running>,
    talk: T,
    signal: i32,
}

impl<T> Server<T> {
    fn running(&self) -> &Running {
        self.running.as_ref().expect("it has not been ended")
    }

    fn stop(mut self) -> Outcome {
        let running = self.running.take().expect("it has not been ended");
        running.signal(self.signal);
        running.finish()
    }
}

impl<T> Drop for Server<T> {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            // SAFETY: kill(2) touches no memory; the server has not been waited for, so the group is its own.
            unsafe { libc::kill(-(running.pid() as i32), libc::SIGKILL) };
        }
    }
}

/// A way to have a line logged, and to be sure that it was.
trait Talk {
    fn log(&mut self, n: u32) -> bool;
    fn settled(&mut self) -> bool {
        true
    }
}

impl<T: Talk> Logger for Server<T> {
    fn log(&mut self, mut numbers: RangeInclusive<u32>) -> bool {
        numbers.all(|n| self.talk.log(n)) && self.talk.settled()
    }

    fn writer(&self) -> &Running {
        self.running()
    }

    fn end(self) -> Outcome {
        self.stop()
    }
}

/// Waits until `ready` says yes.
#[track_caller]
fn wait(what: &str, running: &Running, mut ready: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !ready() {
        assert!(!running.ended() && Instant::now() < end, "{what} does not start: {running:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Through an outage; the server's lines that did not get into its log are on standard output.
fn survives<T: Talk>(name: &str, each: u32, start: impl Fn(&Disk, &Path, bool) -> Server<T>) {
    let (_, told) = compared(name, Kind::Tmpfs, each, start);
    nothing_lost_in_any_form(&told, &told.on_stdout());
}

// --- redis

struct Redis(BufReader<TcpStream>);

impl Talk for Redis {
    fn log(&mut self, n: u32) -> bool {
        let mut answer = String::new();
        self.0.get_mut().write_all(format!("DEBUG LOG {}\r\n", payload(n)).as_bytes()).is_ok()
            && self.0.read_line(&mut answer).is_ok()
            && answer.starts_with("+OK")
    }
}

#[needs(mounts)]
#[test]
fn redis_log_loses_no_line_while_the_disk_is_full() {
    survives("redis-server: log", 100, |_, log, preload| {
        let port = free_port();
        let server = Run::new(program("redis-server", "redis-server"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"])
            .args(["--enable-debug-command", "yes", "--logfile"])
            .arg(log)
            .timeout(Duration::from_secs(60))
            .preload(preload)
            .start();
        let mut client = None;
        wait("redis-server", &server, || {
            client = TcpStream::connect(("127.0.0.1", port)).ok();
            client.is_some()
        });
        let talk = Redis(BufReader::new(client.expect("connected")));
        Server { running: Some(server), talk, signal: libc::SIGTERM }
    });
}

// --- nginx and apache2

struct Http(u16);

impl Http {
    fn get(&self, path: &str) -> bool {
        let Ok(mut client) = TcpStream::connect(("127.0.0.1", self.0)) else { return false };
        let mut answer = String::new();
        client.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).is_ok()
            && client.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 ")
    }
}

impl Talk for Http {
    fn log(&mut self, n: u32) -> bool {
        self.get(&format!("/{}", payload(n)))
    }

    /// The only worker logs a request after it has answered it, and before it takes the next.
    fn settled(&mut self) -> bool {
        self.get("/unlogged")
    }
}

#[needs(mounts)]
#[test]
fn nginx_access_log_loses_no_line_while_the_disk_is_full() {
    survives("nginx: access log", 100, |disk, log, preload| {
        let (port, log) = (free_port(), log.display());
        let folder = disk.path().parent().expect("a disk is mounted in a folder").join("nginx");
        fs::create_dir_all(&folder).expect("it can be made");
        let at = folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .concat();
        let configuration = folder.join("nginx.conf");
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {at}/pid; error_log stderr;\n\
             events {{ }}\n\
             http {{ access_log {log}; {temporary}\n\
               server {{ listen 127.0.0.1:{port}; location / {{ return 204; }}\n\
                 location = /unlogged {{ access_log off; return 204; }} }} }}\n"
        );
        fs::write(&configuration, text).expect("it can be written");
        let server = Run::new(program("nginx", "nginx"))
            .args(["-p", &at.to_string(), "-e", "stderr", "-c"])
            .arg(&configuration)
            .timeout(Duration::from_secs(60))
            .preload(preload)
            .start();
        wait("nginx", &server, || Http(port).get("/unlogged"));
        Server { running: Some(server), talk: Http(port), signal: libc::SIGTERM }
    });
}

#[needs(mounts)]
#[test]
fn apache_access_log_loses_no_line_while_the_disk_is_full() {
    survives("apache2: access log", 100, |disk, log, preload| {
        let (port, log) = (free_port(), log.display());
        let folder = disk.path().parent().expect("a disk is mounted in a folder").join("apache");
        fs::create_dir_all(&folder).expect("it can be made");
        let at = folder.display();
        let modules: String = ["mpm_prefork", "authz_core", "setenvif"]
            .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
            .concat();
        let configuration = folder.join("apache.conf");
        let text = format!(
            "ServerRoot {at}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {at}/pid\nDocumentRoot {at}\n{modules}\
             StartServers 1\nMinSpareServers 1\nMaxSpareServers 1\nServerLimit 1\nMaxRequestWorkers 1\n\
             Mutex file:{at}\nDefaultRuntimeDir {at}\nErrorLog {at}/error\nLogLevel error\n\
             SetEnvIf Request_URI unlogged unlogged\n\
             LogFormat \"%h %t \\\"%r\\\" %>s\" short\nCustomLog {log} short env=!unlogged\n"
        );
        fs::write(&configuration, text).expect("it can be written");
        let server = Run::new(program("apache2", "apache2-bin"))
            .args(["-D", "FOREGROUND", "-f"])
            .arg(&configuration)
            .timeout(Duration::from_secs(60))
            .preload(preload)
            .start();
        wait("apache2", &server, || Http(port).get("/unlogged"));
        Server { running: Some(server), talk: Http(port), signal: libc::SIGTERM }
    });
}

// --- PostgreSQL

/// A client that is fed statements; the server logs each.
struct Statements {
    client: Option<Fed>,
    delay: Duration,
}

impl Talk for Statements {
    fn log(&mut self, n: u32) -> bool {
        self.client.as_mut().is_some_and(|client| client.say(&statement(n)))
    }

    fn settled(&mut self) -> bool {
        let done = self.client.as_mut().is_some_and(Fed::done);
        thread::sleep(self.delay);
        done
    }
}

impl Drop for Statements {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            client.end();
        }
    }
}

fn statement(n: u32) -> String {
    format!("select '{}';", payload(n))
}

fn touch(path: &Path) -> String {
    format!("\\! touch {}", path.display())
}

#[needs(mounts)]
#[test]
fn postgresql_log_collector_loses_no_line_while_the_disk_is_full() {
    postgresql("stderr", "app.log");
}

/// A table of comma-separated values, but in a folder of logs.
#[needs(mounts)]
#[test]
fn postgresql_csv_log_loses_no_line_while_the_disk_is_full() {
    postgresql("csvlog", "lib/log/app.csv");
}

/// Its logging collector, with this destination, which writes this file.
fn postgresql(destination: &str, file: &str) {
    let folder = Scratch::new();
    fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("it is ours");
    let data = folder.join("data");
    as_postgres("initdb")
        .args(["-A", "trust", "--no-sync", "-D"])
        .arg(&data)
        .timeout(Duration::from_secs(60))
        .output()
        .passes();
    survives(&format!("PostgreSQL: log collector, {destination}"), 100, |disk, log, preload| {
        let _ = fs::remove_file(log); // its owner must be the server
        let file = disk.path().join(file);
        let logs = file.parent().expect("in a folder");
        if file != log {
            fs::create_dir_all(logs).expect("there is space");
            fs::set_permissions(logs, PermissionsExt::from_mode(0o777)).expect("it is ours");
            symlink(&file, log).expect("there is space");
        }
        let port = free_port();
        let at = folder.path().display();
        let setting = |text: String| ["-c".to_string(), text];
        let server = as_postgres("postgres")
            .arg("-D")
            .arg(&data)
            .args(setting(format!("port={port}")))
            .args(setting("listen_addresses=".into()))
            .args(setting(format!("unix_socket_directories={at}")))
            .args(setting("fsync=off".into()))
            .args(setting("logging_collector=on".into()))
            .args(setting("log_statement=all".into()))
            .args(setting(format!("log_destination={destination}")))
            .args(setting(format!("log_directory={}", logs.display())))
            .args(setting("log_filename=app.log".into()))
            .args(setting("log_rotation_age=0".into()))
            .args(setting("log_rotation_size=0".into()))
            .timeout(Duration::from_secs(60))
            .folder(folder.path())
            .preload(preload)
            .start();
        wait("postgres", &server, || {
            fs::read_to_string(log).is_ok_and(|text| text.contains("ready to accept connections"))
        });
        let client = Run::new(postgres_program("psql", "postgresql-client"))
            .args(["-X", "-q", "-o", "/dev/null", "-U", "postgres", "-p", &port.to_string(), "-h"])
            .args([folder.path(), Path::new("postgres")])
            .timeout(Duration::from_secs(60));
        let client = Some(Fed::speaking(&client, statement, touch));
        // A backend hands its lines to the collector, which writes them when it gets to it.
        let talk = Statements { client, delay: Duration::from_millis(200) };
        Server { running: Some(server), talk, signal: libc::SIGINT }
    });
}

// --- MariaDB

fn mariadb(folder: &Scratch) -> Run {
    Run::new(program("mariadbd", "mariadb-server-core"))
        .args(["--no-defaults", "--user=root", "--skip-networking", "--skip-log-bin", "--innodb-flush-method=fsync"])
        .args(["--innodb-buffer-pool-size=8M", "--key-buffer-size=1M", "--performance-schema=off"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .env("TMPDIR", folder.path().to_str().expect("UTF-8"))
        .timeout(Duration::from_secs(90))
}

/// Logs in as somebody who does not exist, with a line for a name: the server notes it in its error log.
struct Strangers(std::path::PathBuf);

impl Talk for Strangers {
    fn log(&mut self, n: u32) -> bool {
        let enter = || -> std::io::Result<Vec<u8>> {
            let mut socket = UnixStream::connect(&self.0)?;
            packet(&mut socket)?; // greeting
            let mut answer = vec![];
            answer.extend(0x0008_8201_u32.to_le_bytes()); // LONG_PASSWORD, PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH
            answer.extend((1_u32 << 24).to_le_bytes());
            answer.push(45);
            answer.extend([0; 23]);
            answer.extend(payload(n).as_bytes());
            answer.extend(b"\0\0mysql_native_password\0");
            let mut framed = (answer.len() as u32).to_le_bytes();
            framed[3] = 1;
            socket.write_all(&[&framed[..], &answer].concat())?;
            let verdict = packet(&mut socket)?;
            if verdict.first() != Some(&0xfe) {
                return Ok(verdict);
            }
            socket.write_all(&[0, 0, 0, 3])?; // asked to try another way
            packet(&mut socket)
        };
        enter().is_ok_and(|verdict| verdict.first() == Some(&0xff))
    }
}

fn packet(socket: &mut UnixStream) -> std::io::Result<Vec<u8>> {
    let mut size = [0; 4];
    socket.read_exact(&mut size)?;
    size[3] = 0;
    let mut content = vec![0; u32::from_le_bytes(size) as usize];
    socket.read_exact(&mut content)?;
    Ok(content)
}

#[needs(mounts)]
#[test]
fn mariadb_error_log_loses_no_line_while_the_disk_is_full() {
    let folder = mariadb_data();
    survives("MariaDB: error log", 100, |_, log, preload| {
        let server = mariadb(&folder)
            .arg("--log-warnings=2")
            .arg(format!("--log-error={}", log.display()))
            .preload(preload)
            .start();
        let socket = folder.join("socket");
        wait("mariadbd", &server, || UnixStream::connect(&socket).is_ok());
        Server { running: Some(server), talk: Strangers(socket), signal: libc::SIGTERM }
    });
}

#[needs(mounts)]
#[test]
fn mariadb_general_log_loses_no_line_while_the_disk_is_full() {
    let folder = mariadb_data();
    // Its buffer of 8 KiB keeps what did not fit and tries again; the outage is longer than that.
    survives("MariaDB: general log", 200, |_, log, preload| {
        let server = mariadb(&folder)
            .args(["--general-log=1"])
            .arg(format!("--general-log-file={}", log.display()))
            .preload(preload)
            .start();
        let socket = folder.join("socket");
        wait("mariadbd", &server, || UnixStream::connect(&socket).is_ok());
        let client = Run::new(program("mariadb", "mariadb-client-core"))
            .args(["--no-defaults", "--batch", "--silent", "--unbuffered", "--user=root"])
            .arg(format!("--socket={}", socket.display()))
            .timeout(Duration::from_secs(90));
        let client = Some(Fed::speaking(&client, statement, touch));
        let talk = Statements { client, delay: Duration::from_millis(50) };
        Server { running: Some(server), talk, signal: libc::SIGTERM }
    });
}
