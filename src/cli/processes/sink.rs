//! Where the lines of a process's log would go if its disk were full now, as far as /proc shows it: what the library does for
//! TIDEOVER_FALLBACK=auto.
#![forbid(unsafe_code)]

use super::standard_stream::Streams;
use std::path::Path;

/// The place and the reason; None if the process can't be seen into.
pub fn automatic(pid: u32) -> Option<String> {
    let streams = Streams::of(pid)?;
    for (is_stdout, name) in [(true, "stdout"), (false, "stderr")] {
        if let Some(why) = streams.reason(is_stdout) {
            return Some(format!("{name} ({why})"));
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
    use std::fs;
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
        let plain = |name: &str| fs::File::create(folder.join(name)).unwrap().into();
        let result = || fs::File::create(folder.join("result.log")).unwrap().into();
        assert_eq!(said(Stdio::piped(), Stdio::piped(), &[]), "stderr (standard error)");
        assert_eq!(said(log(), Stdio::piped(), &[]), "stdout (a log)");
        assert_eq!(said(result(), Stdio::piped(), &[]), "stderr (standard error)");
        assert_eq!(said(log(), Stdio::piped(), &[("GATEWAY_INTERFACE", "CGI/1.1")]), "stderr (standard error)");
        // `2> errors` holds messages, whatever it is called; results do not.
        assert_eq!(said(Stdio::null(), plain("errors"), &[]), "stderr (a log)");
        assert_ne!(said(Stdio::null(), plain("errors.csv"), &[]), "stderr (a log)");
        let excluded = [("TIDEOVER_LOGS_EXCEPT", "*.log")];
        assert_eq!(said(log(), Stdio::piped(), &excluded), "stderr (standard error)");
        fs::write(folder.join("out.log"), b"SQLite format 3\0").unwrap();
        assert_eq!(said(log(), Stdio::piped(), &[]), "stderr (standard error)", "its content is no log's");
        assert!(said(Stdio::null(), Stdio::null(), &[]).ends_with(')'));
        fs::remove_dir_all(&folder).unwrap();
    }
}
