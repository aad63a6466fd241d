//! Idle clients of a server that make room for others, and clients in Python that share few connections.

use super::*;

/// A server in Python that echoes, at nofile 32 and one thread for each client, or with epoll.
fn echo_server(how: &str) -> Run {
    const THREADED: &str = "
def serve(client):
    with client:
        while data := client.recv(100):
            client.sendall(data)
while True:
    try:
        client, _ = listener.accept()
    except OSError:
        time.sleep(0.05)
        continue
    threading.Thread(target=serve, args=(client,), daemon=True).start()
";
    const EPOLL: &str = "
listener.setblocking(False)
epoll, clients = select.epoll(), {}
epoll.register(listener, select.EPOLLIN)
while True:
    for fd, _ in epoll.poll():
        if fd != listener.fileno():
            data = clients[fd].recv(100)
            if data:
                clients[fd].sendall(data)
            else:
                epoll.unregister(fd)
                clients.pop(fd).close()
            continue
        try:
            client, _ = listener.accept()
        except OSError:
            continue
        clients[client.fileno()] = client
        epoll.register(client, select.EPOLLIN)
";
    let head = "import select, socket, sys, threading, time
if sys.argv[1:]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
else:
    listener = socket.create_server(('127.0.0.1', 0))
listener.listen(200)
print('port', sys.argv[1] if sys.argv[1:] else listener.getsockname()[1], flush=True)
";
    let script = format!("{head}{}", if how == "epoll" { EPOLL } else { THREADED });
    python(&script).limit(32).env("TIDEOVER_IDLE_TIMEOUT", "500ms")
}

/// Connects and is echoed, or says why not.
fn echo(port: &str, patience: Duration) -> Result<TcpStream, String> {
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().expect("a port");
    let mut client = TcpStream::connect_timeout(&address, patience).map_err(|e| e.to_string())?;
    client.set_read_timeout(Some(patience)).expect("a timeout can be set");
    say(&mut client)?;
    Ok(client)
}

fn say(client: &mut (impl Read + Write)) -> Result<(), String> {
    client.write_all(b"x").map_err(|e| e.to_string())?;
    let mut byte = [0];
    match client.read(&mut byte) {
        Ok(1) => Ok(()),
        Ok(_) => Err("it has hung up".into()),
        Err(e) => Err(e.to_string()),
    }
}

/// Sixty clients come, and stay; one of them speaks all the time. How many were echoed, did the one keep its connection, and how many
/// of the others have?
fn sixty_clients(port: &str, patience: Duration) -> (usize, bool, usize) {
    let mut busy = echo(port, patience).expect("the first is served");
    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let speaker = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            say(&mut busy)?;
            thread::sleep(Duration::from_millis(20));
        }
        Ok::<(), String>(())
    });
    let mut others = vec![];
    for _ in 0..60 {
        match echo(port, patience) {
            Ok(client) => others.push(client),
            Err(_) => break,
        }
    }
    over.store(true, Ordering::Relaxed);
    let kept = speaker.join().expect("no panic").is_ok();
    let served = others.len();
    (served, kept, others.iter_mut().filter_map(|client| say(client).ok()).count())
}

#[track_caller]
fn assert_idle_clients_make_room(how: &str) {
    let mut plain = echo_server(how).start();
    let port = plain.wait_for("port").split(' ').nth(1).expect("a number").to_string();
    let (served, ..) = sixty_clients(&port, Duration::from_secs(1));
    assert!(served < 30, "{served} of 60 under a limit of 32");
    plain.signal(libc::SIGKILL);
    plain.finish();

    let mut server = echo_server(how).preload(true).timeout(Duration::from_secs(60)).start();
    let port = server.wait_for("port").split(' ').nth(1).expect("a number").to_string();
    let (served, busy_stayed, still_there) = sixty_clients(&port, Duration::from_secs(20));
    let page = Page::read(server.page_dir(), server.pid());
    server.signal(libc::SIGKILL);
    let outcome = server.finish();
    let page = page.unwrap_or_else(|| panic!("{served} served, and no page: {outcome}"));
    assert_eq!((served, busy_stayed), (60, true), "{outcome}");
    let closed = page.counter("connections", "idle_closed");
    assert!(closed >= 30 && closed as usize + still_there >= 60, "{closed} closed, {still_there} there: {outcome}");
    assert!(still_there > 0, "the youngest are there: {outcome}");
    assert!(page.counter("connections", "clients") <= 32, "{outcome}");
    assert!(outcome.stderr.contains("TIDEOVER_IDLE_TIMEOUT=500ms"), "{outcome}");
}

