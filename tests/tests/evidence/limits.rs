//! EMFILE and its like that no descriptor would mend are passed on at once, and the limit that it is gets its name.

use tideover_tests::{Run, fixture};

use crate::Timed;

fn other_limit(what: &str, soft: u64, hard: u64) -> Timed {
    let timed = Timed::of(&Run::new(fixture("evidence_other_limits")).arg(what).soft(soft).hard(hard));
    timed.plain.says("at once");
    timed
}

#[test]
fn inotify_instances_are_another_limit_and_it_is_named() {
    let timed = other_limit("inotify", 512, 20_000);
    timed.plain.says("inotify_init1: EMFILE").says("a descriptor is free").says("soft limit 512");
    timed.as_printed().as_fast();
    timed.preloaded.says("fs.inotify.max_user_instances").does_not_say("ulimit -n");
}

#[test]
fn message_queues_are_another_limit_and_it_is_named() {
    let timed = other_limit("queues", 512, 20_000);
    timed.plain.says("mq_open: EMFILE").says("soft limit 512");
    timed.as_printed().as_fast();
    timed.preloaded.says("RLIMIT_MSGQUEUE").does_not_say("ulimit -n");
}

#[test]
fn message_queues_at_a_limit_that_cannot_be_raised_are_no_reason_to_wait() {
    other_limit("queues", 64, 64).as_printed().as_fast().preloaded.says("RLIMIT_MSGQUEUE");
}

#[test]
fn names_that_cannot_be_found_whatever_descriptors_there_are_fail_at_once() {
    let timed = other_limit("names", 64, 64);
    timed.plain.says("not a number: Name or service not known").says("numbers: found");
    timed.as_printed().as_fast();
}

#[test]
fn paths_that_do_not_exist_fail_at_once() {
    let timed = other_limit("paths", 64, 64);
    timed.plain.says("fopen of a mode that is none: EINVAL");
    timed.as_fast();
    // With a reserve a function may get as far as to find that there is no such folder.
    timed.preloaded.says("at once").says("fopen of a mode that is none: EINVAL");
}
