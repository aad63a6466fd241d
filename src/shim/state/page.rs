//! The shared page as the library sees it: where counts go.
//!
//! There is always a page to count in. At first it is a private one in this library's memory. With the first event, or after a few
//! descriptors, [`move_in`] makes the file and moves there: most processes of a system end before, and should not pay for
//! one. Readers find those that have none by what they have mapped. Whatever fails, the host runs on with the private page.

use core::ffi::CStr;
use core::fmt::Write;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64};

use tideover_contract::page::{self as contract, Counters, Page, state};
use tideover_contract::settings;

use crate::arch;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::os::text::Text;
use crate::state::handlers::handlers;
use crate::state::process;
use crate::state::process::Phase;
use crate::state::settings::SETTINGS;

#[unsafe(link_section = ".private_page")]
static PRIVATE: Page = Page::new();
static PAGE: AtomicPtr<Page> = AtomicPtr::new((&raw const PRIVATE).cast_mut());
/// Successes with a descriptor from this number on take the cold path. Below the lowest number: the page is still to be made.
static NOTABLE: AtomicI32 = AtomicI32::new(i32::MIN);
/// How many more descriptors a process may make before it gets a page: most open a file or two, or redirect a few and exec.
static GRACE: AtomicU32 = AtomicU32::new(FIRST_FREE);
const FIRST_FREE: u32 = 4;
/// The same for the child of a fork: servers make one for each client, which opens some files and ends.
const FORKED_FREE: u32 = 24;
/// A process with numbers from here on has descriptors, though they were not made before our eyes.
const FEW: i32 = 16;
/// There was no descriptor free for the page's file: it is tried again after so many more.
static RETRY: AtomicU32 = AtomicU32::new(0);
const RETRY_AFTER: u32 = 16;
/// A thread is about to make the page's file.
static MOVING: AtomicBool = AtomicBool::new(false);
/// User id in the path of the page's file, plus one; 0: there is no file. A program may change its id later.
static OWNER: AtomicU32 = AtomicU32::new(0);

type Path = Text<256>;

/// The page in use.
#[inline(always)]
pub fn page() -> &'static Page {
    // SAFETY: PRIVATE, or a mapping of SIZE bytes that is never unmapped; all fields are atomics.
    unsafe { &*PAGE.load(Relaxed) }
}

/// The counters in use.
#[inline(always)]
pub fn counters() -> &'static Counters {
    &page().counters
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Relaxed);
}

#[inline(always)]
fn shard() -> &'static contract::Shard {
    &page().shards[arch::thread_spread() % contract::SHARDS]
}

/// A call gave the host a descriptor of this number.
#[inline(always)]
pub fn opened(fd: i32) {
    shard().opened.fetch_add(1, Relaxed);
    if fd >= NOTABLE.load(Relaxed) {
        notable(fd);
    }
}

/// A call put a descriptor at a number that the host chose: no sign of how many there are.
#[inline(always)]
pub fn replaced() {
    shard().opened.fetch_add(1, Relaxed);
}

/// A descriptor of the host's was closed.
#[inline(always)]
pub fn closed() {
    shard().closed.fetch_add(1, Relaxed);
}

/// Descriptors of the host's that were closed so far: by all threads, or by those that share this thread's count.
pub fn closes(all: bool) -> u64 {
    let one = |shard: &contract::Shard| shard.closed.load(Relaxed);
    if all { page().shards.iter().map(one).fold(0, u64::wrapping_add) } else { one(shard()) }
}

/// The highest number so far, or the first descriptor since a fork.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn notable(fd: i32) {
    barrier((), || {
        take_note(fd);
    });
}

/// Is the page not to be made yet? Counts in memory alone, and what the child of a vfork counts there does no harm: a server's child
/// asks this with each descriptor, and most never come further.
fn is_too_early(fd: i32) -> bool {
    let counts_down = |from: &AtomicU32| from.fetch_update(Relaxed, Relaxed, |left: u32| left.checked_sub(1)).is_ok();
    NOTABLE.load(Relaxed) == i32::MIN && (counts_down(&RETRY) || (fd < FEW && counts_down(&GRACE)))
}

fn take_note(fd: i32) {
    (handlers().on_new_descriptor)(fd);
    let acts = matches!(process::phase(), Phase::Active | Phase::Exiting);
    if !acts || is_too_early(fd) || !process::may_act() {
        return;
    }
    if NOTABLE.load(Relaxed) == i32::MIN {
        move_in();
    }
    // Unless the page is still to be made.
    let _ = NOTABLE
        .fetch_update(Relaxed, Relaxed, |highest| (highest != i32::MIN).then(|| highest.max(fd.saturating_add(1))));
    counters().high_water.fetch_max(fd as u64 + 1, Relaxed);
    (handlers().on_highest)(fd);
}

