//! What `top` knows: rows as they are now, their order, which are shown, and how each has been.
#![forbid(unsafe_code)]

use crate::pages::Page;
use crate::pages::events;
use crate::pages::snapshot::Snapshot;
use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};

/// Looks that the graph goes back.
const PAST: usize = 200;

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Part of the soft limit in use, highest first.
    #[default]
    Usage,
    /// Descriptors, most first.
    Used,
    /// Calls that found none, most first.
    Exhausted,
    /// Calls that gave up, most first.
    GaveUp,
    /// Bytes of log that went elsewhere, most first; full disks before all.
    Logs,
    /// By name.
    Program,
    /// By number.
    Pid,
}

/// Key, name.
const SORTS: [(Sort, char, &str); 7] = [
    (Sort::Usage, 'u', "usage"),
    (Sort::Used, 'd', "descriptors"),
    (Sort::Exhausted, 'e', "exhausted"),
    (Sort::GaveUp, 'g', "gave up"),
    (Sort::Logs, 'l', "logs"),
    (Sort::Program, 'n', "name"),
    (Sort::Pid, 'p', "pid"),
];

impl Sort {
    /// The next column.
    pub fn next(self) -> Sort {
        SORTS[(self.index() + 1) % SORTS.len()].0
    }

    /// By its letter.
    pub fn by_key(key: char) -> Option<Sort> {
        SORTS.iter().find(|sort| sort.1 == key).map(|sort| sort.0)
    }

    /// In words.
    pub fn name(self) -> &'static str {
        SORTS[self.index()].2
    }

    fn index(self) -> usize {
        SORTS.iter().position(|sort| sort.0 == self).unwrap_or(0)
    }
}

/// A process.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number.
    pub pid: u32,
    /// Its name, safe to print.
    pub program: String,
    /// Descriptors.
    pub used: u64,
    /// Soft and hard limit.
    pub limits: (u64, u64),
    /// Part of the soft limit.
    pub percent: f64,
    /// Calls that found none.
    pub exhausted: u64,
    /// Of these, recovered.
    pub recovered: u64,
    /// Of these, given up.
    pub gave_up: u64,
    /// Is a log's disk full?
    pub full: bool,
    /// Bytes of log that went elsewhere.
    pub diverted: u64,
    /// Its last events, as lines.
    pub events: String,
    started: u64,
}

impl Row {
    fn of(snapshot: &Snapshot) -> Row {
        let exhaustion = |name| snapshot.counter("exhaustion", name);
        let logs = |name| snapshot.counter("logs", name);
        Row {
            pid: snapshot.pid,
            program: snapshot.program(),
            used: snapshot.used,
            limits: (snapshot.soft, snapshot.hard),
            percent: snapshot.percent(),
            exhausted: exhaustion("emfile").saturating_add(exhaustion("enfile")),
            recovered: exhaustion("recovered"),
            gave_up: exhaustion("gave_up"),
            full: logs("degraded") > 0,
            diverted: logs("diverted_bytes"),
            events: String::new(),
            started: snapshot.page.started_boot_ns(),
        }
    }
}

/// See the module.
#[derive(Default)]
pub struct Model {
    /// All rows, in the order that was asked for.
    rows: Vec<Row>,
    past: HashMap<(u32, u64), VecDeque<u64>>,
    /// Process that is chosen.
    chosen: Option<u32>,
    /// Order.
    pub sort: Sort,
    /// The other way round.
    pub reversed: bool,
    /// Part of a name or number.
    pub filter: String,
    /// Is the filter being typed?
    pub typing: bool,
    /// Is the detail shown?
    pub detail: bool,
}

impl Model {
    /// Takes the processes as they are now.
    pub fn update(&mut self, pages: &[Page]) {
        let me = std::process::id();
        let snapshots = pages.iter().filter(|page| page.pid != me).filter_map(Snapshot::take);
        let mut past = HashMap::new();
        self.rows = snapshots
            .map(|snapshot| {
                let mut row = Row::of(&snapshot);
                if self.detail && self.chosen == Some(row.pid) {
                    row.events = events::lines(snapshot.page);
                }
                let who = (row.pid, row.started);
                let mut uses = self.past.remove(&who).unwrap_or_default();
                if uses.len() == PAST {
                    uses.pop_front();
                }
                uses.push_back(row.used);
                past.insert(who, uses);
                row
            })
            .collect();
        self.past = past;
    }

