//! A model: lines are held and put back, and the process is killed at each of its steps.

mod split;
mod stage;

use super::*;
use stage::put;
use std::cell::{Cell, RefCell};

/// A process that is killed after so many steps: from then on nothing that it does has an effect.
#[derive(Default)]
struct Life {
    steps: Cell<usize>,
    ends_after: Cell<Option<usize>>,
}

impl Life {
    fn step(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        self.ends_after.get().is_none_or(|end| self.steps.get() <= end)
    }
}

struct Words<'a> {
    bytes: &'a RefCell<Vec<u8>>,
    life: &'a Life,
}

impl Memory for Words<'_> {
    fn words(&self) -> usize {
        self.bytes.borrow().len() / 8
    }

    fn load(&self, word: usize) -> u64 {
        let bytes = self.bytes.borrow();
        bytes.get(word * 8..word * 8 + 8).map_or(0, |word| u64::from_ne_bytes(word.try_into().unwrap()))
    }

    fn store(&self, word: usize, value: u64) {
        if self.life.step() {
            self.bytes.borrow_mut()[word * 8..word * 8 + 8].copy_from_slice(&value.to_ne_bytes());
        }
    }
}

/// A log with room for so many bytes.
struct File<'a> {
    content: &'a RefCell<Vec<u8>>,
    room: &'a Cell<usize>,
    hold: &'a RefCell<Vec<u8>>,
    life: &'a Life,
    /// Bytes of the longest write.
    most: usize,
    /// What others write just before the next writes.
    others: &'a RefCell<Vec<&'static [u8]>>,
}

impl File<'_> {
    fn write(&self, bytes: &[u8]) -> Result<usize, i32> {
        let bytes = &bytes[..bytes.len().min(self.room.get())];
        if bytes.is_empty() {
            return Err(28);
        }
        // A kill may come in the middle of a write: half of it is done then.
        for half in [&bytes[..bytes.len() / 2], &bytes[bytes.len() / 2..]] {
            if self.life.step() {
                self.content.borrow_mut().extend_from_slice(half);
                self.room.set(self.room.get() - half.len());
            }
        }
        Ok(bytes.len())
    }
}

impl Target for File<'_> {
    fn size(&self) -> Option<u64> {
        Some(self.content.borrow().len() as u64)
    }

    fn append(&self, offset: usize, length: usize) -> Result<usize, i32> {
        let text = self.hold.borrow()[offset..offset + length.min(self.most)].to_vec();
        self.others.borrow_mut().pop().into_iter().for_each(|other| self.content.borrow_mut().extend_from_slice(other));
        let end = text.iter().rposition(|&b| b == b'\n').map_or(text.len(), |at| at + 1);
        self.write(&text[..end])
    }

    fn end_line(&self) -> Result<(), i32> {
        self.write(b"\n").map(drop)
    }

    fn ends_mid_line(&self) -> bool {
        self.content.borrow().last().is_some_and(|&last| last != b'\n')
    }

    fn holds(&self, at: u64, offset: usize, length: usize) -> usize {
        let content = self.content.borrow();
        let there = content.get(at as usize..).unwrap_or(&[]);
        there.iter().zip(&self.hold.borrow()[offset..offset + length]).take_while(|(a, b)| a == b).count()
    }

    fn line_start(&self, offset: usize, upto: usize) -> usize {
        let text = &self.hold.borrow()[offset..offset + upto];
        text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1)
    }

    fn line_length(&self, offset: usize, length: usize) -> usize {
        let text = &self.hold.borrow()[offset..offset + length];
        text.iter().position(|&b| b == b'\n').map_or(length, |at| at + 1)
    }
}

/// A hold, two logs, and room on their disk.
struct World {
    hold: RefCell<Vec<u8>>,
    logs: [RefCell<Vec<u8>>; 2],
    room: Cell<usize>,
    life: Life,
    others: RefCell<Vec<&'static [u8]>>,
}

const CAPACITY: usize = 4096;

impl World {
    fn new() -> World {
        let world = World {
            hold: RefCell::new(vec![0; OVERHEAD + CAPACITY]),
            logs: Default::default(),
            room: Cell::new(usize::MAX / 2),
            life: Life::default(),
            others: RefCell::default(),
        };
        world.hold().format(1, 2, 3, 2, CAPACITY);
        for log in 0..2 {
            let path = format!("/var/log/{log}.log");
            let new = New {
                identity: (1, log),
                path: path.as_bytes(),
                errno: 28,
                since: 0,
                placed: 0,
                json: false,
                mode: 0,
                born: 0,
            };
            assert_eq!(world.hold().enter(&new), Some(log as usize));
        }
        world
    }

