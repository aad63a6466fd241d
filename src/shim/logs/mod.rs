//! Log lines survive a full disk.
//!
//! The way of a failed write: [`hooks::writes`](crate::hooks) or [`stdio`] -> the real write fails -> [`rule`]: is this a log? ->
//! [`sink`]: the remainder goes elsewhere -> ... -> [`space`]: there is room again -> back to the file. [`files`] knows what is
//! diverted, [`cap`] bounds it.
//!
//! Decided only after a write has failed: nothing is tracked but a byte per descriptor. Bytes that reached the file are never
//! sent twice; the host gets its full count.

pub mod cap;
mod cleanup;
pub mod files;
pub mod pause;
pub mod payload;
pub mod rule;
pub mod sink;
pub mod space;
pub mod standin;
pub mod stdio;

use core::cell::OnceCell;
use core::ffi::c_void;
use core::fmt::Write;
use core::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use libc::{c_int, iovec, ssize_t};
use tideover_contract::glob;
use tideover_contract::page::{EventKind, Outcome};
use tideover_contract::settings::{Id, ON_FULL_WAIT, sink as sinks};

use crate::acquire::Tried;
use crate::barrier::barrier;
use crate::descriptors::{self, LOG, OTHER};
use crate::events::{self, Event};
use crate::process::{self, Phase};
use crate::real::Real;
use crate::report::{ErrnoName, More, Printable, Repeated, Seconds};
use crate::settings::SETTINGS;
use crate::text::Text;
use crate::{page, sys};
use files::{File, Key};
use payload::Payload;
use rule::{Facts, History, Refusal};
use sink::Sink;

/// Programs whose output is somebody's data whatever the file is called: `wget -c http://host/server.log`. tee has its lines on
/// standard output already.
const COPIERS: &[u8] = b"dd, cp, mv, install, tar, bsdtar, cpio, rsync, scp, sftp, wget, curl, aria2c, cat, tee, head, tail, \
    sort, uniq, split, shuf, cut, tr, zip, unzip, gzip, bzip2, xz, zstd, git, nc, ncat, socat, pv, sponge, base64, openssl, gpg";
/// IOV_MAX: writev(2) takes no more buffers.
const MOST_BUFFERS: c_int = 1024;
/// Longest path that is looked at; a longer one is no log.
const PATH: usize = 1024;
/// How much of the file's beginning is looked at.
const HEAD: usize = 512;

static DIVERTING: Repeated = Repeated::new();
static RETURNED: Repeated = Repeated::new();
static NOWHERE: Repeated = Repeated::new();
static CAPPED: Repeated = Repeated::new();

/// At load. `to_file`: a standard stream is a file.
pub fn start(to_file: bool) {
    if glob::any(COPIERS, crate::start::program()) {
        SETTINGS.switch_off_fallback();
    }
    if SETTINGS.get(Id::Fallback) == sinks::OFF && SETTINGS.get(Id::OnFull) != ON_FULL_WAIT {
        return;
    }
    if !stdio::find() {
        log::info!("this libc's stdio is not as expected: logs written through it are not diverted");
    } else if to_file {
        stdio::install();
    }
}

/// In the child of a fork.
pub fn forked() {
    files::forked();
    sink::forked();
}

/// What a write did.
#[repr(C)]
pub struct Written {
    /// For the host: as write(2) answers, errno set on -1.
    answer: ssize_t,
    /// Of these, bytes that reached the file.
    reached: usize,
}

type RealWrite = unsafe extern "C" fn(c_int, *const c_void, usize) -> ssize_t;

/// The real write(2); at first, a function that finds it. So the most frequent hook of all needs no test for that.
pub static REAL_WRITE: AtomicPtr<()> = AtomicPtr::new(find_write as *mut ());

unsafe extern "C" fn find_write(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    static REAL: Real = Real::new();
    REAL_WRITE.store(REAL.address(c"write", false) as *mut (), Relaxed);
    // SAFETY: the host's own arguments.
    unsafe { real_write()(fd, data, count) }
}

/// See [`REAL_WRITE`].
#[inline(always)]
fn real_write() -> RealWrite {
    // SAFETY: never anything but a function of this type.
    unsafe { core::mem::transmute(REAL_WRITE.load(Relaxed)) }
}

