//! A receiver of alerts that runs a shell command for each, one after the other.
#![forbid(unsafe_code)]

use super::alert::Alert;
use super::deliver::{Receiver, Undelivered};
use crate::show::failure::cause;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A command that takes longer is killed with all that it started.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The command, as sh -c gets it.
pub struct Exec {
    words: String,
    time_limit: Duration,
}

impl Exec {
    /// A receiver that will run this command.
    pub fn new(words: &str) -> Exec {
        Exec { words: words.to_string(), time_limit: TIME_LIMIT }
    }

    fn start(&self, alert: &Alert) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(&self.words).stdin(Stdio::piped()).stdout(Stdio::inherit()).process_group(0);
        for (name, value) in [
            ("ALERT_NAME", alert.name),
            ("ALERT_STATE", alert.state),
            ("ALERT_SEVERITY", alert.level_name()),
            ("ALERT_PROGRAM", &alert.program),
            ("ALERT_SERVICE", &alert.service),
            ("ALERT_MESSAGE", &alert.message),
        ] {
            command.env(name, value);
        }
        command.env("ALERT_PID", alert.pid.to_string());
        command
    }
}

impl Receiver for Exec {
    fn name(&self) -> String {
        "--exec".to_string()
    }

    /// Runs the command, and never twice for an alert: what a command has done before it failed is not known.
    fn deliver(&self, alert: &Alert, dropped: u64) -> Result<(), Undelivered> {
        let later = |error: std::io::Error| Undelivered::Later(cause(&error));
        let mut child = self.start(alert).spawn().map_err(later)?;
        if let Some(mut stdin) = child.stdin.take() {
            // The JSON is shorter than what a pipe holds, so that a command that does not read it can't keep us waiting.
            let _ = stdin.write_all(format!("{}\n", alert.json(dropped)).as_bytes());
        }
        match wait(&mut child, self.time_limit) {
            None => Err(Undelivered::Never(format!("killed after {} s", self.time_limit.as_secs()))),
            Some(status) if !status.success() => Err(Undelivered::Never(format!("{status}"))),
            Some(_) => Ok(()),
        }
    }
}

fn wait(child: &mut Child, time_limit: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + time_limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if Instant::now() > end {
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait();
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_gets_the_alert_and_failures_are_final() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("told");
        let words = format!(
            "{{ echo \"$ALERT_STATE $ALERT_SEVERITY $ALERT_NAME $ALERT_PID $ALERT_PROGRAM\"; cat; }} > {}",
            path.display()
        );
        Exec::new(&words).deliver(&Alert::example(7), 2).unwrap();
        let told = std::fs::read_to_string(&path).unwrap();
        let (line, json) = told.split_once('\n').unwrap();
        assert_eq!(line, "raised critical usage 7 nginx");
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&json["alert"], &json["dropped"]), (&"usage".into(), &2.into()));
        assert!(matches!(Exec::new("exit 3").deliver(&Alert::example(7), 0), Err(Undelivered::Never(_))));
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let exec = Exec { words: "sleep 1000 & sleep 1000".into(), time_limit: Duration::from_millis(50) };
        assert!(matches!(exec.deliver(&Alert::example(7), 0), Err(Undelivered::Never(_))));
    }
}