#[test]
fn idle_clients_of_a_threaded_server_make_room_and_busy_ones_stay() {
    assert_idle_clients_make_room("threads");
}

#[test]
fn idle_clients_of_an_event_loop_make_room_and_busy_ones_stay() {
    assert_idle_clients_make_room("epoll");
}

#[test]
fn clients_of_unix_sockets_are_left_alone() {
    let scratch = Scratch::new();
    let name = scratch.join("socket");
    let server = echo_server("threads").arg(&name).env("TIDEOVER_IDLE_TIMEOUT", "1ms").env("TIDEOVER_MAX_RETRIES", "1");
    let mut server = server.env("TIDEOVER_INITIAL_WAIT", "100ms").preload(true).start();
    server.wait_for("port");
    let mut clients: Vec<UnixStream> = vec![];
    for _ in 0..40 {
        let mut client = UnixStream::connect(&name).expect("the queue is long enough");
        client.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
        if say(&mut client).is_err() {
            break;
        }
        clients.push(client);
    }
    let served = clients.len();
    assert!((10..32).contains(&served), "{served} of 40 under a limit of 32");
    let page = server.page();
    assert_eq!(page.counter("connections", "idle_closed"), 0);
    assert!(page.exhaustion("emfile") > 0);
    server.signal(libc::SIGKILL);
    server.finish();
}

/// A server of HTTP that answers each request on a connection of its own, and remembers how many it had at most at once.
fn slow_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("it has one").port();
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let highest = most.clone();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (now, most) = (now.clone(), most.clone());
            thread::spawn(move || {
                let mut request = vec![];
                let mut part = [0; 1000];
                while !request.ends_with(b"\r\n\r\n") {
                    match client.read(&mut part) {
                        Ok(count @ 1..) => request.extend(&part[..count]),
                        _ => return,
                    }
                }
                // The client closes after this, so it has at least as many open as are counted here.
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(20));
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            });
        }
    });
    (port, highest)
}

/// Forty threads of Python's http.client, five requests each.
fn forty_threads(port: u16) -> Run {
    let script = "
import http.client, sys, threading
wrong = []
def work():
    for _ in range(5):
        client = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))
        try:
            client.request('GET', '/')
            assert client.getresponse().read() == b'ok'
        except OSError as error:
            wrong.append(error.strerror)
        finally:
            client.close()
threads = [threading.Thread(target=work) for _ in range(40)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(200 - len(wrong), 'answers', *set(wrong))
sys.exit(len(wrong) > 0)
";
    Run::new(program("python3", "python3")).args(["-c", script, &port.to_string()])
}

#[test]
fn forty_threads_of_python_share_eight_connections() {
    for preload in [false, true] {
        let (port, most) = slow_server();
        let run = forty_threads(port).env("TIDEOVER_MAX_PER_ENDPOINT", "8").preload(preload);
        run.timeout(Duration::from_secs(60)).output().passes().says("200 answers");
        let most = most.load(Ordering::SeqCst);
        assert_eq!(most <= 8, preload, "{most} at once");
    }
}

/// payjoin#1608, grpc#16058, the side of the client: a burst at the limit on descriptors is over when it is over.
#[test]
fn payjoin_1608_a_burst_of_clients_at_the_limit_on_descriptors_is_served() {
    let (port, _) = slow_server();
    forty_threads(port).limit(32).both().rescued("Too many open files").preloaded.says("200 answers");
}
