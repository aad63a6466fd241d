//! Which TCP connections a process has open, and to which peers, as the kernel knows it.
#![forbid(unsafe_code)]

use crate::processes::descriptors::{socket_inode, targets};
use crate::processes::sockets::Sockets;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// At most so many endpoints are shown.
const SHOWN: usize = 10;

/// Open connections by endpoint.
#[derive(Debug, Default)]
pub struct Connections {
    outgoing: BTreeMap<String, u64>,
    clients: BTreeMap<String, u64>,
}

impl Connections {
    /// The connections of a process; None if this user may not see what its descriptors are open on.
    pub fn of(pid: u32) -> Option<Connections> {
        // Copies of a descriptor are one socket.
        let inodes: HashSet<u64> = targets(pid)?.iter().filter_map(|link| socket_inode(link.to_str()?)).collect();
        if inodes.is_empty() {
            return Some(Connections::default());
        }
        Some(Connections::among(&inodes, &Sockets::seen_by(pid)))
    }

    /// The connections among the sockets of a process, by their inodes and the sockets of its network namespace.
    pub fn among(inodes: &HashSet<u64>, sockets: &Sockets) -> Connections {
        let mut connections = Connections::default();
        for socket in inodes.iter().filter_map(|&inode| sockets.get(inode)) {
            connections.add(socket.kind, socket.state, &socket.target);
        }
        connections
    }

    fn add(&mut self, kind: &str, state: Option<&str>, target: &str) {
        if kind != "tcp" || matches!(state, Some("LISTEN" | "CLOSE")) {
            return;
        }
        if let Some(to) = target.strip_prefix("to ") {
            *self.outgoing.entry(to.into()).or_default() += 1;
        } else if let Some(of) = target.strip_prefix("clients of ") {
            *self.clients.entry(of.into()).or_default() += 1;
        }
    }

    /// How many outgoing connections are open.
    pub fn outgoing(&self) -> u64 {
        self.outgoing.values().sum()
    }

    /// How many connections are open, in and out.
    pub fn count(&self) -> u64 {
        self.outgoing() + self.clients.values().sum::<u64>()
    }

    /// The endpoints with most connections, as (`to 10.0.0.7:6379` or `of port 80`, count).
    pub fn lines(&self) -> Vec<(String, u64)> {
        let shown = |word: &'static str, map| top(map).into_iter().map(move |(name, n)| (format!("{word} {name}"), n));
        shown("to", &self.outgoing).chain(shown("of", &self.clients)).collect()
    }

    /// `{"outgoing": {"10.0.0.7:6379": 12}, "clients": {"port 80": 3}}`, those with most connections first.
    pub fn json(&self) -> Value {
        let object = |map| Value::Object(top(map).into_iter().map(|(name, n)| (name.clone(), json!(n))).collect());
        json!({ "outgoing": object(&self.outgoing), "clients": object(&self.clients) })
    }
}

fn top(map: &BTreeMap<String, u64>) -> Vec<(&String, u64)> {
    let mut all: Vec<_> = map.iter().map(|(name, &n)| (name, n)).collect();
    all.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
    all.truncate(SHOWN);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn connections_of_this_process_are_counted_by_endpoint() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ours: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        let copy = ours[0].try_clone();
        let theirs: Vec<_> = (0..2).map(|_| listener.accept().unwrap()).collect();
        let open = Connections::of(std::process::id()).unwrap();
        assert_eq!(open.outgoing[&address.to_string()], 3);
        assert_eq!(open.clients[&format!("port {}", address.port())], 2);
        drop((ours, copy, theirs));
        assert_eq!(Connections::of(std::process::id()).unwrap().outgoing.get(&address.to_string()), None);
    }

    #[test]
    fn the_busiest_endpoints_are_shown_first() {
        let mut open = Connections::default();
        for n in 0..40u64 {
            (0..n).for_each(|_| open.add("tcp", Some("ESTABLISHED"), &format!("to 10.0.0.{n}:80")));
        }
        open.add("tcp", Some("LISTEN"), "listening on 0.0.0.0:80");
        open.add("udp", None, "to 10.0.0.1:53");
        open.add("tcp", Some("CLOSE_WAIT"), "clients of port 80");
        assert_eq!(open.outgoing(), (0..40).sum::<u64>());
        let lines = open.lines();
        assert_eq!(
            (lines.len(), &lines[0], &lines[10]),
            (11, &("to 10.0.0.39:80".into(), 39), &("of port 80".into(), 1))
        );
        assert_eq!(open.json()["outgoing"]["10.0.0.39:80"], 39);
        assert_eq!(open.json()["clients"], json!({"port 80": 1}));
    }
}
