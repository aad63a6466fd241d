//! accept(2) when it must not or can't: at the limit on descriptors, or at one that the user has set.
//!
//! Linux hands out the number before it looks at the queue: at the limit, accept(2) fails with EMFILE even when nobody is waiting,
//! and even where it should block. So the queue is looked at first. Where a client does wait, and the ladder has freed nothing, the
//! listener is parked ([`listeners`]), or its clients are turned away ([`shed`]). [`clients`] is the limits that users set.

pub mod clients;
pub mod listeners;
pub mod shed;
mod survey;

use core::ffi::c_int;
use core::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND, accept};

use listeners::Parking;

use crate::engine::call::{Instead, LastResortFunctions};
use crate::engine::reclaim::idle;
use crate::engine::wait;
use crate::os::barrier::barrier;
use crate::os::sys;
use crate::state::report::{ErrnoName, More, Repeated};
use crate::state::settings::SETTINGS;
use crate::state::{descriptors, page, process, thread, usage};

/// A loop that can't be parked is held up for so long per failed accept: its other clients hardly feel it.
const PACE: u64 = SECOND / 500;
/// While clients are turned away, they don't wait longer for that.
const SHED_LOOK: u64 = SECOND / 50;

static REFUSED: Repeated = Repeated::new();
/// Why accept failed last: EMFILE or ENFILE.
static WRONG: AtomicI32 = AtomicI32::new(0);
static PACED: AtomicI32 = AtomicI32::new(-1);
static PACED_AT: AtomicU64 = AtomicU64::new(0);
/// Since when there has been no descriptor for any client, and how many had been accepted by then.
static SINCE: AtomicU64 = AtomicU64::new(0);
static SERVED: AtomicU64 = AtomicU64::new(0);

/// What an accept(2) that failed for lack of descriptors is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Queue {
    /// A client waits, or it is not ours to judge.
    Pass,
    /// Nobody waits, and the listener does not block: EAGAIN.
    Empty,
    /// Nobody waits: poll(2) for so long ([`Patience::milliseconds`]).
    Wait,
}

/// A blocking accept(2) that waits: until when.
#[repr(C)]
pub struct Patience {
    begun: u64,
    /// End by SO_RCVTIMEO; 0: none.
    deadline: u64,
    /// For poll(2).
    pub milliseconds: c_int,
    /// Batches of clients refused meanwhile, or tries to turn one away.
    batches: u32,
}

impl Patience {
    /// Not waited yet.
    pub const fn new() -> Patience {
        Patience { begun: 0, deadline: 0, milliseconds: -1, batches: 0 }
    }

    /// Reads the listener's timeout at first. False: the time is up.
    fn goes_on(&mut self, listener: c_int) -> bool {
        let now = sys::now();
        if self.begun == 0 {
            self.begun = now;
            let timeout = sys::receive_timeout(listener);
            self.deadline = if timeout == 0 { 0 } else { now + timeout };
        }
        let left = self.deadline.saturating_sub(now);
        self.milliseconds =
            if self.deadline == 0 { -1 } else { c_int::try_from(left.div_ceil(1_000_000)).unwrap_or(c_int::MAX) };
        self.deadline == 0 || left > 0
    }

    /// A signal handler ran: does it end the accept(2)? One with SO_RCVTIMEO is never restarted (signal(7)).
    pub fn is_interrupted(&self) -> bool {
        self.deadline != 0 || wait::handlers_interrupt()
    }
}

fn mode() -> u64 {
    SETTINGS.get(Id::Accept)
}

/// Is there anything at all to do for this listener?
fn is_ours(listener: c_int) -> bool {
    mode() != accept::PASS && process::may_act() && sys::is_listening(listener)
}

/// Does somebody wait in the listener's queue? When it can't be asked: yes.
fn has_clients(listener: c_int) -> bool {
    let mut ready = [sys::pollfd(listener, libc::POLLIN)];
    sys::poll_now(&mut ready) != Ok(0)
}

fn is_blocking(listener: c_int) -> bool {
    sys::status_flags(listener).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0)
}

/// accept(2) has failed for lack of descriptors: has it any use for one?
#[allow(improper_ctypes_definitions, reason = "extern \"C\" only so that it can't unwind")]
pub extern "C" fn queue(listener: c_int, patience: &mut Patience) -> Queue {
    barrier(Queue::Pass, || {
        if !is_ours(listener) || has_clients(listener) {
            return Queue::Pass;
        }
        page::ensure();
        if patience.begun == 0 {
            page::add(&page::counters().phantom, 1);
        }
        if is_blocking(listener) && patience.goes_on(listener) { Queue::Wait } else { Queue::Empty }
    })
}

/// What the engine does with a client that waits, when nothing can be freed for it.
pub static LAST_RESORT: LastResortFunctions = LastResortFunctions {
    decide: stand_by,
    succeeded: listeners::put_back,
    slow_down: |listener| {
        pace(listener);
    },
    describe: || if sheds_now() { "clients are turned away" } else { "clients wait until one is free" },
};

