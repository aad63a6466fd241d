//! A reader that has stopped, or is gone; a terminal that is full, or stops jobs in the background; a sink whose disk is full, too.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::*;
use tideover_tests::{Running, Scratch, fixture, needs};

fn storm(log: &Path, threads: u32, lines: u32, bytes: u32) -> Run {
    let sizes = [threads, lines, bytes].map(|number| number.to_string());
    Run::new(fixture("disk_storm")).arg(log).args(sizes).preload(true).timeout(Duration::from_secs(10))
}

/// A program on an older kernel, see fixtures/disk_old_kernel.c.
fn old_kernel(how: &str, run: &Run) -> Run {
    Run::new(fixture("disk_old_kernel")).arg(how).args(run.command()).preload(true).timeout(Duration::from_secs(10))
}

/// Ends by itself: neither stuck nor killed by a signal.
#[track_caller]
fn ends(running: Running) -> Outcome {
    let outcome = running.finish();
    outcome.passes();
    outcome
}

/// The program with a pipe as its standard output, of which 60 pieces are read before the reader stops, or goes. Its lines have begun to
/// come.
#[track_caller]
fn with_a_reader_that_stops(run: Run, goes: bool) {
    let (mut reader, writer) = pipe();
    let run = run.stdout(writer).env("TIDEOVER_FALLBACK", "stdout");
    let running = run.start();
    drop(run);
    let (mut came, mut part) = (0, [0; 4096]);
    for _ in 0..60 {
        match reader.read(&mut part).unwrap_or(0) {
            0 => break,
            count => came += count,
        }
        thread::sleep(Duration::from_millis(1));
    }
    let kept = (!goes).then_some(reader);
    let outcome = ends(running);
    drop(kept);
    assert!(came >= 100, "the lines should have begun to come: {came} bytes: {outcome}");
}

#[needs(mounts)]
#[test]
fn several_threads_on_a_pipe_that_nobody_reads_any_more() {
    let (_disk, log) = full_disk();
    // One in five held the program with four threads and lines of 3,000 bytes.
    for (threads, bytes) in [(4, 3000); 8].into_iter().chain([(4, 4090), (1, 100)]) {
        for prefix in ["", "p: "] {
            for goes in [false, true] {
                let run = storm(&log, threads, 2000, bytes).env("TIDEOVER_FALLBACK_PREFIX", prefix);
                with_a_reader_that_stops(run, goes);
            }
        }
    }
}

#[needs(mounts)]
#[test]
fn several_threads_on_a_pipe_that_nobody_reads_any_more_on_older_kernels() {
    let (_disk, log) = full_disk();
    for how in ["silent", "now", "reopen"] {
        for goes in [false, true] {
            for _ in 0..5 {
                with_a_reader_that_stops(old_kernel(how, &storm(&log, 4, 2000, 3000)), goes);
            }
        }
        // And where it is read, the lines come. A reader that does not get the processor for 4 ms has not read.
        let read = || old_kernel(how, &writer(&log)).stdin(text()).env("TIDEOVER_FALLBACK", "stdout").output();
        let is_complete = |outcome: &Outcome| Account::new("", &outcome.stdout).lost(1..=LINES).is_empty();
        let outcome = (0..20).map(|_| read()).find(is_complete).unwrap_or_else(|| panic!("{how}: lines are lost"));
        all_in(&outcome.passes().stdout);
    }
}

#[needs(mounts)]
#[test]
fn a_terminal_that_nobody_reads() {
    let (_disk, log) = full_disk();
    for (threads, lines, bytes) in
        [(1, 500, 100), (1, 500, 1000), (1, 200, 3000), (1, 200, 4090), (4, 300, 100), (4, 300, 3000)]
    {
        let (master, slave) = terminal();
        let run = storm(&log, threads, lines, bytes).env("TIDEOVER_FALLBACK", "auto").stdout(slave);
        let running = run.start();
        drop(run);
        let outcome = ends(running);
        assert!(longest(&outcome) < Duration::from_millis(500), "{outcome}");
        let shown = left_in(&master);
        assert!(shown.contains("line 000000 x"), "the terminal has the first lines: {shown}");
    }
}

