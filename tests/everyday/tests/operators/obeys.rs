//! `tideover control`: the library in a running process passes everything through, acts again, reads the policy file again.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tideover_tests::programs::python;
use tideover_tests::{Disk, Kind, Page, Run, Running, Scratch, fixture, needs};

use super::{json, of_pages, tell};

/// What takes longer than this does not happen.
const LONG: Duration = Duration::from_secs(20);

/// Tells a process, and says whether it has obeyed within a second.
#[track_caller]
fn control(pages: &Scratch, process: &Running, word: &str) -> bool {
    let said = of_pages(pages, &["control", &process.pid().to_string(), word, "--json"]).output();
    json(said.passes())["obeyed"] == true
}

/// Has the process obeyed the last word?
fn obeyed(pages: &Scratch, process: &Running) -> bool {
    let page = Page::read(pages.path(), process.pid()).expect("it has a page");
    let (control, obeyed) = page.view().control();
    control == obeyed && control != 0
}

/// A server with one thread that accepts as many clients as it can, in an event loop, and counts what fails.
const SERVER: &str = "import selectors, socket, sys\n\
    listener = socket.create_server(('127.0.0.1', 0), backlog=128)\nlistener.setblocking(False)\n\
    loop = selectors.DefaultSelector()\nloop.register(listener, 1)\nloop.register(sys.stdin, 1)\n\
    print('port', listener.getsockname()[1], flush=True)\nclients, failures = [], 0\n\
    while True:\n    for key, _ in loop.select():\n        \
    if key.fileobj is listener:\n            \
    try: clients.append(listener.accept()[0])\n            \
    except BlockingIOError: pass\n            \
    except OSError: failures += 1\n        \
    else:\n            word = sys.stdin.readline()\n            \
    if not word: sys.exit()\n            \
    if word == 'drop\\n': clients = []\n            \
    print('told', failures, len(clients), flush=True)\n";

/// Asks the server how many calls have failed, and how many clients it has.
fn ask(server: &mut Running, word: &str) -> (u64, u64) {
    server.say(word);
    let line = server.wait_for("told");
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.trim().parse().ok()).collect();
    (numbers[0], numbers[1])
}

#[test]
fn a_server_whose_listener_is_parked_is_left_alone_and_carried_again() {
    let pages = Scratch::new();
    let run = python(SERVER).limit(24).page_dir(pages.path()).env("PYTHONWARNINGS", "ignore");
    for preload in [false, true] {
        let mut server = run.clone().preload(preload).start();
        let port: u16 = server.wait_for("port").trim().rsplit(' ').next().unwrap().parse().unwrap();
        let clients: Vec<TcpStream> = (0..30).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        sleep(Duration::from_millis(300));
        let (failures, served) = ask(&mut server, "tell");
        assert!((10..24).contains(&served), "{served}");
        if !preload {
            assert!(failures > 1000, "the control: without the library it spins: {failures}");
            server.signal(libc::SIGKILL);
            server.finish();
            continue;
        }
        assert_eq!(failures, 0);
        let counted =
            |server: &Running, name| Page::read(pages.path(), server.pid()).unwrap().counter("connections", name);
        assert!(counted(&server, "parked") > 0);
        // It sleeps, and obeys all the same: it looks after what is parked.
        assert!(control(&pages, &server, "off"));
        sleep(Duration::from_millis(300));
        let (spun, _) = ask(&mut server, "tell");
        assert!(spun > 1000, "it is passed through: {spun}");
        assert_eq!(counted(&server, "parked"), counted(&server, "unparked"));
        // It spins, and so finds no descriptor soon.
        assert!(control(&pages, &server, "on"));
        let (before, _) = ask(&mut server, "tell");
        sleep(Duration::from_millis(300));
        let (after, _) = ask(&mut server, "tell");
        assert!(after <= before + 2, "{before} {after}");
        let (_, none) = ask(&mut server, "drop");
        assert_eq!(none, 0);
        let end = Instant::now() + LONG;
        while ask(&mut server, "tell").1 + served < 30 {
            assert!(Instant::now() < end, "everybody else is served");
            sleep(Duration::from_millis(20));
        }
        drop(clients);
        server.signal(libc::SIGTERM);
        server.finish();
    }
}