/// write(2) as the host wants it, by stdio or while files are diverted. The real call is made from here: it is a cancellation
/// point, and nothing is held.
///
/// # Safety
/// As write(2).
unsafe fn write_through(fd: c_int, data: *const c_void, count: usize, cancellable: bool) -> Written {
    let vector = [iovec { iov_base: data.cast_mut(), iov_len: count }];
    if files::any() {
        let done = instead(fd, vector.as_ptr(), 1);
        if done.answer >= 0 {
            return done;
        }
    }
    let answer = if cancellable {
        // SAFETY: as promised by the caller.
        unsafe { real_write()(fd, data, count) }
    } else {
        sys::write_raw(fd, data, count).map_or_else(
            |errno| {
                sys::set_errno(errno);
                -1
            },
            |written| written as ssize_t,
        )
    };
    if answer == count as ssize_t { Written { answer, reached: count } } else { made_up_for(fd, data, count, answer) }
}

/// A real write answered less than it was given.
#[cold]
#[inline(never)]
extern "C" fn made_up_for(fd: c_int, data: *const c_void, count: usize, answer: ssize_t) -> Written {
    let vector = [iovec { iov_base: data.cast_mut(), iov_len: count }];
    let done = fell_short(fd, vector.as_ptr(), 1, answer);
    if done.answer < 0 { wait_for_space(fd, data, count, done) } else { done }
}

/// write(2) while files are diverted.
#[cold]
#[inline(never)]
pub extern "C" fn write_with_care(fd: c_int, data: *const c_void, count: usize) -> ssize_t {
    // SAFETY: the host's own arguments.
    unsafe { write_through(fd, data, count, true) }.answer
}

/// write(2) that answered less than it was given.
#[cold]
#[inline(never)]
pub extern "C" fn write_fell_short(fd: c_int, data: *const c_void, count: usize, answer: ssize_t) -> ssize_t {
    made_up_for(fd, data, count, answer).answer
}

/// A write that is to wait for space, and what it answered last.
struct Waiting {
    fd: c_int,
    data: *const c_void,
    count: usize,
    answer: ssize_t,
}

unsafe extern "C" fn write_again(waiting: *mut c_void) -> Tried {
    // SAFETY: `wait_for_space` passes its own.
    unsafe {
        let waiting = &mut *waiting.cast::<Waiting>();
        waiting.answer = real_write()(waiting.fd, waiting.data, waiting.count);
        Tried { wrong: if waiting.answer < 0 { sys::errno() } else { 0 }, descriptor: -1 }
    }
}

/// TIDEOVER_ON_FULL=wait, for a write to a file that is no log.
fn wait_for_space(fd: c_int, data: *const c_void, count: usize, first: Written) -> Written {
    let errno = sys::errno();
    if !pause::is_wanted(errno) || !is_file(fd) {
        return first;
    }
    let mut waiting = Waiting { fd, data, count, answer: first.answer };
    // SAFETY: `write_again` gets the type that it is for.
    let stands = unsafe { pause::carry("write", errno, write_again, (&raw mut waiting).cast()) };
    if stands { Written { answer: waiting.answer, reached: waiting.answer.max(0) as usize } } else { first }
}

/// Did the last call fail because this descriptor's disk is full?
#[cold]
pub fn is_full(fd: c_int) -> bool {
    let errno = sys::errno();
    let full = pause::is_wanted(errno) && is_file(fd);
    sys::set_errno(errno);
    full
}

