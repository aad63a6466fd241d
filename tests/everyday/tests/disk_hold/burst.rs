//! Lines that come fast are kept before they are sent, and are sent together.

use super::*;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::time::Instant;
use tideover_tests::sinks::{left_in, pipe};

/// What one writer has logged in a text: the numbers of its whole lines, in their order.
fn of_writers(text: &str) -> BTreeMap<char, Vec<u32>> {
    let mut found: BTreeMap<char, Vec<u32>> = BTreeMap::new();
    for line in text.lines() {
        let number = line.get(2..9).and_then(|digits| digits.parse::<u32>().ok());
        if let (Some(writer), Some(number)) = (line.chars().next(), number)
            && line == format!("{writer} {number:07}{}", "-".repeat(20 + number as usize % 40))
        {
            found.entry(writer).or_default().push(number);
        }
    }
    found
}

/// Logs on a full disk, which is freed then. Returns the file, and what came out of standard output.
fn burst(how: &str, count: u32) -> (String, String) {
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    disk.fill();
    let run = Run::new(fixture("disk_burst")).arg(how).arg(&log).arg(count.to_string());
    let run = run.preload(true).page_dir(pages.path()).env("TIDEOVER_HOLD", "16M").env("TIDEOVER_FALLBACK", "stdout");
    let mut running = run.timeout(Duration::from_secs(60)).start();
    running.wait_for("logged");
    disk.free();
    thread::sleep(BACK);
    running.say("");
    let outcome = running.finish();
    outcome.passes();
    clean(pages.path());
    (text(&log), outcome.stdout)
}

#[needs(mounts)]
#[test]
fn lines_of_a_burst_are_in_the_file_and_on_standard_output_once_and_in_order() {
    let (file, sink) = burst("plain", 3000);
    assert_eq!(of_writers(&file)[&'A'], (0..3000).collect::<Vec<u32>>());
    assert_eq!(of_writers(&file)[&'J'], [0]);
    // What its reader does not take in time is not sent again.
    let sent = &of_writers(&sink)[&'A'];
    assert!(sent.windows(2).all(|two| two[0] < two[1]) && sent.len() > 1500, "{sent:?}");
}

#[needs(mounts)]
#[test]
fn a_bad_pointer_in_a_burst_is_an_error_and_no_crash() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    disk.fill();
    for preload in [false, true] {
        let run = Run::new(fixture("disk_burst")).arg("unmapped").arg(&log).arg("200");
        let outcome = run.stdin("").env("TIDEOVER_FALLBACK", "stdout").preload(preload).output();
        outcome.passes().says("refused 200 of 200");
        // The lines before it are taken.
        assert_eq!(outcome.stdout.contains("-----"), preload, "{outcome}");
    }
}

/// Found by counting what a reader got: of a burst that was dropped, all writes but one were counted as if they had gone to the sink.
#[needs(mounts)]
#[test]
fn writes_of_a_burst_that_nobody_reads_are_not_counted_as_sent() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let (reader, end) = pipe();
    let run = writer(&log).env("TIDEOVER_FALLBACK", "stdout").env("TIDEOVER_HOLD", "64K").stdout(end);
    let told = outage(&disk, &log, 900, Fed::start(&run));
    told.outcome.passes();
    let got = left_in(&reader).lines().count() as u64;
    let sent = told.logs("diverted_lines");
    assert!(sent == got && got < 900, "{sent} counted, {got} read");
    assert!((sent..=sent + 1).contains(&told.logs("diverted_writes")), "{}", told.logs("diverted_writes"));
    let account = told.account("");
    let [note] = &account.markers[..] else { panic!("{account}") };
    let held: Vec<u64> = note
        .text
        .rsplit(", and ")
        .next()
        .map_or(vec![], |end| end.split(' ').filter_map(|word| word.parse().ok()).collect());
    let [put_back, all] = held[..] else { panic!("{}", note.text) };
    assert!(note.lines == sent && put_back < all && all > 800, "{}", note.text);
    assert_eq!(all - put_back, account.lost(told.all()).len() as u64, "{}\n{account}", note.text);
}

