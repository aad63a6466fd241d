//! Clients that are turned away or made to wait because the user wants it: TIDEOVER_ACCEPT, TIDEOVER_MAX_CLIENTS, TIDEOVER_ACCEPT_RATE.

use std::os::fd::FromRawFd;

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

/// Connects so many clients from one address of this machine.
fn connect_from(server: &mut Server, address: [u8; 4], count: usize) {
    for _ in 0..count {
        match connected_from(address, server.port) {
            Ok(client) => server.waiting.push(client),
            Err(wrong) if matches!(wrong.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                server.away.push(Some(ErrorKind::ConnectionReset));
            }
            Err(wrong) => panic!("it should be let in, or turned away: {wrong}"),
        }
    }
}

fn connected_from(address: [u8; 4], port: u16) -> std::io::Result<TcpStream> {
    let of = |address: [u8; 4], port: u16| libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address) },
        sin_zero: [0; 8],
    };
    let (own, server) = (of(address, 0), of([127, 0, 0, 1], port));
    let size = size_of::<libc::sockaddr_in>() as u32;
    // So that the test fails, and does not wait for minutes, where nobody accepts: connect(2) then says EINPROGRESS.
    let patience = libc::timeval { tv_sec: LONG.as_secs() as i64, tv_usec: 0 };
    // SAFETY: a new socket, which nobody else owns, two addresses and a time, each of the size that is said.
    let (mut client, connected) = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        let socket = TcpStream::from_raw_fd(fd);
        let (level, name, length) = (libc::SOL_SOCKET, libc::SO_SNDTIMEO, size_of::<libc::timeval>() as u32);
        libc::setsockopt(fd, level, name, (&raw const patience).cast(), length);
        let bound = libc::bind(fd, (&raw const own).cast(), size);
        (socket, bound == 0 && libc::connect(fd, (&raw const server).cast(), size) == 0)
    };
    if !connected {
        return Err(std::io::Error::last_os_error());
    }
    client.set_nonblocking(true)?;
    client.write_all(b"x")?;
    Ok(client)
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const THERE: [u8; 4] = [127, 0, 0, 2];

/// All of these clients have been served or turned away.
#[track_caller]
fn all_know(server: &mut Server, words: &str) {
    assert!(server.comes_true(LONG, |s| s.waiting.is_empty()), "{words}: {} wait", server.waiting.len());
}

#[test]
fn a_client_address_has_no_more_connections_than_it_may() {
    for words in ["epoll", "epoll et", "epoll exclusive", "poll", "threads closer", "epoll closer"] {
        let settings = [("TIDEOVER_MAX_PER_CLIENT", "3")];
        let mut plain = Server::start(words, false, &settings);
        connect_from(&mut plain, HERE, 10);
        all_know(&mut plain, words);
        assert_eq!(plain.served.len(), 10, "{words}: it is a setting of the library");
        plain.finish().passes();

        let mut server = Server::start(words, true, &settings);
        connect_from(&mut server, HERE, 10);
        all_know(&mut server, words);
        assert_eq!((server.served.len(), server.away.len()), (3, 7), "{words}");
        connect_from(&mut server, THERE, 10);
        all_know(&mut server, words);
        assert_eq!(
            (server.served.len(), server.away.len()),
            (6, 14),
            "{words}: another address has connections of its own"
        );
        assert_eq!((server.counter("refused"), server.counter("clients")), (14, 6), "{words}");
        assert_eq!(server.stats().clients, 6, "{words}: the program never saw the others");
        server.served.clear();
        assert!(server.comes_true(LONG, |s| s.counter("clients") == 0), "{words}: they have left");
        connect_from(&mut server, HERE, 3);
        all_know(&mut server, words);
        assert_eq!(server.served.len(), 3, "{words}: there is room again");
        server.finish().passes();
    }
}

