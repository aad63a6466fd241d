//! A small HTTP/1.1 server: GET and HEAD, one request for each connection. Length of the request, times and number of
//! connections are bounded.
#![forbid(unsafe_code)]

use crate::show::failure::Failure;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Longest request line and headers together, in bytes.
const HEAD: usize = 8 << 10;
/// Longest time in which a request must have been received.
const REQUEST_TIME: Duration = Duration::from_secs(5);
/// Longest time in which an answer must have been sent.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// At most so many connections are open at the same time. One more takes the place of one that has not sent its request; if all
/// have, it gets status 503.
const CONNECTIONS: usize = 16;
/// Stack of a thread that answers, in bytes: small, to save memory.
const STACK: usize = 512 << 10;

/// An answer.
pub struct Response {
    status: &'static str,
    kind: &'static str,
    body: String,
}

impl Response {
    /// An answer with status 200.
    pub fn new(kind: &'static str, body: String) -> Response {
        Response { status: "200 OK", kind, body }
    }

    /// An answer with status 200 that is a web page.
    pub fn html(body: &str) -> Response {
        Response::new("text/html; charset=utf-8", body.to_string())
    }

    /// An answer with status 404.
    pub fn not_found() -> Response {
        Response { status: "404 Not Found", kind: "text/plain", body: "There is /, /metrics and /-/healthy.\n".into() }
    }

    /// An answer with status 500, and the reason.
    pub fn failed(why: &str) -> Response {
        Response { status: "500 Internal Server Error", kind: "text/plain; charset=utf-8", body: format!("{why}\n") }
    }

    fn refused(status: &'static str) -> Response {
        Response { status, kind: "text/plain", body: format!("{status}\n") }
    }

    fn bytes(&self, with_body: bool) -> Vec<u8> {
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'\r\n\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(if with_body { self.body.as_bytes() } else { b"" });
        bytes
    }
}

/// Answers requests until the process is killed. `handler` gets the path, without the query.
pub fn serve(
    listener: &TcpListener,
    handler: impl Fn(&str) -> Response + Send + Sync + 'static,
) -> Result<(), Failure> {
    let handler = Arc::new(handler);
    let open = Arc::new(Open::default());
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // The peer has closed the connection, or no descriptor is free: both may be different in a moment.
            thread::sleep(Duration::from_millis(50));
            continue;
        };
        let stream = Arc::new(stream);
        let Some(place) = Open::enter(&open, &stream) else {
            let _ = stream.set_nonblocking(true);
            let _ = (&*stream).write(&Response::refused("503 Service Unavailable").bytes(true));
            continue;
        };
        let handler = handler.clone();
        let answer = move || {
            let _ = converse(&stream, &*handler, &place);
        };
        if thread::Builder::new().stack_size(STACK).spawn(answer).is_err() {
            log::warn!("a request is dropped: no thread can be started");
        }
    }
}

/// The connections that are open.
#[derive(Default)]
struct Open(Mutex<Connections>);

#[derive(Default)]
struct Connections {
    /// How many there have been, from which each gets a number of its own.
    count: u64,
    /// The oldest first.
    open: VecDeque<Connection>,
}

struct Connection {
    number: u64,
    stream: Arc<TcpStream>,
    /// Is its request still to come?
    silent: bool,
}

impl Open {
    /// Takes a connection in. When all places are taken, the one that has been silent for longest must go: whoever connects and
    /// says nothing can't keep others out. None if all are being answered.
    fn enter(open: &Arc<Open>, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut places = open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.open.len() >= CONNECTIONS {
            let oldest = places.open.iter().position(|connection| connection.silent)?;
            if let Some(oldest) = places.open.remove(oldest) {
                let _ = oldest.stream.shutdown(Shutdown::Both);
            }
        }
        places.count += 1;
        let number = places.count;
        places.open.push_back(Connection { number, stream: stream.clone(), silent: true });
        Some(Place { open: open.clone(), number })
    }
}

/// A connection's place among those that are open.
struct Place {
    open: Arc<Open>,
    number: u64,
}

