//! One program, run under limits, plain or preloaded.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::{Both, Outcome, Page, Scratch};

/// Bytes of a program's output that are kept; the rest is read and dropped.
const KEPT: usize = 8 << 20;
/// Largest file that a program may write.
const LARGEST_FILE: u64 = 256 << 20;

/// A program and the conditions it runs under.
#[derive(Clone, Debug)]
pub struct Run {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    soft: Option<u64>,
    hard: Option<u64>,
    closed: Vec<i32>,
    before: Vec<PathBuf>,
    after: Vec<PathBuf>,
    preload: bool,
    library: Option<PathBuf>,
    stdin: Vec<u8>,
    stdout: Option<Arc<OwnedFd>>,
    timeout: Duration,
    page_dir: Option<PathBuf>,
}

impl Run {
    /// A program by path, or by name through the system folders and `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Run {
        Run {
            program: program.as_ref().into(),
            args: vec![],
            env: vec![],
            folder: None,
            soft: None,
            hard: None,
            closed: vec![],
            before: vec![],
            after: vec![],
            preload: false,
            library: None,
            stdin: vec![],
            stdout: None,
            timeout: Duration::from_secs(30),
            page_dir: None,
        }
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Run {
        self.args.push(arg.as_ref().into());
        self
    }

    /// Adds arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Run {
        self.args.extend(args.into_iter().map(|a| a.as_ref().into()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Run {
        self.env.push((name.as_ref().into(), value.as_ref().into()));
        self
    }

    /// Runs it in this folder.
    pub fn folder(mut self, folder: impl AsRef<Path>) -> Run {
        self.folder = Some(folder.as_ref().into());
        self
    }

    /// Soft limit on descriptors.
    pub fn soft(mut self, limit: u64) -> Run {
        self.soft = Some(limit);
        self
    }

    /// Hard limit on descriptors.
    pub fn hard(mut self, limit: u64) -> Run {
        self.hard = Some(limit);
        self
    }

    /// Soft and hard limit: nothing can be raised.
    pub fn limit(self, limit: u64) -> Run {
        self.soft(limit).hard(limit)
    }

    /// Starts it with this descriptor closed.
    pub fn closed(mut self, fd: i32) -> Run {
        self.closed.push(fd);
        self
    }

    /// Preloads libtideover.so.
    pub fn preload(mut self, yes: bool) -> Run {
        self.preload = yes;
        self
    }

    /// Preloads this libtideover.so rather than the built one.
    pub fn library(mut self, path: impl AsRef<Path>) -> Run {
        self.library = Some(path.as_ref().into());
        self
    }

    /// Another library in `LD_PRELOAD` before ours, also in the plain run.
    pub fn preload_before(mut self, library: impl AsRef<Path>) -> Run {
        self.before.push(library.as_ref().into());
        self
    }

    /// Another library in `LD_PRELOAD` after ours, also in the plain run.
    pub fn preload_after(mut self, library: impl AsRef<Path>) -> Run {
        self.after.push(library.as_ref().into());
        self
    }

    /// What it reads; then its standard input ends.
    pub fn stdin(mut self, text: impl AsRef<[u8]>) -> Run {
        self.stdin = text.as_ref().into();
        self
    }

    /// Its standard output, rather than a pipe that the test reads.
    pub fn stdout(mut self, to: impl Into<OwnedFd>) -> Run {
        self.stdout = Some(Arc::new(to.into()));
        self
    }

    /// Killed after this long, 30 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Run {
        self.timeout = timeout;
        self
    }

    /// Keeps its page here rather than in a folder of its own.
    pub fn page_dir(mut self, dir: impl AsRef<Path>) -> Run {
        self.page_dir = Some(dir.as_ref().into());
        self
    }

    /// What `LD_PRELOAD` will be; None for no preload at all.
    pub fn preloads(&self) -> Option<OsString> {
        let ours = self.preload.then(|| self.library.clone().unwrap_or_else(crate::library));
        let all: Vec<OsString> = self.before.iter().chain(&ours).chain(&self.after).map(|p| p.into()).collect();
        (!all.is_empty()).then(|| all.join(OsStr::new(":")))
    }

    /// The program and its arguments.
    pub fn command(&self) -> Vec<OsString> {
        std::iter::once(&self.program).chain(&self.args).cloned().collect()
    }

    /// Runs it to its end.
    pub fn output(&self) -> Outcome {
        let mut running = self.start();
        let text = self.stdin.clone();
        if let Some(mut stdin) = running.stdin.take() {
            // A program may end without reading; that is its affair.
            thread::spawn(move || drop(stdin.write_all(&text)));
        }
        running.finish()
    }

    /// Runs it without the library, then with it.
    pub fn both(&self) -> Both {
        Both { plain: self.clone().preload(false).output(), preloaded: self.clone().preload(true).output() }
    }

    /// Starts it; the test talks with it and then calls [`Running::finish`].
    ///
    /// # Panics
    /// If it can't be started.
    pub fn start(&self) -> Running {
        let pages = Scratch::new();
        let page_dir = self.page_dir.clone().unwrap_or_else(|| pages.path().into());
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"TIDEOVER_") {
                command.env_remove(name);
            }
        }
        command.args(&self.args).env_remove("LD_PRELOAD").env("LC_ALL", "C.UTF-8").env("TIDEOVER_PAGE_DIR", &page_dir);
        if let Some(preloads) = self.preloads() {
            command.env("LD_PRELOAD", preloads);
        }
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        if let Some(to) = &self.stdout {
            command.stdout(to.try_clone().expect("a descriptor is left"));
        }
        let (soft, hard, closed) = (self.soft, self.hard, self.closed.clone());
        // SAFETY: the closure runs between fork and exec and makes only async-signal-safe calls: signal, setrlimit,
        // getrlimit, close_range, fcntl.
        unsafe { command.pre_exec(move || restrict(soft, hard, &closed)) };
        // A program that was just copied is busy while a child of another test, which has not executed its own yet, has it open.
        let mut tries = 0;
        let mut child = loop {
            match command.spawn() {
                Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy && tries < 100 => {
                    tries += 1;
                    thread::sleep(Duration::from_millis(10));
                }
                other => break other.unwrap_or_else(|e| panic!("{:?} does not start: {e}", self.program)),
            }
        };

