//! The state of `top`: a row for each process, their order, the filter, and the past of each.
#![forbid(unsafe_code)]

use super::action::Action;
use super::panel::Panel;
use super::row::Row;
use crate::guard::guarded::Guarded;
use crate::pages::Page;
use crate::pages::events;
use crate::pages::snapshot::Snapshot;
use crate::processes::list::ListedProcess;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

/// How many readings of each process are kept for the graph.
const PAST: usize = 200;

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Part of the soft limit in use, highest first.
    #[default]
    Usage,
    /// Descriptors in use, most first.
    Used,
    /// Calls that found no descriptor, most first.
    Exhausted,
    /// Calls whose error was passed on, most first.
    GaveUp,
    /// Bytes of log lines that went elsewhere, most first; processes with a full disk before all others.
    Logs,
    /// Name of the program.
    Program,
    /// Process id.
    Pid,
}

/// Each column with its key and its name.
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

    /// The column of a key.
    pub fn by_key(key: char) -> Option<Sort> {
        SORTS.iter().find(|sort| sort.1 == key).map(|sort| sort.0)
    }

    /// Its name, for the summary.
    pub fn name(self) -> &'static str {
        SORTS[self.index()].2
    }

    fn index(self) -> usize {
        SORTS.iter().position(|sort| sort.0 == self).unwrap_or(0)
    }
}

/// The state of `top`.
#[derive(Default)]
pub struct Model {
    /// All rows, in the order that was asked for.
    rows: Vec<Row>,
    past: HashMap<(u32, u64), VecDeque<u64>>,
    /// Process id of the selected row.
    chosen: Option<u32>,
    /// Column by which rows are sorted.
    pub sort: Sort,
    /// Are they sorted the other way round?
    pub reversed: bool,
    /// Text that a program's name must contain, or its process id begin with.
    pub filter: String,
    /// Does the keyboard write into the filter now?
    pub typing: bool,
    /// Is the detail of the selected process shown?
    pub detail: bool,
    /// Are the service and the hard limit shown, in place of the counts, where there is no room for all?
    pub limits: bool,
    /// A text over the list.
    pub panel: Option<Panel>,
    /// What is to be done with a process now.
    todo: Option<(Action, u32)>,
    /// What is to be done with a process if the answer is yes.
    pub asked: Option<(Action, u32)>,
    /// What is being done with a process.
    pub running: Option<(Action, u32)>,
    /// Where the list is on the screen.
    pub layout: ListLayout,
}

/// Where the list is on the screen, for the mouse.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListLayout {
    /// Line of the headings; the rows are below it.
    pub headings: u16,
    /// The first line below the list.
    pub end: u16,
    /// How many rows are scrolled out at the top.
    pub offset: usize,
    /// Columns of the screen, and what a click on their heading sorts by.
    pub sorts: Vec<(Range<u16>, Sort)>,
}

impl Model {
    /// Replaces the rows by the processes as they are now.
    pub fn update(&mut self, pages: &[Page], outside: &[Guarded], others: &[ListedProcess]) {
        let me = std::process::id();
        let outside_pids = outside.iter().map(|it| it.process.pid);
        let guarded: HashSet<u32> = pages.iter().map(|page| page.pid).chain(outside_pids).chain([me]).collect();
        let others = others.iter().filter(|other| !guarded.contains(&other.pid)).filter_map(Row::of_other);
        let snapshots = pages.iter().filter(|page| page.pid != me).filter_map(Snapshot::take);
        let mut past = HashMap::new();
        let guarded = snapshots.map(|snapshot| {
            let mut row = Row::of(&snapshot);
            if self.detail && self.chosen == Some(row.pid) {
                row.events = events::lines(snapshot.page);
            }
            row
        });
        let outside = outside.iter().filter_map(Row::of_outside);
        let rows: Vec<Row> = guarded.chain(outside).chain(others).collect();
        for row in &rows {
            let who = (row.pid, row.started);
            let mut uses = self.past.remove(&who).unwrap_or_default();
            if uses.len() == PAST {
                uses.pop_front();
            }
            uses.push_back(row.used);
            past.insert(who, uses);
        }
        self.rows = rows;
        self.past = past;
    }

    /// The rows that match the filter, in order.
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

    /// All rows, for the summary.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Index of the selected row among those that are shown; 0 if none is selected, or the selected one is not shown.
    pub fn place(&self, shown: &[&Row]) -> Option<usize> {
        let place = shown.iter().position(|row| Some(row.pid) == self.chosen);
        place.or(if shown.is_empty() { None } else { Some(0) })
    }

    /// Selects the row so many lines further down.
    pub fn step(&mut self, by: isize) {
        let shown = self.shown();
        let Some(place) = self.place(&shown) else { return };
        let next = place.saturating_add_signed(by).min(shown.len() - 1);
        self.chosen = shown.get(next).map(|row| row.pid);
    }

