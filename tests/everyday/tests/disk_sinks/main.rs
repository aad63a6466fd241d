//! Where lines go that do not fit into their log, and what happens when they can't go there.

mod settings;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::thread;
use std::time::Duration;

use tideover_tests::loggers::writer;
use tideover_tests::numbered::{Account, OURS, line, lines};
use tideover_tests::outage::{Fed, Told, nothing_lost, outage};
use tideover_tests::programs::python;
use tideover_tests::sinks::{collected, longest, pipe, sent_to_stderr};
use tideover_tests::{Both, Disk, Kind, Run, Scratch, fixture, needs, program};

/// A preloaded writer through an outage on a small tmpfs.
fn through(prepare: impl Fn(Run, &Disk) -> Run) -> Told {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = prepare(writer(&log), &disk);
    outage(&disk, &log, 100, Fed::start(&run))
}

#[track_caller]
fn all_on_stderr(told: &Told) {
    told.outcome.passes();
    let account = told.account(&sent_to_stderr(&told.outcome));
    nothing_lost(told, &account);
    account.markers_tell_all();
    assert_eq!(told.outcome.stdout, "", "{}", told.outcome);
}

#[needs(mounts)]
#[test]
fn standard_error_when_asked_for() {
    all_on_stderr(&through(|run, _| run.env("TIDEOVER_FALLBACK", "stderr")));
}

#[needs(mounts)]
#[test]
fn standard_error_when_standard_output_is_on_the_same_full_disk() {
    all_on_stderr(&through(|run, disk| {
        let other = OpenOptions::new().append(true).create(true).open(disk.join("out.log")).expect("there is space");
        run.stdout(other)
    }));
}

#[needs(mounts)]
#[test]
fn standard_error_when_standard_output_is_closed() {
    all_on_stderr(&through(|run, _| run.closed(1)));
}

#[needs(mounts)]
#[test]
fn standard_error_when_nobody_reads_standard_output_any_more() {
    // And no SIGPIPE.
    all_on_stderr(&through(|run, _| {
        let (reader, writer) = pipe();
        drop(reader);
        run.stdout(writer)
    }));
}

#[needs(mounts)]
#[test]
fn standard_error_when_standard_output_is_a_file_of_data() {
    let folder = Scratch::new();
    let data = folder.join("out.csv");
    all_on_stderr(&through(|run, _| run.stdout(File::create(&data).expect("it can be made"))));
    assert_eq!(fs::read_to_string(data).expect("it is there"), "", "a data stream gets no log lines");
}