/// Makes the calling process the leader of a session whose terminal this is, with tostop set.
fn tostop(slave: i32) -> std::io::Result<()> {
    // SAFETY: all zero bytes are a valid termios.
    let mut modes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: calls with numbers and with that termios.
    let done = unsafe {
        libc::setsid() >= 0
            && libc::ioctl(slave, libc::TIOCSCTTY, 0) == 0
            && libc::tcgetattr(slave, &mut modes) == 0
            && {
                modes.c_lflag |= libc::TOSTOP;
                libc::tcsetattr(slave, libc::TCSANOW, &modes) == 0
            }
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[needs(mounts)]
#[test]
fn a_job_in_the_background_of_a_terminal_with_tostop_is_not_stopped() {
    use std::os::unix::process::CommandExt;

    let (_disk, log) = full_disk();
    for fallback in ["auto", "stdout"] {
        let (master, slave) = terminal();
        let number = slave.as_raw_fd();
        let mut shell = std::process::Command::new(program("bash", "bash"));
        // Job control: the job has a process group of its own, in the background. It must end, not be stopped.
        let job = "set -m; LD_PRELOAD=$0 \"$@\" & for i in {1..50}; do sleep 0.1; \
             kill -0 $! 2> /dev/null || exit 0; done; exit 7";
        shell.arg("-c").arg(job).arg(tideover_tests::library()).args(storm(&log, 1, 200, 100).command());
        shell.env("TIDEOVER_FALLBACK", fallback).env("TIDEOVER_LOG", "off").env("TIDEOVER_PAGE", "0");
        shell.stdin(slave.try_clone().expect("a descriptor is left")).stdout(slave.try_clone().expect("one more"));
        // Not for messages: the lines may only go to the terminal, or nowhere.
        let errors = Scratch::new();
        shell.stderr(fs::File::create(errors.join("errors.csv")).expect("there is space"));
        // SAFETY: async-signal-safe calls.
        unsafe { shell.pre_exec(move || tostop(number)) };
        let mut child = shell.spawn().expect("it starts");
        drop(slave);
        let ended = child.wait().expect("it ends");
        assert_eq!(ended.code(), Some(0), "TIDEOVER_FALLBACK={fallback}: the job should have ended");
        let said = fs::read_to_string(errors.join("errors.csv")).expect("it was made");
        // What may not be shown is held.
        assert!(said.starts_with("0 failed, longest "), "TIDEOVER_FALLBACK={fallback}: {said}");
        drop(master);
    }
}

#[needs(mounts)]
#[test]
fn a_line_that_was_cut_is_ended() {
    // Lines of 100 KB, of which a pipe takes the beginning; half a second later somebody reads, and short lines follow.
    let script = "import os, sys, time\nlog = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)\n\
         def put(n, size):\n    try: return os.write(log, b'%06d ' % n + b'x' * (size - 8) + b'\\n') == size\n    \
         except OSError: return False\n\
         put(0, 99)\nfor n in range(1, 4): put(n, 100000)\ntime.sleep(1)\nfor n in range(4, 12): put(n, 99)\n";
    let (_disk, log) = full_disk();
    let (mut reader, writer) = pipe();
    let run = tideover_tests::programs::python(script).arg(&log).stdout(writer).preload(true);
    let running = run.start();
    drop(run);
    thread::sleep(Duration::from_millis(600));
    let mut came = String::new();
    reader.read_to_string(&mut came).expect("it ends");
    ends(running);
    for n in 4..12 {
        let whole = came.lines().any(|line| line.len() == 98 && line.starts_with(&format!("{n:06} ")));
        assert!(whole, "line {n} should be a line of its own: {:?}", came.lines().map(str::len).collect::<Vec<_>>());
    }
}

#[needs(mounts)]
#[test]
fn a_fallback_file_whose_disk_is_full_too_is_no_sink() {
    let (_disk, log) = full_disk();
    let second = Disk::new(Kind::Tmpfs);
    let sink = second.join("overflow.txt");
    fs::write(&sink, "").expect("there is space");
    second.fill();
    // Both streams are results, so that there is nowhere else to go.
    own_daemons();
    let folder = Scratch::new();
    let streams = format!("exec \"$@\" > '{0}/out.csv' 2> '{0}/err.csv'", folder.path().display());
    let run =
        in_a_shell(&streams, &writer(&log)).env("TIDEOVER_FALLBACK", &sink).env("TIDEOVER_HOLD", "off").preload(true);
    run.output().fails();
    let said = fs::read_to_string(folder.join("err.csv")).expect("it was made");
    assert!(said.contains("100 failed") && said.contains("overflow.txt can't be written"), "{said}");
    assert_eq!(fs::read_to_string(folder.join("out.csv")).expect("it was made"), "");
    // With a stream for messages, that is the next sink.
    let outcome = writer(&log).env("TIDEOVER_FALLBACK", &sink).preload(true).output();
    outcome.passes();
    all_in(&sent_to_stderr(&outcome));
}

#[needs(mounts)]
#[test]
fn what_a_sink_has_taken_before_its_disk_was_full_is_not_sent_again() {
    let (_disk, log) = full_disk();
    let second = Disk::new(Kind::Tmpfs);
    let sink = second.join("overflow.txt");
    fs::write(&sink, "").expect("there is space");
    second.fill();
    second.free_some(4096);
    let outcome = writer(&log).env("TIDEOVER_FALLBACK", &sink).preload(true).output();
    outcome.passes();
    let came = fs::read_to_string(&sink).expect("it is there");
    assert!(!came.is_empty(), "it should have taken some");
    Account::new(&came, &sent_to_stderr(&outcome)).complete(1..=LINES, 1).in_order();
}

#[needs(mounts)]
#[test]
fn a_fifo_as_the_fallback_file() {
    let (_disk, log) = full_disk();
    let folder = Scratch::new();
    let fifo = folder.join("fifo");
    let path = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: a path that ends with NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    // Open for both, so that neither side waits for the other; nobody reads.
    let both = fs::OpenOptions::new().read(true).write(true).open(&fifo).expect("it was made");
    let begun = Instant::now();
    ends(storm(&log, 4, 1000, 3000).env("TIDEOVER_FALLBACK", &fifo).start());
    assert!(begun.elapsed() < Duration::from_secs(5));
    let came = left_in(&both);
    assert!(came.contains("line 000000 x"), "it has the first lines: {came}");
}
