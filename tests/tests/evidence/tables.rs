//! The limit is raised only where no table is as long as it was.

use tideover_tests::{Both, Run, fixture, preload_fixture};

use crate::number;

fn tables(what: &str) -> Run {
    Run::new(fixture("evidence_tables")).arg(what).soft(64).hard(20_000)
}

/// The program keeps all 200 of its files: what it was told is long enough, and holds.
fn bears_all(what: &str) {
    let both = tables(what).both();
    let plain = number(&both.plain, "kept");
    assert!(plain < 64 && number(&both.plain, "failed") > 0, "{}", both.plain);
    let said = both.preloaded.passes().says("beyond 0");
    assert_eq!(number(said, "kept"), 200, "{said}");
    assert_eq!(number(said, "failed"), 0, "{said}");
}

#[test]
fn a_table_as_long_as_sysconf_said_is_never_too_short() {
    bears_all("sysconf");
}

#[test]
fn a_table_as_long_as_getdtablesize_said_is_never_too_short() {
    bears_all("getdtablesize");
}

#[test]
fn a_daemon_that_imports_getdtablesize_is_helped() {
    let both = Run::new(fixture("evidence_daemon")).soft(64).hard(20_000).both();
    assert!(number(&both.plain, "failed") > 0, "{}", both.plain);
    both.preloaded.passes().says("opened 200, failed 0, beyond the table 0");
}

#[test]
fn sysconf_tells_what_holds_also_when_the_limit_has_been_reached_before() {
    let both = tables("late").both();
    both.plain.passes().says("beyond 0");
    both.preloaded.passes().says("beyond 0").says("told what holds: yes");
}

#[test]
fn sysconf_tells_a_program_the_same_twice() {
    let both = tables("again").both();
    both.plain.passes().says("told alike");
    both.preloaded.passes().says("told alike").says("beyond 0");
}

#[test]
fn a_program_that_only_looks_at_its_limit_has_no_table() {
    let both = tables("getrlimit").both();
    both.plain.passes().says("it was 64");
    both.preloaded.passes().says("it was 64").says("kept 200, failed 0");
}

#[test]
fn raise_force_raises_also_where_the_program_has_set_its_own_limit() {
    let both = tables("force").env("TIDEOVER_RAISE", "force").both();
    assert!(number(&both.plain, "failed") > 0, "{}", both.plain);
    both.preloaded.passes().says("kept 200, failed 0");
}

#[test]
fn without_force_the_limit_that_a_program_has_set_itself_stays() {
    tables("force").both().same_but_for_messages();
}

#[test]
fn a_program_executed_by_syscall_has_the_limit_that_it_would_have_without_the_library() {
    for call in ["execve", "execveat"] {
        let both = tables(call).both();
        both.plain.passes().says("\n64\n");
        both.preloaded.passes().says("opened 200\n64\n");
    }
}

/// A library's select(2) about sockets at a soft limit of 1024.
fn select(library: &str, function: &str, when: &str) -> Both {
    let run = Run::new(fixture("evidence_select")).arg(preload_fixture(library));
    let both = run.args([function, "1500", when]).soft(1024).hard(20_000).both();
    both.plain.passes().says("failed 0, overwritten 0");
    both.preloaded.passes().says("failed 0, overwritten 0");
    both
}

fn stays_below_1024(library: &str, when: &str) {
    for function in ["readable_by_select", "readable_by_pselect"] {
        let both = select(library, function, when);
        let highest = number(&both.preloaded, "highest number");
        assert!(highest < 1024, "{}", both.preloaded);
    }
}

#[test]
fn a_library_that_calls_select_keeps_its_fd_sets_whole() {
    stays_below_1024("evidence_select_unchecked", "always");
}

#[test]
fn a_fortified_library_that_calls_select_does_not_end_the_program() {
    stays_below_1024("evidence_select_library", "always");
}

#[test]
fn a_fortified_library_that_is_loaded_and_has_not_called_select_yet_counts() {
    stays_below_1024("evidence_select_library", "last");
}

fn received(what: &str, soft: u64, hard: u64) -> Both {
    Run::new(fixture("evidence_received")).args([what, "200"]).soft(soft).hard(hard).both()
}

#[test]
fn descriptors_in_messages_are_not_lost() {
    for what in ["recvmsg", "many"] {
        let both = received(what, 64, 20_000);
        assert!(number(&both.plain, "came") < 64, "{}", both.plain);
        both.preloaded.passes().says("came 200, messages cut 0");
    }
}

#[test]
fn descriptors_in_messages_that_are_lost_are_told_of() {
    let both = received("recvmsg", 64, 64);
    assert_eq!(number(&both.plain, "came"), number(&both.preloaded, "came"), "{}", both.preloaded);
    assert!(both.preloaded.ours().iter().any(|line| line.contains("recvmsg")), "{}", both.preloaded);
}
