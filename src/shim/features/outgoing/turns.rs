//! TIDEOVER_MAX_CONNECTIONS and TIDEOVER_MAX_PER_ENDPOINT: a connect(2) waits for its turn while as many connections are open.
//!
//! Open connections are counted anew from the marks of the descriptors each time, rather than kept in a counter that could go
//! wrong. A socket is marked before its connect, so that a thread that is cancelled in it leaves nothing behind: the mark ends
//! with the descriptor.

use core::sync::atomic::{AtomicU64, Ordering::*};

use tideover_contract::settings::{Id, SECOND};

use super::endpoint::Endpoint;
use crate::engine::call::Lack;
use crate::os::lock::Lock;
use crate::os::sys;
use crate::os::table::Table;
use crate::state::descriptors::{self, NUMBERS, OUTGOING, SHARED};
use crate::state::page;
use crate::state::settings::SETTINGS;

/// By descriptor, for those that are marked: where the socket is connected to (lower half, whose lowest bit is [`SETTLED`]), and which
/// socket that was (upper half: its inode number, which the kernel counts in 32 bits).
type Peers = [AtomicU64; NUMBERS];

/// The connect has returned. Before that, a socket without a connection is one that is about to have it.
const SETTLED: u64 = 1;

/// Sockets that were closed unseen are looked for at most once in this time, nanoseconds.
const LOOK_INTERVAL: u64 = SECOND / 10;

/// What is kept beside the marks.
struct State {
    /// The table, mapped with the first turn.
    peers: Table<Peers>,
    /// When sockets that were closed unseen were looked for last, nanoseconds of CLOCK_MONOTONIC.
    looked_at: AtomicU64,
    /// By how much the number that readers see was wrong at that time.
    wrong_by: AtomicU64,
}

static STATE: State = State { peers: Table::new(), looked_at: AtomicU64::new(0), wrong_by: AtomicU64::new(0) };

/// The entry of a descriptor, or 0.
fn peer(fd: i32) -> u64 {
    STATE.peers.get().and_then(|peers| peers.get(fd as usize)).map_or(0, |peer| peer.load(Relaxed))
}

/// Inode number of a descriptor's socket.
fn socket(fd: i32) -> Option<u32> {
    sys::fstat(fd).ok().map(|status| status.st_ino as u32)
}

/// Takes a turn for this socket, or says which limit is reached. A connection that can't be counted needs no turn.
pub fn take(fd: i32, to: Endpoint) -> Option<Lack> {
    let (most, most_there) = (SETTINGS.get(Id::MaxConnections), SETTINGS.get(Id::MaxPerEndpoint));
    if most == 0 && most_there == 0 {
        return None;
    }
    let own = socket(fd)?;
    let word = STATE.peers.map()?.get(fd as usize)?;
    let wanted = u64::from(own) << 32 | u64::from(to.bits());
    if descriptors::marks(fd) & OUTGOING != 0 && word.load(Relaxed) & !SETTLED == wanted {
        // It has its turn: the program asks how its connect went, or tries once more.
        return None;
    }
    let try_once = || {
        let open = Open::beside(own, to);
        let lack = if most != 0 && open.all >= most {
            Lack::Connection
        } else if most_there != 0 && open.there >= most_there {
            Lack::EndpointConnection
        } else {
            if descriptors::marks(fd) & OUTGOING == 0 || word.load(Relaxed) >> 32 != u64::from(own) {
                descriptors::count_in(fd, OUTGOING);
            }
            word.store(wanted, Relaxed);
            return None;
        };
        Some(lack)
    };
    let lack = exclusively(try_once)?;
    if exclusively(forget_closed) { exclusively(try_once) } else { Some(lack) }
}

/// The connect of this socket has returned, and has not failed.
pub fn settle(fd: i32) {
    if descriptors::marks(fd) & OUTGOING != 0
        && let Some(word) = STATE.peers.get().and_then(|peers| peers.get(fd as usize))
    {
        word.fetch_or(SETTLED, Relaxed);
    }
}

/// Ends the turn of a socket that has no connection any more.
pub fn end(fd: i32) {
    if descriptors::marks(fd) & OUTGOING != 0 {
        descriptors::take(fd);
    }
}

/// `to` is a copy of `from`.
pub fn copied(from: i32, to: i32) {
    if let Some(copy) = STATE.peers.get().and_then(|peers| peers.get(to as usize)) {
        copy.store(peer(from), Relaxed);
    }
}

/// Held by the thread that counts and marks, which must be one step.
static COUNTING: Lock<()> = Lock::new(());

/// Runs `work` while no other thread does. If the thread that holds the lock does not come back, `work` runs without it: the count may
/// then be off by one.
fn exclusively<T>(work: impl FnOnce() -> T) -> T {
    let _held = COUNTING.enter();
    work()
}

/// How many connections are open.
#[derive(Default)]
struct Open {
    /// In all.
    all: u64,
    /// To one endpoint.
    there: u64,
}

impl Open {
    /// Beside that of the socket with inode number `own`, and of them to `to`.
    fn beside(own: u32, to: Endpoint) -> Open {
        let mut open = Open::default();
        for fd in descriptors::marked(OUTGOING) {
            let word = peer(fd);
            if word >> 32 == u64::from(own) || is_copy(fd, word) {
                continue;
            }
            open.all += 1;
            open.there += u64::from((word & !SETTLED) as u32 == to.bits());
        }
        open
    }
}

/// Is this a copy of a descriptor with a lower number, under which its socket was counted?
fn is_copy(fd: i32, word: u64) -> bool {
    descriptors::marks(fd) & SHARED != 0
        && descriptors::marked(SHARED)
            .take_while(|&other| other < fd)
            .any(|other| descriptors::marks(other) & OUTGOING != 0 && peer(other) >> 32 == word >> 32)
}

/// Forgets sockets that were closed, or lost their connection, where no hook could see it. True if there was any.
fn forget_closed() -> bool {
    let (now, looked) = (sys::now(), STATE.looked_at.load(Relaxed));
    if now.saturating_sub(looked) < LOOK_INTERVAL
        || STATE.looked_at.compare_exchange(looked, now, Relaxed, Relaxed).is_err()
    {
        return false;
    }
    let mut any = false;
    for fd in descriptors::marked(OUTGOING) {
        let word = peer(fd);
        let same = socket(fd).is_some_and(|socket| word >> 32 == u64::from(socket));
        let has_peer = || sys::tcp_info(fd).is_ok_and(|info| info.tcpi_state != CLOSE);
        if !same || word & SETTLED != 0 && !has_peer() {
            descriptors::take(fd);
            any = true;
        }
    }
    correct_gauge();
    any
}

/// Corrects the number of open connections that readers see, which closes of two copies at once leave wrong for good. Only when it was
/// wrong by as much at the look before: it is also wrong while a close is half done.
fn correct_gauge() {
    let gauge = &page::counters().outgoing;
    let shown = gauge.load(SeqCst);
    let open = descriptors::marked(OUTGOING).filter(|&fd| !is_copy(fd, peer(fd))).count() as u64;
    let wrong_by = open.wrapping_sub(shown);
    if STATE.wrong_by.swap(wrong_by, Relaxed) == wrong_by && wrong_by != 0 {
        let _ = gauge.compare_exchange(shown, open, SeqCst, Relaxed);
    }
}

/// A state of tcp(7): neither connected nor listening.
pub const CLOSE: u8 = 7;
/// A state of tcp(7).
pub const LISTEN: u8 = 10;

/// In the child of a fork: a thread that was counting does not exist here.
pub fn forked() {
    COUNTING.forked();
}
