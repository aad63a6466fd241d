//! The listeners of a process, and the clients that they have accepted, by /proc alone.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;

/// The descriptors of a process that matter here.
#[derive(Debug, Default)]
pub struct Descriptors {
    /// Number of each socket, and its inode.
    pub sockets: Vec<(i32, u64)>,
    /// Numbers of the epoll sets.
    pub sets: Vec<i32>,
    /// How many numbers below the soft limit are in use.
    pub below: u64,
}

/// Reads the links in /proc/PID/fd; None if this user may not see all.
pub fn descriptors(pid: u32, soft: u64) -> Option<Descriptors> {
    let mut found = Descriptors::default();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        found.below += u64::from(u64::try_from(number).is_ok_and(|number| number < soft));
        match fs::read_link(entry.path()) {
            Ok(link) => match link.as_os_str().as_bytes() {
                b"anon_inode:[eventpoll]" => found.sets.push(number),
                link => found.sockets.extend(inode(link).map(|inode| (number, inode))),
            },
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
            // It has been closed meanwhile.
            Err(_) => {}
        }
    }
    Some(found)
}

fn inode(link: &[u8]) -> Option<u64> {
    let digits = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A row of /proc/net/tcp or tcp6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Port of this end.
    pub port: u16,
    /// State, by the kernel's net/tcp_states.h.
    state: u8,
    /// Bytes that are not read; of a listener, connections that are not accepted.
    pub waiting: u64,
    /// Bytes that the other end has not confirmed.
    unsent: u64,
}

const ESTABLISHED: u8 = 1;
const LISTEN: u8 = 10;

/// The TCP sockets of the network namespace of a process, by inode.
pub fn tcp(pid: u32) -> HashMap<u64, Row> {
    let mut rows = HashMap::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        rows.extend(String::from_utf8_lossy(&text).lines().skip(1).filter_map(row));
    }
    rows
}

/// ` 0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000 0 0 1234 ...`, in hex digits but for the inode.
fn row(line: &str) -> Option<(u64, Row)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (unsent, waiting) = words.get(4)?.split_once(':')?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let port = u16::try_from(hex(words.get(1)?.rsplit_once(':')?.1)?).ok()?;
    let state = u8::try_from(hex(words.get(3)?)?).ok()?;
    Some((words.get(9)?.parse().ok()?, Row { port, state, waiting: hex(waiting)?, unsent: hex(unsent)? }))
}

/// What a process has of TCP.
#[derive(Debug, Default)]
pub struct Tcp {
    /// Number and inode of each listener, and how many connections wait in it.
    pub listeners: Vec<(i32, u64, u64)>,
    /// Number and inode of each established connection whose port on this side is that of one of its listeners, and in which no data is
    /// on its way.
    pub quiet: Vec<(i32, u64)>,
}

impl Tcp {
    /// Puts descriptors and tables together.
    pub fn of(descriptors: &Descriptors, rows: &HashMap<u64, Row>) -> Tcp {
        let known =
            || descriptors.sockets.iter().filter_map(|&(number, inode)| Some((number, inode, *rows.get(&inode)?)));
        let listeners: Vec<_> = known().filter(|it| it.2.state == LISTEN).collect();
        let ports: HashSet<u16> = listeners.iter().map(|it| it.2.port).collect();
        let quiet = known().filter(|(_, _, row)| {
            row.state == ESTABLISHED && ports.contains(&row.port) && row.waiting == 0 && row.unsent == 0
        });
        Tcp {
            quiet: quiet.map(|(number, inode, _)| (number, inode)).collect(),
            listeners: listeners.into_iter().map(|(number, inode, row)| (number, inode, row.waiting)).collect(),
        }
    }

    /// How many connections wait to be accepted, in all listeners. One that is open as several descriptors counts once.
    pub fn waiting(&self) -> u64 {
        let by_inode: HashMap<u64, u64> = self.listeners.iter().map(|it| (it.1, it.2)).collect();
        by_inode.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    #[test]
    fn clients_and_those_who_wait_are_seen() {
        let me = std::process::id();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let accepted = listener.accept().unwrap().0;
        let found = Tcp::of(&descriptors(me, 1 << 20).unwrap(), &tcp(me));
        let ours = found.listeners.iter().find(|it| it.0 == listener.as_raw_fd()).unwrap();
        assert_eq!(ours.2, 2);
        let quiet = |socket: i32| found.quiet.iter().any(|it| it.0 == socket);
        assert!(quiet(accepted.as_raw_fd()) && !quiet(clients[0].as_raw_fd()) && !quiet(listener.as_raw_fd()));
        assert!(found.waiting() >= 2);
    }

    #[test]
    fn odd_rows_are_left_out() {
        assert!(
            [" 0: x", "", " 0: 0:0 0:0 ZZ 0:0 0 0 0 0 7", " 0: 0:1 0:0 0A 0:3 0 0 0 0 x"]
                .iter()
                .all(|it| row(it).is_none())
        );
        let (inode, row) = row(" 0: 0:1F90 0:0 0A 00000000:00000003 00:0 0 0 0 7 1").unwrap();
        assert_eq!((inode, row.port, row.waiting), (7, 8080, 3));
    }
}