#[test]
fn a_client_address_comes_no_more_often_than_it_may() {
    for words in ["epoll", "epoll et", "poll", "threads closer"] {
        let mut server = Server::start(words, true, &[("TIDEOVER_RATE_PER_CLIENT", "5")]);
        connect_from(&mut server, HERE, 15);
        all_know(&mut server, words);
        let served = server.served.len();
        assert!((5..10).contains(&served), "{words}: {served} of 15");
        connect_from(&mut server, THERE, 5);
        all_know(&mut server, words);
        assert_eq!(server.served.len(), served + 5, "{words}: another address has a rate of its own");
        std::thread::sleep(Duration::from_millis(450));
        connect_from(&mut server, HERE, 2);
        all_know(&mut server, words);
        assert_eq!(server.served.len(), served + 7, "{words}: after a while it may come again");
        server.finish().passes();
    }
}

/// More addresses than the table of rates holds, most of which come once: the most active one is still held to its rate, and it is said
/// once.
#[test]
fn more_client_addresses_than_the_table_holds_are_no_way_around_a_rate() {
    let settings = [("TIDEOVER_RATE_PER_CLIENT", "2"), ("TIDEOVER_ACCEPT", "shed")];
    let mut server = Server::start("epoll", true, &settings);
    for i in 0..2000u32 {
        let [_, _, high, low] = i.to_be_bytes();
        let came = connected_from([127, 1, high, low], server.port);
        assert!(!came.is_err_and(|wrong| wrong.raw_os_error() == Some(libc::EINPROGRESS)), "nobody accepts");
        if i % 100 == 0 {
            connect_from(&mut server, HERE, 5);
        }
    }
    all_know(&mut server, "epoll");
    assert!(server.away.len() > 60, "{} of 100 turned away", server.away.len());
    let outcome = server.finish();
    let said = outcome.passes().ours().iter().filter(|line| line.contains("more client addresses are active")).count();
    assert_eq!(said, 1, "{outcome}");
}

#[test]
fn limits_per_client_that_make_no_sense_are_said_so_and_have_no_effect() {
    for (name, value) in [
        ("TIDEOVER_MAX_PER_CLIENT", "0"),
        ("TIDEOVER_RATE_PER_CLIENT", "0"),
        ("TIDEOVER_RATE_PER_CLIENT", "5/s"),
        ("TIDEOVER_RATE_PER_CLIENT", "-1"),
        ("TIDEOVER_MAX_LIFETIME", "soon"),
    ] {
        let mut server = Server::start("epoll", true, &[(name, value)]);
        connect_from(&mut server, HERE, 10);
        all_know(&mut server, name);
        assert_eq!(server.served.len(), 10, "{name}={value}");
        let outcome = server.finish();
        let said = outcome.passes().ours().iter().filter(|line| line.contains(name)).count();
        assert_eq!(said, 1, "{name}={value}: {outcome}");
    }
}

#[test]
fn at_the_limit_the_oldest_connections_make_room() {
    let mut server = Server::start("epoll", true, &[("TIDEOVER_MAX_LIFETIME", "700ms")]);
    server.fill();
    let served = server.served.len();
    // Those who are cut off read the end, and drop their socket.
    let all_in_turn = server.comes_true(LONG, |s| {
        s.served.retain_mut(|client| client.read(&mut [0]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
        s.waiting.is_empty()
    });
    assert!(all_in_turn, "{} wait", server.waiting.len());
    assert!(
        server.counter("idle_closed") as usize >= CLIENTS - served,
        "{} were cut off",
        server.counter("idle_closed")
    );
    let outcome = server.finish();
    assert!(outcome.stderr.contains("TIDEOVER_MAX_LIFETIME=700ms"), "{outcome}");
}

#[test]
fn a_server_at_its_limit_tells_of_its_connections_once_in_a_while() {
    let settings = [("TIDEOVER_LOG", "info")];
    let mut server = Server::start("epoll", true, &settings);
    server.fill();
    assert!(server.drain(), "{} were never served", server.waiting.len());
    let outcome = server.finish();
    let told = outcome.passes().ours().iter().filter(|line| line.contains("connections: ")).count();
    assert_eq!(told, 1, "{outcome}");
    let mut quiet = Server::start("epoll", true, &[]);
    quiet.fill();
    assert!(quiet.finish().ours().iter().all(|line| !line.contains("connections: ")), "it is not at level warn");
}
