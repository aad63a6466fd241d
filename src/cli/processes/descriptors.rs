//! The open descriptors of a process: how many there are of each kind, and what they are open on.
#![forbid(unsafe_code)]

use crate::processes::process;
use crate::processes::sockets::Sockets;
use crate::show::output::safe;
use rustix::fs::{AtFlags, CWD, FileType, StatxFlags, getxattr, statx};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tideover_contract::log_name;

/// The open descriptors of a process, counted.
#[derive(Default)]
pub struct OpenDescriptors {
    /// How many descriptors are open.
    pub used: u64,
    /// Of how many of them this user may not see what they are open on, and which are in no other count.
    pub unseen: u64,
    /// How many there are of each kind: `file`, `tcp`, `pipe` ...
    pub kinds: BTreeMap<&'static str, u64>,
    /// How many are open on each target. A file counts twice: for its path, and for its folder, `/var/spool/*`.
    pub targets: HashMap<Target, u64>,
    /// How many TCP sockets there are in each state.
    pub tcp: BTreeMap<&'static str, u64>,
    /// How many inotify watches there are, in all instances.
    pub watches: u64,
    /// Regular files that are open for writing, and are deleted or named like a log.
    pub written: Vec<WrittenFile>,
}

/// A kind of descriptor, and what it is open on.
pub type Target = (&'static str, String);

/// A file that the process has open for writing.
#[derive(Clone, Debug)]
pub struct WrittenFile {
    /// /proc/PID/fd/N, by which the file is reached also when it is deleted, or in another mount namespace.
    pub by: PathBuf,
    /// Its path as the process knows it.
    pub path: String,
    /// Was it deleted?
    pub deleted: bool,
    /// Is it open for appending (O_APPEND)?
    pub appends: bool,
    /// Does its name say that it is a log?
    pub log: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes that it takes on its disk, fewer if it has holes.
    pub taken: u64,
    /// Major and minor number of its device, and its inode.
    pub id: (u32, u32, u64),
}

impl OpenDescriptors {
    /// Counts the descriptors of a process. The error is that of reading /proc/PID/fd, where not even their number can be had.
    pub fn of(pid: u32) -> io::Result<OpenDescriptors> {
        let folder = format!("/proc/{pid}/fd");
        let (links, unseen) = match links(&folder) {
            Err(error) => match process::descriptors(pid) {
                Some(used) => return Ok(OpenDescriptors { used, unseen: used, ..OpenDescriptors::default() }),
                None => return Err(error),
            },
            read => read?,
        };
        let is_socket = |(_, link): &(u32, PathBuf)| link.as_os_str().as_bytes().starts_with(b"socket:");
        let sockets = if links.iter().any(is_socket) { Sockets::seen_by(pid) } else { Sockets::default() };
        let mut open = OpenDescriptors { used: unseen, unseen, ..OpenDescriptors::default() };
        for (number, link) in links {
            open.count(pid, number, &link.to_string_lossy(), &sockets);
        }
        Ok(open)
    }

    fn count(&mut self, pid: u32, number: u32, link: &str, sockets: &Sockets) {
        self.used += 1;
        let by = PathBuf::from(format!("/proc/{pid}/fd/{number}"));
        let (kind, targets) = match link {
            _ if link.starts_with('/') => self.path(pid, number, link, by),
            _ if link.starts_with("socket:") => self.socket(link, &by, sockets),
            _ if link.starts_with("pipe:") => ("pipe", vec!["pipes".to_string()]),
            _ => {
                let kind = anonymous(link);
                if kind == "inotify" {
                    self.watches += watches(pid, number);
                }
                (kind, vec![link.trim_start_matches("anon_inode:").to_string()])
            }
        };
        *self.kinds.entry(kind).or_default() += 1;
        for target in targets {
            *self.targets.entry((kind, target)).or_default() += 1;
        }
    }

    fn socket(&mut self, link: &str, by: &Path, sockets: &Sockets) -> (&'static str, Vec<String>) {
        let inode = link.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap_or(0);
        let Some(socket) = sockets.get(inode) else {
            // A socket in no table is neither bound nor connected, or closed by its peer, or of another network namespace.
            let kind = protocol(by);
            if kind == "tcp" {
                *self.tcp.entry("CLOSE").or_default() += 1;
            }
            return (kind, vec!["not connected".to_string()]);
        };
        if let Some(state) = socket.state {
            *self.tcp.entry(state).or_default() += 1;
        }
        (socket.kind, vec![socket.target.clone()])
    }

    fn path(&mut self, pid: u32, number: u32, link: &str, by: PathBuf) -> (&'static str, Vec<String>) {
        let path = link.strip_suffix(" (deleted)").unwrap_or(link);
        if link.starts_with("/memfd:") {
            return ("memfd", vec![path.to_string()]);
        }
        let flags = AtFlags::STATX_DONT_SYNC; // a dead NFS server must not hold us
        let Ok(stat) = statx(CWD, &by, flags, StatxFlags::BASIC_STATS) else { return ("file", vec![path.to_string()]) };
        let deleted = stat.stx_nlink == 0;
        let kind = match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::Directory => "directory",
            FileType::CharacterDevice | FileType::BlockDevice => "device",
            FileType::Fifo => "pipe",
            FileType::RegularFile if deleted => "deleted file",
            _ => "file",
        };
        let log = is_log(path);
        if kind == "deleted file" || (kind == "file" && log) {
            let flags = open_flags(pid, number);
            if flags & (libc::O_WRONLY | libc::O_RDWR) as u32 != 0 {
                self.written.push(WrittenFile {
                    by,
                    path: path.to_string(),
                    deleted,
                    appends: flags & libc::O_APPEND as u32 != 0,
                    log,
                    size: stat.stx_size,
                    taken: stat.stx_blocks.saturating_mul(512),
                    id: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
                });
            }
        }
        let folder = path.rsplit_once('/').map(|(folder, _)| format!("{folder}/*"));
        let folder = folder.filter(|_| matches!(kind, "file" | "deleted file"));
        (kind, std::iter::once(path.to_string()).chain(folder).collect())
    }

    /// The targets that most descriptors are open on. A folder is left out if one file explains its count, and so is a file that
    /// occurs once in a folder that is listed.
    pub fn top(&self, count: usize) -> Vec<(&Target, u64)> {
        let mut all: Vec<(&Target, u64)> = self.targets.iter().map(|(target, &n)| (target, n)).collect();
        // Of equal counts a file sorts before its folder, which it explains, so that the folder is left out.
        all.sort_by_key(|&((kind, target), n)| (Reverse(n), target.ends_with("/*"), *kind, target.as_str()));
        let mut top: Vec<(&Target, u64)> = Vec::new();
        for (target, n) in all {
            let folder_of_shown = target.1.ends_with("/*")
                && (n == 1 || top.iter().any(|(shown, m)| is_in(shown, target) && *m * 10 > n * 9));
            let shown_by_folder = n == 1 && top.iter().any(|(shown, _)| is_in(target, shown));
            if !folder_of_shown && !shown_by_folder {
                top.push((target, n));
            }
            if top.len() == count {
                break;
            }
        }
        top
    }
}

