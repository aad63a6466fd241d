//! Clients that are turned away or made to wait because the user wants it: TIDEOVER_ACCEPT, TIDEOVER_MAX_CLIENTS, TIDEOVER_ACCEPT_RATE.

use super::*;

/// Who can't be served knows at once.
#[track_caller]
fn turns_away(words: &str, env: &[(&str, &str)], how: Option<ErrorKind>) {
    let mut server = Server::start(words, true, env);
    server.fill();
    let nobody_waits = |s: &mut Server| s.waiting.is_empty();
    assert!(server.comes_true(LONG, nobody_waits), "{words}: {} wait", server.waiting.len());
    assert!(!server.away.is_empty() && server.away.iter().all(|end| *end == how), "{words}: {:?}", server.away);
    assert_eq!(server.counter("shed") as usize, server.away.len(), "{words}");
    assert_eq!(server.counter("clients") as usize, server.served.len(), "{words}");
    // And one by one: what was borrowed for that was brought back each time.
    for _ in 0..10 {
        server.connect(1);
        assert!(server.comes_true(LONG, nobody_waits), "{words}: one waits");
    }
    // And again, after some have left.
    let before = (server.served.len(), server.away.len());
    server.served.truncate(5);
    assert!(server.comes_true(LONG, |s| s.counter("clients") == 5), "{words}: they have left");
    server.connect(8);
    assert!(server.comes_true(LONG, nobody_waits), "{words}: {} wait", server.waiting.len());
    assert!(server.served.len() > 8 && server.served.len() <= before.0, "{words}: {} served", server.served.len());
    let stats = server.stats();
    assert_eq!(stats.refused, 0, "{words}: it saw EMFILE");
    server.finish().passes();
}

/// The control for what follows: it is the library that these settings are for.
#[test]
fn settings_of_the_library_do_nothing_without_it() {
    for words in ["epoll", "poll", "threads closer"] {
        let settings = [("TIDEOVER_ACCEPT", "shed"), ("TIDEOVER_MAX_CLIENTS", "10"), ("TIDEOVER_OVER_LIMIT", "refuse")];
        let mut server = Server::start(words, false, &settings);
        server.fill();
        assert!(server.served.len() > 10, "{words}: {} served", server.served.len());
        assert!(server.away.is_empty() && !server.waiting.is_empty(), "{words}: {} turned away", server.away.len());
        server.finish().passes();
    }
}

#[test]
fn clients_are_turned_away_when_the_user_wants_that() {
    for words in ["epoll", "epoll et", "epoll exclusive", "poll", "epoll closer", "threads closer"] {
        turns_away(words, &[("TIDEOVER_ACCEPT", "shed")], Some(ErrorKind::ConnectionReset));
    }
    turns_away("epoll", &[("TIDEOVER_ACCEPT", "shed"), ("TIDEOVER_SHED_CLOSE", "fin")], None);
}

#[test]
fn clients_wait_for_a_while_before_they_are_turned_away() {
    let mut server = Server::start("epoll", true, &[("TIDEOVER_SHED_AFTER", "600ms")]);
    server.fill();
    assert!(server.away.is_empty(), "they wait at first");
    assert!(server.comes_true(LONG, |s| s.waiting.is_empty()), "{} wait", server.waiting.len());
    assert_eq!(server.counter("shed") as usize, server.away.len());
    server.served.clear();
    assert!(server.comes_true(LONG, |s| s.stats().clients == 0));
    server.connect(10);
    assert!(server.comes_true(LONG, |s| s.served.len() == 10), "there is room again");
    server.finish().passes();
}

