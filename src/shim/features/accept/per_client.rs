//! TIDEOVER_MAX_PER_CLIENT and TIDEOVER_RATE_PER_CLIENT: limits for each client address. For IPv6 that is the network of 64 bits, which one
//! customer of a provider has as a rule.
//!
//! A client's address is known only once it has been accepted, so that one over a limit is closed then, and the program never sees it.
#![deny(unsafe_code)]

use core::ffi::c_int;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use tideover_contract::settings::{Id, SECOND};

use super::shed;
use crate::engine::reclaim::{idle, lifetime};
use crate::os::lock::Lock;
use crate::os::sys;
use crate::os::table::{Table, Zeroed};
use crate::state::report::{More, Repeated};
use crate::state::settings::SETTINGS;
use crate::state::{clients, descriptors, page};

/// Addresses whose rate is known. Of more, the most active are.
const ADDRESSES: usize = 1024;
/// An address can be in one of so many places, so that a look-up is short.
const WAYS: usize = 16;
/// After so many answers of one value the clock stands still, and the rate says nothing.
const STANDS_STILL: u32 = 1000;

/// The clients of one address so far, as if they had come at the rate allowed.
struct Rate {
    /// See [`key`]; 0: a free place.
    address: AtomicU64,
    /// When they would all have come, nanoseconds of CLOCK_MONOTONIC.
    paid_until: AtomicU64,
}

#[allow(unsafe_code, reason = "a promise about its bytes")]
// SAFETY: it is nothing but atomic numbers.
unsafe impl Zeroed for Rate {}

/// Mapped with the first client that a rate is asked for.
static RATES: Table<[Rate; ADDRESSES]> = Table::new();
/// Held by the thread that reads and changes them.
static RATES_ARE_READ: Lock<()> = Lock::new(());
/// Has an address been forgotten that was active?
static OVERFLOWS: AtomicBool = AtomicBool::new(false);
static TOLD: Repeated = Repeated::new();

/// The clock's last answer, and how often in a row the clock has given it.
struct Clock {
    last: AtomicU64,
    times: AtomicU32,
}

static CLOCK: Clock = Clock { last: AtomicU64::new(0), times: AtomicU32::new(0) };

fn most() -> u64 {
    SETTINGS.get(Id::MaxPerClient)
}

fn rate() -> u64 {
    SETTINGS.get(Id::RatePerClient)
}

/// Is there a limit per client address?
pub fn are_set() -> bool {
    most() != 0 || rate() != 0
}

/// Is something to be noted of each client?
pub fn are_noted() -> bool {
    are_set() || idle::is_wanted() || lifetime::is_wanted()
}

/// A client has been accepted and counted: notes it, or closes it if there are too many of its address. True: it is closed.
pub fn turn_away(listener: c_int, client: c_int) -> bool {
    // What was noted of an earlier socket of its number must not count.
    clients::note(client, 0);
    let address = if are_set() { sys::peer(client).map_or(0, |peer| key(&peer)) } else { 0 };
    let many = address != 0 && most() != 0 && clients::of_address(address) >= most();
    if many || address != 0 && rate() != 0 && !admits(address) {
        close(listener, client, many);
        return true;
    }
    clients::note(client, address);
    false
}

fn close(listener: c_int, client: c_int, many: bool) {
    descriptors::take(client);
    shed::hang_up(client, &page::counters().refused);
    if let Some(more) = TOLD.due() {
        let limit = if many { "TIDEOVER_MAX_PER_CLIENT" } else { "TIDEOVER_RATE_PER_CLIENT" };
        log::warn!("a client of listener {listener} is turned away: {limit} is reached for its address{}", More(more));
    }
}

/// An address as a number that is not 0: that of IPv4 below 2^33, the first half of IPv6 with its highest bit set. `address` is a
/// sockaddr. 0: it is of another family.
fn key(address: &[u8]) -> u64 {
    const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    let family = address.get(..2).map_or(0, |bytes| c_int::from(u16::from_ne_bytes([bytes[0], bytes[1]])));
    let bytes = |from: usize, to: usize| address.get(from..to).unwrap_or(&[]);
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    match family {
        libc::AF_INET if address.len() >= 8 => 1 << 32 | number(bytes(4, 8)),
        libc::AF_INET6 if bytes(8, 20) == MAPPED && address.len() >= 24 => 1 << 32 | number(bytes(20, 24)),
        libc::AF_INET6 if address.len() >= 24 => 1 << 63 | number(bytes(8, 16)),
        _ => 0,
    }
}

/// Does the rate admit a client of this address now? Up to a second's worth may come at once. Counts it then.
fn admits(address: u64) -> bool {
    let now = sys::now();
    if stands_still(now) {
        return true;
    }
    let (Some(rates), Some(_reading)) = (RATES.map(), RATES_ARE_READ.enter()) else { return true };
    let set = (address.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % (ADDRESSES / WAYS);
    let ways = &rates[set * WAYS..(set + 1) * WAYS];
    let own = ways.iter().find(|rate| rate.address.load(Relaxed) == address);
    // The address that has come least lately.
    let idlest = || ways.iter().min_by_key(|rate| rate.paid_until.load(Relaxed));
    let Some(known) = own.or_else(idlest) else { return true };
    if known.address.load(Relaxed) != address {
        if known.paid_until.load(Relaxed) > now && !OVERFLOWS.swap(true, Relaxed) {
            log::warn!(
                "more client addresses are active than TIDEOVER_RATE_PER_CLIENT can keep apart ({ADDRESSES}): it holds for the most active"
            );
        }
        known.address.store(address, Relaxed);
        known.paid_until.store(0, Relaxed);
    }
    let (each, paid_until) = (SECOND / rate(), known.paid_until.load(Relaxed));
    let admits = paid_until.saturating_sub(now) <= each * (rate() - 1);
    if admits {
        known.paid_until.store(paid_until.max(now) + each, Relaxed);
    }
    admits
}

/// Has the clock given the same answer again and again? Nothing can be said of a rate then.
fn stands_still(now: u64) -> bool {
    if CLOCK.last.swap(now, Relaxed) != now {
        CLOCK.times.store(0, Relaxed);
        return false;
    }
    CLOCK.times.fetch_add(1, Relaxed).min(STANDS_STILL) == STANDS_STILL
}

/// In the child of a fork.
pub fn forked() {
    RATES_ARE_READ.forked();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv6(bytes: [u8; 16]) -> Vec<u8> {
        let mut address = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        address.extend([0; 6]);
        address.extend(bytes);
        address.extend([0; 4]);
        address
    }

    #[test]
    fn an_address_is_a_network_of_64_bits_or_of_ipv4() {
        let mut four = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        four.extend([0, 80, 10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut mapped = [0; 16];
        mapped[10..].copy_from_slice(&[0xff, 0xff, 10, 0, 0, 7]);
        assert_eq!(key(&four), key(&ipv6(mapped)));
        let of = |last: u8, net: u8| key(&ipv6([0x20, 1, 0xd, 0xb8, 0, 0, 0, net, 0, 0, 0, 0, 0, 0, 0, last]));
        assert_eq!(of(1, 1), of(2, 1));
        assert_ne!(of(1, 1), of(1, 2));
        assert_ne!(key(&ipv6([0; 16])), 0);
        assert_eq!((key(&[]), key(&[1, 0]), key(&[2, 0, 0])), (0, 0, 0));
    }

    #[test]
    fn a_clock_that_stands_still_is_noticed() {
        assert!((0..STANDS_STILL).all(|_| !stands_still(5)));
        assert!((0..3).any(|_| stands_still(5)));
        assert!(!stands_still(6));
    }
}