/// Where the page's file is, for a given user.
fn path(uid: u32) -> Path {
    let mut path = Path::new();
    let _ = path.push(SETTINGS.page_dir());
    let _ = write!(path, "/tideover.{uid}/{}", process::pid());
    path
}

fn directory(uid: u32) -> Path {
    let mut path = Path::new();
    let _ = path.push(SETTINGS.page_dir());
    let _ = write!(path, "/tideover.{uid}");
    path
}

/// At load.
pub fn start() {
    if !SETTINGS.flag(settings::Id::Page) {
        fill(&PRIVATE, sys::geteuid());
        NOTABLE.store(0, Relaxed);
    }
}

/// There is something to count that a reader should see: from here on in the shared page, if there can be one.
pub fn ensure() {
    if NOTABLE.load(Relaxed) == i32::MIN && process::may_act() && RETRY.load(Relaxed) == 0 {
        move_in();
    }
}

/// The program is likely to run out: the page is made while there is a descriptor for it.
#[cold]
#[inline(never)]
pub extern "C" fn provide() {
    barrier((), ensure);
}

/// A descriptor has come free for somebody who waits: first for the page's file, for a moment, if there was none for that.
pub fn catch_up() {
    if NOTABLE.load(Relaxed) == i32::MIN && RETRY.swap(0, Relaxed) != 0 {
        ensure();
    }
}

/// Makes the page's file, maps it, and moves there. On failure the private page stays; what can be otherwise later (no
/// descriptor free) is tried again. Of several threads one does it.
#[unsafe(link_section = ".text.on_success")]
fn move_in() {
    if !MOVING.swap(true, Acquire) {
        if NOTABLE.load(Relaxed) == i32::MIN {
            make_and_move();
        }
        MOVING.store(false, Release);
    }
}

fn make_and_move() {
    let uid = sys::geteuid();
    let mapped = make_file(uid).and_then(|fd| {
        let mapped = map(fd);
        sys::close(fd);
        if mapped.is_err() {
            let _ = sys::unlink(path(uid).as_c_str());
        }
        mapped
    });
    match mapped {
        Ok(shared) => {
            fill(shared, uid);
            OWNER.store(uid + 1, Relaxed);
            let copied = counts(shared);
            PAGE.store((&raw const *shared).cast_mut(), Relaxed);
            // What other threads have counted, or set, between the copy and the move.
            for ((to, from), copied) in words(shared).zip(words(&PRIVATE)).zip(copied) {
                let now = from.load(Relaxed);
                if is_set(&shared.counters, to) {
                    let _ = to.compare_exchange(copied, now, Relaxed, Relaxed);
                } else {
                    to.fetch_add(now.wrapping_sub(copied), Relaxed);
                }
                // A child of a fork begins with these.
                from.store(0, Relaxed);
            }
            shared.state.store(state::LIVE, Relaxed);
        }
        Err((_, libc::EMFILE | libc::ENFILE)) => {
            RETRY.store(RETRY_AFTER, Relaxed);
            return;
        }
        Err(failure) => complain(failure, uid),
    }
    let _ = NOTABLE.compare_exchange(i32::MIN, 0, Relaxed, Relaxed);
}

/// Where the counters begin in the page, and how many words it is from there to the end of the shards.
const FIRST: usize = core::mem::offset_of!(Page, counters) / size_of::<AtomicU64>();
const COUNTS: usize = (core::mem::offset_of!(Page, shards) + size_of::<[contract::Shard; contract::SHARDS]>())
    / size_of::<AtomicU64>()
    - FIRST;

/// All that threads add to: the counters, and the shards behind them.
fn words(page: &Page) -> impl Iterator<Item = &AtomicU64> {
    // SAFETY: within the page, and nothing but atomics of this size.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(page).cast::<AtomicU64>().add(FIRST), COUNTS) }.iter()
}

/// Is this one of the few counters that are not added to, but set?
fn is_set(all: &Counters, one: &AtomicU64) -> bool {
    [
        &all.soft_limit,
        &all.hard_limit,
        &all.high_water,
        &all.raised_from,
        &all.breaker_open,
        &all.degraded,
        &all.degraded_since,
    ]
    .iter()
    .any(|set| core::ptr::eq(*set, one))
}