        let (lines, told) = channel();
        let stdout: Box<dyn Read + Send> = match child.stdout.take() {
            Some(pipe) => Box::new(pipe),
            None => Box::new(std::io::empty()),
        };
        let stdout = collect(stdout, Some(lines));
        let stderr = collect(child.stderr.take().expect("piped"), None);
        Running {
            stdin: child.stdin.take(),
            what: format!("{:?} {:?} preload={:?}", self.program, self.args, self.preloads()),
            _end: EndWithTheTest(child.id()),
            child,
            stdout,
            stderr,
            told,
            deadline: Instant::now() + self.timeout,
            page_dir,
            _pages: pages,
        }
    }
}

/// Sets the limits of the process that is about to become the program, and lets it be interrupted: a shell's job in the background,
/// as CI may be, ignores these signals, and all that it starts.
fn restrict(soft: Option<u64>, hard: Option<u64>, closed: &[i32]) -> std::io::Result<()> {
    let set = |what, soft, hard| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: `limit` is a valid rlimit.
        if unsafe { libc::setrlimit(what, &limit) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: no handler is set.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a valid rlimit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut now) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    let hard = hard.unwrap_or(now.rlim_max);
    set(libc::RLIMIT_NOFILE, soft.unwrap_or(now.rlim_cur).min(hard), hard)?;
    set(libc::RLIMIT_FSIZE, LARGEST_FILE, LARGEST_FILE)?;
    set(libc::RLIMIT_CORE, 0, 0)?;
    // What whoever runs the tests has left open is not the program's. CLOEXEC rather than close(2): std keeps a pipe for
    // errors in there until the exec.
    // SAFETY: close_range(2) touches no memory.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    for &fd in closed {
        // SAFETY: fcntl with F_SETFD touches no memory.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

type Collected = (Arc<Mutex<Vec<u8>>>, thread::JoinHandle<()>);

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

/// Has the process ended, without reaping it?
fn ended(pid: u32) -> bool {
    // SAFETY: all zeroes is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` is valid for writing.
    let result = unsafe { libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) };
    // SAFETY: waitid has filled it in, or it is all zeroes.
    result != 0 || unsafe { info.si_pid() } != 0
}
