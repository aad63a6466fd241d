//! One program, run under limits, plain or preloaded.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::running::spawn;
use crate::{Both, Outcome, Running, Scratch};

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
        if let Some(mut stdin) = running.take_stdin() {
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
        // Standard output is a pipe that only the test knows to be for messages; a test of what the library itself makes of it says "auto".
        command.env("TIDEOVER_FALLBACK", "stdout");
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
        let child = spawn(&mut command).unwrap_or_else(|e| panic!("{:?} does not start: {e}", self.program));
        let what = format!("{:?} {:?} preload={:?}", self.program, self.args, self.preloads());
        Running::new(child, what, Instant::now() + self.timeout * slowness(), page_dir, pages)
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

/// How many times longer than on a usual machine a program may take: `TIDEOVER_TEST_SLOWNESS`, 1 if that is not set. An emulated processor
/// is twenty times slower.
fn slowness() -> u32 {
    std::env::var("TIDEOVER_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
