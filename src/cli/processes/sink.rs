//! Where the lines of a process's log would go if its disk were full now, as far as /proc shows it: what the library's rule for
//! TIDEOVER_FALLBACK=auto says of its standard streams (src/shim/features/logs/evidence.rs).
#![forbid(unsafe_code)]

use super::process::{self, Environment};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tideover_contract::log_name;

/// A standard stream, as /proc/PID/fd shows it.
struct Stream {
    file: fs::Metadata,
    /// What the link says: a path, or `pipe:[4711]`.
    path: Vec<u8>,
    /// It was opened with O_APPEND.
    appends: bool,
}

impl Stream {
    fn of(pid: u32, number: u32) -> Option<Stream> {
        let link = format!("/proc/{pid}/fd/{number}");
        let file = fs::metadata(&link).ok()?;
        let path = std::os::unix::ffi::OsStringExt::into_vec(fs::read_link(&link).ok()?.into_os_string());
        let flags = process::file(pid, &format!("fdinfo/{number}")).and_then(|info| {
            let info = String::from_utf8_lossy(&info).into_owned();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_string();
            u32::from_str_radix(&flags, 8).ok()
        });
        let appends = flags.is_some_and(|flags| flags & rustix::fs::OFlags::APPEND.bits() != 0);
        Some(Stream { file, path, appends })
    }

    fn is(&self, other: Option<&Stream>) -> bool {
        let identity = |stream: &Stream| (stream.file.dev(), stream.file.ino());
        other.is_some_and(|other| identity(self) == identity(other))
    }

    /// Why it carries messages; None: it may be data. `journal` is the value of JOURNAL_STREAM.
    fn reason(&self, journal: Option<&str>) -> Option<&'static str> {
        let kind = self.file.file_type();
        let is_terminal = self.path.starts_with(b"/dev/pts/") || self.path.starts_with(b"/dev/tty");
        if kind.is_char_device() {
            return is_terminal.then_some("a terminal");
        }
        if kind.is_socket() {
            let own = format!("{}:{}", self.file.dev(), self.file.ino());
            return (journal == Some(own.as_str())).then_some("the journal");
        }
        (kind.is_file() && self.appends && log_name::is_like_a_log(&self.path)).then_some("a log")
    }
}

/// The number of process 1 of the pid namespace that this process is in, by its parents.
fn first_process(mut pid: u32) -> Option<u32> {
    for _ in 0..64 {
        let status = process::file(pid, "status")?;
        let status = String::from_utf8_lossy(&status).into_owned();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if field("NSpid:")?.split_whitespace().last() == Some("1") {
            return Some(pid);
        }
        pid = field("PPid:")?.parse().ok()?;
    }
    None
}

/// The place and the reason; None if the process can't be seen into.
pub fn automatic(pid: u32) -> Option<String> {
    let environment = Environment::of(pid);
    let variable = |name: &str| {
        environment.as_ref().and_then(|all| all.get(name)).map(|value| value.to_string_lossy().into_owned())
    };
    let journal = variable("JOURNAL_STREAM");
    let is_cgi = variable("GATEWAY_INTERFACE").is_some();
    fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let (stdout, stderr) = (Stream::of(pid, 1), Stream::of(pid, 2));
    if let Some(stdout) = stdout.as_ref().filter(|_| !is_cgi) {
        let is_pipe = stdout.file.file_type().is_fifo();
        let of_first =
            || first_process(pid).and_then(|first| Stream::of(first, 1)).is_some_and(|first| stdout.is(Some(&first)));
        let why = match stdout.reason(journal.as_deref()) {
            None if is_pipe && stdout.is(stderr.as_ref()) => Some("also standard error"),
            None if is_pipe && of_first() => Some("the container's log"),
            why => why,
        };
        if let Some(why) = why {
            return Some(format!("stdout ({why})"));
        }
    }
    if let Some(stderr) = stderr.as_ref().filter(|stderr| !(is_cgi && stderr.is(stdout.as_ref()))) {
        let is_pipe = stderr.file.file_type().is_fifo();
        if let Some(why) = stderr.reason(journal.as_deref()).or(is_pipe.then_some("standard error")) {
            return Some(format!("stderr ({why})"));
        }
    }
    let exists = |path: &str| Path::new(&format!("/proc/{pid}/root{path}")).exists();
    let daemon = [("/run/systemd/journal/socket", "the journal"), ("/dev/log", "syslog")];
    let found = daemon.iter().find(|(path, _)| exists(path)).map(|(_, name)| *name);
    Some(match found {
        Some(name) => format!("{name} (no standard stream carries messages)"),
        None => "nowhere (no standard stream carries messages, and there is neither a journal nor syslog)".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// What is said of a program with these streams.
    fn said(stdout: Stdio, stderr: Stdio, variables: &[(&str, &str)]) -> String {
        let mut program = Command::new("sleep");
        program.arg("10").stdin(Stdio::null()).stdout(stdout).stderr(stderr).envs(variables.iter().copied());
        let mut child = program.spawn().unwrap();
        // The environment appears a moment after the program.
        while fs::read(format!("/proc/{}/environ", child.id())).unwrap().is_empty() {
            std::thread::yield_now();
        }
        let said = automatic(child.id()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        said
    }

    #[test]
    fn streams_are_told_apart_as_the_library_does() {
        let folder = std::env::temp_dir().join(format!("tideover-sink-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let log = || fs::OpenOptions::new().append(true).create(true).open(folder.join("out.log")).unwrap().into();
        let result = || fs::File::create(folder.join("result.log")).unwrap().into();
        assert_eq!(said(Stdio::piped(), Stdio::piped(), &[]), "stderr (standard error)");
        assert_eq!(said(log(), Stdio::piped(), &[]), "stdout (a log)");
        assert_eq!(said(result(), Stdio::piped(), &[]), "stderr (standard error)");
        assert_eq!(said(log(), Stdio::piped(), &[("GATEWAY_INTERFACE", "CGI/1.1")]), "stderr (standard error)");
        assert!(said(Stdio::null(), Stdio::null(), &[]).ends_with(')'));
        fs::remove_dir_all(&folder).unwrap();
    }
}
