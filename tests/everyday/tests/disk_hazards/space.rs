//! Space that comes and goes, and what an outage does to single lines and to blocks of them.

use super::*;

#[needs(mounts)]
#[test]
fn space_that_comes_and_goes_each_second() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).timeout(Duration::from_secs(60)));
    let mut next = 1;
    let mut feed_for = |fed: &mut Fed, time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert!(fed.log(next..=next + 1), "it lives");
            next += 2;
            thread::sleep(Duration::from_millis(10));
        }
    };
    for _ in 0..10 {
        disk.fill();
        feed_for(&mut fed, Duration::from_millis(500));
        disk.free();
        feed_for(&mut fed, Duration::from_millis(500));
    }
    let page = fed.writer().page();
    let outcome = fed.end();
    outcome.passes();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    println!("1 Hz: {} lines, {}, {} recoveries", next - 1, account.places(), page.counter("logs", "recoveries"));
    account.complete(1..=next - 1, 10).in_order().markers_tell_all();
    // Not more than one for each time that space came; fewer on a machine so busy that an outage passed unnoticed.
    let recoveries = page.counter("logs", "recoveries");
    assert!((7..=10).contains(&recoveries), "{recoveries}");
    assert_eq!(account.markers.len() as u64, recoveries);
    assert!(outcome.ours().len() <= 4, "it does not chatter: {outcome}");
}

#[needs(mounts)]
#[test]
fn a_little_space_is_no_space() {
    // 4 KiB on a disk of 256 KiB is below the mark: going back for 40 lines would tear another one.
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    for k in 0..10 {
        if k % 2 == 0 {
            disk.free_some(4096)
        } else {
            disk.fill()
        }
        thread::sleep(BACK);
        fed.log(201 + k * 10..=210 + k * 10);
    }
    let page = fed.writer().page();
    assert_eq!(page.counter("logs", "recoveries"), 0, "it stays where it is");
    disk.free();
    thread::sleep(BACK);
    fed.log(301..=400);
    let outcome = fed.end();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=400, 1).in_order().back_in_the_file(301..=400).markers_tell_all();
}

#[needs(mounts)]
#[test]
fn the_mark_can_be_set() {
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log).env("TIDEOVER_RECOVERY_FREE", "4K"));
    fed.log(1..=100);
    disk.fill();
    fed.log(101..=200);
    // The lines that are put back need space, too.
    disk.free_some(16384);
    thread::sleep(BACK);
    fed.log(201..=210);
    let page = fed.writer().page();
    assert_eq!(page.counter("logs", "recoveries"), 1, "16 KiB are enough");
    let outcome = fed.end();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=210, 1).back_in_the_file(201..=210);
}

#[needs(mounts)]
#[test]
fn each_outage_tears_at_most_a_line() {
    outages_tear_a_line_each_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn each_outage_tears_at_most_a_line_on_ext4() {
    outages_tear_a_line_each_on(Kind::Ext4);
}

fn outages_tear_a_line_each_on(kind: Kind) {
    let disk = Disk::new(kind);
    let log = disk.log();
    let mut fed = Fed::start(&writer(&log));
    for k in 0..3 {
        fed.log(k * 200 + 1..=k * 200 + 100);
        disk.fill();
        fed.log(k * 200 + 101..=k * 200 + 200);
        disk.free();
        thread::sleep(BACK);
    }
    fed.log(601..=700);
    let outcome = fed.end();
    let account = Account::new(&fs::read_to_string(&log).expect("it is there"), &outcome.stdout);
    account.complete(1..=700, 3).in_order().byte_for_byte(1..=700).back_in_the_file(601..=700).markers_tell_all();
    assert_eq!(account.markers.len(), 3);
}

#[needs(mounts)]
#[test]
fn json_lines_parse_after_an_outage() {
    // moby#29511: a log of JSON lines with half a line in it is unreadable to its reader.
    let put = "import json\nout = open(log, 'a', buffering=1)\n\
               def put(line): out.write(json.dumps({'message': line, 'level': 'info'}) + '\\n')";
    let disk = Disk::new(Kind::Tmpfs);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&preloaded_python(put, &log)));
    told.outcome.passes();
    let account = told.on_stdout();
    account.complete(told.all(), 1).in_order().markers_tell_all();
    let whole = told.file.lines().filter(|l| l.starts_with("{\"message\"") && l.ends_with('}')).count();
    let odd = told.file.lines().count() - whole;
    assert!(odd <= 2, "the torn line and ours: {account}");
    assert!(!account.markers.is_empty(), "{account}");
    assert!(account.markers.iter().all(|m| m.text.starts_with('{') && m.text.ends_with('}')), "{account}");
}

fn blocks_of_lines_on(kind: Kind) {
    // One write for all lines since the last pause, 10 KB each: longer than a pipe takes at once.
    let put = "import os\nout = os.open(log, os.O_WRONLY | os.O_APPEND)\nlines = []\nput = lines.append\n\
               def flush():\n    data = ''.join(l + '\\n' for l in lines).encode()\n    lines.clear()\n    \
               while data: data = data[os.write(out, data):]\n\
               for line in sys.stdin:\n    line = line.rstrip('\\n')\n    \
               if line.startswith(':'): flush(); open(line[1:], 'w').close()\n    else: put(line)";
    let disk = Disk::new(kind);
    let log = disk.log();
    let told = outage(&disk, &log, 100, Fed::start(&preloaded_python(put, &log)));
    told.outcome.passes();
    let account = told.on_stdout();
    nothing_lost(&told, &account);
    account.markers_tell_all();
}

#[needs(mounts)]
#[test]
fn blocks_of_lines_are_cut_at_most_once() {
    blocks_of_lines_on(Kind::Tmpfs);
}

#[needs(images)]
#[test]
fn blocks_of_lines_are_cut_at_most_once_on_ext4() {
    blocks_of_lines_on(Kind::Ext4);
}
