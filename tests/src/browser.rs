//! A headless Chromium, driven through its debugging pipe: messages of JSON, each ended by a zero byte, on descriptors 3 and 4.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Scratch, program};

/// One page in a browser of its own, ended when dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: File,
    from: BufReader<File>,
    session: String,
    last: u64,
    _home: Scratch,
}

impl Browser {
    /// Starts it.
    ///
    /// # Panics
    /// If it can't be.
    pub fn start() -> Browser {
        let home = Scratch::new();
        let (its_input, to) = io::pipe().expect("a pipe");
        let (from, its_output) = io::pipe().expect("a pipe");
        let (input, output) = (OwnedFd::from(its_input), OwnedFd::from(its_output));
        let mut command = Command::new(program("chromium", "chromium"));
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--window-size=1200,900"])
            .args(["--remote-debugging-pipe", "about:blank"])
            .arg(format!("--user-data-dir={}", home.path().display()))
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let (read, write) = (input.as_raw_fd(), output.as_raw_fd());
        // SAFETY: the closure runs between fork and exec and only calls fcntl and dup2. The copies are above 9, so neither is
        // overwritten; 3 may be std's pipe for errors, which then reports none.
        unsafe {
            command.pre_exec(move || {
                let (read, write) = (libc::fcntl(read, libc::F_DUPFD, 10), libc::fcntl(write, libc::F_DUPFD, 10));
                if libc::dup2(read, 3) < 0 || libc::dup2(write, 4) < 0 {
                    return Err(io::Error::last_os_error());
                }
                libc::close(read);
                libc::close(write);
                Ok(())
            });
        }
        let child = command.spawn().expect("chromium starts");
        let mut browser = Browser {
            child,
            to: File::from(OwnedFd::from(to)),
            from: BufReader::new(File::from(OwnedFd::from(from))),
            session: String::new(),
            last: 0,
            _home: home,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].as_str().expect("a session").to_string();
        browser.call("Page.enable", json!({}));
        browser
    }

    /// Sends a command of the DevTools protocol and waits for its result.
    ///
    /// # Panics
    /// If it fails, or the browser is gone.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        self.to.write_all(format!("{message}\0").as_bytes()).expect("chromium listens");
        loop {
            let mut bytes = Vec::new();
            self.from.read_until(0, &mut bytes).expect("chromium answers");
            assert!(bytes.pop() == Some(0), "chromium ended during {method}");
            let answer: Value = serde_json::from_slice(&bytes).expect("JSON");
            if answer["id"] == json!(self.last) {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// Goes to an address.
    pub fn open(&mut self, address: &str) {
        self.call("Page.navigate", json!({ "url": address }));
    }

    /// The value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }))["result"]["value"]
            .clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// If it is not after a minute.
    pub fn wait_until(&mut self, expression: &str) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.value(expression) != json!(true) {
            let seen = || "document.body ? document.body.innerText : ''";
            assert!(Instant::now() < end, "never true: {expression}; the page says: {}", self.value(seen()));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Keeps what the page looks like, as PNG.
    ///
    /// # Panics
    /// If the file can't be written.
    pub fn screenshot(&mut self, path: &Path) {
        let data = self.call("Page.captureScreenshot", json!({ "format": "png" }))["data"].clone();
        std::fs::write(path, base64(data.as_str().expect("a picture"))).expect("a screenshot can be written");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // SAFETY: kill(2) touches no memory; the group is the child's, which has not been waited for.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        let _ = self.child.wait();
        let _ = self.from.read_to_end(&mut Vec::new());
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit =
        |byte| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".iter().position(|&c| c == byte);
    let digits: Vec<u32> = text.bytes().filter_map(digit).map(|digit| digit as u32).collect();
    let group = |four: &[u32]| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).filter(|four| four.len() > 1).flat_map(group).collect()
}
