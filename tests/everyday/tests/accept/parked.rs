//! Listeners that are parked at the limit, and what can't be: nobody is forgotten, nothing spins.

use tideover_contract::page;

use super::*;

#[test]
fn a_level_triggered_server_neither_spins_nor_forgets() {
    spins("epoll");
    is_quiet_and_serves_all("epoll");
    is_quiet_and_serves_all("epoll pwait");
    is_quiet_and_serves_all("epoll pwait2");
}

#[test]
fn an_edge_triggered_server_hears_of_clients_that_had_to_wait() {
    forgets("epoll et");
    is_quiet_and_serves_all("epoll et");
    is_quiet_and_serves_all("epoll et exclusive");
}

#[test]
fn an_exclusive_listener_is_parked() {
    spins("epoll exclusive");
    is_quiet_and_serves_all("epoll exclusive");
}

#[test]
fn a_oneshot_listener_is_parked() {
    spins("epoll oneshot");
    is_quiet_and_serves_all("epoll oneshot");
}

#[test]
fn a_listener_in_two_sets_is_parked_in_both() {
    spins("epoll sets");
    is_quiet_and_serves_all("epoll sets");
    is_quiet_and_serves_all("epoll sets et");
    is_quiet_and_serves_all("epoll sets exclusive");
}

#[test]
fn two_listeners_of_one_port_are_parked_both() {
    spins("epoll reuseport");
    is_quiet_and_serves_all("epoll reuseport");
}

#[test]
fn a_listener_that_was_inherited_is_parked() {
    for from in ["fork", "exec", "scm"] {
        spins(&format!("epoll {from}"));
        is_quiet_and_serves_all(&format!("epoll {from}"));
        is_quiet_and_serves_all(&format!("epoll et {from}"));
    }
}

#[test]
fn a_listener_that_was_registered_unseen_is_parked() {
    for unseen in ["late", "raw", "dupset"] {
        spins(&format!("epoll {unseen}"));
        is_quiet_and_serves_all(&format!("epoll {unseen}"));
        is_quiet_and_serves_all(&format!("epoll et {unseen}"));
    }
}

#[test]
fn closes_that_nobody_sees_are_noticed() {
    is_quiet_and_serves_all("epoll rawclose");
    is_quiet_and_serves_all("epoll et rawclose");
}

#[test]
fn a_loop_that_polls_its_epoll_set_notices_them_too() {
    spins("epoll nested");
    is_quiet_and_serves_all("epoll nested rawclose");
    is_quiet_and_serves_all("epoll et nested rawclose");
}

#[test]
fn a_set_that_two_processes_wait_for_is_left_to_the_one_that_can_serve() {
    for words in ["epoll sharedset", "epoll sharedset et"] {
        let mut server = Server::start(words, true, &[]);
        server.connect(CLIENTS);
        // The child's limit is far below that; the parent has none.
        assert!(server.comes_true(LONG, |s| s.served.len() == CLIENTS), "{words}: {} served", server.served.len());
        server.served.clear();
        server.finish().passes();
    }
}

#[test]
fn another_thread_closes() {
    spins("epoll closer");
    is_quiet_and_serves_all("epoll closer");
    is_quiet_and_serves_all("epoll et closer");
    is_quiet_and_serves_all("epoll closer rawclose");
}

/// A server that can't be parked: it is slowed down, and hears EAGAIN.
#[track_caller]
fn is_paced_and_serves_all(words: &str) {
    let (server, _) = full_and_calm(words, 250);
    serves_all(server, words);
}

#[test]
fn loops_over_poll_and_select_are_slowed_down() {
    for how in ["poll", "select", "poll epoll"] {
        spins(how);
        is_paced_and_serves_all(how);
    }
}

#[test]
fn threads_that_block_in_accept_wait_for_descriptors() {
    spins("threads closer");
    is_paced_and_serves_all("threads closer");
    is_paced_and_serves_all("threads closer rawclose");
}

/// A listener whose set refuses to be changed can't be parked, as is said: its loop is slowed down, and hears EAGAIN.
#[test]
fn a_set_that_refuses_to_be_changed_is_left_alone() {
    let run = Run::new(fixture("without_mod")).arg(fixture("server")).arg(LIMIT).arg("epoll");
    let [plain, ours] = [false, true].map(|preload| {
        let mut server = Server::of(run.clone().preload(preload));
        server.fill();
        assert_eq!(server.ask("mod"), "mod: EPERM");
        let (before, after) = server.stats_of_a_while();
        if preload {
            assert_eq!((after.refused, server.counter("parked")), (0, 0), "it saw EMFILE, or was parked");
            assert!(server.page().counter("calls", "bypassed") > 0);
        }
        assert!(server.drain(), "{} were never served", server.waiting.len());
        let outcome = server.finish();
        assert_eq!(outcome.passes().ours().iter().any(|line| line.contains("refuses (EPERM)")), preload, "{outcome}");
        after.accepts - before.accepts
    });
    assert!(ours < 250 && plain > 4 * ours, "{ours} accepts in 0.4 s, {plain} without the library");
}

