//! Asks one question of every process: the calling thread asks a few, several threads at once ask many.
#![forbid(unsafe_code)]

use std::fs;
use std::num::NonZero;
use std::thread;

/// Fewer processes than this are asked by one thread: starting another takes longer.
const FEW: usize = 256;
/// More threads than this would only keep others from working.
const MOST: usize = 4;

/// The ids of all processes that this user can see.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What `ask` says of each process, in their order, without those of which it says nothing.
pub fn ask<T: Send>(pids: &[u32], ask: impl Fn(u32) -> Option<T> + Sync) -> Vec<T> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST);
    let all = |part: &[u32]| part.iter().filter_map(|&pid| ask(pid)).collect::<Vec<T>>();
    if pids.len() < FEW || threads == 1 {
        return all(pids);
    }
    thread::scope(|scope| {
        let all = &all;
        // Where no thread can be started, this one does the work.
        let started: Vec<_> = pids
            .chunks(pids.len().div_ceil(threads))
            .map(|part| {
                let thread = thread::Builder::new().stack_size(256 << 10);
                (part, thread.spawn_scoped(scope, move || all(part)).ok())
            })
            .collect();
        started
            .into_iter()
            .flat_map(|(part, thread)| thread.and_then(|it| it.join().ok()).unwrap_or_else(|| all(part)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order() {
        let many: Vec<u32> = (0..10_000).collect();
        let even = ask(&many, |pid| (pid % 2 == 0).then_some(pid));
        assert_eq!(even, (0..5000).map(|n| n * 2).collect::<Vec<u32>>());
        assert!(ask(&[], Some).is_empty() && pids().contains(&std::process::id()));
    }
}
