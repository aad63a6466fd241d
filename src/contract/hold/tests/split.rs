//! Others write to the log while lines are put back into it.

use super::*;

#[test]
fn a_line_that_lacks_its_newline_only_is_not_written_twice_when_somebody_else_has_ended_it() {
    for (others, expected) in [
        ("\nother\n", "one\ntwo\nother\nthree\n"),
        ("\n", "one\ntwo\nthree\n"),
        ("other\n", "one\ntwoother\ntwo\nthree\n"),
        ("", "one\ntwo\nthree\n"),
    ] {
        let world = World::new();
        world.logs[0].borrow_mut().extend_from_slice(b"one\ntwo");
        world.hold().set_placed(0, 7);
        assert!(world.keep(0, b"two\n", 3) && world.keep(0, b"three\n", 0));
        world.logs[0].borrow_mut().extend_from_slice(others.as_bytes());
        world.inherit();
        assert_eq!(world.text(0), expected);
    }
}

/// A log that ends in the middle of a line of which a hold has the whole, and another line.
fn torn() -> World {
    let world = World::new();
    world.logs[0].borrow_mut().extend_from_slice(b"one\ntw");
    world.hold().set_placed(0, 6);
    assert!(world.keep(0, b"two\n", 2) && world.keep(0, b"three\n", 0));
    world
}

#[test]
fn a_line_that_somebody_splits_while_it_is_put_back_is_written_anew() {
    let many: &[&[u8]] = &[b"a\n", b"\n"];
    for others in [&[b"\n".as_slice()], &[b"other\n".as_slice()], many] {
        let world = torn();
        world.others.replace(others.to_vec());
        world.inherit();
        let text = world.text(0);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.ends_with(&["two", "three"]), "{text:?}");
        assert_eq!(lines.iter().filter(|line| **line == "two" || **line == "three").count(), 2, "{text:?}");
    }
}

#[test]
fn who_always_writes_in_between_does_not_keep_a_process_for_ever() {
    let world = World::new();
    // A line that takes several writes.
    let long = [b'x'; 500];
    assert!(world.keep(1, &long, 0));
    world.others.replace(vec![b"a\n"; 100]);
    assert_eq!(put_back(&world.hold(), 1, &world.file(1), |_| true).0, Outcome::Part);
    world.others.take();
    assert_eq!(put_back(&world.hold(), 1, &world.file(1), |_| true).0, Outcome::All);
    assert!(world.text(1).ends_with(&"x".repeat(500)));
}