    fn hold(&self) -> Hold<Words<'_>> {
        Hold::over(Words { bytes: &self.hold, life: &self.life })
    }

    fn file(&self, log: usize) -> File<'_> {
        File {
            content: &self.logs[log],
            room: &self.room,
            hold: &self.hold,
            life: &self.life,
            most: 200,
            others: &self.others,
        }
    }

    fn keep(&self, log: usize, text: &[u8], torn: u32) -> bool {
        let hold = self.hold();
        let Some(place) = hold.place(log, text.len() as u32, torn) else { return false };
        for (at, byte) in text.iter().enumerate() {
            if self.life.step() {
                self.hold.borrow_mut()[place.offset + at] = *byte;
            }
        }
        hold.commit(&place);
        true
    }

    /// Another process finds what this one has left, and puts it back.
    fn inherit(&self) {
        self.life.ends_after.set(None);
        let hold = self.hold();
        assert_eq!(hold.check((OVERHEAD + CAPACITY) as u64), Ok(()));
        hold.adopt();
        for log in 0..2 {
            settle(&hold, log, &self.file(log));
            assert_eq!(put_back(&hold, log, &self.file(log), |_| true).0, Outcome::All);
        }
        assert!(hold.is_empty());
    }

    fn text(&self, log: usize) -> String {
        String::from_utf8(self.logs[log].borrow().clone()).unwrap()
    }
}

fn line(log: usize, n: usize) -> String {
    format!("log {log} line {n:04} {}\n", &"----------------------------------------"[..n * 7 % 40])
}

#[test]
fn text_is_put_back_in_order_and_in_its_own_log() {
    let world = World::new();
    for n in 0..40 {
        assert!(world.keep(n % 3 % 2, line(n % 3 % 2, n).as_bytes(), 0));
    }
    world.inherit();
    for log in 0..2 {
        let expected: String = (0..40).filter(|n| n % 3 % 2 == log).map(|n| line(log, n)).collect();
        assert_eq!(world.text(log), expected);
    }
    assert!(world.hold().drop_oldest().is_none());
}

/// What one process does: lines are held, some are put back in two goes, more are held.
fn one_life(world: &World) -> Vec<(usize, usize)> {
    let mut kept = vec![];
    let mut keep = |log, n| {
        world.keep(log, line(log, n).as_bytes(), 0);
        // Held if the process lived until after the last store that makes it so, which is not the last of `commit`.
        kept.push((log, n));
    };
    (0..12).for_each(|n| keep(n / 5 % 2, n));
    put_back(&world.hold(), 0, &world.file(0), |_| false);
    (12..16).for_each(|n| keep(n % 2, n));
    put_back(&world.hold(), 1, &world.file(1), |_| true);
    put_back(&world.hold(), 0, &world.file(0), |_| true);
    (16..18).for_each(|n| keep(n % 2, n));
    kept
}

#[test]
fn killed_at_any_step_it_loses_nothing_and_doubles_nothing() {
    let whole = World::new();
    one_life(&whole);
    let steps = whole.life.steps.get();
    assert!(steps > 500);
    for end in whole.life.ends_after.get().unwrap_or(0)..=steps {
        let world = World::new();
        let before = world.life.steps.get();
        world.life.ends_after.set(Some(before + end));
        let kept = one_life(&world);
        world.inherit();
        for log in 0..2 {
            let lines: Vec<String> = kept.iter().filter(|(of, _)| *of == log).map(|&(log, n)| line(log, n)).collect();
            let text = world.text(log);
            // A process that was killed in the middle of keeping a line has not told anybody that it is kept.
            let expected = (0..=lines.len()).map(|n| lines[..n].concat());
            assert!(expected.clone().any(|e| e == text), "killed after {end} of {steps} steps: {text}");
        }
    }
}

#[test]
fn a_line_is_lost_only_by_the_step_that_it_was_killed_in() {
    // The lines that are held at the end of the n-th call are in the file afterwards.
    for end in 0..4 * 100 {
        let world = World::new();
        world.life.ends_after.set(Some(world.life.steps.get() + end));
        let mut promised = String::new();
        for n in 0..6 {
            let text = line(0, n);
            world.keep(0, text.as_bytes(), 0);
            if world.life.steps.get() <= world.life.ends_after.get().unwrap() {
                promised += &text;
            }
        }
        world.inherit();
        assert!(world.text(0).starts_with(&promised), "killed after {end}");
    }
}

#[test]
fn a_full_ring_gives_up_its_oldest_records() {
    let world = World::new();
    let mut oldest = 0;
    for n in 0..500 {
        let text = line(n % 2, n);
        while !world.keep(n % 2, text.as_bytes(), 0) {
            let dropped = world.hold().drop_oldest().expect("there is one");
            assert_eq!(dropped.log, oldest % 2);
            oldest += 1;
        }
        assert_eq!(world.hold().records().count(), n + 1 - oldest);
    }
    assert!(oldest > 400);
    world.inherit();
    for log in 0..2 {
        assert_eq!(world.text(log), (oldest..500).filter(|n| n % 2 == log).map(|n| line(log, n)).collect::<String>());
    }
}