fn counts(page: &Page) -> [u64; COUNTS] {
    let mut counts = [0; COUNTS];
    counts.iter_mut().zip(words(page)).for_each(|(count, word)| *count = word.load(Relaxed));
    counts
}

fn complain((what, errno): Failure, uid: u32) {
    fill(&PRIVATE, uid);
    NOTABLE.store(0, Relaxed);
    // Whoever named the folder wants to know. Elsewhere (an image without /dev/shm) each `ls` would say so.
    let default = SETTINGS.source(settings::Id::PageDir as usize) == settings::Source::Default as u8;
    log::log!(
        if default { log::Level::Info } else { log::Level::Warn },
        "no shared page, counters stay private: {what} {}: {}; TIDEOVER_PAGE_DIR= names another directory, TIDEOVER_PAGE=0 does without",
        crate::state::report::Printable(directory(uid).as_bytes()),
        crate::state::report::ErrnoName(errno),
    );
}

/// What could not be done, and why.
type Failure = (&'static str, sys::Errno);

/// The file, empty. Made anew: one of this name is left over from a dead process with our number, or from the program that this
/// process was before execve(2).
fn make_file(uid: u32) -> Result<i32, Failure> {
    check_directory(directory(uid).as_c_str(), uid)?;
    let path = path(uid);
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // Nobody but us writes to it: one who cut it would end us by SIGBUS.
    let make = || sys::open(path.as_c_str(), flags, 0o400);
    match make() {
        Err(libc::EEXIST) => sys::unlink(path.as_c_str()).and_then(|()| make()),
        other => other,
    }
    .map_err(|errno| ("creating a file in", errno))
}

/// Filesystems on which a store into a mapped file, allocated as it is, can find no space, or no server: SIGBUS. btrfs, f2fs, ZFS,
/// bcachefs, nilfs2, NFS, CIFS, SMB2, FUSE, 9p, Ceph.
const MOVING_BLOCKS: [i64; 11] = [
    0x9123_683e,
    0xf2f5_2010,
    0x2fc1_2fc1,
    0xca45_1a4e,
    0x3434,
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
];
/// What was mapped before an execve(2) that failed: threads may still count there.
static WITHDRAWN: AtomicPtr<Page> = AtomicPtr::new(core::ptr::null_mut());

/// Allocated before it is mapped: a store into an unallocated page of a full tmpfs is SIGBUS. What the private page has counted
/// goes along.
fn map(fd: i32) -> Result<&'static Page, Failure> {
    if sys::file_size_limit() < contract::SIZE as u64 {
        return Err(("ulimit -f allows no file of 4 KiB in", libc::EFBIG));
    }
    if sys::filesystem(fd).is_ok_and(|filesystem| MOVING_BLOCKS.contains(&filesystem.kind)) {
        return Err(("its filesystem may need new space for each write, or its server:", libc::EOPNOTSUPP));
    }
    let old = WITHDRAWN.swap(core::ptr::null_mut(), Relaxed);
    // SAFETY: null, or what was mapped here before an execve(2) that failed: a page in which threads may still count, as in this one. `fill`
    // has given the file its size, and nobody else may write to it.
    let shared = || unsafe { sys::map_shared(fd, contract::SIZE, old.cast()) };
    let mapped = sys::fill(fd, &PRIVATE).and_then(|()| shared());
    // SAFETY: SIZE bytes of a copy of a Page, page-aligned, writable, shared only with readers.
    mapped.map(|address| unsafe { &*address.cast::<Page>() }).map_err(|errno| ("allocating 4 KiB in", errno))
}

/// The directory must be ours alone: others could replace our files in it, or lead us elsewhere by a link.
fn check_directory(path: &CStr, uid: u32) -> Result<(), Failure> {
    let status = match sys::stat(path, false) {
        Err(libc::ENOENT) => {
            sys::mkdir(path, 0o700)
                .or_else(|e| if e == libc::EEXIST { Ok(()) } else { Err(e) })
                .map_err(|e| ("making", e))?;
            sys::stat(path, false)
        }
        other => other,
    }
    .map_err(|errno| ("looking at", errno))?;
    if is_own(&status, uid) { Ok(()) } else { Err(("not a directory of our own with mode 0700:", libc::EPERM)) }
}

fn is_own(status: &libc::stat, uid: u32) -> bool {
    status.st_mode & libc::S_IFMT == libc::S_IFDIR && status.st_uid == uid && status.st_mode & 0o077 == 0
}