/// The system's table of files is full, which every descriptor of every process may end: the clients wait.
#[test]
fn a_server_waits_for_a_file_of_the_system() {
    let scratch = Scratch::new();
    let full = scratch.join("full");
    for words in ["epoll", "poll", "threads"] {
        let run = Run::new(fixture("server")).arg("256").args(words.split(' '));
        let run = run.preload_after(preload_fixture("enfile")).env("ENFILE_WHILE", full.as_os_str());
        let [plain, ours] = [false, true].map(|preload| {
            fs::write(&full, "").expect("it is ours");
            let mut server = Server::of(run.clone().preload(preload));
            server.connect(CLIENTS);
            assert!(server.comes_true(LONG, |s| s.stats().accepts > 0), "{words}: it tries");
            std::thread::sleep(WHILE);
            let stats = server.stats();
            assert!(server.served.is_empty(), "{words}");
            fs::remove_file(&full).expect("it is ours");
            assert!(server.drain(), "{words}: {} were never served", server.waiting.len());
            if preload {
                let page = server.page();
                assert!(page.exhaustion("enfile") > 0 && page.exhaustion("emfile") == 0, "{words}: it was ENFILE");
            }
            server.finish().passes();
            stats
        });
        assert!(plain.refused > 1000, "{words}: without the library it spins: {plain:?}");
        assert!(ours.refused == 0 && ours.accepts < 250, "{words}: {ours:?}");
    }
}

#[test]
fn what_is_no_listener_gets_the_native_error() {
    let settings =
        ["ACCEPT=park", "ACCEPT=shed", "ACCEPT_RATE=1000", "MAX_CLIENTS=2", "OVER_LIMIT=refuse MAX_CLIENTS=2"];
    for words in settings {
        let run = words.split(' ').fold(Run::new(fixture("not_listeners")).limit(64), |run, word| {
            let (name, value) = word.split_once('=').expect("a setting");
            run.env(format!("TIDEOVER_{name}"), value)
        });
        let both = run.both();
        both.plain
            .passes()
            .says("at the limit, pipe: EMFILE EMFILE")
            .says("far from it, datagrams: EOPNOTSUPP EOPNOTSUPP");
        assert_eq!(both.plain.stdout, both.preloaded.passes().stdout, "{words}");
    }
}

/// Found by reading: a parked listener was heard of no more.
#[test]
fn waiting_clients_are_served_whoever_made_the_epoll_set_and_whatever_it_is_allowed() {
    for how in ["raw", "sandbox"] {
        let both = Run::new(fixture("edges_server")).arg(how).both();
        for outcome in [&both.plain, &both.preloaded] {
            outcome.passes();
            assert_eq!(outcome.stdout.trim(), "5 more", "{how}: {outcome}");
        }
        both.preloaded.says("clients wait until one is free");
    }
}

/// Found by reading: it tried for ever.
#[test]
fn a_client_that_can_not_even_be_turned_away_is_left_to_the_program() {
    let both = Run::new(fixture("no_reserve")).env("TIDEOVER_ACCEPT", "shed").both();
    both.plain.passes().says("accept: EMFILE").says("after a close: EMFILE");
    both.preloaded.passes().says("accept: EMFILE");
}

#[test]
fn epoll_ctl_answers_as_the_kernel_would_while_a_listener_is_parked() {
    let calls = ["mod", "mod", "del", "del", "mod", "add", "add", "mask", "mod", "del", "add"];
    for words in ["epoll", "epoll et", "epoll exclusive", "epoll oneshot", "epoll et exclusive"] {
        let [plain, ours] = [false, true].map(|preload| {
            let mut server = Server::start(words, preload, &[]);
            server.fill();
            let answers = calls.map(|call| server.ask(call));
            if preload {
                assert!(server.counter("parked") > 0, "{words}");
                serves_all(server, words);
            } else {
                server.finish().passes();
            }
            answers
        });
        assert_eq!(plain, ours, "{words}");
    }
}

#[test]
fn what_the_program_masks_while_parked_stays_masked() {
    let mut server = Server::start("epoll", true, &[]);
    server.fill();
    assert_eq!(server.ask("mask"), "mask: ok");
    let waiting = server.waiting.len();
    server.served.clear();
    server.comes_true(Duration::from_millis(500), |_| false);
    assert_eq!(server.waiting.len(), waiting, "nobody is served");
    assert_eq!(server.ask("mod"), "mod: ok");
    serves_all(server, "epoll");
}