/// A client waits, and there is no descriptor for it: parks its listener, or turns clients away.
fn stand_by(listener: c_int, errno: c_int) -> Instead {
    let nothing = Instead { again: false, quiet: false, sheds: false, paced: false };
    if !is_ours(listener) {
        return nothing;
    }
    WRONG.store(errno, Relaxed);
    let accepted = page::counters().accepted.load(Relaxed);
    if SERVED.swap(accepted, Relaxed) != accepted || SINCE.load(Relaxed) == 0 {
        SINCE.store(sys::now(), Relaxed);
    }
    let quiet = !is_blocking(listener);
    if sheds_now() {
        if !quiet {
            return Instead { sheds: true, ..nothing };
        }
        shed::turn_away(listener, shed::Reason::Exhausted);
    }
    match listeners::park(listener) {
        Parking::Parked => Instead { again: true, quiet, ..nothing },
        // Whoever asks again waits by other means than these sets.
        Parking::Again => Instead { again: true, quiet, paced: true, ..nothing },
        Parking::Watched => Instead { quiet, paced: true, ..nothing },
        Parking::Unknown => {
            page::add(&page::counters().bypassed, 1);
            Instead { paced: true, ..nothing }
        }
    }
}

/// Keeps a loop that can't be parked from spinning. A loop with many listeners is held up once per round. False: a signal handler
/// has run that wants blocked calls interrupted.
pub fn pace(listener: c_int) -> bool {
    let now = sys::now();
    if PACED.load(Relaxed) != listener && now.saturating_sub(PACED_AT.load(Relaxed)) <= PACE {
        return true;
    }
    let seen = wait::expect_closes();
    let slept = wait::sleep_until_close(seen, PACE);
    PACED.store(listener, Relaxed);
    PACED_AT.store(sys::now(), Relaxed);
    slept
}

/// A blocking accept(2) for which there is no descriptor: have its clients been turned away, so that it can wait for the next?
pub extern "C" fn has_shed(listener: c_int, patience: &mut Patience) -> bool {
    /// Another thread's turn is long over by then.
    const FRUITLESS: u32 = 500;
    barrier(false, || {
        if !sheds_now() || !is_ours(listener) || !is_blocking(listener) {
            return false;
        }
        if shed::turn_away(listener, shed::Reason::Exhausted).is_some_and(|gone| gone > 0 || !has_clients(listener)) {
            patience.batches = 0;
            return true;
        }
        // Another thread is at it, or has taken what was borrowed for it: the next close makes up for that.
        patience.batches += 1;
        patience.batches < FRUITLESS && thread::count() > 1 && pace(listener)
    })
}

/// Are clients turned away now for whom there is no descriptor?
pub fn sheds_now() -> bool {
    let after = SETTINGS.get(Id::ShedAfter);
    let since = SINCE.load(Relaxed);
    let lasts = || after != 0 && since != 0 && sys::now().saturating_sub(since) >= after;
    mode() == accept::SHED || mode() == accept::PARK && lasts()
}

fn may_shed() -> bool {
    SETTINGS.may_shed()
}

/// Could a client be served as far as limits are concerned that the user has set?
fn may_serve() -> bool {
    clients::admits()
}

/// Is a descriptor free? Of other processes' nothing is known.
fn has_descriptors() -> bool {
    let soft = sys::descriptor_limit(0).map_or(u64::MAX, |limit| limit.rlim_cur);
    WRONG.load(Relaxed) == libc::ENFILE || usage::has_room(soft)
}

/// Will the next accept(2) surely fail, and its client have to wait?
fn is_full() -> bool {
    WRONG.load(Relaxed) == libc::EMFILE
        && !sheds_now()
        && sys::descriptor_limit(0).is_ok_and(|limit| usage::is_full(limit.rlim_cur))
}

/// Called every 100 ms while a listener is parked.
fn attend() {
    descriptors::reconcile_now_and_then();
    if idle::is_wanted() && !has_descriptors() {
        idle::shut_down();
    }
    if may_shed() && sheds_now() && !has_descriptors() {
        listeners::each_parked(|listener| {
            // One that blocks would hold up whoever has called, if another process took the client.
            if !is_blocking(listener) {
                shed::turn_away(listener, shed::Reason::Exhausted);
            }
        });
    }
}

/// For how long nobody needs to look after parked listeners, nanoseconds.
fn patience() -> u64 {
    let shedding = if may_shed() && sheds_now() { SHED_LOOK } else { u64::MAX };
    shedding.min(clients::until_admitted())
}

/// Does somebody want to hear of closes? Two loads.
pub fn awaits_closes() -> bool {
    listeners::any_parked() || shed::lacks_reserve()
}

/// The host has closed something.
pub extern "C" fn closed() {
    barrier((), || {
        if shed::lacks_reserve() && process::is_ours() {
            shed::replenish();
        }
        if listeners::any_parked() {
            listeners::closed();
        }
    });
}

/// Before the first accept(2). Threads that accept at once may use up the last descriptors between two looks.
pub fn begin() {
    if may_shed() {
        shed::replenish();
    }
}

/// The limit is near: what may need a descriptor later is done now.
pub fn prepare() {
    if mode() != accept::PASS {
        listeners::prepare();
        begin();
    }
}

/// A set could not be masked: because its kind refuses that, or because another process uses it too (no errno).
fn refused_to_park(listener: c_int, epoll: c_int, wrong: c_int) {
    page::add(&page::counters().bypassed, 1);
    if let Some(more) = REFUSED.due() {
        if wrong == 0 {
            log::warn!(
                "listener {listener} is not parked: its epoll set {epoll} is in use by another process, too{}",
                More(more)
            );
        } else {
            log::warn!(
                "listener {listener} is not parked: its epoll set {epoll} refuses ({}){}",
                ErrnoName(wrong),
                More(more)
            );
        }
    }
}

/// In the child of a fork.
pub fn forked() {
    listeners::forked();
    shed::forked();
    clients::forked();
}
