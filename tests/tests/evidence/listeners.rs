//! A listener is parked only where it can be brought back; otherwise the true error is passed on.

use tideover_tests::{Run, fixture};

use crate::number;

/// The client is accepted at most a second later than without the library.
fn accepts(mode: &str) {
    let both = Run::new(fixture("evidence_listeners")).arg(mode).limit(64).both();
    let (plain, preloaded) = (number(both.plain.passes(), "after"), number(both.preloaded.passes(), "after"));
    assert!(plain <= 10, "{}", both.plain);
    assert!(preloaded <= plain + 10, "{preloaded} tenths of a second, {plain} without the library: {}", both.preloaded);
}

#[test]
fn an_edge_triggered_listener_that_was_duplicated_is_not_forgotten() {
    accepts("dup");
}

#[test]
fn an_edge_triggered_listener_that_was_duplicated_onto_a_number_is_not_forgotten() {
    accepts("dup3");
}

#[test]
fn an_edge_triggered_listener_that_no_hook_saw_registered_is_not_forgotten() {
    accepts("raw");
}

#[test]
fn an_edge_triggered_listener_that_was_registered_before_listen_is_not_forgotten() {
    accepts("early");
}

#[test]
fn an_edge_triggered_listener_that_a_child_has_inherited_is_not_forgotten() {
    accepts("inherited");
}

#[test]
fn a_listener_in_a_set_of_an_edge_triggered_set_is_not_forgotten() {
    accepts("nested");
}

#[test]
fn a_listener_that_tells_by_a_signal_is_not_forgotten() {
    accepts("signal");
}

#[test]
fn a_listener_in_an_epoll_set_is_not_forgotten_by_select() {
    accepts("select");
}

#[test]
fn a_listener_in_an_epoll_set_is_not_forgotten_by_pselect() {
    accepts("pselect");
}

#[test]
fn a_listener_in_an_epoll_set_is_not_forgotten_by_poll() {
    accepts("poll");
}

#[test]
fn the_usual_listener_is_brought_back() {
    accepts("level");
}
