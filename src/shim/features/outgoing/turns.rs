//! Whose turn it is to connect: TIDEOVER_MAX_CONNECTIONS and TIDEOVER_MAX_PER_ENDPOINT.
//!
//! What is open is counted anew from the marks each time (descriptors.rs), rather than kept in a counter that could go
//! wrong. A socket is marked before its connect, so that a thread that is cancelled in it leaves nothing behind: the mark ends
//! with the descriptor.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

use tideover_contract::settings::{Id, SECOND};

use super::endpoint::Endpoint;
use crate::engine::call::Lack;
use crate::os::lock::Lock;
use crate::os::sys;
use crate::state::descriptors::{self, NUMBERS, OUTGOING, SHARED};
use crate::state::page;
use crate::state::settings::SETTINGS;

/// Where a marked socket leads (lower half), with [`SETTLED`], and which socket it was (upper half: the inode's number, which the kernel
/// counts in 32 bits). By descriptor; without meaning where there is no mark.
type Peers = [AtomicU64; NUMBERS];

/// Its connect has answered. Before that, a socket without a connection is one that is about to have it.
const SETTLED: u64 = 1;

/// Mapped with the first turn.
static PEERS: AtomicPtr<Peers> = AtomicPtr::new(core::ptr::null_mut());
/// Sockets closed unseen are looked for at most so often.
const LOOK: u64 = SECOND / 10;
static LOOKED: AtomicU64 = AtomicU64::new(0);

fn peers() -> Option<&'static Peers> {
    // SAFETY: null, or a mapping of this size, zeroed, that is never unmapped.
    unsafe { PEERS.load(Acquire).as_ref() }
}

fn peers_or_map() -> Option<&'static Peers> {
    if peers().is_none() {
        let fresh = sys::map_private(size_of::<Peers>()).ok()?;
        if PEERS.compare_exchange(core::ptr::null_mut(), fresh.cast(), AcqRel, Relaxed).is_err() {
            sys::unmap(fresh, size_of::<Peers>());
        }
    }
    peers()
}

/// The word of a descriptor, or 0.
fn peer(fd: i32) -> u64 {
    peers().and_then(|peers| peers.get(fd as usize)).map_or(0, |peer| peer.load(Relaxed))
}

fn socket(fd: i32) -> Option<u32> {
    sys::fstat(fd).ok().map(|status| status.st_ino as u32)
}

/// Takes a turn for this socket, or says which limit is reached. What can't be counted goes ahead.
pub fn take(fd: i32, to: Endpoint) -> Option<Lack> {
    let (most, most_there) = (SETTINGS.get(Id::MaxConnections), SETTINGS.get(Id::MaxPerEndpoint));
    if most == 0 && most_there == 0 {
        return None;
    }
    let own = socket(fd)?;
    let word = peers_or_map()?.get(fd as usize)?;
    let wanted = u64::from(own) << 32 | u64::from(to.bits());
    if descriptors::marks(fd) & OUTGOING != 0 && word.load(Relaxed) & !SETTLED == wanted {
        // Asks how its connect went, or tries once more: it has its turn.
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

/// The connect of this socket has answered, and not failed.
pub fn settle(fd: i32) {
    if descriptors::marks(fd) & OUTGOING != 0
        && let Some(word) = peers().and_then(|peers| peers.get(fd as usize))
    {
        word.fetch_or(SETTLED, Relaxed);
    }
}

/// The socket is no connection any more.
pub fn give_back(fd: i32) {
    if descriptors::marks(fd) & OUTGOING != 0 {
        descriptors::take(fd);
    }
}

/// `to` is a copy of `from`.
pub fn copied(from: i32, to: i32) {
    if let Some(copy) = peers().and_then(|peers| peers.get(to as usize)) {
        copy.store(peer(from), Relaxed);
    }
}

/// Counting and marking are one step: one thread at a time does so.
static COUNTING: Lock<()> = Lock::new(());

/// Runs `work` while no other thread does; all the same where the thread that is at it does not come back.
fn exclusively<T>(work: impl FnOnce() -> T) -> T {
    let _held = COUNTING.enter();
    work()
}

/// Connections that are open.
#[derive(Default)]
struct Open {
    all: u64,
    there: u64,
}

impl Open {
    /// Beside a socket's own.
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

/// Has this socket a lower number, under which it was counted?
fn is_copy(fd: i32, word: u64) -> bool {
    descriptors::marks(fd) & SHARED != 0
        && descriptors::marked(SHARED)
            .take_while(|&other| other < fd)
            .any(|other| descriptors::marks(other) & OUTGOING != 0 && peer(other) >> 32 == word >> 32)
}

/// Takes the marks of sockets that were closed, or lost their connection, where no hook could see it. True if any was.
fn forget_closed() -> bool {
    let (now, looked) = (sys::now(), LOOKED.load(Relaxed));
    if now.saturating_sub(looked) < LOOK || LOOKED.compare_exchange(looked, now, Relaxed, Relaxed).is_err() {
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
    set_right();
    any
}

/// The number that readers see is wrong for good after closes of two copies at once. It is set right when it was wrong by as much at
/// the look before: a close that is half done looks wrong, too.
fn set_right() {
    static WRONG_BY: AtomicU64 = AtomicU64::new(0);
    let gauge = &page::counters().outgoing;
    let shown = gauge.load(SeqCst);
    let open = descriptors::marked(OUTGOING).filter(|&fd| !is_copy(fd, peer(fd))).count() as u64;
    let wrong_by = open.wrapping_sub(shown);
    if WRONG_BY.swap(wrong_by, Relaxed) == wrong_by && wrong_by != 0 {
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
