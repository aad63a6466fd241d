//! The child process of `tideover selftest`, which is started with or without the library and answers with one line.
#![forbid(unsafe_code)]

use crate::launch::library::Library;
use crate::launch::preload;
use crate::show::output::safe;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{self, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use tideover_contract::settings::{Id, SETTINGS};

/// A child that has not answered by then hangs. No scenario takes a second when the library works.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The child's answer.
pub struct Answer {
    /// Did the child behave as it should with the library?
    pub ok: bool,
    /// What happened, in a few words.
    pub says: String,
}

/// The child, or why it could not be started.
pub struct Child(Result<process::Child, String>);

impl Child {
    /// Starts a scenario with its own limits on descriptors. Settings have their defaults, whatever this command's environment
    /// says, except for the folder of pages and the level of messages.
    pub fn start(scenario: &str, (soft, hard): (u64, u64), library: &Library, guarded: bool) -> Child {
        let itself = std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into());
        let mut command = Command::new(itself);
        for setting in SETTINGS {
            if ![Id::PageDir, Id::Log].map(|id| SETTINGS[id as usize].env).contains(&setting.env) {
                command.env_remove(setting.env);
            }
        }
        let inherited = std::env::var_os("LD_PRELOAD");
        let list = if guarded {
            Some(preload::with(&library.path, inherited.as_deref()))
        } else {
            // If /etc/ld.so.preload loads the library into every program, this switches it off.
            command.env("TIDEOVER_DISABLE", "1");
            preload::without(&library.path, inherited.as_deref())
        };
        command.env_remove("LD_PRELOAD").args(["selftest-child", "--limits", &format!("{soft}:{hard}")]);
        if let Some(list) = list {
            command.arg("--preload").arg(list);
        }
        command.arg(scenario).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Child(command.spawn().map_err(|error| format!("cannot start: {error}")))
    }

    /// Process id; 0 if it was not started.
    pub fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, process::Child::id)
    }

    /// Waits for the child's answer and for its end.
    pub fn answer(mut self) -> Answer {
        let answer = self.wait_for_answer();
        self.finish();
        answer
    }

    /// Waits for the child's answer. The child stays alive until [`Child::finish`].
    pub fn wait_for_answer(&mut self) -> Answer {
        let child = match &mut self.0 {
            Ok(child) => child,
            Err(reason) => return Answer { ok: false, says: reason.clone() },
        };
        let Some(stdout) = child.stdout.take() else {
            return Answer { ok: false, says: "it was heard already".to_string() };
        };
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = send.send(line);
        });
        let Ok(line) = receive.recv_timeout(TIME_LIMIT) else {
            let _ = child.kill();
            return Answer { ok: false, says: format!("hung for {} s", TIME_LIMIT.as_secs()) };
        };
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        match (told["ok"].as_bool(), told["says"].as_str()) {
            (Some(ok), Some(says)) => Answer { ok, says: says.to_string() },
            _ => Answer { ok: false, says: reason_for_silence(child) },
        }
    }

    /// Lets the child end and waits for it; logs what it wrote to stderr, if messages of that level are wanted.
    pub fn finish(&mut self) {
        let Ok(child) = &mut self.0 else { return };
        drop(child.stdin.take());
        if log::log_enabled!(log::Level::Info) {
            for line in stderr(child).lines() {
                log::info!("the child says: {}", safe(line.as_bytes()));
            }
        }
        let _ = child.wait();
    }
}

/// Why a child gave no answer: a loader that refuses the library says so on stderr.
fn reason_for_silence(child: &mut process::Child) -> String {
    drop(child.stdin.take());
    let stderr = stderr(child);
    let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
    match stderr.lines().last() {
        Some(line) => format!("{status}: {}", safe(line.as_bytes())),
        None => status,
    }
}

fn stderr(child: &mut process::Child) -> String {
    let mut text = Vec::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