/// Is a target a file that lies directly in the folder that the other names, `/var/spool/*`?
fn is_in(file: &Target, folder: &Target) -> bool {
    let below = folder.1.strip_suffix('*').and_then(|folder| file.1.strip_prefix(folder));
    file.0 == folder.0 && below.is_some_and(|name| name != "*" && !name.contains('/'))
}

/// The descriptors in a folder such as /proc/PID/fd with what they are open on, and how many others there are whose links this
/// user may not read: root without CAP_SYS_PTRACE, as in a container, may list those of other users and no more.
fn links(folder: &str) -> io::Result<(Vec<(u32, PathBuf)>, u64)> {
    let (mut links, mut unseen) = (Vec::new(), 0);
    for entry in fs::read_dir(folder)?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match fs::read_link(entry.path()) {
            Ok(link) => links.push((number, link)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => unseen += 1,
            // It has been closed meanwhile.
            Err(_) => {}
        }
    }
    Ok((links, unseen))
}

/// What the descriptors of a process are open on, as the links in /proc/PID/fd have it; None unless this user may see all.
pub fn targets(pid: u32) -> Option<Vec<PathBuf>> {
    let (links, unseen) = links(&format!("/proc/{pid}/fd")).ok()?;
    (unseen == 0).then(|| links.into_iter().map(|(_, link)| link).collect())
}

