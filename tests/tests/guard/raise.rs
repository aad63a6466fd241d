//! Limits that are raised before they are reached.

use super::{Server, connect, guards, port, soft, spins, stop, wait_until};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;
use tideover_tests::programs::go;
use tideover_tests::{Run, Scratch, fixture, program};

/// 400 clients at about a hundred a second.
fn come(port: u16) -> Vec<TcpStream> {
    let come = |_| {
        thread::sleep(Duration::from_millis(10));
        connect(port)
    };
    (0..400).map(come).collect()
}

fn go_server(program: &PathBuf) -> (Server, u16) {
    let mut server = Run::new(program).hard(4096).timeout(Duration::from_secs(120)).start();
    let port = port(&server.wait_for("port "));
    (Server(server), port)
}

#[test]
fn a_go_server_is_raised_before_it_refuses_a_client_also_when_it_is_stripped() {
    let folder = Scratch::new();
    for flags in [&[][..], &["-ldflags=-s -w"]] {
        let program = go("guard_grows.go", flags, &folder);
        let (mut plain, port) = go_server(&program);
        let clients = come(port);
        plain.wait_for("refused");
        drop((plain, clients));

        let pages = Scratch::new();
        let (server, port) = go_server(&program);
        let guard = guards(&pages, &[&server.pid().to_string()]);
        let clients = come(port);
        wait_until("a limit above the clients", || soft(server.pid()) >= 512);
        assert!(!server.stdout_so_far().contains("refused"), "{}", server.stdout_so_far());
        let said = stop(guard).stdout;
        assert!(said.contains("soft limit was 128, is 256 (hard limit 4096)"), "{said}");
        drop(clients);
    }
}

#[test]
fn a_program_that_uses_select_is_raised_to_1024_and_no_further() {
    let pages = Scratch::new();
    // It opens 20 files more than select(2) can take.
    let mut selects = Run::new(fixture("limit_select")).args(["20", "--stay"]).soft(24).hard(4096).start();
    selects.wait_for("limit was");
    let pid = selects.pid().to_string();
    let mut guard = guards(&pages, &["--json", &pid]);
    guard.wait_for("\"raised\"");
    guard.signal(libc::SIGTERM);
    guard.finish().passes();
    assert!(soft(selects.pid()) <= 1024);
    super::guard(&pages, &["--dry-run", &pid]).output().passes().says("in steps up to 1024").says("select(2)");
    selects.finish();
}

#[test]
fn a_program_at_its_hard_limit_is_told_the_command_that_helps_once() {
    let pages = Scratch::new();
    let (server, port) = spins(16, &[]);
    let mut guard = guards(&pages, &[&server.pid().to_string()]);
    let _clients: Vec<TcpStream> = (0..20).map(|_| connect(port)).collect();
    guard.wait_for("sudo prlimit --pid");
    thread::sleep(Duration::from_secs(2));
    let said = stop(guard).stdout;
    assert_eq!(said.matches("not raised").count(), 1, "{said}");
    assert_eq!(soft(server.pid()), 16);
}

#[test]
fn nginx_is_raised_and_refuses_nobody_while_it_keeps_its_own_answer() {
    let nginx = program("nginx", "nginx");
    let mut outcomes = vec![];
    for guarded in [false, true] {
        let (folder, pages) = (Scratch::new(), Scratch::new());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "daemon off; user root; worker_processes 1; pid {0}/pid; error_log {0}/error.log;\nevents {{ worker_connections 1000; }}\n\
             http {{ access_log off; client_body_temp_path {0}/a; proxy_temp_path {0}/b; fastcgi_temp_path {0}/c; uwsgi_temp_path {0}/d; \
             scgi_temp_path {0}/e; server {{ listen 127.0.0.1:{free}; }} }}",
            folder.path().display()
        );
        let configuration = folder.write("nginx.conf", &configuration);
        let server = Server(
            Run::new(&nginx)
                .arg("-e")
                .arg(folder.join("error.log"))
                .arg("-c")
                .arg(configuration)
                .soft(64)
                .hard(4096)
                .start(),
        );
        wait_until("nginx", || TcpStream::connect(("127.0.0.1", free)).is_ok());
        let children = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", server.pid())).unwrap();
        wait_until("its worker", || !children().trim().is_empty());
        let worker = children().trim().to_string();
        super::guard(&pages, &["--dry-run", "--park", &worker]).output().passes().says("may be a pointer");
        let guard = guarded.then(|| guards(&pages, &["--park", &worker]));
        let clients: Vec<TcpStream> = (0..300)
            .map(|_| {
                thread::sleep(Duration::from_millis(12));
                connect(free)
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        let log = std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        outcomes.push(log.matches("Too many open files").count());
        if let Some(guard) = guard {
            let said = stop(guard).stdout;
            assert!(said.contains("soft limit was 64, is 128"), "{said}");
        }
        drop(clients);
        // Its worker ends with it only if it is asked to.
        server.signal(libc::SIGTERM);
        wait_until("the end of nginx", || server.ended());
    }
    println!("nginx without and with the guard: {outcomes:?} lines of EMFILE in its error log");
    assert!(outcomes[0] > 0 && outcomes[1] == 0, "{outcomes:?}");
}
