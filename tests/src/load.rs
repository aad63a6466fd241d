//! A crowd of clients, from one thread: each connects, asks, is answered, and then stays for a while, leaves, or comes again.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

/// What a client says, and what it takes for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Talk {
    /// All that a client sends.
    pub ask: &'static str,
    /// An answer holds this.
    pub answer: &'static str,
}

/// HTTP, the connection is kept.
pub const HTTP: Talk = Talk { ask: "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", answer: "\r\n\r\n" };

/// What clients do when they have their answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nothing: the connection stays open.
    Stay,
    /// Close it.
    Leave,
    /// Close it, and come again.
    Return,
}

/// One that waits for its answer, stays after it, or, without a socket, is gone.
#[derive(Debug)]
struct Client {
    since: Instant,
    socket: Option<TcpStream>,
    heard: Vec<u8>,
    asked: bool,
    answered: bool,
}

impl Client {
    fn waits(&self) -> bool {
        self.socket.is_some() && !self.answered
    }

    fn stays(&self) -> bool {
        self.socket.is_some() && self.answered
    }
}

/// The clients of one server.
#[derive(Debug)]
pub struct Crowd {
    port: u16,
    talk: Talk,
    then: Then,
    clients: Vec<Client>,
    /// From connect(2) to the answer, for each that was answered.
    pub served: Vec<Duration>,
    /// Connections that the server, or the kernel in its place, ended without an answer.
    pub refused: usize,
}

impl Crowd {
    /// Nobody yet.
    pub fn new(port: u16, talk: Talk) -> Crowd {
        Crowd { port, talk, then: Then::Stay, clients: vec![], served: vec![], refused: 0 }
    }

    /// Connects `count` more.
    pub fn come(&mut self, count: usize) {
        for _ in 0..count {
            let client = self.connect();
            self.clients.push(client);
        }
    }

    /// What clients do from now on; those that stay leave, or come again.
    pub fn then(&mut self, then: Then) {
        self.then = then;
        for i in 0..self.clients.len() {
            if self.clients[i].stays() {
                self.over(i);
            }
        }
    }

    /// So many of those that stay leave.
    pub fn leave(&mut self, count: usize) {
        for client in self.clients.iter_mut().filter(|c| c.stays()).take(count) {
            client.socket = None;
        }
    }

    /// How many have asked and not been answered.
    pub fn waiting(&self) -> usize {
        self.clients.iter().filter(|c| c.waits()).count()
    }

    /// How many have been answered and stay.
    pub fn staying(&self) -> usize {
        self.clients.iter().filter(|c| c.stays()).count()
    }

    /// Lets time pass; true: until nobody waits any more.
    pub fn pass(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        loop {
            if self.waiting() == 0 && self.then != Then::Return {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.look(left);
        }
    }

    /// Lets all of this time pass.
    pub fn pass_all(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.pass(time);
        std::thread::sleep(end.saturating_duration_since(Instant::now()));
    }

    /// Without blocking, whatever the server does.
    fn connect(&self) -> Client {
        // SAFETY: socket(2) touches no memory.
        let fd =
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
        assert!(fd >= 0, "a socket for a client: {}", std::io::Error::last_os_error());
        // SAFETY: the descriptor is fresh and nobody else's.
        let socket = unsafe { TcpStream::from_raw_fd(fd) };
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: self.port.to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from(Ipv4Addr::LOCALHOST).to_be() },
            sin_zero: [0; 8],
        };
        // SAFETY: `address` is a valid sockaddr_in of the length given. How it went shows when it is written to.
        unsafe { libc::connect(fd, (&raw const address).cast(), size_of_val(&address) as u32) };
        Client { since: Instant::now(), socket: Some(socket), heard: vec![], asked: false, answered: false }
    }

    fn look(&mut self, time: Duration) {
        let (mut polled, mut which) = (vec![], vec![]);
        for (i, client) in self.clients.iter().enumerate() {
            if let Some(socket) = client.socket.as_ref().filter(|_| !client.answered) {
                let events = if client.asked { libc::POLLIN } else { libc::POLLOUT };
                polled.push(libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 });
                which.push(i);
            }
        }
        // SAFETY: `polled` is an array of the length given.
        unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as u64, time.as_millis().clamp(1, 50) as i32) };
        for (poll, i) in polled.iter().zip(which) {
            if poll.revents != 0 && !self.hear(i) {
                self.refused += 1;
                self.over(i);
            }
        }
    }

    /// Says or hears what there is; false if the connection is lost.
    fn hear(&mut self, i: usize) -> bool {
        let client = &mut self.clients[i];
        let Some(socket) = &mut client.socket else { return true };
        if !client.asked {
            client.asked = true;
            return socket.write(self.talk.ask.as_bytes()).is_ok_and(|count| count == self.talk.ask.len());
        }
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => client.heard.extend_from_slice(&buffer[..count]),
            Err(e) => return e.kind() == ErrorKind::WouldBlock,
        }
        let wanted = self.talk.answer.as_bytes();
        if client.heard.windows(wanted.len()).any(|part| part == wanted) {
            client.answered = true;
            self.served.push(client.since.elapsed());
            if self.then != Then::Stay {
                self.over(i);
            }
        }
        true
    }

    /// Its connection is closed before it comes again: by a reset, since a hundred thousand connections in TIME_WAIT make the next slow.
    fn over(&mut self, i: usize) {
        let socket = self.clients[i].socket.take();
        if self.then == Then::Return {
            if let Some(socket) = socket {
                let now = libc::linger { l_onoff: 1, l_linger: 0 };
                let size = size_of::<libc::linger>() as u32;
                // SAFETY: a valid value of the size given.
                unsafe {
                    libc::setsockopt(
                        socket.as_raw_fd(),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const now).cast(),
                        size,
                    );
                }
            }
            self.clients[i] = self.connect();
        }
    }
}

/// The value that `part` of them (0 to 1) are not above.
pub fn quantile(times: &[Duration], part: f64) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}
