//! Counters added up by program and service, which never fall while this process runs: what a process had counted stays in the sum
//! of its service when it ends.
//!
//! A sum over running processes alone would fall when one of them ends; Prometheus would take that for a restart, and count
//! the rest again.
#![forbid(unsafe_code)]

use crate::pages::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tideover_contract::page::COUNTERS;
use tideover_contract::refusal::Refusal;

/// At most about so many programs and services without a process are remembered: any user can make any number of names.
const REMEMBERED: usize = 1000;
/// Columns after those of [`COUNTERS`].
const OPENED: usize = COUNTERS.len();
const CLOSED: usize = OPENED + 1;
const REFUSED: usize = CLOSED + 1;
const COLUMNS: usize = REFUSED + Refusal::ALL.len();

/// The numbers of one process, or the sums of several.
pub type Row = [u64; COLUMNS];

/// What is added up: the processes of a program that belong to one service. Five services that are all called python3 are five.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// Name of the program, safe to print.
    pub program: String,
    /// Its service; empty if nothing names one.
    pub service: String,
}

impl Name {
    /// That of a process.
    pub fn of(snapshot: &Snapshot) -> Name {
        Name { program: snapshot.program(), service: snapshot.service().unwrap_or_default() }
    }

    /// As labels of a metric. An empty label is none.
    pub fn labels(&self) -> Vec<(&str, &str)> {
        let service = (!self.service.is_empty()).then_some(("service", self.service.as_str()));
        std::iter::once(("program", self.program.as_str())).chain(service).collect()
    }
}

/// The totals of all programs and services.
#[derive(Default)]
pub struct Totals {
    living: HashMap<(u32, u64), (Name, Box<Row>)>,
    ended: BTreeMap<Name, Box<Row>>,
}

impl Totals {
    /// Takes the numbers of all processes that run now. A process that was there before and is missing now has ended.
    pub fn update(&mut self, snapshots: &[Snapshot]) {
        let now = snapshots.iter().map(|snapshot| {
            let who = (snapshot.pid, snapshot.page.started_boot_ns());
            (who, (Name::of(snapshot), row(snapshot)))
        });
        let before = std::mem::replace(&mut self.living, now.collect());
        for (who, (name, row)) in before {
            if !self.living.contains_key(&who) {
                add(self.ended.entry(name).or_insert_with(|| Box::new([0; COLUMNS])), &row);
            }
        }
        if self.ended.len() > REMEMBERED {
            let living: BTreeSet<&Name> = self.living.values().map(|(name, _)| name).collect();
            self.ended.retain(|name, _| living.contains(name));
        }
    }

    /// The sums by program and service, over processes that run and that have ended.
    pub fn sums(&self) -> BTreeMap<Name, Box<Row>> {
        let mut sums = self.ended.clone();
        for (name, row) in self.living.values() {
            add(sums.entry(name.clone()).or_insert_with(|| Box::new([0; COLUMNS])), row);
        }
        sums
    }
}

/// A counter, by its index in [`COUNTERS`].
pub fn counter(row: &Row, index: usize) -> u64 {
    row.get(index).copied().unwrap_or(0)
}

/// How many calls made a descriptor, and how many descriptors were closed.
pub fn calls(row: &Row) -> (u64, u64) {
    (row[OPENED], row[CLOSED])
}

/// The reasons that occurred for not taking a file for a log, with their counts.
pub fn refusals(row: &Row) -> impl Iterator<Item = (Refusal, u64)> {
    Refusal::ALL.iter().copied().zip(row[REFUSED..].iter().copied()).filter(|(_, count)| *count > 0)
}

fn row(snapshot: &Snapshot) -> Box<Row> {
    let mut row = Box::new([0; COLUMNS]);
    for (index, cell) in row.iter_mut().enumerate().take(COUNTERS.len()) {
        *cell = snapshot.page.counter(index);
    }
    (row[OPENED], row[CLOSED]) = (snapshot.page.opened(), snapshot.page.closed());
    for (refusal, count) in snapshot.page.refusals() {
        row[REFUSED + refusal as usize] = count;
    }
    row
}

/// Adds numbers without overflow, since a page may be forged.
fn add(to: &mut Row, row: &Row) {
    for (to, more) in to.iter_mut().zip(row) {
        *to = to.saturating_add(*more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::{Page, forge};
    use tideover_contract::page::state;

    fn page(pid: u32, emfile: u8, started: u64) -> Page {
        let mut bytes = forge(pid, state::LIVE, started);
        bytes[128 + index("emfile") * 8] = emfile;
        Page::forged(bytes, pid)
    }

    fn index(name: &str) -> usize {
        COUNTERS.iter().position(|counter| counter.name == name).unwrap()
    }

    fn emfile(totals: &Totals) -> u64 {
        let sums = totals.sums();
        let own = sums.iter().filter(|(name, _)| name.program == "forged");
        own.map(|(_, row)| counter(row, index("emfile"))).sum()
    }

    #[test]
    fn a_sum_does_not_fall_when_a_process_ends() {
        let mut totals = Totals::default();
        let enter = |totals: &mut Totals, pages: &[Page]| {
            let snapshots: Vec<Snapshot> = pages
                .iter()
                .map(|page| Snapshot {
                    page: page.view().unwrap(),
                    pid: page.pid,
                    used: 1,
                    soft: 2,
                    hard: 3,
                    obtainable: 2,
                })
                .collect();
            totals.update(&snapshots);
        };
        enter(&mut totals, &[page(7, 5, 1), page(8, 20, 1)]);
        assert_eq!(emfile(&totals), 25);
        enter(&mut totals, &[page(7, 6, 1)]);
        assert_eq!(emfile(&totals), 26);
        enter(&mut totals, &[page(7, 1, 2)]);
        assert_eq!(emfile(&totals), 27, "the number is another process's by now");
        enter(&mut totals, &[]);
        enter(&mut totals, &[]);
        assert_eq!(emfile(&totals), 27);
    }

    #[test]
    fn forged_pages_neither_overflow_nor_pile_up() {
        let mut totals = Totals::default();
        for i in 0..(REMEMBERED + 10) as u32 {
            let mut bytes = forge(i, state::LIVE, 1);
            bytes[64..512].fill(0xff);
            bytes[64..128].fill(0);
            bytes[64..68].copy_from_slice(format!("{i:04}").as_bytes());
            let page = Page::forged(bytes, i);
            totals.update(&[Snapshot { page: page.view().unwrap(), pid: i, used: 1, soft: 2, hard: 3, obtainable: 2 }]);
        }
        assert!(totals.sums().len() <= REMEMBERED + 1, "{}", totals.sums().len());
    }
}
