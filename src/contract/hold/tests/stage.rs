//! Lines that come fast.

use super::*;

/// A line goes to the stage, in the slot and at the offset that are next.
pub fn put(world: &World, room: usize, next: &mut (usize, usize), text: &str) {
    let (index, offset) = *next;
    *next = (index + 1, offset + text.len());
    for (at, byte) in text.bytes().enumerate() {
        if world.life.step() {
            world.hold.borrow_mut()[room + offset + at] = byte;
        }
    }
    let word = slot(offset as u32, text.len() as u32);
    world.hold().memory().store(FIRST_SLOT + index, word);
}

/// Lines come fast twice, behind lines that are kept otherwise and before such lines. Returns what the file is to be.
fn fast_life(world: &World) -> Vec<String> {
    let mut lines = vec![];
    for round in 0..3 {
        lines.push(line(0, round * 10));
        world.keep(0, lines[lines.len() - 1].as_bytes(), 0);
        let room = world.hold().open_stage(0, 300).expect("there is room");
        let mut next = (0, 0);
        for n in 1..4 {
            lines.push(line(0, round * 10 + n));
            put(world, room, &mut next, &lines[lines.len() - 1]);
        }
        let staged = world.hold().close_stage(0);
        if world.life.ends_after.get().is_none() {
            assert_eq!(staged.map(|staged| (staged.length, staged.lines, staged.log)), Some((next.1, 3, 0)));
        }
        put_back(&world.hold(), 0, &world.file(0), |_| false);
    }
    lines
}

#[test]
fn lines_that_come_fast_are_held_from_the_store_of_their_slot_on() {
    let whole = World::new();
    fast_life(&whole);
    for end in 0..=whole.life.steps.get() {
        let world = World::new();
        world.life.ends_after.set(Some(world.life.steps.get() + end));
        let lines = fast_life(&world);
        world.inherit();
        let text = world.text(0);
        assert!((0..=lines.len()).any(|n| lines[..n].concat() == text), "killed after {end}: {text}");
    }
}

#[test]
fn a_line_that_was_begun_on_the_stage_leaves_blanks() {
    let world = World::new();
    let room = world.hold().open_stage(1, 100).expect("there is room");
    put(&world, room, &mut (0, 0), "one\n");
    // The second of four bytes was being copied.
    put(&world, room, &mut (2, 8), "three\n");
    world.inherit();
    assert_eq!(world.text(1), "one\n   \nthree\n");
    // Nothing was written at all.
    assert!(world.hold().open_stage(1, 100).is_some());
    assert_eq!(world.hold().close_stage(0), None);
    assert!(world.keep(1, b"four\n", 0));
    world.inherit();
    assert!(world.text(1).ends_with("three\nfour\n"));
}

#[test]
fn the_slot_of_a_thread_that_was_given_up_says_so_when_the_stage_is_closed() {
    let world = World::new();
    let room = world.hold().open_stage(1, 100).expect("there is room");
    put(&world, room, &mut (0, 0), "one\n");
    let given_up = 1;
    world.hold().memory().store(FIRST_SLOT + 1, given_up);
    assert_eq!(world.hold().close_stage(8).map(|staged| staged.length), Some(8));
    assert_eq!(world.hold().memory().load(FIRST_SLOT + 1), given_up, "its line is not there, should it go on");
    world.hold().open_stage(1, 100).expect("there is room");
    assert_eq!(world.hold().memory().load(FIRST_SLOT + 1), 0);
}