#[test]
fn a_listener_or_a_set_that_is_closed_while_parked_is_forgotten() {
    for words in ["epoll", "epoll et", "epoll exclusive"] {
        let mut server = Server::start(words, true, &[]);
        server.fill();
        assert!(server.counter("parked") > 0);
        assert_eq!(server.ask("reopenset"), "reopenset: ok");
        server.served.clear();
        assert!(server.comes_true(LONG, |s| s.waiting.is_empty() || s.served.len() >= 15), "the new set is heard of");
        assert_eq!(server.ask("close"), "close: ok");
        server.served.clear();
        // Some of those who are served have not heard of it yet.
        let have_left = |s: &mut Server| {
            s.served.clear();
            s.stats().clients == 0
        };
        assert!(server.comes_true(LONG, have_left), "{words}: {:?}", server.stats());
        assert_eq!(server.counter("parked"), server.counter("unparked"));
        server.finish().passes();
    }
}

#[test]
fn accept_with_nobody_waiting_waits_or_says_so_at_the_limit() {
    for (how, truth) in [
        ("nonblock", "EAGAIN, at once"),
        ("syscall", "EAGAIN, at once"),
        ("timeout", "EAGAIN, after a while"),
        ("signal", "EINTR"),
        ("restart", "goes on\naccepted"),
        ("cancel", "cancelled"),
        ("client", "accepted"),
        ("shutdown", "EINVAL"),
    ] {
        let mut plain = Run::new(fixture("phantom")).arg(how).limit(32).start();
        plain.wait_for("EMFILE");
        plain.finish();
        let ours = Run::new(fixture("phantom")).arg(how).limit(32).preload(true).output();
        assert_eq!(ours.passes().stdout.trim(), truth, "{how}: {ours}");
    }
}

/// Tenths of a second after which each accept(2) was given its error.
fn error_after(what: &str, preload: bool) -> Vec<u64> {
    let run = Run::new(fixture("acceptors")).arg(what).limit(32).preload(preload).timeout(Duration::from_secs(60));
    let outcome = run.output();
    outcome.passes();
    let words = outcome.stdout.lines().filter_map(|line| line.rsplit("error after ").next());
    words.map(|word| word.parse().unwrap_or_else(|_| panic!("{outcome}"))).collect()
}

/// A thread that blocks in accept(2) waits for descriptors that others may close. Where nobody could, it has its error at once.
#[test]
fn threads_in_accept_that_nobody_could_help_are_told_at_once() {
    for what in ["single", "all"] {
        // Both threads, if both call at once.
        let plain = error_after(what, false);
        assert!(!plain.is_empty() && plain.iter().all(|&tenths| tenths == 0), "{what}: {plain:?}");
        let ours = error_after(what, true);
        assert!(!ours.is_empty() && ours.iter().all(|&tenths| tenths < 5), "{what}: {ours:?}");
    }
}

/// One that has an answer of its own to the error is found out by what it does after the first.
#[test]
fn a_thread_in_accept_that_helps_itself_waits_once() {
    assert_eq!(error_after("remedy", false), [0, 0, 0]);
    let ours = error_after("remedy", true);
    assert!(ours.len() == 3 && (10..=60).contains(&ours[0]) && ours[1] < 5 && ours[2] < 5, "{ours:?}");
}

/// Numbers of the descriptors of a process that are listening sockets of this port, by /proc.
fn listeners_of(pid: u32, port: u16) -> Vec<i32> {
    let sockets = fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("its sockets");
    let columns = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listens = |row: &Vec<&str>| row.len() > 9 && row[3] == "0A" && row[1].ends_with(&format!(":{port:04X}"));
    let links: Vec<String> = columns.filter(listens).map(|row| format!("socket:[{}]", row[9])).collect();
    let of_fd = |entry: fs::DirEntry| {
        let link = fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned();
        links.contains(&link).then(|| entry.file_name().to_string_lossy().parse().expect("a number"))
    };
    fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten().filter_map(of_fd).collect()
}

#[test]
fn an_event_of_a_parked_listener_names_it() {
    for words in ["epoll", "epoll et", "epoll reuseport"] {
        let mut server = Server::start(words, true, &[]);
        let listeners = listeners_of(server.pid, server.port);
        server.fill();
        let page = server.page();
        let parked: Vec<i32> = page
            .view()
            .events()
            .filter(|event| page::kind_name(event.kind) == "parked")
            .map(|event| event.fd)
            .collect();
        assert!(!parked.is_empty() && !listeners.is_empty(), "{words}: {:?}", page.events());
        assert!(parked.iter().all(|fd| listeners.contains(fd)), "{words}: {parked:?} of {listeners:?}");
        serves_all(server, words);
    }
}
