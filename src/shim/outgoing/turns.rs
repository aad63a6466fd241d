//! Whose turn it is to connect: TIDEOVER_MAX_CONNECTIONS and TIDEOVER_MAX_PER_ENDPOINT.
//!
//! What is open is counted anew from the marks each time (descriptors.rs), rather than kept in a counter that could go
//! wrong. A socket is marked before its connect, so that a thread that is cancelled in it leaves nothing behind: the mark ends
//! with the descriptor.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

use parking_lot::Mutex;
use tideover_contract::settings::{Id, SECOND};

use super::endpoint::Endpoint;
use crate::acquire::Lack;
use crate::descriptors::{self, NUMBERS, OUTGOING, SHARED};
use crate::settings::SETTINGS;
use crate::sys;

/// Where a marked socket leads (lower half), and which socket it was (upper half: the inode's number, which the kernel counts in 32
/// bits). By descriptor; without meaning where there is no mark.
type Peers = [AtomicU64; NUMBERS];

/// Mapped with the first turn.
static PEERS: AtomicPtr<Peers> = AtomicPtr::new(core::ptr::null_mut());
/// Counting and marking are one step.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// How often to try for it. A signal handler may have interrupted the holder: then it goes on without.
const PATIENCE: u32 = 200;

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
    if descriptors::marks(fd) & OUTGOING != 0 && word.load(Relaxed) == wanted {
        // Asks how its connect went, or tries once more: it has its turn.
        return None;
    }
    let try_once = || {
        let _guard = lock();
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
    let lack = try_once()?;
    if forget_closed() { try_once() } else { Some(lack) }
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

fn lock() -> Option<parking_lot::MutexGuard<'static, ()>> {
    (0..PATIENCE).find_map(|_| {
        let guard = ONE_AT_A_TIME.try_lock();
        if guard.is_none() {
            sys::yield_now();
        }
        guard
    })
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
            open.there += u64::from(word as u32 == to.bits());
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
        let same = socket(fd).is_some_and(|socket| peer(fd) >> 32 == u64::from(socket));
        if !same || !sys::tcp_info(fd).is_ok_and(|info| is_connection(info.tcpi_state)) {
            descriptors::take(fd);
            any = true;
        }
    }
    any
}

/// A state of tcp(7): neither connected nor listening.
pub const CLOSE: u8 = 7;
/// A state of tcp(7).
pub const LISTEN: u8 = 10;

/// Of the states of tcp(7): has, or is about to have, a peer.
pub fn is_connection(state: u8) -> bool {
    state != CLOSE && state != LISTEN
}

/// In the child of a fork: a thread that was counting does not exist here.
pub fn forked() {
    if ONE_AT_A_TIME.is_locked() {
        // SAFETY: the child has one thread, and that has just forked; a signal handler that forks in the middle of counting loses
        // nothing but the exactness of that count.
        unsafe { ONE_AT_A_TIME.force_unlock() };
    }
}