#[test]
fn lines_of_one_log_become_one_record_and_too_long_ones_none() {
    let world = World::new();
    (0..50).for_each(|n| assert!(world.keep(0, line(0, n).as_bytes(), 0)));
    assert!((2..=8).contains(&world.hold().records().count()), "an eighth of the ring each");
    assert!(!world.keep(0, &[b'x'; CAPACITY], 0));
    assert!(!world.keep(0, b"", 0));
    world.inherit();
}

#[test]
fn a_torn_line_goes_on_where_it_was_cut_or_is_written_anew() {
    for others_wrote in [false, true] {
        let world = World::new();
        world.logs[0].borrow_mut().extend_from_slice(b"one\ntw");
        let hold = world.hold();
        hold.leave(0);
        let path = b"/var/log/0.log";
        hold.enter(&New { identity: (1, 0), path, errno: 28, since: 0, placed: 6, json: false, mode: 0, born: 0 });
        assert!(world.keep(0, b"two\n", 2));
        assert!(world.keep(0, b"three\n", 0));
        if others_wrote {
            world.logs[0].borrow_mut().extend_from_slice(b"other");
        }
        world.inherit();
        let expected = if others_wrote { "one\ntwother\ntwo\nthree\n" } else { "one\ntwo\nthree\n" };
        assert_eq!(world.text(0), expected);
    }
}

#[test]
fn a_disk_that_fills_again_in_the_middle_leaves_the_rest_held() {
    let world = World::new();
    (0..60).for_each(|n| assert!(world.keep(0, line(0, n).as_bytes(), 0)));
    let mut fails = 0;
    world.room.set(0);
    while put_back(&world.hold(), 0, &world.file(0), |_| true).0 == Outcome::Failed(28) {
        fails += 1;
        world.room.set(world.room.get() + 77);
    }
    assert!(fails > 20);
    assert_eq!(world.text(0), (0..60).map(|n| line(0, n)).collect::<String>());
}

#[test]
fn a_ring_grows_until_it_has_come_around() {
    let world = World::new();
    world.hold.borrow_mut().resize(OVERHEAD + 4 * CAPACITY, 0);
    let mut n = 0;
    let mut fill = || {
        while world.keep(n % 2, line(n % 2, n).as_bytes(), 0) {
            n += 1;
        }
        n
    };
    let first = fill();
    assert!(world.hold().grow(4 * CAPACITY as u64) && fill() > 3 * first);
    (0..4).for_each(|_| assert!(world.hold().drop_oldest().is_some()));
    assert!(world.keep(0, &[b'x'; 60], 0) && !world.hold().can_grow() && !world.hold().grow(8 * CAPACITY as u64));
}

#[test]
fn no_bytes_make_a_reader_fail() {
    let mut numbers = crate::random::Random::new(0x9e37_79b9_7f4a_7c15);
    let mut random = move || numbers.number();
    for _ in 0..3000 {
        let world = World::new();
        (0..30).for_each(|n| assert!(world.keep(n % 2, line(n % 2, n).as_bytes(), 0)));
        if let Some(room) = world.hold().open_stage(0, 300).filter(|_| random() % 2 == 0) {
            let mut next = (0, 0);
            (0..3).for_each(|n| put(&world, room, &mut next, &line(0, n)));
        }
        for _ in 0..1 + random() % 8 {
            let at = match random() % 4 {
                0 => random() as usize % 72,
                3 => 80 + random() as usize % 960,
                1 => 4096 + random() as usize % 1152,
                _ => OVERHEAD + random() as usize % 2000,
            };
            world.hold.borrow_mut()[at] = random() as u8;
        }
        let hold = world.hold();
        if hold.check((OVERHEAD + CAPACITY) as u64).is_ok() {
            hold.adopt();
            assert!(hold.records().count() <= CAPACITY / 16);
            for log in hold.logs().filter(|&log| log < 2).collect::<Vec<_>>() {
                hold.path(log, &mut [0; LONGEST_PATH]);
                settle(&hold, log, &world.file(log));
                put_back(&hold, log, &world.file(log), |_| true);
            }
        }
    }
    let world = World::new();
    assert_eq!(world.hold().check(OVERHEAD as u64), Err(Damage::Contradiction));
    world.hold.borrow_mut().truncate(4096);
    assert_eq!(world.hold().check(4096), Err(Damage::NoHold));
}

#[test]
fn names_of_holds_are_told_from_others() {
    let mut name = String::new();
    hold_file_name(&mut name, 4711, 0x18f3).unwrap();
    assert_eq!(name, "hold.4711.18f3");
    assert!(
        is_hold_file_name(name.as_bytes()) && is_hold_file_name(b"hold.1.0") && is_hold_file_name(b"hold.1.0.gone")
    );
    for other in ["hold.", "hold.1", "hold.1.", "hold.x.1", "hold.1.x/y", "4711", "hold.1.1.1", "told.1.1"] {
        assert!(!is_hold_file_name(other.as_bytes()), "{other}");
    }
}
