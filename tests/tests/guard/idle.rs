//! Clients that are idle, of a server at its limit.

use super::{connect_all, guards, is_served, spins, stop};
use std::io::Read;
use std::thread;
use std::time::Duration;
use tideover_tests::Scratch;

#[test]
fn the_longest_idle_clients_make_room_and_those_that_talk_stay() {
    let pages = Scratch::new();
    let (server, port) = spins(16, &[]);
    let mut talking = connect_all(port, 3);
    let mut idle = connect_all(port, 8);
    thread::sleep(Duration::from_millis(1500));
    let guard = guards(&pages, &["--idle", "2s", &server.pid().to_string()]);
    let mut late = connect_all(port, 4);
    let mut rounds = 0;
    while rounds < 20 {
        assert!(talking.iter_mut().all(is_served), "those who talk stay");
        thread::sleep(Duration::from_millis(100));
        rounds += 1;
    }
    assert!(late.iter_mut().all(is_served), "those who waited are served");
    let said = stop(guard).stdout;
    assert!(said.contains("idle clients, the longest idle for"), "{said}");
    let mut byte = [0];
    let mut ended = 0;
    for client in &mut idle {
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        ended += i32::from(matches!(client.read(&mut byte), Ok(0)));
    }
    assert!((4..8).contains(&ended), "as many as were needed: {ended}");
    assert!(!server.ended());
}

#[test]
fn without_anybody_who_waits_no_client_is_ended() {
    let pages = Scratch::new();
    let (server, port) = spins(16, &[]);
    // 5 descriptors are the server's own: it is full, and nobody waits.
    let mut clients = connect_all(port, 11);
    assert!(clients.iter_mut().all(is_served));
    let guard = guards(&pages, &["--idle", "1s", &server.pid().to_string()]);
    thread::sleep(Duration::from_secs(3));
    assert!(clients.iter_mut().all(is_served));
    let said = stop(guard).stdout;
    assert!(!said.contains("idle"), "{said}");
}