    /// An action was asked for, of the selected process. Those that only look are to be done at once; one at a time.
    pub fn ask(&mut self, action: Action) {
        let shown = self.shown();
        let pid = self.place(&shown).and_then(|place| shown.get(place)).map(|row| row.pid);
        if let Some(pid) = pid.filter(|_| self.running.is_none()) {
            match action.question() {
                Some(_) => self.asked = Some((action, pid)),
                None => self.todo = Some((action, pid)),
            }
        }
    }

    /// The question was answered.
    pub fn answer(&mut self, yes: bool) {
        self.todo = self.asked.take().filter(|_| yes);
    }

    /// What is to be done now, once.
    pub fn take_todo(&mut self) -> Option<(Action, u32)> {
        self.todo.take()
    }

    /// Process id of the selected row.
    #[cfg(test)]
    pub fn chosen(&self) -> Option<u32> {
        self.chosen
    }

    /// Does what a click means: on a row, selects it; on a heading, sorts by it, and the other way round if it was so already.
    pub fn click(&mut self, column: u16, line: u16) {
        let ListLayout { headings, end, offset, .. } = self.layout;
        if line == headings {
            let sort = self.layout.sorts.iter().find(|(columns, _)| columns.contains(&column)).map(|found| found.1);
            self.reversed = sort.is_some_and(|sort| sort == self.sort) && !self.reversed;
            self.sort = sort.unwrap_or(self.sort);
        } else if line > headings && line < end {
            let place = offset + usize::from(line - headings - 1);
            if let Some(pid) = self.shown().get(place).map(|row| row.pid) {
                self.chosen = Some(pid);
            }
        }
    }

    /// Selects a process, which stays selected when the order changes.
    pub fn choose(&mut self, pid: Option<u32>) {
        self.chosen = pid;
    }

    /// How many descriptors a process had at the last readings, the latest last.
    pub fn past(&self, row: &Row) -> Vec<u64> {
        self.past.get(&(row.pid, row.started)).map(|uses| uses.iter().copied().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
impl Model {
    /// Rows from name, process id, descriptors in use of a limit of 100, and calls that gave up.
    pub fn example(rows: &[(&str, u32, u64, u64)]) -> Model {
        let mut model = Model::default();
        model.rows = rows
            .iter()
            .map(|&(program, pid, used, gave_up)| Row {
                pid,
                program: program.into(),
                service: String::new(),
                guarded: true,
                used,
                limits: (100, 4096),
                percent: used as f64,
                exhausted: gave_up * 2,
                recovered: gave_up,
                gave_up,
                full: false,
                diverted: 0,
                events: "  12:00  exhausted  open  EMFILE  hopeless\n".into(),
                outside: "",
                started: 1,
            })
            .collect();
        model.past = model.rows.iter().map(|row| ((row.pid, 1), VecDeque::from([1, row.used / 2, row.used]))).collect();
        model
    }
}

#[cfg(test)]
impl Model {
    /// This process is guarded from outside, and so it is with its listener.
    pub fn guard_from_outside(&mut self, pid: u32, now: &'static str) {
        self.rows.iter_mut().filter(|row| row.pid == pid).for_each(|row| row.outside = now);
    }

    /// A log's disk is full of this process.
    pub fn worsen(&mut self, pid: u32) {
        self.rows.iter_mut().filter(|row| row.pid == pid).for_each(|row| row.full = true);
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
    fn a_click_chooses_a_row_and_sorts_by_a_heading() {
        let mut model = Model::example(&[("a", 1, 30, 0), ("b", 2, 20, 0), ("c", 3, 10, 0)]);
        model.layout =
            ListLayout { headings: 1, end: 20, offset: 1, sorts: vec![(0..7, Sort::Pid), (8..20, Sort::Program)] };
        model.click(5, 3);
        assert_eq!(model.chosen(), Some(3), "one row is scrolled out");
        for nothing in [(5, 4), (5, 0), (5, 20), (5, 30), (79, 1)] {
            model.click(nothing.0, nothing.1);
        }
        assert_eq!((model.chosen(), model.sort, model.reversed), (Some(3), Sort::Usage, false));
        model.click(9, 1);
        assert_eq!((model.sort, model.reversed), (Sort::Program, false));
        model.click(9, 1);
        assert_eq!((model.sort, model.reversed), (Sort::Program, true));
        model.click(3, 1);
        assert_eq!((model.sort, model.reversed), (Sort::Pid, false));
    }

    #[test]
    fn the_past_is_kept_as_long_as_the_process_lives() {
        let mut model = Model::default();
        let page = || Page::forged(forge(1, state::LIVE, 5), 1);
        for _ in 0..PAST + 5 {
            model.update(&[page()], &[], &[]);
        }
        assert_eq!(model.past(&model.rows()[0]).len(), PAST);
        model.update(&[], &[], &[]);
        assert!(model.past.is_empty());
    }
}