#[test]
fn a_program_at_its_limit_gets_the_error_while_it_is_off() {
    let pages = Scratch::new();
    let start = || Run::new(fixture("ebb")).soft(64).hard(256).page_dir(pages.path()).preload(true).start();
    let soft =
        |running: &Running| Page::read(pages.path(), running.pid()).unwrap().counter("descriptors", "soft_limit");
    // The control: it is raised.
    let mut running = start();
    tell(&mut running, "fill");
    assert_eq!(soft(&running), 256);
    running.finish();
    let policy = pages.write("policy.toml", "raise = 'off'\n");
    fs::set_permissions(&policy, fs::Permissions::from_mode(0o644)).unwrap();
    let mut running = Run::new(fixture("ebb"))
        .soft(64)
        .hard(256)
        .page_dir(pages.path())
        .preload(true)
        .env("TIDEOVER_CONFIG", &policy)
        .env("TIDEOVER_MAX_RETRIES", "0")
        .start();
    tell(&mut running, "fill");
    assert_eq!(soft(&running), 64, "the policy says so");
    // The policy is another one: it is read when a call fails.
    fs::write(&policy, "raise = 'auto'\nmax_retries = 7\n").unwrap();
    assert!(!control(&pages, &running, "reload"), "it sleeps");
    tell(&mut running, "fill");
    assert!(obeyed(&pages, &running));
    assert_eq!(soft(&running), 256, "it is raised by the new policy");
    let said = json(of_pages(&pages, &["config", &running.pid().to_string(), "--json"]).output().passes());
    let of = |name: &str| said["settings"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!((&of("raise")["value"], &of("raise")["source"]), (&"auto".into(), &"policy".into()));
    assert_eq!((&of("max_retries")["value"], &of("max_retries")["source"]), (&"0".into(), &"environment".into()));
    // One that leaves it out is off. At the hard limit there is no descriptor to read it by: it is read when one is closed.
    fs::write(&policy, "except = ['ebb']\n").unwrap();
    control(&pages, &running, "reload");
    tell(&mut running, "fill");
    assert!(!obeyed(&pages, &running));
    tell(&mut running, "drain");
    assert!(obeyed(&pages, &running));
    tell(&mut running, "fill");
    let page = Page::read(pages.path(), running.pid()).unwrap();
    let (gave_up, bypassed) = (page.exhaustion("gave_up"), page.counter("calls", "bypassed"));
    tell(&mut running, "fill");
    let page = Page::read(pages.path(), running.pid()).unwrap();
    assert_eq!(page.exhaustion("gave_up"), gave_up, "nothing is tried");
    assert_eq!(page.counter("calls", "bypassed"), bypassed + 1);
    running.finish();
}

/// What can't be used is no policy that gives nothing: with one of those, the program would have had the defaults.
#[test]
fn a_policy_that_became_unusable_changes_nothing_when_it_is_read_again() {
    let (pages, folder) = (Scratch::new(), Scratch::new());
    let path = folder.join("policy.toml");
    let mode = |mode: u32| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    let written = |text: &str| {
        fs::write(&path, text).unwrap();
        mode(0o644);
    };
    // Root may read what nobody may, but for these capabilities.
    // SAFETY: it only asks for a number.
    let run = if unsafe { libc::geteuid() } == 0 {
        let without = ["--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"];
        Run::new("setpriv").args(without).arg(fixture("ebb"))
    } else {
        Run::new(fixture("ebb"))
    };
    let run = run.soft(64).hard(256).page_dir(pages.path()).preload(true).env("TIDEOVER_CONFIG", &path);
    let run = run.env("TIDEOVER_MAX_RETRIES", "0");
    for how in ["unreadable", "writable by others", "a folder", "too long"] {
        written("raise = 'off'\n");
        let mut running = run.start();
        tell(&mut running, "fill");
        match how {
            "unreadable" => mode(0o000),
            "writable by others" => mode(0o666),
            "a folder" => {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            _ => written(&format!("raise = 'auto'\n{}", "# long\n".repeat(20_000))),
        }
        // With a descriptor free to read it by.
        tell(&mut running, "drain");
        control(&pages, &running, "reload");
        tell(&mut running, "fill");
        tell(&mut running, "drain");
        assert!(obeyed(&pages, &running), "{how}");
        tell(&mut running, "fill");
        let soft =
            |running: &Running| Page::read(pages.path(), running.pid()).unwrap().counter("descriptors", "soft_limit");
        assert_eq!(soft(&running), 64, "{how}: the policy that it had");
        if how == "a folder" {
            fs::remove_dir(&path).unwrap();
        }
        // The control: one that can be used, and says what those would have led to.
        written("raise = 'auto'\n");
        tell(&mut running, "drain");
        control(&pages, &running, "reload");
        tell(&mut running, "fill");
        tell(&mut running, "drain");
        tell(&mut running, "fill");
        assert_eq!(soft(&running), 256, "{how}");
        let outcome = running.finish();
        let said = outcome.stderr.matches("policy.toml").count();
        assert_eq!(said, 1, "{how}: it is said once: {outcome}");
    }
}

#[test]
fn a_program_that_is_told_off_before_its_limit_is_not_raised() {
    let pages = Scratch::new();
    let script = "import os, sys\nfor _ in range(20): os.open('/dev/null', 0)\nprint('ready', flush=True)\ninput()\nn = 0\n\
        try:\n    while n < 150: os.open('/dev/null', 0); n += 1\nexcept OSError as error: print(error.errno)\n\
        print('ended', n, flush=True)\ninput()\n";
    for (word, expected) in [("off", false), ("on", true)] {
        let mut running = python(script).soft(64).hard(256).page_dir(pages.path()).preload(true).start();
        running.wait_for("ready");
        assert!(!control(&pages, &running, word), "it sleeps");
        running.say("");
        let line = running.wait_for("ended");
        assert_eq!(line.contains("ended 150"), expected, "{word}: {line}");
        assert!(obeyed(&pages, &running));
        running.say("");
        running.finish().passes();
    }
}

#[test]
fn a_page_that_others_could_write_is_not_obeyed() {
    let pages = Scratch::new();
    let mut running = Run::new(fixture("ebb")).limit(64).page_dir(pages.path()).preload(true).start();
    tell(&mut running, "fill");
    let path = Page::path(pages.path(), running.pid());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o622)).unwrap();
    control(&pages, &running, "off");
    tell(&mut running, "fill");
    assert!(!obeyed(&pages, &running));
    // The control: the next word, when it is closed again.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    control(&pages, &running, "off");
    tell(&mut running, "fill");
    assert!(obeyed(&pages, &running));
    let outcome = running.finish();
    outcome.says("others than the owner of the page and root can write to it: what it says is not obeyed; chmod go-w");
}