    /// The rows that the filter lets through, in order.
    pub fn shown(&self) -> Vec<&Row> {
        let filter = self.filter.to_lowercase();
        let passes =
            |row: &&Row| row.program.to_lowercase().contains(&filter) || row.pid.to_string().starts_with(&filter);
        let mut rows: Vec<&Row> = self.rows.iter().filter(passes).collect();
        rows.sort_by_key(|row| row.pid);
        match self.sort {
            Sort::Usage => rows.sort_by_key(|row| Reverse((row.percent * 10.0) as u64)),
            Sort::Used => rows.sort_by_key(|row| Reverse(row.used)),
            Sort::Exhausted => rows.sort_by_key(|row| Reverse(row.exhausted)),
            Sort::GaveUp => rows.sort_by_key(|row| Reverse(row.gave_up)),
            Sort::Logs => rows.sort_by_key(|row| Reverse((row.full, row.diverted))),
            Sort::Program => rows.sort_by(|a, b| a.program.cmp(&b.program)),
            Sort::Pid => {}
        }
        if self.reversed {
            rows.reverse();
        }
        rows
    }

    /// Everything there is, for the summary.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Place of the chosen row among those that are shown; the first where none is chosen, or it is gone.
    pub fn place(&self, shown: &[&Row]) -> Option<usize> {
        let place = shown.iter().position(|row| Some(row.pid) == self.chosen);
        place.or(if shown.is_empty() { None } else { Some(0) })
    }

    /// Chooses the row so many further down.
    pub fn step(&mut self, by: isize) {
        let shown = self.shown();
        let Some(place) = self.place(&shown) else { return };
        let next = place.saturating_add_signed(by).min(shown.len() - 1);
        self.chosen = shown.get(next).map(|row| row.pid);
    }

    /// Keeps the row that is shown as chosen, so that it stays so when the order changes.
    pub fn choose(&mut self, pid: Option<u32>) {
        self.chosen = pid;
    }

    /// How many descriptors a row's process had at the last looks, latest last.
    pub fn past(&self, row: &Row) -> Vec<u64> {
        self.past.get(&(row.pid, row.started)).map(|uses| uses.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
impl Model {
    /// Rows of name, pid, used and gave up, of 100 each.
    pub fn example(rows: &[(&str, u32, u64, u64)]) -> Model {
        let mut model = Model::default();
        model.rows = rows
            .iter()
            .map(|&(program, pid, used, gave_up)| Row {
                pid,
                program: program.into(),
                used,
                limits: (100, 4096),
                percent: used as f64,
                exhausted: gave_up * 2,
                recovered: gave_up,
                gave_up,
                full: false,
                diverted: 0,
                events: "  12:00  exhausted  open  EMFILE  hopeless\n".into(),
                started: 1,
            })
            .collect();
        model.past = model.rows.iter().map(|row| ((row.pid, 1), VecDeque::from([1, row.used / 2, row.used]))).collect();
        model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::forge;
    use tideover_contract::page::state;

    fn pids(model: &Model) -> Vec<u32> {
        model.shown().iter().map(|row| row.pid).collect()
    }

    #[test]
    fn rows_are_sorted_and_filtered() {
        let mut model = Model::example(&[("nginx", 30, 10, 5), ("redis", 20, 95, 0), ("nginx", 10, 50, 9)]);
        assert_eq!(pids(&model), [20, 10, 30]);
        for (key, order) in [('g', [10, 30, 20]), ('p', [10, 20, 30]), ('n', [10, 30, 20]), ('d', [20, 10, 30])] {
            model.sort = Sort::by_key(key).unwrap();
            assert_eq!(pids(&model), order, "{key}");
        }
        model.reversed = true;
        assert_eq!(pids(&model), [30, 10, 20]);
        model.filter = "NGI".into();
        assert_eq!(pids(&model), [30, 10]);
        model.filter = "2".into();
        assert_eq!(pids(&model), [20]);
        let mut sort = Sort::default();
        SORTS.iter().for_each(|_| sort = sort.next());
        assert_eq!(sort, Sort::default(), "all come round");
    }

    #[test]
    fn the_choice_stays_with_its_process() {
        let mut model = Model::example(&[("a", 1, 30, 0), ("b", 2, 20, 0), ("c", 3, 10, 0)]);
        model.step(1);
        assert_eq!(model.place(&model.shown()), Some(1));
        model.reversed = true;
        model.step(1);
        assert_eq!(model.shown()[model.place(&model.shown()).unwrap()].pid, 1);
        model.step(isize::MAX);
        model.step(isize::MIN);
        assert_eq!(model.place(&model.shown()), Some(0));
        model.filter = "zzz".into();
        model.step(1);
        assert_eq!(model.place(&model.shown()), None);
    }

    #[test]
    fn the_past_is_kept_as_long_as_the_process_lives() {
        let mut model = Model::default();
        let page = || Page::forged(forge(1, state::LIVE, 5), 1);
        for _ in 0..PAST + 5 {
            model.update(&[page()]);
        }
        assert_eq!(model.past(&model.rows()[0]).len(), PAST);
        model.update(&[]);
        assert!(model.past.is_empty());
    }
}
