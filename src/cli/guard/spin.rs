//! Is it known that a target spins because it can't accept? Evidence: each descriptor number is in use, a connection waits in a listener
//! that a level-triggered set reports, it runs all the time, and all that has been so for a while.
#![forbid(unsafe_code)]

use crate::guard::park;
use crate::guard::refusal::field;
use crate::guard::sockets::{Descriptors, Tcp};
use crate::guard::state::Parked;
use crate::processes::process::tick_ns;
use std::fs;
use std::time::{Duration, Instant};

/// For how long it must have been so. A program that has its own answer to a full table (it closes the oldest client, or stops to
/// listen) has given it by then.
const LONG: Duration = Duration::from_millis(1000);
/// For how long after it has been parked before: its answer is known.
const AGAIN: Duration = Duration::from_millis(150);
/// Part of the time that its threads run or wait for a processor, in percent: of one that spins it is all, however busy the machine is.
const BUSY: u32 = 50;

/// What was first seen of a state that lasts.
#[derive(Debug)]
pub struct Since {
    at: Instant,
    ran: Duration,
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

/// For how long the threads of a process have run, or waited for a processor, by /proc/PID/task/TID/schedstat; where the kernel does not
/// keep it, for how long they have run.
fn ran(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |thread: fs::DirEntry| {
        let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u64>().ok());
        Some(numbers.next()??.saturating_add(numbers.next()??))
    };
    let ns: u64 = threads.filter_map(of).sum();
    let ticks = || (field(pid, 14).unwrap_or(0) + field(pid, 15).unwrap_or(0)).saturating_mul(tick_ns());
    Duration::from_nanos(if ns > 0 { ns } else { ticks() })
}

/// Looks at a target all of whose descriptors are in use. `known`: it has been parked before.
pub fn look(since: &mut Option<Since>, pid: u32, descriptors: &Descriptors, tcp: &Tcp, known: bool) -> Spin {
    let items = waking(pid, descriptors, tcp);
    let (now, ran) = (Instant::now(), ran(pid));
    let Some(before) = since.as_ref().filter(|since| !items.is_empty() && since.items == items) else {
        *since = (!items.is_empty()).then_some(Since { at: now, ran, items });
        return Spin::No;
    };
    let lasted = now.duration_since(before.at);
    if lasted < if known { AGAIN } else { LONG } {
        return Spin::No;
    }
    let busy = ran.saturating_sub(before.ran);
    *since = None;
    if busy * 100 < lasted * BUSY {
        return Spin::No;
    }
    match items.iter().find_map(|it| park::why_not(it.item)) {
        Some(why) => Spin::Unparkable(why),
        None => Spin::Yes(items),
    }
}
