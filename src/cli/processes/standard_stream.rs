//! The standard streams of a process as /proc shows them, for the library's rules about logs and about streams that carry messages.
#![forbid(unsafe_code)]

use super::process::{self, Environment};
use super::program;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tideover_contract::glob;
use tideover_contract::rule::{self, Facts, History};
use tideover_contract::settings::{Id, SETTINGS};
use tideover_contract::stream::{FILTERS, FIRST, KEPT, Stream};

/// Bytes at the beginning of a file at which the rule looks.
const HEAD: u64 = 512;
/// So many names in a folder are looked at for a database's, as in the library.
const NAMES: usize = 4096;

/// Standard output and standard error of a process.
pub struct Streams {
    pid: u32,
    program: Vec<u8>,
    environment: Option<Environment>,
    stdout: Option<Open>,
    stderr: Option<Open>,
}

/// A file that is open at a number.
struct Open {
    status: fs::Metadata,
    /// What the link says: a path, or `pipe:[4711]`.
    path: Vec<u8>,
    /// How it was opened, as fcntl(2) F_GETFL has it.
    flags: i32,
    position: u64,
}

impl Open {
    fn of(pid: u32, number: u32) -> Option<Open> {
        let link = format!("/proc/{pid}/fd/{number}");
        let status = fs::metadata(&link).ok()?;
        let path = fs::read_link(&link).ok()?.into_os_string().into_vec();
        let info = process::file(pid, &format!("fdinfo/{number}")).unwrap_or_default();
        let info = String::from_utf8_lossy(&info).into_owned();
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let flags = field("flags:").and_then(|flags| i32::from_str_radix(flags, 8).ok()).unwrap_or(0);
        let position = field("pos:").and_then(|at| at.parse().ok()).unwrap_or(0);
        Some(Open { status, path, flags, position })
    }

    fn is(&self, other: Option<&Open>) -> bool {
        let identity = |open: &Open| (open.status.dev(), open.status.ino());
        other.is_some_and(|other| identity(self) == identity(other))
    }
}

impl Streams {
    /// Those of a process; None if it can't be seen into.
    pub fn of(pid: u32) -> Option<Streams> {
        fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
        let program = program::file_name(pid).unwrap_or_else(|| process::name(pid).into_bytes());
        let (stdout, stderr) = (Open::of(pid, 1), Open::of(pid, 2));
        Some(Streams { pid, program, environment: Environment::of(pid), stdout, stderr })
    }

    /// Why a stream carries messages; None: it is closed, or may be data.
    pub fn reason(&self, is_stdout: bool) -> Option<&'static str> {
        let open = if is_stdout { &self.stdout } else { &self.stderr };
        tideover_contract::stream::reason(&Standard { of: self, open: open.as_ref()?, is_stdout })
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.environment.as_ref().and_then(|environment| environment.get(name))
    }

    fn is_filter(&self) -> bool {
        glob::any(FILTERS, &self.program)
    }
}

/// One of the two.
struct Standard<'a> {
    of: &'a Streams,
    open: &'a Open,
    is_stdout: bool,
}

impl Stream for Standard<'_> {
    fn mode(&self) -> u32 {
        self.open.status.mode()
    }

    fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    fn is_answer(&self) -> bool {
        self.of.variable("GATEWAY_INTERFACE").is_some() && self.open.is(self.of.stdout.as_ref())
    }

    fn is_terminal(&self) -> bool {
        self.open.path.starts_with(b"/dev/pts/") || self.open.path.starts_with(b"/dev/tty")
    }

    fn is_journal(&self) -> bool {
        let own = format!("{}:{}", self.open.status.dev(), self.open.status.ino());
        self.of.variable("JOURNAL_STREAM").is_some_and(|journal| journal.as_bytes() == own.as_bytes())
    }

    /// By the library's rule, with what can be seen from outside: what calls were made with the descriptor can't.
    fn is_log(&self) -> bool {
        let Standard { of, open, .. } = *self;
        let is_stderr = self.is_stderr();
        let path = open.path.strip_suffix(b" (deleted)").unwrap_or(&open.path);
        let setting = |id: Id| of.variable(SETTINGS[id as usize].env).map_or_else(Vec::new, OsString::into_vec);
        let (include, exclude) = (setting(Id::Logs), setting(Id::LogsExcept));
        let mut head = Vec::new();
        if let Ok(file) = fs::File::open(format!("/proc/{}/fd/{}", of.pid, if self.is_stdout { 1 } else { 2 })) {
            let _ = file.take(HEAD).read_to_end(&mut head);
        }
        let facts = Facts {
            path,
            flags: open.flags,
            regular: true,
            standard: is_stderr && !of.is_filter(),
            at_end: open.flags & libc::O_APPEND == 0 && is_stderr && open.position == open.status.len(),
            stderr: is_stderr,
            history: History::default(),
            synced: false,
            positioned: false,
            payload: b"\n",
            head: &head,
            include: &include,
            exclude: &exclude,
            copied: None,
        };
        rule::judge(&facts, || database_beside(of.pid, path)).is_ok()
    }

    fn is_filter(&self) -> bool {
        self.of.is_filter()
    }

    fn is_stderr(&self) -> bool {
        self.open.is(self.of.stderr.as_ref())
    }

    fn is_of_first_process(&self) -> bool {
        let first = first_process(self.of.pid);
        first.is_some_and(|first| {
            first == self.of.pid || KEPT.iter().any(|&number| self.open.is(Open::of(first, number).as_ref()))
        })
    }
}

/// Are there files of a database in the folder of this file, as the process sees it?
fn database_beside(pid: u32, path: &[u8]) -> bool {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let folder = format!("/proc/{pid}/root{}", path.parent().unwrap_or(Path::new("/")).display());
    let names = fs::read_dir(folder).into_iter().flatten().flatten().take(NAMES);
    names.map(|entry| entry.file_name()).any(|name| rule::is_database_file(name.as_bytes()))
}

/// The number of process 1 of the pid namespace that this process is in, by its parents.
fn first_process(mut pid: u32) -> Option<u32> {
    for _ in 0..64 {
        if process::innermost(pid)? == FIRST {
            return Some(pid);
        }
        let status = process::file(pid, "status")?;
        let status = String::from_utf8_lossy(&status).into_owned();
        pid = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    }
    None
}
