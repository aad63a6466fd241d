//! The socket tables of a process's network namespace (/proc/PID/net), in which the `socket:[INODE]` of a descriptor is found.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A row of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its protocol: `tcp`, `udp`, `unix` ...
    pub kind: &'static str,
    /// State of a tcp socket, by the name that ss(8) and netstat(8) use.
    pub state: Option<&'static str>,
    /// What it is connected to or bound to: `to 10.0.0.7:6379`, `clients of port 8080`, a path.
    pub target: String,
}

/// All sockets of a namespace by inode.
#[derive(Default)]
pub struct Sockets(HashMap<u64, Socket>);

/// File in /proc/PID/net, protocol, and the column of the inode.
const TABLES: &[(&str, &str, usize)] = &[
    ("tcp", "tcp", 9),
    ("tcp6", "tcp", 9),
    ("udp", "udp", 9),
    ("udp6", "udp", 9),
    ("raw", "raw", 9),
    ("raw6", "raw", 9),
    ("unix", "unix", 6),
    ("netlink", "netlink", 9),
    ("packet", "packet", 8),
];

/// States of TCP by number, from 1 (the kernel's net/tcp_states.h).
const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

impl Sockets {
    /// The sockets of the network namespace that a process is in. A table that can't be read counts as empty.
    pub fn seen_by(pid: u32) -> Sockets {
        let read = |file: &str| fs::read(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        let tables: Vec<String> = TABLES.iter().map(|t| String::from_utf8_lossy(&read(t.0)).into_owned()).collect();
        parse(&tables)
    }

    /// The socket of an inode.
    pub fn get(&self, inode: u64) -> Option<&Socket> {
        self.0.get(&inode)
    }
}

/// Reads the texts of the tables, which are in the order of [`TABLES`].
fn parse(tables: &[String]) -> Sockets {
    let rows = || {
        TABLES.iter().zip(tables).flat_map(|(&(_, kind, inode), text)| {
            text.lines().skip(1).map(move |line| (kind, inode, line.split_whitespace().collect::<Vec<&str>>()))
        })
    };
    // A connection whose local port is one that a socket listens on is that of a client.
    let listening: HashSet<u16> = rows()
        .filter(|(kind, _, row)| *kind == "tcp" && state(row) == Some("LISTEN"))
        .filter_map(|(_, _, row)| Some(address(row.get(1)?)?.port()))
        .collect();
    let sockets = rows().filter_map(|(kind, inode, row)| {
        let inode = row.get(inode)?.parse().ok()?;
        let (state, target) = match kind {
            "tcp" => (state(&row), tcp_target(&row, &listening)?),
            "udp" => (None, udp_target(&row)?),
            "unix" => (None, row.get(7).map_or("unnamed".to_string(), |path| (*path).to_string())),
            kind => (None, kind.to_string()),
        };
        Some((inode, Socket { kind, state, target }))
    });
    Sockets(sockets.collect())
}

fn state(row: &[&str]) -> Option<&'static str> {
    let number = usize::from_str_radix(row.get(3)?, 16).ok()?;
    STATES.get(number.checked_sub(1)?).copied()
}

fn tcp_target(row: &[&str], listening: &HashSet<u16>) -> Option<String> {
    let (local, remote) = (address(row.get(1)?)?, address(row.get(2)?)?);
    Some(match state(row) {
        Some("LISTEN") => format!("listening on {local}"),
        _ if listening.contains(&local.port()) => format!("clients of port {}", local.port()),
        _ if remote.port() == 0 => "not connected".to_string(),
        _ => format!("to {remote}"),
    })
}

fn udp_target(row: &[&str]) -> Option<String> {
    let (local, remote) = (address(row.get(1)?)?, address(row.get(2)?)?);
    Some(if remote.port() == 0 { format!("on {local}") } else { format!("to {remote}") })
}

/// Reads `0100007F:1F90`: the address in words of 32 bits in this machine's byte order, and the port, all in hex digits.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let word = |i: usize| host.get(i * 8..i * 8 + 8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let ip = if host.len() == 8 {
        IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes()))
    } else {
        let mut bytes = [0; 16];
        for (i, part) in bytes.chunks_exact_mut(4).enumerate() {
            part.copy_from_slice(&word(i)?.to_ne_bytes());
        }
        Ipv6Addr::from(bytes).to_canonical()
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    fn find(sockets: &Sockets, of: &impl AsRawFd) -> Socket {
        let link = fs::read_link(format!("/proc/self/fd/{}", of.as_raw_fd())).unwrap();
        let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap();
        sockets.get(inode).unwrap().clone()
    }

    #[test]
    fn the_sockets_of_this_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let server = listener.accept().unwrap().0;
        let udp = UdpSocket::bind("[::1]:0");
        let sockets = Sockets::seen_by(std::process::id());
        let listens = find(&sockets, &listener);
        assert_eq!((listens.state, listens.target), (Some("LISTEN"), format!("listening on {address}")));
        assert_eq!(find(&sockets, &server).target, format!("clients of port {}", address.port()));
        let client = find(&sockets, &client);
        assert_eq!((client.state, client.target), (Some("ESTABLISHED"), format!("to {address}")));
        if let Ok(udp) = udp {
            assert_eq!(find(&sockets, &udp).target, format!("on {}", udp.local_addr().unwrap()));
        }
    }

    #[test]
    fn odd_tables_are_no_trouble() {
        let odd = "header\n\n 0: zz:00 1:2 FF\n1: 0100007F:1F90 0100007F:0001 00 a b c d e 7 x\n".to_string();
        let sockets = parse(&vec![odd; TABLES.len()]);
        assert!(sockets.get(1).is_none());
        assert_eq!(address("00000000000000000000000001000000:0050"), "[::1]:80".parse().ok());
        assert_eq!(address("0000000000000000FFFF00000100007F:0050"), "127.0.0.1:80".parse().ok());
        assert_eq!(address("0\u{e9}0:00"), None);
    }
}