/// The usual name for what the kernel calls `anon_inode:[eventpoll]`, `anon_inode:inotify` ...
fn anonymous(link: &str) -> &'static str {
    match link.trim_start_matches("anon_inode:").trim_matches(['[', ']']) {
        "eventpoll" => "epoll",
        "eventfd" => "eventfd",
        "inotify" => "inotify",
        "fanotify" => "fanotify",
        "signalfd" => "signalfd",
        "timerfd" => "timerfd",
        "io_uring" => "io_uring",
        "pidfd" => "pidfd",
        "userfaultfd" => "userfaultfd",
        "perf_event" => "perf_event",
        name if name.starts_with("bpf") => "bpf",
        name if name.starts_with("pidfd") => "pidfd",
        name if name.starts_with("net:") || name.starts_with("mnt:") || name.starts_with("user:") => "namespace",
        _ => "other",
    }
}

/// The protocol of a socket, which the kernel tells as an extended attribute of the link in /proc/PID/fd.
fn protocol(by: &Path) -> &'static str {
    let mut name = [0u8; 32];
    let length = getxattr(by, "system.sockprotoname", &mut name).unwrap_or(0);
    let name = name.get(..length).unwrap_or_default();
    match name.split(|&b| b == 0).next().unwrap_or_default() {
        b"TCP" | b"TCPv6" | b"MPTCP" | b"MPTCPv6" => "tcp",
        b"UDP" | b"UDPv6" | b"UDP-Lite" | b"UDPLITEv6" => "udp",
        b"UNIX" | b"UNIX-STREAM" => "unix",
        b"NETLINK" => "netlink",
        b"RAW" | b"RAWv6" | b"PING" | b"PINGv6" => "raw",
        b"PACKET" => "packet",
        _ => "socket",
    }
}

fn fdinfo(pid: u32, number: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default()
}

fn watches(pid: u32, number: u32) -> u64 {
    fdinfo(pid, number).lines().filter(|line| line.starts_with("inotify ")).count() as u64
}

fn open_flags(pid: u32, number: u32) -> u32 {
    let info = fdinfo(pid, number);
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0)
}

/// Is a file named like a log, in letters of either case? The library is stricter: it also looks at flags and content.
pub fn is_log(path: &str) -> bool {
    log_name::is_like_a_log(path.as_bytes()) || log_name::is_like_a_log(path.to_ascii_lowercase().as_bytes())
}

/// What `watch` and `metrics` look at in a process.
#[derive(Debug, Default)]
pub struct Watched {
    /// One log that is open for writing for each filesystem, by its st_dev.
    pub logs: BTreeMap<u64, WatchedLog>,
    /// How many inotify instances there are.
    pub instances: u64,
    /// How many watches are in them.
    pub watches: u64,
    /// The inodes of its sockets.
    pub sockets: HashSet<u64>,
    /// Of how many descriptors this user may not see what they are open on.
    pub unseen: u64,
}

/// A log that is open for writing.
#[derive(Debug)]
pub struct WatchedLog {
    /// /proc/PID/fd/N, by which it is reached in another mount namespace, too.
    pub by: PathBuf,
    /// Its path as the process knows it.
    pub path: String,
}

/// The inode in `socket:[4711]`.
pub fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Looks at the logs and inotify instances of a process; None if this user may not.
pub fn watched(pid: u32) -> Option<Watched> {
    let (links, unseen) = links(&format!("/proc/{pid}/fd")).ok()?;
    let mut seen = Watched { unseen, ..Watched::default() };
    for (number, link) in links {
        if link.as_os_str() == "anon_inode:inotify" {
            seen.instances += 1;
            seen.watches += watches(pid, number);
        } else if let Some(inode) = link.to_str().and_then(socket_inode) {
            seen.sockets.insert(inode);
        } else if link.is_absolute() && is_log(&link.to_string_lossy()) {
            let by = PathBuf::from(format!("/proc/{pid}/fd/{number}"));
            let Ok(stat) = statx(CWD, &by, AtFlags::STATX_DONT_SYNC, StatxFlags::BASIC_STATS) else { continue };
            let is_file = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
            if is_file && open_flags(pid, number) & (libc::O_WRONLY | libc::O_RDWR) as u32 != 0 {
                let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
                let log = WatchedLog { by, path: safe(link.as_os_str().as_bytes()) };
                seen.logs.entry(device).or_insert(log);
            }
        }
    }
    Some(seen)
}

