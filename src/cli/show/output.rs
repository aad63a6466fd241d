//! The only place that writes to stdout and stderr.
#![forbid(unsafe_code)]

use crate::show::failure::{Failure, cause};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::{Map, Value, json};
use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// Writes text to stdout. A reader that went away (`tideover ps | head`) is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::failed(format!("cannot write to standard output: {}", cause(&error))))
        }
        _ => Ok(()),
    }
}

/// Waits so long, and no longer than whoever reads stdout, a pipe, socket or terminal, is there. True: the reader is gone.
pub fn reader_goes_within(time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        let stdout = io::stdout();
        // POLLERR and POLLHUP are reported unasked.
        let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
        match poll(&mut polled, left.as_ref()) {
            Err(Errno::INTR) => {}
            Ok(0) => return false,
            Ok(_) => return true,
            // Without memory for it, the next write will tell.
            Err(_) => {
                std::thread::sleep(time);
                return false;
            }
        }
    }
}

/// Version of the JSON that commands print, which docs/json.md describes. Within a version keys may be added, and none changes
/// its meaning or goes.
pub const SCHEMA: u64 = 1;

/// Writes a JSON value to stdout, indented, with a newline and the version of its schema.
pub fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{:#}\n", with_schema(value)))
}

/// Puts `"schema": 1` into an object; of a list, into each of its elements, so that a list stays what it is.
pub fn with_schema(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let mut whole = Map::from_iter([("schema".to_string(), json!(SCHEMA))]);
            whole.extend(object.clone());
            Value::Object(whole)
        }
        Value::Array(list) => list.iter().map(with_schema).collect(),
        other => other.clone(),
    }
}

/// Writes a line to stderr after the command's name. An error is ignored: if stderr is closed, nobody can be told.
pub fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "tideover: {}", text.trim_end());
}

/// Writes a text of several lines to stderr, without a prefix.
pub fn explain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Text from another process, made safe for a terminal: one line, no control characters.
pub fn safe(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Sets up the command's own diagnostics. Their level is that of TIDEOVER_LOG, as for the library; RUST_LOG is left to the
/// program that `run` starts.
pub fn start_log() {
    let level = std::env::var("TIDEOVER_LOG").ok().and_then(|level| level.parse().ok());
    env_logger::Builder::new()
        .filter_level(level.unwrap_or(log::LevelFilter::Warn))
        .format(|to, record| {
            let level = record.level().as_str().to_lowercase();
            writeln!(to, "tideover: {}: {}", if level == "warn" { "warning" } else { &level }, record.args())
        })
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_cannot_drive_the_terminal() {
        assert_eq!(safe(b"nginx"), "nginx");
        assert_eq!(safe(b"\x1b[2Jx\n\xff"), "?[2Jx?\u{fffd}");
    }
}