impl Place {
    /// Its request has come: it is not silent any more.
    fn heard(&self) {
        let mut places = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = places.open.iter_mut().find(|connection| connection.number == self.number) {
            own.silent = false;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.open.retain(|connection| connection.number != self.number);
    }
}

fn converse(mut stream: &TcpStream, handler: &impl Fn(&str) -> Response, place: &Place) -> io::Result<()> {
    let head = head(stream)?;
    place.heard();
    let (response, with_body) = match head.as_deref().map(request) {
        Some(Ok((method, path))) => (handler(&path), method != "HEAD"),
        Some(Err(refused)) => (refused, true),
        None => (Response::refused("431 Request Header Fields Too Large"), true),
    };
    let deadline = Instant::now() + ANSWER_TIME;
    let bytes = response.bytes(with_body);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        match stream.write(rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads the request line and the headers, up to the empty line; None if they are too long.
fn head(mut stream: &TcpStream) -> io::Result<Option<Vec<u8>>> {
    let deadline = Instant::now() + REQUEST_TIME;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD {
            return Ok(None);
        }
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => head.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Some(head))
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Method and path of a request, or the answer to one that is malformed or neither GET nor HEAD.
fn request(head: &[u8]) -> Result<(String, String), Response> {
    let line = String::from_utf8_lossy(head.split(|&b| b == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Response::refused("400 Bad Request"));
    };
    if !matches!(method, "GET" | "HEAD") {
        return Err(Response::refused("405 Method Not Allowed"));
    }
    Ok((method.to_string(), target.split('?').next().unwrap_or_default().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            serve(&listener, |path| match path {
                "/" => Response::new("text/plain", "here\n".into()),
                "/big" => Response::new("text/plain", "x".repeat(4 << 20)),
                _ => Response::not_found(),
            })
        });
        address
    }

    fn ask(address: SocketAddr, text: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        let _ = stream.write_all(text);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn requests_are_answered_or_refused() {
        let address = server();
        let answer = ask(address, b"GET /?x=1 HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhere\n"), "{answer}");
        let head = ask(address, b"HEAD / HTTP/1.1\r\n\r\n");
        assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
        for (request, status) in [
            (&b"GET /none HTTP/1.1\r\n\r\n"[..], "404"),
            (b"POST / HTTP/1.1\r\n\r\n", "405"),
            (b"GET /\r\n\r\n", "400"),
            (b"\xff\x00\r\n\r\n", "400"),
            (b"GET / HTTP/1.1 x\r\n\r\n", "400"),
        ] {
            assert!(ask(address, request).starts_with(&format!("HTTP/1.1 {status} ")), "{status}");
        }
        let big = ask(address, b"GET /big HTTP/1.0\r\n\r\n");
        assert_eq!(big.split("\r\n\r\n").nth(1).map(str::len), Some(4 << 20));
    }

    #[test]
    fn who_sends_too_much_or_says_nothing_does_not_keep_others_out() {
        let address = server();
        let silent: Vec<TcpStream> = (0..CONNECTIONS - 2).map(|_| TcpStream::connect(address).unwrap()).collect();
        let long = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; HEAD + 2000]].concat();
        let refused = ask(address, &long);
        assert!(refused.is_empty() || refused.starts_with("HTTP/1.1 431 "), "{refused}");
        assert!(ask(address, b"GET / HTTP/1.1\r\n\r\n").ends_with("here\n"));
        drop(silent);
    }

    #[test]
    fn many_more_silent_clients_than_places_do_not_keep_others_out() {
        let address = server();
        let silent: Vec<TcpStream> = (0..CONNECTIONS * 4)
            .map(|n| {
                let mut stream = TcpStream::connect(address).unwrap();
                // Half of them begin a request and never end it.
                let _ = if n % 2 == 0 { stream.write(b"GET / HT") } else { Ok(0) };
                stream
            })
            .collect();
        let asked = Instant::now();
        for _ in 0..20 {
            assert!(ask(address, b"GET / HTTP/1.1\r\n\r\n").ends_with("here\n"));
        }
        assert!(asked.elapsed() < REQUEST_TIME / 2, "they were waited for: {:?}", asked.elapsed());
        drop(silent);
    }
}
