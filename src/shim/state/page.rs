//! The page that the library counts in.
//!
//! There always is one. At first it is a private page in this library's memory. With the first event, or after some descriptors,
//! [`move_to_file`] makes the file of the shared page and goes on there: most processes of a system end before that, and should not pay for
//! a file. Readers find those processes by their mappings. If the file can't be made, the private page stays.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicU32, AtomicU64};

use tideover_contract::page::{self as contract, Counters, Page, state};
use tideover_contract::settings;

use crate::arch;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::handlers::handlers;
use crate::state::page_file::{self, Failure};
use crate::state::page_words::{count_words, counts, is_set, words};
use crate::state::process::{self, Phase};
use crate::state::settings::SETTINGS;

/// So many descriptors a process may make before it gets a file: most open a file or two, or redirect a few and call execve(2).
const FREE: u32 = 4;
/// So many more it may make while it is [`YOUNG`]: Python opens 25 files and folders at its start, and many scripts end soon.
const FREE_WHILE_YOUNG: u32 = 36;
/// A process is young for so many nanoseconds, from the first descriptor after [`FREE`] on.
const YOUNG: u64 = settings::SECOND / 20;
/// So many descriptors the child of a fork may make before it gets a file: servers fork one for each client, which opens some files and
/// ends.
const FREE_IN_CHILD: u32 = 24;
/// A process with a descriptor of this number or a higher one has more than [`FREE`], though no hook has seen some of them.
const MANY: i32 = 16;
/// One with a descriptor of this number keeps files open: it is not at its start any more, or may have a low limit.
const SOME: i32 = 8;
/// When no descriptor was free for the file, it is tried again after so many more descriptors.
const RETRY_AFTER: u32 = 16;

/// Counts until there is a file, and without one for good where none can be made.
#[unsafe(link_section = ".private_page")]
static PRIVATE: Page = Page::new();
/// The page in use: [`PRIVATE`], or the file's.
static PAGE: AtomicPtr<Page> = AtomicPtr::new((&raw const PRIVATE).cast_mut());

/// What is known of the file.
struct State {
    /// New descriptors with this number or a higher one are reported to [`notable`]: one above the highest so far. i32::MIN: all are,
    /// since the file is still to be made.
    notable: AtomicI32,
    /// How many more descriptors may be made before the file is.
    free: AtomicU32,
    /// How many of these may be made after `free` has come to zero, while the process is young.
    free_while_young: AtomicU32,
    /// When the process was asked for its age first, nanoseconds of CLOCK_MONOTONIC_COARSE; 0: not yet.
    young_since: AtomicU64,
    /// How many more descriptors may be made before the file is tried again, for which none was free.
    retry_after: AtomicU32,
    /// [`MOVING`] while a thread makes the file, and how many threads are in execve(2): while there is one, no file is made.
    moves: AtomicU32,
    /// User id in the path of the file, plus one; 0: there is no file. The program may change its user id later.
    owner: AtomicU32,
    /// The page that was in use before an execve(2) that failed, or null. Other threads may still count there.
    former: AtomicPtr<Page>,
}

/// See [`State::moves`].
const MOVING: u32 = 1 << 31;
/// For so many milliseconds an execve(2) waits for the thread that makes the file. It is this thread itself if a signal handler calls it.
const LONGEST_MOVE: u32 = 50;

static STATE: State = State {
    notable: AtomicI32::new(i32::MIN),
    free: AtomicU32::new(FREE),
    free_while_young: AtomicU32::new(FREE_WHILE_YOUNG),
    young_since: AtomicU64::new(0),
    retry_after: AtomicU32::new(0),
    moves: AtomicU32::new(0),
    owner: AtomicU32::new(0),
    former: AtomicPtr::new(core::ptr::null_mut()),
};

/// The page in use.
#[inline(always)]
pub fn page() -> &'static Page {
    // SAFETY: PAGE points to PRIVATE, or to what `page_file::make` returned: both live as long as the process. All fields are atomics, so
    // other threads may use them at the same time. What is read by the pointer depends on it, which orders the reads on all processors.
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

/// The share of the calling thread, and of some others, in the counts of successes.
#[inline(always)]
fn shard() -> &'static contract::Shard {
    &page().shards[arch::thread_spread() % contract::SHARDS]
}

