//! A child of `tideover selftest`: started with or without the library, listened to, never waited for without end.
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

/// No scenario takes a second when the library works.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the child told.
pub struct Outcome {
    /// It went as the check wants it under the library.
    pub ok: bool,
    /// How, in a few words.
    pub says: String,
}

/// The child, or why there is none.
pub struct Child(Result<process::Child, String>);

impl Child {
    /// Starts a scenario under limits of its own. Settings are the defaults, whatever this command's environment says,
    /// but for where pages are and what is logged.
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
            // Where /etc/ld.so.preload has the library in every program, this still keeps it out of the way.
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

    /// Process id; 0 if it never started.
    pub fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, process::Child::id)
    }

    /// Waits for the child's one line and for its end.
    pub fn outcome(mut self) -> Outcome {
        let outcome = self.wait_for_words();
        self.finish();
        outcome
    }

    /// Waits for the child's one line. It stays alive until [`Child::finish`].
    pub fn wait_for_words(&mut self) -> Outcome {
        let child = match &mut self.0 {
            Ok(child) => child,
            Err(reason) => return Outcome { ok: false, says: reason.clone() },
        };
        let Some(stdout) = child.stdout.take() else {
            return Outcome { ok: false, says: "it was heard already".to_string() };
        };
        let (send, receive) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = send.send(line);
        });
        let Ok(line) = receive.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            return Outcome { ok: false, says: format!("hung for {} s", PATIENCE.as_secs()) };
        };
        let told: Value = serde_json::from_str(&line).unwrap_or_default();
        match (told["ok"].as_bool(), told["says"].as_str()) {
            (Some(ok), Some(says)) => Outcome { ok, says: says.to_string() },
            _ => Outcome { ok: false, says: last_words(child) },
        }
    }

    /// Lets the child end, passes on what it said on stderr when that was asked for, and reaps it.
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

/// Why a child said nothing: a loader that refuses the library says so on stderr.
fn last_words(child: &mut process::Child) -> String {
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