/// Never more clients than the limit; all are served in the end.
#[track_caller]
fn limits_clients(words: &str, most: usize) {
    let setting = most.to_string();
    let mut server = Server::start(words, true, &[("TIDEOVER_MAX_CLIENTS", &setting)]);
    server.connect(CLIENTS);
    let mut seen = 0;
    assert!(server.comes_true(LONG, |s| s.served.len() >= most), "{words}: {} served", server.served.len());
    assert!(!server.comes_true(WHILE, |s| s.served.len() > most), "{words}: {} served", server.served.len());
    let stats = server.stats();
    assert!(stats.accepts < 300, "{words}: {stats:?}");
    let all = server.comes_true(LONG, |s| {
        seen = seen.max(s.counter("clients"));
        s.served.pop();
        s.waiting.is_empty()
    });
    assert!(all, "{words}: {} were never served", server.waiting.len());
    assert!(seen as usize <= most, "{words}: {seen} at once");
    server.served.clear();
    assert!(server.comes_true(LONG, |s| s.counter("clients") == 0 && s.counter("parked") == s.counter("unparked")));
    assert_eq!(server.stats().served as usize, CLIENTS);
    server.finish().passes();
}

#[test]
fn clients_over_the_limit_wait() {
    for words in [
        "epoll",
        "epoll et",
        "epoll sets",
        "epoll oneshot",
        "epoll exclusive",
        "poll",
        "threads closer",
        "epoll closer",
    ] {
        limits_clients(words, 10);
    }
    limits_clients("epoll", 1);
    limits_clients("threads closer", 1);
}

#[test]
fn clients_over_the_limit_are_refused() {
    for words in ["epoll", "epoll et", "poll", "threads closer"] {
        let mut server =
            Server::start(words, true, &[("TIDEOVER_MAX_CLIENTS", "10"), ("TIDEOVER_OVER_LIMIT", "refuse")]);
        server.connect(CLIENTS);
        assert!(server.comes_true(LONG, |s| s.waiting.is_empty()), "{words}: {} wait", server.waiting.len());
        assert_eq!((server.served.len(), server.away.len()), (10, CLIENTS - 10), "{words}");
        assert_eq!(server.counter("refused") as usize, CLIENTS - 10, "{words}");
        server.served.truncate(5);
        assert!(server.comes_true(LONG, |s| s.counter("clients") == 5), "{words}: they have left");
        server.connect(5);
        assert!(server.comes_true(LONG, |s| s.served.len() == 10), "{words}: there is room again");
        server.finish().passes();
    }
}

#[test]
fn clients_come_at_the_rate_that_is_set() {
    for words in ["epoll", "epoll et", "poll", "threads closer"] {
        let mut server = Server::start(words, true, &[("TIDEOVER_ACCEPT_RATE", "20")]);
        let begun = Instant::now();
        server.connect(20);
        assert!(server.comes_true(LONG, |s| s.served.len() == 20), "{words}: {} served", server.served.len());
        let took = begun.elapsed();
        // The first two come at once.
        assert!(took >= Duration::from_millis(850), "{words}: {took:?}");
        assert!(server.stats().accepts < 1000, "{words}: {:?}", server.stats());
        server.finish().passes();
    }
}

#[test]
fn limits_that_make_no_sense_are_said_so_and_have_no_effect() {
    for (name, value, says) in [
        ("TIDEOVER_MAX_CLIENTS", "0", "TIDEOVER_MAX_CLIENTS=0 is not off, or a whole number from 1 to 65535"),
        ("TIDEOVER_MAX_CLIENTS", "5000", "TIDEOVER_MAX_CLIENTS=5000 has no effect: the limit on descriptors is 32"),
        ("TIDEOVER_ACCEPT_RATE", "fast", "TIDEOVER_ACCEPT_RATE=fast is not off, or a whole number from 1"),
        ("TIDEOVER_ACCEPT", "perhaps", "TIDEOVER_ACCEPT=perhaps is not one of pass, park, shed"),
        ("TIDEOVER_SHED_AFTER", "5", "TIDEOVER_SHED_AFTER=5 is not off, or a duration"),
    ] {
        let mut server = Server::start("epoll", true, &[(name, value)]);
        server.fill();
        assert!(server.drain(), "{name}={value}: {} were never served", server.waiting.len());
        server.finish().passes().says(says);
    }
}