#[needs(mounts)]
#[test]
fn signal_handlers_that_log_in_the_middle_of_a_burst() {
    let (file, _) = burst("signals", 2500);
    let found = of_writers(&file);
    assert_eq!(found[&'A'], (0..2500).collect::<Vec<u32>>());
    let handlers = found.get(&'B').map_or(0, Vec::len) as u32;
    assert_eq!(found.get(&'B').cloned().unwrap_or_default(), (0..handlers).collect::<Vec<u32>>());
    assert!(file.lines().filter(|line| line.trim().is_empty()).count() <= 1, "{file}");
}

#[needs(mounts)]
#[test]
fn signal_handlers_that_jump_out_of_a_burst() {
    let (file, _) = burst("jumps", 2500);
    let found = of_writers(&file);
    let lines = &found[&'A'];
    // A line that was jumped out of may be there, or not, and not twice.
    assert!(lines.windows(2).all(|two| two[0] < two[1]), "{lines:?}");
    assert_eq!(found[&'J'], [0], "the next line is written as ever");
    let odd: Vec<&str> = file.lines().filter(|l| of_writers(l).is_empty() && !l.starts_with("tideover: ")).collect();
    assert!(odd.len() <= 1, "{odd:?}");
}

#[needs(mounts)]
#[test]
fn threads_that_log_at_once() {
    let (file, _) = burst("threads", 800);
    for writer in ['B', 'C', 'D', 'E'] {
        assert_eq!(of_writers(&file)[&writer], (0..800).collect::<Vec<u32>>(), "{writer}");
    }
}

#[needs(mounts)]
#[test]
fn children_that_log_in_the_middle_of_a_burst() {
    let (file, sink) = burst("forks", 3000);
    assert_eq!(of_writers(&file)[&'A'], (0..3000).collect::<Vec<u32>>());
    let sent = &of_writers(&sink)[&'A'];
    assert!(sent.windows(2).all(|two| two[0] < two[1]), "none is sent by a child, too: {sent:?}");
    let children = &of_writers(&sink)[&'B'];
    assert!(children.windows(2).all(|two| two[0] < two[1]) && children.len() <= 10, "{children:?}");
}

#[needs(images)]
#[test]
fn killed_at_any_moment_of_a_burst() {
    for round in 0..25u64 {
        // Room for all that a hold has.
        let (disk, pages, other) = (Disk::new(Kind::Ext4), Scratch::new(), Scratch::new());
        let (log, counted) = (disk.log(), other.join("counted"));
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&counted)
            .and_then(|f| f.set_len(4096))
            .expect("there is space");
        disk.fill();
        let run = Run::new(fixture("disk_burst")).args(["plain"]).arg(&log).arg("2000000").arg(&counted);
        let run = run.preload(true).page_dir(pages.path()).env("TIDEOVER_FALLBACK", "stdout");
        let running = run.env("TIDEOVER_FALLBACK_LIMIT", "1G/min").start();
        let logged = || u32::from_ne_bytes(fs::read(&counted).expect("it is there")[..4].try_into().expect("four"));
        let end = Instant::now() + Duration::from_secs(10);
        while logged() < 100 + round as u32 * 60 && Instant::now() < end {
            std::hint::spin_loop();
        }
        running.signal(libc::SIGKILL);
        drop(running.finish());
        let last = logged();
        disk.free();
        clean(pages.path());
        let lines = of_writers(&text(&log)).remove(&'A').expect("there are lines");
        assert!(lines.windows(2).all(|two| two[1] == two[0] + 1), "round {round}: {lines:?}");
        assert!(
            lines.last().is_some_and(|&l| l + 1 >= last && l <= last + 1),
            "round {round}: {last} of {:?}",
            lines.last()
        );
        // Less than the hold's bound: from the first line on.
        assert!(lines[0] == 0 || last > 8000, "round {round}: {}", lines[0]);
    }
}