/// A regular file: devices that are always full (/dev/full) are not waited for.
pub fn is_file(fd: c_int) -> bool {
    sys::fstat(fd).is_ok_and(|status| status.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// writev(2) while files are diverted; -1: make the real call.
#[cold]
#[inline(never)]
pub extern "C" fn vector_with_care(fd: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    // Counts that the kernel would refuse are the kernel's to refuse.
    let size = count.max(0) as usize * size_of::<iovec>();
    if !(1..=MOST_BUFFERS).contains(&count) || !sys::is_readable(buffers.cast(), size) {
        return -1;
    }
    instead(fd, buffers, count as usize).answer
}

/// writev(2), after the real call.
#[inline(always)]
pub fn vector_fell_short(fd: c_int, buffers: *const iovec, count: c_int, answer: ssize_t) -> ssize_t {
    // SAFETY: the kernel has read them, or failed.
    let given = |i| unsafe { (*buffers.add(i)).iov_len };
    if answer >= 0 && (0..count as usize).map(given).fold(0, usize::wrapping_add) == answer as usize {
        return answer;
    }
    if buffers.is_null() || !(1..=MOST_BUFFERS).contains(&count) {
        return answer;
    }
    fell_short(fd, buffers, count as usize, answer).answer
}

/// While files are diverted: takes this write if it is to one of them. Answer -1: make the real call.
#[cold]
#[inline(never)]
extern "C" fn instead(fd: c_int, buffers: *const iovec, count: usize) -> Written {
    let saved = sys::errno();
    let done = barrier(None, || {
        // In a vfork child, too, the line must go elsewhere: not even getpid(2) is asked here.
        if descriptors::marks(fd) & OTHER != 0 || !matches!(process::phase(), Phase::Active | Phase::Exiting) {
            return None;
        }
        let status = sys::fstat(fd).ok()?;
        if status.st_mode & libc::S_IFMT != libc::S_IFREG {
            descriptors::add(fd, OTHER);
            return None;
        }
        let file = match files::find(Key::of_file(&status)) {
            Some(file) => file,
            // A log that could not be made is there now.
            None if files::any_unmade() => files::find(Key::of_path(Log::look(fd, &status)?.path()))?,
            None => return None,
        };
        // SAFETY: the host's own buffers.
        let payload = unsafe { Payload::of_host(buffers, count) }?;
        let log = Log::known(fd, &status);
        // The same inode is not yet the same log: this descriptor may have asked for durability, or be another file by now.
        if descriptors::marks(fd) & LOG == 0 {
            Log::look(fd, &status)?.judge(payload).ok()?;
            descriptors::add(fd, LOG);
        }
        log.divert_or_return(file, payload)
    });
    sys::set_errno(saved);
    done.unwrap_or(Written { answer: -1, reached: 0 })
}

/// A real write answered with less than it was given, or -1.
#[cold]
#[inline(never)]
pub extern "C" fn fell_short(fd: c_int, buffers: *const iovec, count: usize, answer: ssize_t) -> Written {
    let reached = answer.max(0) as usize;
    let native = Written { answer, reached };
    let errno = sys::errno();
    if answer < 0 && !matches!(errno, libc::ENOSPC | libc::EDQUOT | libc::EPERM) {
        return native;
    }
    let mut errno_after = errno;
    let done = barrier(None, || {
        if !process::may_act() || (answer >= 0 && descriptors::marks(fd) & OTHER != 0) {
            return None;
        }
        // SAFETY: the host's own buffers.
        let payload = unsafe { Payload::of_host(buffers, count) }?;
        if answer < 0 && errno == libc::EPERM {
            // Without its stand-in, the program would have been told that there is no space.
            return stood_in(fd, payload).inspect(|done| {
                if done.answer < 0 {
                    errno_after = libc::ENOSPC;
                }
            });
        }
        shortened(fd, payload, answer, errno)
    });
    sys::set_errno(errno_after);
    done.unwrap_or(native)
}

/// A write came back with EPERM: is this a stand-in? Then the real file is tried, and what it does not take goes elsewhere.
fn stood_in(fd: c_int, payload: Payload<'_>) -> Option<Written> {
    let status = sys::fstat(fd).ok()?;
    let mut log = Log::look(fd, &status)?;
    let mut path = Text::<PATH>::new();
    path.set(standin::original(log.path())?);
    log.key = Key::of_path(path.as_bytes());
    log.device = sys::stat(folder(path.as_bytes()).as_c_str(), true).map_or(status.st_dev, |s| s.st_dev);
    log.path = OnceCell::from(path);
    let diverted = files::find(log.key);
    let is_log = log.judge(payload);
    let due = diverted.is_none_or(|file| file.is_look_due(sys::now()));
    if let Some(file) = diverted.filter(|_| due) {
        file.looked();
    }
    let errno = match if due { standin::replace(fd, log.path(), &status) } else { Err(libc::ENOSPC) } {
        Ok(()) => return log.take_place(diverted, payload),
        Err(errno) => errno,
    };
    let total = payload.len();
    if let Err(refusal) = is_log {
        page::add(&page::page().refusals[refusal as usize], 1);
        return Some(Written { answer: -1, reached: 0 });
    }
    log.divert(payload, errno, false).map(|()| Written { answer: total as ssize_t, reached: 0 })
}

fn shortened(fd: c_int, payload: Payload<'_>, answer: ssize_t, errno: c_int) -> Option<Written> {
    let status = sys::fstat(fd).ok()?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        descriptors::add(fd, OTHER);
        return None;
    }
    let reached = answer.max(0) as usize;
    if answer < 0 {
        page::add(if errno == libc::ENOSPC { &page::counters().enospc } else { &page::counters().edquot }, 1);
    } else if reached >= payload.len() {
        return None;
    }
    if SETTINGS.get(Id::Fallback) == sinks::OFF {
        return None;
    }
    let log = Log::look(fd, &status)?;
    if let Err(refusal) = log.judge(payload) {
        if answer < 0 {
            page::add(&page::page().refusals[refusal as usize], 1);
            log::debug!("{}: {} is passed on: {}", log.name(), ErrnoName(errno), refusal.text());
        }
        return None;
    }
    // A write that was cut says nothing of the reason: the rest of it will. Not past RLIMIT_FSIZE, which would be SIGXFSZ.
    let (mut reached, mut errno) = (reached, errno);
    if answer >= 0 {
        let rest = (payload.len() - reached) as u64;
        if (status.st_size as u64).saturating_add(rest) > sys::file_size_limit() {
            return None;
        }
        errno = loop {
            match sys::write(fd, payload.after(reached).first()) {
                Ok(0) => break libc::ENOSPC,
                Ok(more) => reached += more,
                Err(wrong) => break wrong,
            }
            if reached >= payload.len() {
                return Some(Written { answer: reached as ssize_t, reached });
            }
        };
        if errno != libc::ENOSPC && errno != libc::EDQUOT {
            return Some(Written { answer: reached as ssize_t, reached });
        }
        page::add(if errno == libc::ENOSPC { &page::counters().enospc } else { &page::counters().edquot }, 1);
    }
    descriptors::add(fd, LOG);
    let total = payload.len();
    if cleanup::is_asked_for() && files::find(log.key).is_none() && cleanup::make_room(&log) {
        let rest = payload.after(reached);
        if sys::write(fd, rest.first()) == Ok(rest.len()) {
            return Some(Written { answer: total as ssize_t, reached: total });
        }
    }
    match log.divert(payload.after(reached), errno, reached > 0) {
        Some(()) => Some(Written { answer: total as ssize_t, reached }),
        None if reached > 0 => Some(Written { answer: reached as ssize_t, reached }),
        None => None,
    }
}

/// Is this descriptor's file diverted now?
pub fn is_degraded(fd: c_int) -> bool {
    files::any() && sys::fstat(fd).is_ok_and(|status| files::find(Key::of_file(&status)).is_some())
}

/// An open regular file, with what /proc knows of it.
struct Log<'a> {
    fd: c_int,
    status: &'a libc::stat,
    /// Looked up when it is needed: a diverted line of a known log does without.
    path: OnceCell<Text<PATH>>,
    /// The filesystem that is full.
    device: u64,
    /// What the file is known by while it is diverted.
    key: Key,
}