/// Writes the header and the settings, and carries over what is known of the limits.
fn fill(to: &Page, uid: u32) {
    to.magic.store(contract::MAGIC, Relaxed);
    to.layout.store(contract::LAYOUT, Relaxed);
    to.size.store(contract::SIZE as u32, Relaxed);
    to.pid.store(process::pid() as u32, Relaxed);
    to.uid.store(uid, Relaxed);
    to.started_boot_ns.store(sys::clock(libc::CLOCK_BOOTTIME), Relaxed);
    to.started_ns.store(sys::clock(libc::CLOCK_REALTIME), Relaxed);
    contract::store_text(&to.version, env!("CARGO_PKG_VERSION").as_bytes());
    contract::store_text(&to.program, crate::state::process::program());
    for index in 0..settings::COUNT {
        to.settings[index].store(SETTINGS.value(index), Relaxed);
        to.sources[index].store(SETTINGS.source(index), Relaxed);
    }
    to.settings_count.store(settings::COUNT as u32, Relaxed);
}

/// What is known of the limits, and the descriptors that a child inherits, from one set of counters to another.
fn copy_known(to: &Counters, from: &Counters) {
    to.soft_limit.store(from.soft_limit.load(Relaxed), Relaxed);
    to.hard_limit.store(from.hard_limit.load(Relaxed), Relaxed);
    to.high_water.store(from.high_water.load(Relaxed), Relaxed);
    to.raised_from.store(from.raised_from.load(Relaxed), Relaxed);
    to.clients.store(from.clients.load(Relaxed), Relaxed);
    to.outgoing.store(from.outgoing.load(Relaxed), Relaxed);
}

/// In the child of a fork: counts begin again, in the private page; the child gets a page
/// of its own after some descriptors (a child that only execs, or serves one client, should not pay for one).
pub fn forked() {
    let known = Counters::new();
    copy_known(&known, counters());
    // Else its counts are gone since the move; to write it all would copy one page more in each child.
    if core::ptr::eq(page(), &PRIVATE) {
        // SAFETY: PRIVATE is all atomics in writable memory, zeros are a valid Page, and the child has one thread.
        unsafe { core::ptr::write_bytes((&raw const PRIVATE).cast_mut(), 0, 1) };
    }
    PAGE.store((&raw const PRIVATE).cast_mut(), Relaxed);
    OWNER.store(0, Relaxed);
    if SETTINGS.flag(settings::Id::Page) {
        NOTABLE.store(i32::MIN, Relaxed);
    }
    GRACE.store(FORKED_FREE, Relaxed);
    RETRY.store(0, Relaxed);
    MOVING.store(false, Relaxed);
    copy_known(&PRIVATE.counters, &known);
}

/// Before execve(2): the file goes, for the next program of this number is not this one. If there is none, because that fails,
/// counts go on in the private page, and a new file is made with the next event or descriptor.
pub fn withdraw() {
    let shared = page();
    if core::ptr::eq(shared, &PRIVATE) {
        return;
    }
    remove();
    let words = |page: &Page| core::ptr::from_ref(page).cast::<AtomicU64>();
    for i in 0..contract::SIZE / size_of::<u64>() {
        // SAFETY: both have so many words, and nothing in them that is not atomic.
        unsafe { (*words(&PRIVATE).add(i)).store((*words(shared).add(i)).load(Relaxed), Relaxed) };
    }
    PAGE.store((&raw const PRIVATE).cast_mut(), Relaxed);
    WITHDRAWN.store(core::ptr::from_ref(shared).cast_mut(), Relaxed);
    GRACE.store(0, Relaxed);
    NOTABLE.store(i32::MIN, Relaxed);
}

/// Removes the page's file; the memory stays, since hooks may still be called.
#[unsafe(link_section = ".text.at_load")]
pub fn remove() {
    let owner = OWNER.swap(0, Relaxed);
    if owner != 0 {
        let _ = sys::unlink(path(owner - 1).as_c_str());
    }
}

/// Before the process ends by a way that runs no destructors.
#[cold]
#[inline(never)]
pub extern "C" fn leave() {
    barrier((), || {
        if process::phase() != Phase::Sandboxed && process::is_ours() {
            remove();
        }
    });
}

/// The process ends: the file goes, and none is made any more for what libc writes after our destructor.
pub fn retire() {
    remove();
    let _ = NOTABLE.compare_exchange(i32::MIN, 0, Relaxed, Relaxed);
}

/// The library does nothing in this process: nothing is notable.
pub fn ignore() {
    NOTABLE.store(i32::MAX, Relaxed);
}

/// The highest descriptor number seen, plus one.
pub fn high_water() -> u64 {
    counters().high_water.load(Relaxed)
}