/// A call has given the program a descriptor of this number.
#[inline(always)]
pub fn opened(fd: i32) {
    shard().opened.fetch_add(1, Relaxed);
    if fd >= STATE.notable.load(Relaxed) {
        notable(fd);
    }
}

/// A call has made a descriptor of a number that the program chose (dup2(2)), which says nothing of how many there are.
#[inline(always)]
pub fn replaced() {
    shard().opened.fetch_add(1, Relaxed);
}

/// The program has closed a descriptor.
#[inline(always)]
pub fn closed() {
    shard().closed.fetch_add(1, Relaxed);
}

/// How many descriptors the program has made so far, by all threads.
pub fn opens() -> u64 {
    page().shards.iter().map(|shard| shard.opened.load(Relaxed)).fold(0, u64::wrapping_add)
}

/// A descriptor of this number was just made. Does the program have others besides the standard streams that no hook has seen it make? The
/// kernel gives the lowest number that is free.
pub fn has_inherited(fd: i32) -> bool {
    fd as u64 > opens() + libc::STDERR_FILENO as u64
}

/// How many descriptors the program has closed so far: by all threads, or by the calling one and those that share its count.
pub fn closes(all: bool) -> u64 {
    let one = |shard: &contract::Shard| shard.closed.load(Relaxed);
    if all { page().shards.iter().map(one).fold(0, u64::wrapping_add) } else { one(shard()) }
}

/// How many descriptors the program has closed so far, by each part of the count but that of the calling thread.
pub fn closes_by_others() -> impl Iterator<Item = (usize, u64)> {
    let own = core::ptr::from_ref(shard());
    let others = page().shards.iter().enumerate().filter(move |(_, shard)| !core::ptr::eq(*shard, own));
    others.map(|(index, shard)| (index, shard.closed.load(Relaxed)))
}

/// A descriptor was made whose number is higher than all before, or the file is still to be made.
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
extern "C" fn notable(fd: i32) {
    barrier((), || (handlers().on_new_descriptor)(fd));
}

/// Is it too early for the file? Counts down in memory alone, where the child of a vfork(2) may count, too: the child of a server asks this
/// with each descriptor, and ends before most of what follows it.
fn is_too_early(fd: i32) -> bool {
    counts_down(&STATE.retry_after) || fd < MANY && (counts_down(&STATE.free) || is_young(fd))
}

