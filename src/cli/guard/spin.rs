//! Is it known that a target spins because it can't accept? Evidence: each descriptor number is in use, a connection waits in a listener
//! that a level-triggered set reports, it uses a processor, and all that has been so for a while.
#![forbid(unsafe_code)]

use crate::guard::park;
use crate::guard::refusal::field;
use crate::guard::sockets::{Descriptors, Tcp};
use crate::guard::state::Parked;
use crate::processes::process::tick_ns;
use std::time::{Duration, Instant};

/// For how long it must have been so. A program that has its own answer to a full table (it closes the oldest client, or stops to
/// listen) has given it by then.
const LONG: Duration = Duration::from_millis(1000);
/// For how long after it has been parked before: its answer is known.
const AGAIN: Duration = Duration::from_millis(150);
/// Part of a processor that it uses, in percent.
const BUSY: u32 = 20;

/// What was first seen of a state that lasts.
#[derive(Debug)]
pub struct Since {
    at: Instant,
    ticks: u64,
    items: Vec<Parked>,
}

/// The outcome of a look.
#[derive(Debug, PartialEq, Eq)]
pub enum Spin {
    /// It does not, or that is not known yet.
    No,
    /// It does, and parking these items ends it.
    Yes(Vec<Parked>),
    /// It does, and can't be parked, for this reason.
    Unparkable(&'static str),
}

/// The items that wake the program for its listeners in which connections wait.
fn waking(pid: u32, descriptors: &Descriptors, tcp: &Tcp) -> Vec<Parked> {
    let waits = |number: i32, inode: u64| tcp.listeners.iter().any(|it| it.0 == number && it.1 == inode && it.2 > 0);
    let of = |&set: &i32| park::items(pid, set).into_iter().map(move |item| Parked { set, item });
    let all = descriptors.sets.iter().flat_map(of);
    all.filter(|it| park::is_level_triggered(it.item) && waits(it.item.number, it.item.inode)).collect()
}

/// Processor time of a process, in ticks.
fn ticks(pid: u32) -> u64 {
    field(pid, 14).unwrap_or(0) + field(pid, 15).unwrap_or(0)
}

/// Looks at a target all of whose descriptors are in use. `known`: it has been parked before.
pub fn look(since: &mut Option<Since>, pid: u32, descriptors: &Descriptors, tcp: &Tcp, known: bool) -> Spin {
    let items = waking(pid, descriptors, tcp);
    let (now, ticks) = (Instant::now(), ticks(pid));
    let Some(before) = since.as_ref().filter(|since| !items.is_empty() && since.items == items) else {
        *since = (!items.is_empty()).then_some(Since { at: now, ticks, items });
        return Spin::No;
    };
    let lasted = now.duration_since(before.at);
    if lasted < if known { AGAIN } else { LONG } {
        return Spin::No;
    }
    let busy = Duration::from_nanos(ticks.saturating_sub(before.ticks).saturating_mul(tick_ns()));
    *since = None;
    if busy * 100 < lasted * BUSY {
        return Spin::No;
    }
    match items.iter().find_map(|it| park::why_not(it.item)) {
        Some(why) => Spin::Unparkable(why),
        None => Spin::Yes(items),
    }
}