impl<'a> Log<'a> {
    /// A file whose path is not needed yet.
    fn known(fd: c_int, status: &'a libc::stat) -> Log<'a> {
        Log { fd, status, path: OnceCell::new(), device: status.st_dev, key: Key::of_file(status) }
    }

    /// None if it has no path to be judged by: no /proc, or one that is too long.
    fn look(fd: c_int, status: &'a libc::stat) -> Option<Log<'a>> {
        let log = Log::known(fd, status);
        (!log.path().is_empty()).then_some(log)
    }

    /// The path, or nothing.
    fn path(&self) -> &[u8] {
        let path = self.path.get_or_init(|| {
            let mut link = Text::<40>::new();
            let _ = write!(link, "/proc/self/fd/{}", self.fd);
            let mut bytes = [0u8; PATH];
            let mut path = Text::new();
            match sys::read_link(link.as_c_str(), &mut bytes) {
                Ok(found) if found.len() < PATH - 1 && found.first() == Some(&b'/') => path.set(found),
                _ => {}
            }
            path
        });
        path.as_bytes()
    }

    fn size(&self) -> u64 {
        self.status.st_size as u64
    }

    fn name(&self) -> Printable<'_> {
        Printable(self.path())
    }

    fn judge(&self, payload: Payload<'_>) -> Result<(), Refusal> {
        let mut head = [0u8; HEAD];
        let facts = Facts {
            path: self.path(),
            flags: sys::status_flags(self.fd).unwrap_or(0),
            regular: true,
            standard: sink::is_standard(self.status),
            stderr: sink::is_stderr(self.status),
            history: History::from_bits(descriptors::marks(self.fd) as u8),
            positioned: false,
            payload: payload.first(),
            head: self.head(&mut head),
            include: SETTINGS.logs(),
            exclude: SETTINGS.logs_except(),
        };
        rule::judge(&facts, || database_beside(self.path()))
    }

    /// The file's first bytes; empty if it can't be read.
    fn head<'b>(&self, to: &'b mut [u8]) -> &'b [u8] {
        let Some(fd) = self.reopen() else { return &[] };
        let length = sys::read_at(fd, to, 0).map_or(0, <[u8]>::len);
        sys::close(fd);
        to.get(..length).unwrap_or(&[])
    }

    /// The file once more, for reading: logs are open for writing only.
    fn reopen(&self) -> Option<c_int> {
        let mut link = Text::<40>::new();
        let _ = write!(link, "/proc/self/fd/{}", self.fd);
        sys::open(link.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY, 0).ok()
    }

    /// Does the file end in the middle of a line? `known`: what is known without a descriptor to look.
    fn is_torn(&self, known: bool) -> bool {
        let Some(fd) = self.reopen() else { return known };
        let size = sys::fstat(fd).map_or(0, |status| status.st_size as u64);
        let mut last = [b'\n'];
        let torn = size > 0 && sys::read_at(fd, &mut last, size - 1).is_ok_and(|byte| byte != b"\n");
        sys::close(fd);
        torn
    }

    fn sink(&self) -> Option<Sink> {
        let is_log = |fd: c_int, status: &libc::stat| {
            Log::look(fd, status).is_some_and(|log| {
                let text = [iovec { iov_base: c"\n".as_ptr().cast_mut().cast(), iov_len: 1 }];
                // SAFETY: static text.
                log.judge(unsafe { Payload::new(&text) }).is_ok()
            })
        };
        sink::choose(self.device, &is_log)
    }

    /// A sink for so many bytes, if there is one and the caps admit them.
    fn allowed_sink(&self, bytes: usize, errno: c_int, now: u64) -> Option<Sink> {
        let Some(sink) = self.sink() else {
            if let Some(more) = NOWHERE.due() {
                log::warn!(
                    "{}: {}, and there is nowhere to send its lines; TIDEOVER_FALLBACK= names a file on another disk{}",
                    self.name(),
                    ErrnoName(errno),
                    More(more)
                );
            }
            return None;
        };
        if !cap::admits(bytes as u64, now) {
            if let Some(more) = CAPPED.due() {
                log::warn!(
                    "{}: more is written than TIDEOVER_FALLBACK_LIMIT admits: the error is passed on{}",
                    self.name(),
                    More(more)
                );
            }
            return None;
        }
        Some(sink)
    }

    /// Sends a payload elsewhere. None: it can't, and the host must get the true error.
    fn divert(&self, payload: Payload<'_>, errno: c_int, torn: bool) -> Option<()> {
        let now = sys::now();
        let sink = self.allowed_sink(payload.len(), errno, now)?;
        // Another thread may have gone back to the file since the real write failed: then the disk is full anew.
        let (file, new) =
            (0..2).find_map(|_| files::enter(self.key, errno).filter(|(file, _)| file.begin_sending()))?;
        if new {
            file.torn.store(torn, Relaxed);
            self.announce(errno, sink.name);
        }
        self.send(file, &sink, payload, new && torn, now);
        file.end_sending();
        Some(())
    }

    /// Sends a payload of a diverted file elsewhere, and counts it.
    fn send(&self, file: &File, sink: &Sink, payload: Payload<'_>, torn: bool, now: u64) {
        let mid_line = file.mid_line.load(Relaxed) || torn;
        let mut prefix = Text::<300>::new();
        if !SETTINGS.fallback_prefix().is_empty() {
            self.fill_prefix(&mut prefix);
        }
        let dropped = sink.deliver(payload, prefix.as_bytes(), mid_line);
        let bytes = payload.len();
        let (lines, whole) = payload.lines();
        file.diverted(lines, bytes as u64, whole, now);
        let counters = page::counters();
        page::add(&counters.diverted_writes, 1);
        page::add(&counters.diverted_bytes, (bytes - dropped) as u64);
        page::add(&counters.diverted_lines, lines);
        page::add(&counters.dropped_bytes, dropped as u64);
    }

    fn fill_prefix(&self, to: &mut Text<300>) {
        let path = self.path();
        let base = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        let mut rest = SETTINGS.fallback_prefix();
        while let Some((&first, after)) = rest.split_first() {
            if let Some(tail) = rest.strip_prefix(b"{path}") {
                to.push(path);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix(b"{name}") {
                to.push(base);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix(b"{pid}") {
                let _ = write!(to, "{}", process::pid());
                rest = tail;
            } else {
                to.push(&[first]);
                rest = after;
            }
        }
    }

    /// A write to a diverted file: elsewhere, or back into the file if there is room again.
    fn divert_or_return(&self, file: &File, payload: Payload<'_>) -> Option<Written> {
        let errno = file.errno.load(Relaxed);
        let total = payload.len();
        let all = |reached| Some(Written { answer: total as ssize_t, reached });
        // The rest of a line goes where its beginning went.
        let tail = if file.mid_line.load(Relaxed) { payload.line().unwrap_or(total) } else { 0 };
        let now = sys::now();
        let sink = self.allowed_sink(total, errno, now)?;
        // From the look on, others wait for its outcome: of lines that are written at the same time, all or none go back.
        let looks = tail < total && file.is_look_due(now) && file.begin_return();
        if looks {
            file.looked();
        }
        let returns = looks && (errno == libc::EDQUOT || space::has_room(self.fd));
        if looks && !returns {
            file.abandon_return();
        }
        if returns {
            if tail > 0 {
                self.send(file, &sink, payload.upto(tail), true, now);
            }
            let reached = self.write_back(file, payload.after(tail)).unwrap_or(0);
            if tail + reached < total {
                file.probe_failed();
                self.send(file, &sink, payload.after(tail + reached), reached > 0, now);
                file.abandon_return();
            }
            return all(reached);
        }
        // By now the file may have its lines again: then the real call is made.
        file.begin_sending().then(|| {
            self.send(file, &sink, payload, false, now);
            file.end_sending();
        })?;
        all(0)
    }

    /// The real file is where the stand-in was: it gets the note of what went elsewhere, and the payload.
    fn take_place(&self, diverted: Option<&File>, payload: Payload<'_>) -> Option<Written> {
        let status = sys::fstat(self.fd).ok()?;
        descriptors::forget(self.fd);
        let real = Log { device: self.device, path: self.path.clone(), ..Log::known(self.fd, &status) };
        let total = payload.len();
        let written = match diverted {
            Some(file) if file.begin_return() => {
                let written = real.write_back(file, payload);
                if written != Some(total) {
                    // The stand-in's entry is no more; the file has one of its own from here on.
                    file.abandon_return();
                }
                written.unwrap_or(0)
            }
            _ => sys::write(self.fd, payload.first()).unwrap_or(0),
        };
        if written >= total {
            return Some(Written { answer: total as ssize_t, reached: total });
        }
        let log = Log::look(self.fd, &status)?;
        descriptors::add(self.fd, LOG);
        log.divert(payload.after(written), libc::ENOSPC, written > 0)?;
        Some(Written { answer: total as ssize_t, reached: written })
    }

    /// Ends a torn line, says in the file what went where, and writes the payload. Returns how much of the payload is in the file,
    /// all of it if the file has its lines again; None if not a byte.
    fn write_back(&self, file: &File, payload: Payload<'_>) -> Option<usize> {
        let mut note = Text::<400>::new();
        if self.is_torn(file.torn.load(Relaxed)) {
            let _ = note.push(b"\n");
        }
        let place = self.sink().map_or("nowhere", |sink| sink.name);
        self.fill_note(&mut note, file, place, payload.first().first() == Some(&b'{'));
        let note_bytes = note.as_bytes();
        let mut written = sys::write(self.fd, note_bytes).unwrap_or(0);
        if written < note_bytes.len() {
            return None;
        }
        written = 0;
        for piece in payload.pieces() {
            match sys::write(self.fd, piece) {
                Ok(part) => {
                    written += part;
                    if part < piece.len() {
                        return Some(written);
                    }
                }
                Err(_) => return Some(written),
            }
        }
        let (lines, age) = (file.lines.load(Relaxed), file.age());
        file.returned();
        self.welcome(lines, age, place);
        Some(written)
    }

    /// The line in the file: how much went where, between when and when. An object where the log is made of objects.
    fn fill_note(&self, to: &mut Text<400>, file: &File, place: &str, json: bool) {
        let (lines, bytes) = (file.lines.load(Relaxed), file.bytes.load(Relaxed));
        let from = crate::text::Time(file.since.load(Relaxed));
        let until = crate::text::Time(sys::clock(libc::CLOCK_REALTIME));
        let why = if file.errno.load(Relaxed) == libc::EDQUOT { "over quota" } else { "disk full" };
        let _ = if json {
            writeln!(
                to,
                "{{\"tideover\":\"{why}\",\"lines\":{lines},\"bytes\":{bytes},\"sent_to\":\"{place}\",\"from\":\"{from}\",\"until\":\"{until}\"}}"
            )
        } else {
            writeln!(to, "tideover: {why}: {lines} lines ({bytes} bytes) went to {place} between {from} and {until}")
        };
    }

    fn announce(&self, errno: c_int, place: &str) {
        let why = if errno == libc::EDQUOT { "over quota" } else { "disk full" };
        if let Some(more) = DIVERTING.due() {
            log::warn!("{}: {why} ({}), its lines go to {place}{}", self.name(), ErrnoName(errno), More(more));
        }
        self.emit(EventKind::Degraded, errno, 0);
    }

    fn welcome(&self, lines: u64, age: u64, place: &str) {
        if let Some(more) = RETURNED.due() {
            log::warn!(
                "{}: recovered after {}, {lines} lines went to {place}{}",
                self.name(),
                Seconds(age),
                More(more)
            );
        }
        self.emit(EventKind::Restored, 0, age);
    }

    fn emit(&self, kind: EventKind, errno: c_int, waited: u64) {
        events::emit(&Event { kind, call: "write", errno, fd: self.fd, tries: 0, waited, outcome: Outcome::None });
    }
}

/// The folder that an absolute path lies in.
fn folder(path: &[u8]) -> Text<PATH> {
    let length = path.iter().rposition(|&b| b == b'/').unwrap_or(0).max(1);
    let mut folder = Text::new();
    folder.set(path.get(..length).unwrap_or(b"/"));
    folder
}

/// Does the folder of this file hold a database's files?
fn database_beside(path: &[u8]) -> bool {
    let folder = folder(path);
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // A folder that can't be listed is no sign of a database; its log could be opened all the same.
    let Ok(fd) = sys::open(folder.as_c_str(), flags, 0) else { return false };
    let mut found = false;
    let mut entries = [0u8; 1024];
    // A log folder of a million files is not read to its end: databases have theirs early, and by the dozen.
    for _ in 0..64 {
        match sys::read_directory(fd, &mut entries) {
            Ok(&[]) | Err(_) => break,
            Ok(part) => found = names(part).any(rule::is_database_file),
        }
        if found {
            break;
        }
    }
    sys::close(fd);
    found
}

/// The names in what getdents64(2) returned.
fn names(mut entries: &[u8]) -> impl Iterator<Item = &[u8]> {
    const LENGTH: usize = 16;
    const NAME: usize = 19;
    core::iter::from_fn(move || {
        let length = u16::from_ne_bytes(entries.get(LENGTH..LENGTH + 2)?.try_into().ok()?) as usize;
        let name = entries.get(NAME..length)?.split(|&b| b == 0).next()?;
        entries = entries.get(length..)?;
        Some(name)
    })
}