fn counts_down(from: &AtomicU32) -> bool {
    from.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Has the process made few descriptors in a short life, and closed most of them?
#[cold]
#[inline(never)]
#[unsafe(link_section = ".text.on_success")]
fn is_young(fd: i32) -> bool {
    if fd >= SOME || !counts_down(&STATE.free_while_young) {
        return false;
    }
    let now = sys::clock(libc::CLOCK_MONOTONIC_COARSE);
    let since = STATE.young_since.load(Relaxed);
    if since == 0 {
        STATE.young_since.store(now, Relaxed);
    }
    since == 0 || now.wrapping_sub(since) < YOUNG
}

/// So many descriptors may be made from now on before the file is, whatever the age of the process.
fn set_free(descriptors: u32) {
    STATE.free.store(descriptors, Relaxed);
    STATE.free_while_young.store(0, Relaxed);
}

/// A descriptor was made whose number is higher than all before, or which is one of the first of this process: makes the file when it is
/// time. True: it is the highest, and the library may look at usage.
#[inline(always)]
pub fn note_highest(fd: i32) -> bool {
    let is_unmade = STATE.notable.load(Relaxed) == i32::MIN;
    if is_unmade && (!process::acts() || is_too_early(fd)) || !process::may_note() {
        return false;
    }
    if is_unmade {
        move_to_file();
    }
    // Unless the file is still to be made.
    let _ = STATE
        .notable
        .fetch_update(Relaxed, Relaxed, |highest| (highest != i32::MIN).then(|| highest.max(fd.saturating_add(1))));
    counters().high_water.fetch_max(fd as u64 + 1, Relaxed);
    true
}

/// At load: with TIDEOVER_PAGE=0 no file is ever made.
pub fn start() {
    if !SETTINGS.flag(settings::Id::Page) {
        page_file::fill_header(&PRIVATE, sys::geteuid());
        STATE.notable.store(0, Relaxed);
    }
    let is_set = |id: settings::Id| SETTINGS.source(id as usize) != settings::Source::Default as u8;
    if is_set(settings::Id::FdWarn) || is_set(settings::Id::FdCritical) {
        // A low threshold is reached with the first descriptors.
        set_free(0);
    }
}

/// There is something to count that readers should see: makes the file, unless there is one or none can be made.
pub fn ensure() {
    if STATE.notable.load(Relaxed) == i32::MIN && process::may_note() && STATE.retry_after.load(Relaxed) == 0 {
        move_to_file();
    }
}

/// [`ensure`], called from a hook of a program that is likely to run out of descriptors: it makes the file while one is free.
#[cold]
#[inline(never)]
pub extern "C" fn provide() {
    barrier((), ensure);
}

/// A descriptor has become free for a thread that waits. If none was free for the file before, the file is made first, which takes the
/// descriptor for a moment only.
pub fn catch_up() {
    if STATE.notable.load(Relaxed) == i32::MIN && STATE.retry_after.swap(0, Relaxed) != 0 {
        ensure();
    }
}

/// Makes the file and goes on there. If several threads call this, one does it. On failure the private page stays in use; if no
/// descriptor was free, it is tried again later.
#[unsafe(link_section = ".text.on_success")]
fn move_to_file() {
    if STATE.moves.compare_exchange(0, MOVING, Acquire, Relaxed).is_ok() {
        if STATE.notable.load(Relaxed) == i32::MIN {
            make_file_and_move();
        }
        STATE.moves.fetch_and(!MOVING, Release);
    }
}

fn make_file_and_move() {
    let uid = sys::geteuid();
    // SAFETY: `former` is null, or points to the page that `withdraw` has put there, which was returned by this function.
    let made = unsafe { page_file::make(uid, &PRIVATE, &STATE.former) };
    match made {
        Ok(shared) => {
            page_file::fill_header(shared, uid);
            STATE.owner.store(uid + 1, Relaxed);
            let copied = counts(shared);
            PAGE.store((&raw const *shared).cast_mut(), Release);
            // Adds what other threads have counted in the private page between the copy and the move.
            for ((to, from), copied) in count_words(shared).iter().zip(count_words(&PRIVATE)).zip(copied) {
                let now = from.load(Relaxed);
                if is_set(&shared.counters, to) {
                    let _ = to.compare_exchange(copied, now, Relaxed, Relaxed);
                } else {
                    to.fetch_add(now.wrapping_sub(copied), Relaxed);
                }
                // The child of a fork begins with the private page.
                from.store(0, Relaxed);
            }
            shared.state.store(state::LIVE, Release);
            (handlers().on_page_made)();
        }
        Err((_, libc::EMFILE | libc::ENFILE)) => {
            STATE.retry_after.store(RETRY_AFTER, Relaxed);
            STATE.free_while_young.store(0, Relaxed);
            return;
        }
        Err(failure) => complain(failure, uid),
    }
    let _ = STATE.notable.compare_exchange(i32::MIN, 0, Relaxed, Relaxed);
}

/// Says that there is no file, and why; the private page stays in use for good.
fn complain((what, errno): Failure, uid: u32) {
    page_file::fill_header(&PRIVATE, uid);
    STATE.notable.store(0, Relaxed);
    // A warning only for users who have named the folder. Without /dev/shm, as in some images, each `ls` would say so.
    let default = SETTINGS.source(settings::Id::PageDir as usize) == settings::Source::Default as u8;
    log::log!(
        if default { log::Level::Info } else { log::Level::Warn },
        "no shared page, counters stay private: {what} {}: {}; TIDEOVER_PAGE_DIR= names another directory, TIDEOVER_PAGE=0 does without",
        crate::state::report::Printable(page_file::directory(uid).as_bytes()),
        crate::state::report::ErrnoName(errno),
    );
}

/// Copies what stays true in the child of a fork: the limits, and the counts of open descriptors, which it inherits.
fn copy_known(to: &Counters, from: &Counters) {
    to.soft_limit.store(from.soft_limit.load(Relaxed), Relaxed);
    to.hard_limit.store(from.hard_limit.load(Relaxed), Relaxed);
    to.high_water.store(from.high_water.load(Relaxed), Relaxed);
    to.raised_from.store(from.raised_from.load(Relaxed), Relaxed);
    to.clients.store(from.clients.load(Relaxed), Relaxed);
    to.outgoing.store(from.outgoing.load(Relaxed), Relaxed);
}

/// User id in the path of the file; None: there is no file.
pub fn owner() -> Option<u32> {
    STATE.owner.load(Relaxed).checked_sub(1)
}

/// In the child of a fork: counts begin again in the private page. The child gets a file of its own after [`FREE_IN_CHILD`] descriptors:
/// one that only calls execve(2), or serves one client, should not pay for a file.
pub fn forked() {
    let known = Counters::new();
    copy_known(&known, counters());
    let told = page().obeyed.load(Relaxed);
    // If another page was in use, the private one has been zero since the move; to write to it would copy one more page in each child.
    if core::ptr::eq(page(), &PRIVATE) {
        // SAFETY: PRIVATE is in writable memory, and has only atomics in it, for which zero is a valid value. The child has one thread, so
        // nothing else uses it now.
        unsafe { core::ptr::write_bytes((&raw const PRIVATE).cast_mut(), 0, 1) };
    }
    PAGE.store((&raw const PRIVATE).cast_mut(), Relaxed);
    STATE.owner.store(0, Relaxed);
    if SETTINGS.flag(settings::Id::Page) {
        STATE.notable.store(i32::MIN, Relaxed);
    }
    set_free(FREE_IN_CHILD);
    STATE.retry_after.store(0, Relaxed);
    STATE.moves.store(0, Relaxed);
    copy_known(&PRIVATE.counters, &known);
    if told != 0 {
        PRIVATE.control.store(told, Relaxed);
        PRIVATE.obeyed.store(told, Relaxed);
    }
}

/// Before execve(2): removes the file, since the next program in this process is another one, and none is made until [`exec_failed`]:
/// another thread may open a file meanwhile. Then counts go on in the private page, and a new file is made with the next event or descriptor.
pub fn withdraw() {
    STATE.moves.fetch_add(1, Acquire);
    let is_moving = || STATE.moves.load(Acquire) & MOVING != 0;
    for _ in 0..LONGEST_MOVE {
        if !is_moving() {
            break;
        }
        sys::sleep(settings::SECOND / 1000);
    }
    if is_moving() {
        STATE.owner.store(sys::geteuid() + 1, Relaxed);
        return remove();
    }
    let shared = page();
    if core::ptr::eq(shared, &PRIVATE) {
        return;
    }
    remove();
    for (to, from) in words(&PRIVATE).iter().zip(words(shared)) {
        to.store(from.load(Relaxed), Relaxed);
    }
    PAGE.store((&raw const PRIVATE).cast_mut(), Relaxed);
    STATE.former.store(core::ptr::from_ref(shared).cast_mut(), Relaxed);
    set_free(0);
    STATE.notable.store(i32::MIN, Relaxed);
}

/// An execve(2) before which [`withdraw`] was called has failed.
pub fn exec_failed() {
    if STATE.moves.load(Relaxed) != 0 && process::is_ours() {
        let ended = |moves: u32| (moves & !MOVING != 0).then(|| moves - 1);
        let _ = STATE.moves.fetch_update(Release, Relaxed, ended);
    }
}

/// Removes the file. Its mapping stays, since hooks may still be called.
#[unsafe(link_section = ".text.at_load")]
pub fn remove() {
    let owner = STATE.owner.swap(0, Relaxed);
    if owner != 0 && page_file::is_our_namespace(page().pid_namespace.load(Relaxed)) {
        let _ = sys::unlink(page_file::path(owner - 1).as_c_str());
    }
}

/// The process ends by a way that runs no destructors, such as _exit(2).
#[cold]
#[inline(never)]
pub extern "C" fn process_ends() {
    barrier((), || {
        if process::phase() != Phase::Sandboxed && process::is_ours() {
            remove();
        }
    });
}

/// In the destructor: removes the file, and none is made for what libc writes after that.
pub fn retire() {
    remove();
    let _ = STATE.notable.compare_exchange(i32::MIN, 0, Relaxed, Relaxed);
}

/// At load, if the library does nothing in this process: no descriptor is notable.
pub fn ignore() {
    STATE.notable.store(i32::MAX, Relaxed);
}

/// The highest descriptor number seen, plus one.
pub fn high_water() -> u64 {
    counters().high_water.load(Relaxed)
}