/// A logger that says of each line whether it could be written.
const LOGGER: &str = "import os, sys\nout = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)\nfor line in sys.stdin:\n    \
    try: os.write(out, line.encode()); print('told', 0, flush=True)\n    \
    except OSError as error: print('told', error.errno, flush=True)\n";

#[needs(mounts)]
#[test]
fn a_logger_whose_lines_are_held_gets_the_error_and_its_lines_are_put_back_in_order() {
    let pages = Scratch::new();
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = python(LOGGER).arg(&log).page_dir(pages.path()).preload(true).env("TIDEOVER_FALLBACK", "hold");
    let mut logger = run.start();
    let write = |logger: &mut Running, text: &str| {
        logger.say(text);
        logger.wait_for("told").trim().rsplit(' ').next().unwrap().parse::<i32>().unwrap()
    };
    // A page of memory each, so that none fits behind another on the full disk.
    let line = |what: &str| format!("line {what} {}", "x".repeat(4096 - 7 - what.len()));
    assert_eq!(write(&mut logger, &line("1")), 0);
    disk.fill();
    for n in 2..=20 {
        assert_eq!(write(&mut logger, &line(&n.to_string())), 0, "it is held");
    }
    control(&pages, &logger, "off");
    assert_eq!(write(&mut logger, &line("lost")), libc::ENOSPC, "it is off, and the disk is full");
    assert!(obeyed(&pages, &logger));
    assert_eq!(write(&mut logger, &line("lost")), libc::ENOSPC);
    disk.free();
    // Without any wait: what was held is before it.
    assert_eq!(write(&mut logger, &line("21")), 0);
    let numbers = |text: String| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix("line ")?.split(' ').next()).map(str::to_string).collect()
    };
    let expected = |upto: u32| (1..=upto).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(numbers(fs::read_to_string(&log).unwrap()), expected(21));
    disk.fill();
    control(&pages, &logger, "on");
    assert_eq!(write(&mut logger, &line("22")), 0, "it is held");
    assert!(obeyed(&pages, &logger));
    disk.free();
    sleep(Duration::from_millis(300));
    assert_eq!(write(&mut logger, &line("23")), 0);
    assert_eq!(numbers(fs::read_to_string(&log).unwrap()), expected(23));
    logger.finish().passes();
}
