//! What is known of each accepted socket where a setting asks for it: when it was accepted, and for which client address.
//!
//! A table for the descriptors that have marks, mapped with the first note. A note is overwritten with the next socket of its number; it
//! counts only for a descriptor with the mark [`descriptors::CLIENT`].

use core::sync::atomic::{AtomicU64, Ordering::*};

use crate::os::sys;
use crate::os::table::{Table, Zeroed};
use crate::state::descriptors::{self, CLIENT, NUMBERS};
use crate::state::process::{self, Phase};

/// One accepted socket.
struct Client {
    /// When it was accepted, nanoseconds of CLOCK_MONOTONIC; 0: not known.
    accepted_at: AtomicU64,
    /// Its client's address, as the caller has made a number of it; 0: none.
    address: AtomicU64,
}

// SAFETY: it is nothing but atomic numbers.
unsafe impl Zeroed for Client {}

type Clients = [Client; NUMBERS];

/// Mapped at the first note.
static CLIENTS: Table<Clients> = Table::new();

/// The table, unless the process may not map it any more.
fn map() -> Option<&'static Clients> {
    if process::phase() == Phase::Sandboxed { CLIENTS.get() } else { CLIENTS.map() }
}

/// This socket has just been accepted, for a client of this address; 0: it has none.
pub fn note(fd: i32, address: u64) {
    if let Some(client) = map().and_then(|clients| clients.get(fd as usize)) {
        client.accepted_at.store(sys::now(), Relaxed);
        client.address.store(address, Relaxed);
    }
}

/// When it was accepted, nanoseconds of CLOCK_MONOTONIC. If that was not noted, it counts from the first time that this is asked.
pub fn accepted_at(fd: i32) -> u64 {
    let now = sys::now();
    let Some(client) = map().and_then(|clients| clients.get(fd as usize)) else { return now };
    client.accepted_at.compare_exchange(0, now, Relaxed, Relaxed).map_or_else(|known| known, |_| now)
}

/// How many sockets are open for clients of this address.
pub fn of_address(address: u64) -> u64 {
    let Some(clients) = CLIENTS.get() else { return 0 };
    descriptors::marked(CLIENT).filter(|&fd| clients[fd as usize].address.load(Relaxed) == address).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_noted_counts_from_the_first_question() {
        let first = accepted_at(50_000);
        assert!(first > 0 && accepted_at(50_000) == first);
        note(50_000, 7);
        assert!(accepted_at(50_000) >= first);
        assert_eq!(of_address(7), 0, "it is no client");
        descriptors::add(50_000, CLIENT);
        assert_eq!(of_address(7), 1);
        descriptors::forget(50_000);
        assert_eq!(of_address(7), 0);
        note(-1, 7);
        note(NUMBERS as i32, 7);
    }
}
