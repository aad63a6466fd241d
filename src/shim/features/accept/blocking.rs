//! A blocking accept(2) for which there is no descriptor waits here, and not in the engine: it has asked to sleep until a client can be
//! accepted, so a later answer is no wrong one, while EMFILE makes the usual accept loop try again at once and for ever (at 100 % of a
//! core without the library). It holds nobody up: nothing of the engine's is held, no evidence for waiting is used up, and calls that serve
//! accepted clients come first.
//!
//! The error is passed on where the program may be the only one that can do something about it: at once where no other thread could close
//! anything (there is none, or all of them wait as this one does), and on the thread of an event loop; after [`PATIENCE`] without a close
//! by another thread. A thread that then closes something itself, and goes on, has a remedy of its own, and gets its errors at once
//! from then on, for [`REMEMBERED`].
#![forbid(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::SECOND;

use super::exhaustion;
use super::request::{Next, Request, Waited};
use crate::engine::backoff::Backoff;
use crate::engine::call::Role;
use crate::engine::reclaim::collect;
use crate::engine::sleepers::IN_ACCEPT;
use crate::engine::wait;
use crate::os::sys;
use crate::state::{page, process, thread};

/// For so long a thread waits that sees no close, nanoseconds.
const PATIENCE: u64 = 5 * SECOND;
/// For so long it is known of a thread that it has a remedy of its own, nanoseconds.
const REMEMBERED: u64 = 60 * SECOND;
/// A waiting thread looks at least so often, nanoseconds.
const LOOK_INTERVAL: u64 = SECOND / 10;
/// After so long the call is made again, whatever the counts of descriptors say, nanoseconds.
const TRY_ANYWAY: u64 = SECOND;

/// The thread that was given the error last, and whether that has helped it.
struct Told {
    /// Its number; 0: none.
    thread: AtomicI32,
    /// What it and threads that share its count had closed by then.
    closes: AtomicU64,
    /// Until when it counts as one that has a remedy, nanoseconds of CLOCK_MONOTONIC; 0: it is not known to have one.
    remedy_until: AtomicU64,
}

static TOLD: Told = Told { thread: AtomicI32::new(0), closes: AtomicU64::new(0), remedy_until: AtomicU64::new(0) };

/// Does a blocking accept(2) that failed with this errno wait here? Not where the user has said how long calls wait, nor after ENFILE, for
/// which the engine waits.
pub fn waits(errno: c_int) -> bool {
    errno == libc::EMFILE
        && !Backoff::is_set()
        && !thread::is_event_loop()
        && process::phase() != process::Phase::Exiting
        && collect::role() == Role::Usual
        && others_could_close()
        && !has_remedy()
}

/// Is there a thread that could close something, one that does not wait in accept(2), too? Not if that thread waits for a descriptor itself:
/// then the engine gives it its error, so that it goes on, and closes what it holds.
fn others_could_close() -> bool {
    thread::count() > IN_ACCEPT.count() + 1
}

/// Is this the thread that was given the error last, and has it closed something since?
fn has_remedy() -> bool {
    let me = sys::gettid();
    if TOLD.thread.load(Relaxed) != me {
        return false;
    }
    let now = sys::now();
    if page::closes(false) != TOLD.closes.swap(page::closes(false), Relaxed) {
        TOLD.remedy_until.store(now + REMEMBERED, Relaxed);
    }
    now < TOLD.remedy_until.load(Relaxed)
}

/// Sleeps until there may be a descriptor, for 100 ms at most, and says what the hook does then.
pub fn wait(request: &mut Request) -> Next {
    if !request.may_wait() {
        return Next::Fail(libc::EAGAIN);
    }
    let (now, closes) = (sys::now(), page::closes(true));
    let mut waited = request.waited.unwrap_or(Waited { closes, progress: now, tried: now });
    if closes != waited.closes {
        waited = Waited { closes, progress: now, ..waited };
    }
    let seen = wait::expect_closes();
    let next = if exhaustion::has_descriptors_for_clients() || now.saturating_sub(waited.tried) >= TRY_ANYWAY {
        waited.tried = now;
        Next::Call
    } else if now.saturating_sub(waited.progress) >= PATIENCE || !others_could_close() {
        TOLD.thread.store(sys::gettid(), Relaxed);
        TOLD.closes.store(page::closes(false), Relaxed);
        Next::Answer
    } else {
        sleep(request, seen)
    };
    request.waited = (next != Next::Answer).then_some(waited);
    next
}

fn sleep(request: &Request, seen: u32) -> Next {
    let time = LOOK_INTERVAL.min(request.timeout as u32 as u64 * 1_000_000);
    let slept = IN_ACCEPT.during(|| wait::sleep_until_close(seen, time));
    if slept || !request.is_interrupted() { Next::AskAgain } else { Next::Fail(libc::EINTR) }
}
