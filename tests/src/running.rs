//! A program that has been started: what a test says to it, waits for, and sees of its end.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Outcome, Page, Scratch};

/// Bytes of a program's output that are kept; the rest is read and dropped.
const KEPT: usize = 8 << 20;

type Collected = (Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>);

/// A program that has been started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
    told: Receiver<String>,
    deadline: Instant,
    page_dir: PathBuf,
    what: String,
    _end: EndWithTheTest,
    _pages: Scratch,
}

/// A test that fails leaves nothing running: programs that go on for ever would slow down all that come after.
#[derive(Debug)]
struct EndWithTheTest(u32);

impl Drop for EndWithTheTest {
    fn drop(&mut self) {
        if thread::panicking() {
            // SAFETY: kill(2) touches no memory; nobody has waited for the child, so the group is its own.
            unsafe { libc::kill(-(self.0 as i32), libc::SIGKILL) };
        }
    }
}

impl Running {
    /// Takes a child over, with pipes on its standard streams, that leads a process group of its own.
    pub(crate) fn new(mut child: Child, what: String, deadline: Instant, page_dir: PathBuf, pages: Scratch) -> Running {
        let (lines, told) = channel();
        // Its standard output may be the test's own file.
        let stdout: Box<dyn Read + Send> = match child.stdout.take() {
            Some(pipe) => Box::new(pipe),
            None => Box::new(std::io::empty()),
        };
        let stdout = collect(stdout, Some(lines));
        let stderr = collect(child.stderr.take().expect("piped"), None);
        Running {
            stdin: child.stdin.take(),
            what,
            _end: EndWithTheTest(child.id()),
            child,
            stdout,
            stderr,
            told,
            deadline,
            page_dir,
            _pages: pages,
        }
    }

    /// Its standard input, if nobody has taken it: from then on it is the caller's.
    pub(crate) fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its page is kept.
    pub fn page_dir(&self) -> &Path {
        &self.page_dir
    }

    /// Its page as it is now.
    ///
    /// # Panics
    /// If it has none.
    pub fn page(&self) -> Page {
        Page::wait(&self.page_dir, self.pid())
    }

    /// Waits for a line on its standard output that holds `text`, and gives the line.
    ///
    /// # Panics
    /// If the program ends or its time is up before.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    panic!("{} did not say {text:?} in time: {}", self.what, self.so_far())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{} ended without saying {text:?}: {}", self.what, self.so_far())
                }
            }
        }
    }

    /// Writes a line to its standard input.
    ///
    /// # Panics
    /// If it does not read any more.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its standard input is open");
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap_or_else(|e| panic!("{}: {e}", self.what));
    }

    /// The same for a program that may be gone: false if it does not read any more.
    pub fn offer(&mut self, line: &str) -> bool {
        self.stdin.as_mut().is_some_and(|stdin| stdin.write_all(format!("{line}\n").as_bytes()).is_ok())
    }

    /// Has it ended?
    pub fn ended(&self) -> bool {
        ended(self.child.id())
    }

    /// What it has written to standard output so far.
    pub fn stdout_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stdout.0.lock().expect("no reader panics")).into_owned()
    }

    /// What it has written to standard error so far.
    pub fn stderr_so_far(&self) -> String {
        String::from_utf8_lossy(&self.stderr.0.lock().expect("no reader panics")).into_owned()
    }

    /// Sends it a signal.
    pub fn signal(&self, number: i32) {
        // SAFETY: kill(2) touches no memory; the child has not been waited for, so the pid is its own.
        unsafe { libc::kill(self.child.id() as i32, number) };
    }

    /// Closes its standard input, waits for its end, and kills whatever it left behind.
    pub fn finish(mut self) -> Outcome {
        drop(self.stdin.take());
        let group = -(self.child.id() as i32);
        let mut timed_out = false;
        // Not `wait` yet: while the zombie is there, its number can't become another process's group.
        while !ended(self.child.id()) {
            if Instant::now() > self.deadline {
                timed_out = true;
                break;
            }
            thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: kill(2) touches no memory.
        unsafe { libc::kill(group, libc::SIGKILL) };
        let status = self.child.wait().expect("a child can be waited for");
        let text = |(bytes, reader): Collected| {
            // A grandchild that left the group may hold the pipe: what has come by then is what there is.
            let end = Instant::now() + Duration::from_secs(2);
            while !reader.is_finished() && Instant::now() < end {
                thread::sleep(Duration::from_millis(1));
            }
            String::from_utf8_lossy(&bytes.lock().expect("no reader panics")).into_owned()
        };
        Outcome { what: self.what, status, timed_out, stdout: text(self.stdout), stderr: text(self.stderr) }
    }

    fn so_far(&self) -> String {
        let text = |from: &Collected| String::from_utf8_lossy(&from.0.lock().expect("no reader panics")).into_owned();
        format!("\n--- stdout\n{}\n--- stderr\n{}", text(&self.stdout), text(&self.stderr))
    }
}

/// Starts a command. A program that was just copied is busy while a child of another test, which has not executed its own yet, has it
/// open.
pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..100 {
        match command.spawn() {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    command.spawn()
}

/// A child that would go on for ever; it is killed when this is dropped, so also if the test fails.
#[derive(Debug)]
pub struct Endless(Child);

impl Endless {
    /// Starts it.
    ///
    /// # Panics
    /// If it can't be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Endless {
        Endless(spawn(command).unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has fixtures/ebb.c do something: `fill`, `drain` ...; returns when it is done.
///
/// # Panics
/// If the program ends or its time is up before.
pub fn tell(ebb: &mut Running, word: &str) {
    ebb.say(word);
    ebb.wait_for("done");
}

/// Reads a pipe to its end in a thread; with `lines`, also sends each line on as it comes.
fn collect(mut from: impl Read + Send + 'static, lines: Option<std::sync::mpsc::Sender<String>>) -> Collected {
    let into = Arc::new(Mutex::new(Vec::new()));
    let kept = into.clone();
    let reader = thread::spawn(move || {
        let mut buffer = [0; 16384];
        let mut line = Vec::new();
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let mut all = kept.lock().expect("no reader panics");
            let room = KEPT - all.len();
            all.extend_from_slice(&buffer[..count.min(room)]);
            drop(all);
            let Some(lines) = &lines else { continue };
            for &byte in &buffer[..count] {
                if byte == b'\n' {
                    let _ = lines.send(String::from_utf8_lossy(&line).into_owned());
                    line.clear();
                } else if line.len() < 4096 {
                    line.push(byte);
                }
            }
        }
    });
    (into, reader)
}

/// Has the process ended, without reaping it?
fn ended(pid: u32) -> bool {
    // SAFETY: all zeroes is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid for writing.
    let result = unsafe { libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
    // SAFETY: waitid has filled it in, or it is all zeroes.
    result != 0 || unsafe { info.si_pid() } != 0
}