#[needs(mounts)]
#[test]
fn standard_error_when_standard_output_is_a_tcp_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let told =
        through(|run, _| run.stdout(TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens")));
    all_on_stderr(&told);
    let mut received = String::new();
    listener.accept().expect("connected").0.read_to_string(&mut received).expect("it ends");
    assert_eq!(received, "", "a protocol gets no log lines");
}

#[needs(mounts)]
#[test]
fn standard_output_that_is_a_log_on_another_disk() {
    let folder = Scratch::new();
    let other = folder.join("out.log");
    let told = through(|run, _| {
        run.stdout(OpenOptions::new().append(true).create(true).open(&other).expect("there is space"))
    });
    let account = told.account(&fs::read_to_string(&other).expect("it is there"));
    nothing_lost(&told, &account);
    account.markers_tell_all();
}

#[needs(mounts)]
#[test]
fn standard_output_that_is_a_unix_socket() {
    let (theirs, received) = collected();
    let told = through(move |run, _| run.stdout(theirs.try_clone().expect("a descriptor is left")));
    let account = told.account(&received.join().expect("the reader does not panic"));
    nothing_lost(&told, &account);
    account.markers_tell_all();
}

/// A program that does something to its standard output before it logs.
fn meddles(how: &str) -> Told {
    meddles_and_keeps(how, "1M")
}

/// The same, with so much kept for the file.
fn meddles_and_keeps(how: &str, hold: &str) -> Told {
    let script = format!(
        "import os, sys\nlog = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n{how}\n\
         for line in sys.stdin:\n    \
         if line.startswith(':'): open(line[1:-1], 'w').close()\n    else: os.write(log, line.encode())\n\
         os._exit(0)"
    );
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let run = python(&script).arg(&log).preload(true).env("TIDEOVER_HOLD", hold);
    outage(&disk, &log, 100, Fed::start(&run))
}

#[needs(mounts)]
#[test]
fn standard_output_as_it_was_before_the_program_pointed_it_at_dev_null() {
    for how in ["os.dup2(null, 1)", "os.dup2(null, 1, inheritable=False)", "os.dup2(null, 0); os.dup2(null, 1)"] {
        // Standard input is what the lines come through: only descriptor 1 may go.
        let how = how.replace("os.dup2(null, 0); ", "os.dup2(null, 9); ");
        let told = meddles(&format!("null = os.open('/dev/null', os.O_WRONLY); {how}"));
        nothing_lost(&told, &told.on_stdout());
    }
}

#[needs(mounts)]
#[test]
fn standard_output_although_the_program_closes_what_it_does_not_know() {
    // Our copy of it is none of the program's: a close of its number finds nothing there, as without us.
    let closes = "null = os.open('/dev/null', os.O_WRONLY); os.dup2(null, 1); import errno\n\
         for fd in range(null + 1, 2000):\n    \
         try: os.close(fd)\n    \
         except OSError as e: assert e.errno == errno.EBADF, e\n    \
         else: assert False, fd\n";
    let told = meddles(closes);
    nothing_lost(&told, &told.on_stdout());
}

#[test]
fn what_the_program_opens_at_the_number_of_our_copy_is_its_own() {
    // It has closed all numbers at once, ours too, and the kernel gives them out again.
    let script = "import fcntl, os\nnull = os.open('/dev/null', os.O_WRONLY)\nos.dup2(null, 1)\n\
         if BEFORE: os.closerange(null + 1, 4000)\n\
         got = [fcntl.fcntl(null, fcntl.F_DUPFD, 900) for i in range(200)]\nfor fd in got: os.close(fd)\n\
         left = [fd for fd in os.listdir('/proc/self/fd') if int(fd) >= 900]\nos.write(2, b'left: %d\\n' % len(left))";
    for (before, preloaded) in [("True", "left: 0"), ("False", "left: 1")] {
        let run = python(&script.replace("BEFORE", before)).soft(2048);
        run.clone().preload(false).output().passes().says("left: 0");
        // The control: where it was left alone, it is there.
        run.preload(true).output().passes().says(preloaded);
    }
}

#[needs(mounts)]
#[test]
fn standard_error_when_the_program_has_closed_standard_output() {
    // It is not kept open: whoever reads it may be waiting for its end.
    all_on_stderr(&meddles("os.close(1)"));
}

#[needs(mounts)]
#[test]
fn standard_error_when_the_program_has_reused_the_number_of_standard_output() {
    let folder = Scratch::new();
    let data = folder.join("data");
    let path = data.display().to_string();
    all_on_stderr(&meddles(&format!("os.close(1); data = os.open({path:?}, os.O_WRONLY | os.O_CREAT)")));
    assert_eq!(fs::read_to_string(data).expect("it is there"), "", "a file of the program's gets no log lines");
}

#[needs(mounts)]
#[test]
fn the_true_error_when_there_is_nowhere_left_to_go() {
    // Here it ends a program that does not expect it.
    let told = meddles_and_keeps("os.closerange(4, 100000); os.closerange(1, 3)", "off");
    told.outcome.fails();
    let account = told.account("");
    assert_eq!(account.lost(told.all()).first(), account.in_file.last().map(|n| n + 1).as_ref(), "{account}");
}

#[needs(mounts)]
#[test]
fn a_daemon_without_any_output_has_its_lines_in_the_file() {
    for how in [
        "os.closerange(4, 100000); os.closerange(1, 3)",
        "for fd in range(3): os.dup2(os.open('/dev/null', 2), fd) if fd else 0",
    ] {
        let told = meddles(how);
        told.outcome.passes();
        told.account("").complete(told.all(), 0).file_is_whole(told.all()).back_in_the_file(201..=300);
    }
}

#[needs(mounts)]
#[test]
fn the_end_of_standard_output_comes_when_a_daemon_lets_go_of_it() {
    // `$(daemon)`: the parent ends, the child has pointed its output elsewhere and goes on; the reader must not wait for it.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    let script = "import os, sys, time\nlog = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\nos.write(log, b'before\\n')\n\
         if os.fork(): os._exit(0)\nos.setsid()\nnull = os.open('/dev/null', os.O_RDWR)\n\
         for fd in range(3): os.dup2(null, fd)\n\
         for i in range(30): time.sleep(0.1); os.write(log, b'a line\\n')";
    let shell = "out=$(python3 -c \"$0\" \"$1\"); echo \"got $out\"";
    let started = std::time::Instant::now();
    let outcome = Run::new(program("bash", "bash"))
        .env("PATH", "/usr/bin:/bin")
        .args(["-c", shell, script])
        .arg(&log)
        .preload(true)
        .output();
    assert!(started.elapsed() < Duration::from_secs(2), "it waited for the daemon: {outcome}");
    outcome.passes().says("got before");
}

#[needs(mounts)]
#[test]
fn a_stalled_reader_never_blocks_the_program() {
    // Without a hold, what the reader does not take is lost.
    let (reader, writer) = pipe();
    // SAFETY: fcntl(2) with numbers touches no memory.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    let run =
        |run: Run, _: &Disk| run.env("TIDEOVER_HOLD", "off").stdout(writer.try_clone().expect("a descriptor is left"));
    let told = through(run);
    drop(writer);
    told.outcome.passes().says("0 failed");
    // Nobody ever reads: a write that waited for that would never end. How long one takes, `make bench` says.
    let longest = longest(&told.outcome);
    assert!(longest < Duration::from_secs(5), "a write took {longest:?}: {}", told.outcome);

    let mut came = String::new();
    (&reader).read_to_string(&mut came).expect("it ends");
    assert!(came.len() <= 4096);
    let account = told.account(&came);
    println!("stalled reader: {}", account.places());
    assert!(account.doubled().is_empty(), "{account}");
    // Everything is in the file, in the pipe, on standard error, or counted as dropped.
    let stderr = sent_to_stderr(&told.outcome);
    let ours: usize = told.file.lines().filter(|l| l.starts_with(OURS)).map(|l| l.len() + 1).sum();
    let torn = account.rejoined.len() + account.pieces.iter().filter(|p| p.starts_with("file")).count();
    let kept = told.file.len() - ours - torn + came.len() + stderr.len();
    let given = told.lines as usize * (line(1).len() + 1);
    assert_eq!(told.logs("dropped_bytes"), (given - kept) as u64, "given {given}, kept {kept}\n{account}");
    assert!(stderr.is_empty(), "a stalled reader is no reason to go elsewhere: {}", told.outcome);
    assert!(told.logs("dropped_bytes") > 0);
}

/// Everything that a program that logs as fast as it can sends elsewhere, and a reader that does nothing else has read.
fn read_of_a_fast_program(socket: bool) -> Account {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    let run = writer(&log).stdin(lines(1..=20_000));
    let (outcome, came) = if socket {
        let (theirs, received) = collected();
        let run = run.stdout(theirs);
        let outcome = run.output();
        drop(run);
        (outcome, received.join().expect("the reader does not panic"))
    } else {
        let outcome = run.output();
        let came = outcome.stdout.clone();
        (outcome, came)
    };
    outcome.passes();
    Account::new("", &came)
}

#[needs(mounts)]
#[test]
fn a_reader_that_keeps_up_gets_every_line_of_a_fast_program() {
    for socket in [false, true] {
        // A reader that does not get the processor for longer than it is waited for has not kept up.
        let mut tries = (0..40).map(|_| read_of_a_fast_program(socket));
        let complete = tries.find(|account| account.lost(1..=20_000).is_empty());
        complete.expect("all lines, once").complete(1..=20_000, 0).in_order();
    }
}

#[needs(mounts)]
#[test]
fn a_log_through_a_symlink() {
    let disk = Disk::new(Kind::Tmpfs);
    fs::create_dir(disk.join("logs")).expect("there is space");
    let log = disk.join("logs/app-2024.log");
    fs::write(&log, "").expect("there is space");
    let folder = Scratch::new();
    let link = folder.join("current");
    std::os::unix::fs::symlink(&log, &link).expect("a link can be made");
    let told = outage(&disk, &log, 100, Fed::start(&writer(&link)));
    nothing_lost(&told, &told.on_stdout());
}

fn page_and_messages_tell_of_an_outage(kind: Kind) {
    let disk = Disk::new(kind);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    use tideover_tests::outage::Logger;
    fed.log(1..=10);
    let before = fed.writer().page();
    assert_eq!((before.counter("logs", "degraded"), before.counter("logs", "enospc")), (0, 0));
    disk.fill();
    fed.log(11..=110);
    let meanwhile = fed.writer().page();
    assert_eq!(meanwhile.counter("logs", "degraded"), 1);
    assert!(meanwhile.counter("logs", "degraded_since") > 0);
    let (none, some) = if kind == Kind::Quota { ("enospc", "edquot") } else { ("edquot", "enospc") };
    assert_eq!(meanwhile.counter("logs", none), 0);
    assert!(meanwhile.counter("logs", some) > 0);
    assert!(meanwhile.counter("logs", "diverted_writes") > 0);
    disk.free();
    thread::sleep(Duration::from_millis(150));
    fed.log(111..=120);
    let after = fed.writer().page();
    assert_eq!((after.counter("logs", "degraded"), after.counter("logs", "recoveries")), (0, 1));
    let outcome = fed.end();
    outcome.passes();
    let ours = outcome.ours();
    assert!(ours.iter().any(|l| l.contains("disk full") || l.contains("quota")), "{outcome}");
    assert!(ours.iter().any(|l| l.contains("recovered")), "{outcome}");
    assert!(ours.len() <= 3, "{outcome}");
}

#[needs(mounts)]
#[test]
fn the_page_and_the_messages_tell_of_an_outage() {
    page_and_messages_tell_of_an_outage(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn the_page_and_the_messages_tell_of_a_quota() {
    page_and_messages_tell_of_an_outage(Kind::Quota);
}

#[needs(mounts)]
#[test]
fn an_empty_disk_leaves_no_trace() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let text = lines(1..=100);
    let mut file = OpenOptions::new().append(true).open(&log).expect("it is there");
    let outcome = writer(&log).stdin(&text).output();
    outcome.passes();
    assert!(outcome.ours().is_empty() && outcome.stdout.is_empty(), "{outcome}");
    assert_eq!(fs::read_to_string(&log).expect("it is there"), text);
    file.write_all(b"").expect("it is open");
}

#[needs(mounts)]
#[test]
fn the_c_api_says_whether_a_log_is_degraded() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let script = "import ctypes, os, sys\nlog = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n\
         degraded = ctypes.CDLL(None).tideover_log_degraded\n\
         for line in sys.stdin:\n    \
         if line.startswith(':'): print(degraded(log), degraded(0), degraded(-1), file=sys.stderr); open(line[1:-1], 'w').close()\n    \
         else: os.write(log, line.encode())";
    let run = python(script).arg(&log).preload(true);
    let told = outage(&disk, &log, 100, Fed::start(&run));
    told.outcome.passes();
    assert_eq!(told.outcome.theirs(), ["0 0 0", "1 0 0", "0 0 0"], "{}", told.outcome);
}