/// How many inotify instances a process has, and how many watches there are in them; None if this user may not see that.
pub fn inotify(pid: u32) -> Option<(u64, u64)> {
    let (links, unseen) = links(&format!("/proc/{pid}/fd")).ok()?;
    let instances = links.iter().filter(|(_, link)| link.as_os_str() == "anon_inode:inotify");
    let numbers: Vec<u32> = instances.map(|(number, _)| *number).collect();
    (unseen == 0).then(|| (numbers.len() as u64, numbers.iter().map(|&number| watches(pid, number)).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;

    #[test]
    fn every_kind_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        let log = File::create(&path).unwrap();
        let spool: Vec<File> = (0..5).map(|i| File::create(folder.path().join(format!("s{i}"))).unwrap()).collect();
        let nulls: Vec<File> = (0..7).map(|_| File::open("/dev/null").unwrap()).collect();
        let (pipe, directory) = (io::pipe().unwrap(), File::open("/").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let memory = rustix::fs::memfd_create("scratch", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let open = OpenDescriptors::of(std::process::id()).unwrap();
        for kind in ["file", "device", "pipe", "tcp", "memfd", "directory"] {
            assert!(open.kinds[kind] > 0, "{:?}", open.kinds);
        }
        assert!(open.tcp["LISTEN"] > 0 && open.used > 15);
        assert!(open.targets[&("device", "/dev/null".to_string())] >= 7);
        let all = (folder.path().join("*").to_str().unwrap().to_string(), 6);
        let top: Vec<(String, u64)> = open.top(100).into_iter().map(|(target, n)| (target.1.clone(), n)).collect();
        assert!(top.contains(&all) && !top.iter().any(|(path, _)| path.ends_with("/s1")), "{top:?}");
        let written = |open: &OpenDescriptors| open.written.iter().find(|w| Path::new(&w.path) == path).cloned();
        assert!(!written(&open).unwrap().deleted);
        fs::remove_file(&path).unwrap();
        let open = OpenDescriptors::of(std::process::id()).unwrap();
        assert!(written(&open).unwrap().deleted && open.kinds["deleted file"] > 0);
        assert!([log.as_raw_fd(), listener.as_raw_fd(), memory.as_raw_fd()].iter().all(|fd| *fd > 2));
        drop((spool, nulls, pipe, directory));
    }

    #[test]
    fn a_file_that_explains_its_folder_stands_alone() {
        let of = |counts: &[(&'static str, &str, u64)]| {
            let targets = counts.iter().map(|(kind, target, n)| ((*kind, (*target).to_string()), *n)).collect();
            let open = OpenDescriptors { targets, ..OpenDescriptors::default() };
            open.top(9).into_iter().map(|(target, n)| format!("{n} {} {}", target.0, target.1)).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("file", "/spool/*", 9), ("file", "/spool/a", 9)]), ["9 file /spool/a"], "as many of both");
        assert_eq!(of(&[("file", "/spool/*", 10), ("file", "/spool/a", 9)]), ["10 file /spool/*", "9 file /spool/a"]);
        assert_eq!(
            of(&[("file", "/a/*", 9), ("file", "/a/b/c", 9), ("file", "/a/b/*", 9)]),
            ["9 file /a/b/c", "9 file /a/*"]
        );
        assert_eq!(of(&[("file", "/a/*", 9), ("file", "/a/b/c", 1)]), ["9 file /a/*", "1 file /a/b/c"]);
        assert_eq!(of(&[("file", "/a/*", 5), ("deleted file", "/a/c", 5)]), ["5 deleted file /a/c", "5 file /a/*"]);
    }

    #[test]
    fn logs_are_known_by_their_names() {
        for path in ["/var/log/x", "/a/app.log", "/a/app.log.1", "/a/app.LOG-20250101", "/a/error_log", "/srv/logs/a/b"]
        {
            assert!(is_log(path), "{path}");
        }
        for path in ["/a/catalog", "/data/base.db", "/a/blog", "/a/log4j.xml", ""] {
            assert!(!is_log(path), "{path}");
        }
    }

    #[test]
    fn a_socket_that_is_in_no_table_is_known_by_its_protocol() {
        use rustix::net::{AddressFamily, SocketType, socket};
        let tcp = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let by = PathBuf::from(format!("/proc/self/fd/{}", tcp.as_raw_fd()));
        assert_eq!(protocol(&by), "tcp");
        assert_eq!(protocol(Path::new("/proc/self/exe")), "socket");
    }
}
