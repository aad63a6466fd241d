//! Outages in random order, reproducible by their seed (`TIDEOVER_TEST_SEED`). With a hold, each line is in the file once, at the latest when
//! `tideover clean` has put back what processes kept that ended while the disk was full. Without one, each line is somewhere, once.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tideover_contract::random::Random;
use tideover_tests::numbered::Account;
use tideover_tests::outage::{BACK, Fed, Logger, clean};
use tideover_tests::{Disk, Kind, Outcome, Run, Scratch, fixture, needs, program};

/// Random from a seed that can be given.
struct Dice(Random);

impl Dice {
    fn new(salt: u64) -> Dice {
        let seed = std::env::var("TIDEOVER_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            u64::from(now.subsec_nanos()) << 16 ^ now.as_secs()
        });
        println!("TIDEOVER_TEST_SEED={seed}");
        Dice(Random::new(seed ^ salt.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0.below(limit)
    }
}

/// A disk that is filled and freed at random.
struct Space<'a> {
    disk: &'a Disk,
    full: bool,
    outages: usize,
}

impl Space<'_> {
    fn change(&mut self, dice: &mut Dice) {
        match (self.full, dice.below(4)) {
            (false, _) => {
                self.disk.fill();
                self.full = true;
                self.outages += 1;
            }
            (true, 0) => {
                // Less than the mark, and soon used up.
                self.disk.free_some(1024 * (1 + dice.below(8)));
                self.outages += 1;
            }
            (true, 1) => {
                self.disk.fill();
                self.outages += 1;
            }
            (true, _) => {
                self.disk.free();
                self.full = false;
            }
        }
    }
}

fn check(name: &str, text: &str, outcomes: &[Outcome], lines: u32, outages: usize) {
    let mut elsewhere = String::new();
    for outcome in outcomes {
        outcome.passes();
        elsewhere += &outcome.stdout;
    }
    let account = Account::new(text, &elsewhere);
    println!("chaos, {name}: {lines} lines, {outages} outages, {}", account.places());
    account.complete(1..=lines, outages);
    if outcomes.len() == 1 {
        account.in_order();
    }
    let told: u64 = account.markers.iter().map(|m| m.lines).sum();
    let seen = elsewhere.lines().count() as u64;
    // A quota does not say when there is room again: it is tried at growing gaps, and may not have been tried yet.
    let complete = if name == "quota" { told <= seen } else { told == seen };
    assert!(complete, "the lines of ours tell of {told}, {seen} were seen: {account}");
}

/// Runs a program that keeps its pages and its hold in this folder, with a hold or without one.
fn start(run: Run, pages: &Scratch, hold: bool) -> Fed {
    let run = run.preload(true).page_dir(pages.path()).timeout(Duration::from_secs(60));
    Fed::start(&if hold { run } else { run.env("TIDEOVER_HOLD", "off") })
}

fn one_writer(name: &str, kind: Kind, salt: u64, run: impl Fn(&Path) -> Run) {
    one_writer_that_keeps(true, name, kind, salt, &run);
    one_writer_that_keeps(false, name, kind, salt, &run);
}

fn one_writer_that_keeps(hold: bool, name: &str, kind: Kind, salt: u64, run: &impl Fn(&Path) -> Run) {
    let mut dice = Dice::new(salt);
    let (disk, pages) = (Disk::new(kind), Scratch::new());
    let log = disk.log();
    let mut fed = start(run(&log), &pages, hold);
    let mut space = Space { disk: &disk, full: false, outages: 0 };
    let mut next = 1;
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end && next < 1200 {
        match dice.below(5) {
            0 => space.change(&mut dice),
            1 => thread::sleep(Duration::from_millis(dice.below(130))),
            _ => {
                let count = 1 + dice.below(25) as u32;
                assert!(fed.log(next..=next + count - 1), "it lives");
                next += count;
            }
        }
    }
    if space.full {
        disk.free();
    }
    thread::sleep(BACK);
    fed.log(next..=next + 9);
    let outcome = fed.end();
    clean(pages.path());
    let text = fs::read_to_string(&log).expect("it is there");
    check(name, &text, &[outcome], next + 9, space.outages);
}

fn c(how: &'static str) -> impl Fn(&Path) -> Run {
    move |log| Run::new(fixture("disk_append")).arg(how).arg(log)
}

#[needs(mounts)]
#[test]
fn one_writer_by_write() {
    one_writer("write", Kind::Tmpfs, 1, c("write"));
}

#[needs(images)]
#[test]
fn one_writer_by_write_on_ext4() {
    one_writer("write", Kind::Ext4, 2, c("write"));
}

#[needs(mounts)]
#[test]
fn one_writer_by_stdio() {
    one_writer("stdio", Kind::Tmpfs, 3, c("full"));
}

#[needs(images)]
#[test]
fn one_writer_that_opens_its_log_anew_on_ext4() {
    one_writer("reopened", Kind::Ext4, 4, c("reopen"));
}

#[needs(images)]
#[test]
fn one_writer_over_quota() {
    one_writer("quota", Kind::Quota, 5, c("write"));
}

#[needs(mounts)]
#[test]
fn one_writer_in_bash() {
    let script =
        "while IFS= read -r l; do case $l in :*) : > \"${l#:}\" ;; *) echo \"$l\" >> \"$1\" ;; esac; done; exit 0";
    one_writer("bash", Kind::Tmpfs, 6, |log| Run::new(program("bash", "bash")).args(["-c", script, "bash"]).arg(log));
}

#[needs(images)]
#[test]
fn one_writer_where_opening_may_fail() {
    one_writer("reopened on xfs", Kind::Xfs, 8, c("reopen"));
    one_writer("reopened on btrfs", Kind::Btrfs, 9, c("reopen"));
}

#[needs(mounts)]
#[test]
fn three_writers() {
    three_writers_that_keep(true);
    three_writers_that_keep(false);
}

fn three_writers_that_keep(hold: bool) {
    let mut dice = Dice::new(7);
    let (disk, pages) = (Disk::new(Kind::Tmpfs), Scratch::new());
    let log = disk.log();
    let over = AtomicBool::new(false);
    let mut space = Space { disk: &disk, full: false, outages: 0 };
    const EACH: u32 = 10_000;
    let start = |how: &'static str| start(c(how)(&log), &pages, hold);
    let write = |mut fed: Fed, first: u32| {
        let mut next = first;
        while !over.load(Ordering::Relaxed) && next < first + 300 {
            assert!(fed.log(next..=next + 2), "it lives");
            next += 3;
            thread::sleep(Duration::from_millis(10));
        }
        thread::sleep(BACK);
        assert!(fed.log(next..=next), "it lives");
        (fed.end(), next)
    };
    let writers = [(start("write"), 1), (start("line"), EACH + 1), (start("writev"), 2 * EACH + 1)];
    let ended = thread::scope(|scope| {
        let write = &write;
        let threads: Vec<_> = writers.into_iter().map(|(fed, first)| scope.spawn(move || write(fed, first))).collect();
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            space.change(&mut dice);
            thread::sleep(Duration::from_millis(50 + dice.below(200)));
        }
        if space.full {
            disk.free();
        }
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|t| t.join().expect("no writer panics")).collect::<Vec<_>>()
    });
    clean(pages.path());
    let text = fs::read_to_string(&log).expect("it is there");
    let mut elsewhere = String::new();
    let mut lost = vec![];
    for (outcome, _) in &ended {
        outcome.passes();
        elsewhere += &outcome.stdout;
    }
    let account = Account::new(&text, &elsewhere);
    for (i, (_, last)) in ended.iter().enumerate() {
        lost.extend(account.lost(i as u32 * EACH + 1..=*last));
    }
    println!("chaos, three writers: {} outages, {}", space.outages, account.places());
    assert!(
        lost.is_empty() && account.doubled().is_empty(),
        "lost {lost:?}, doubled {:?}\n{account}",
        account.doubled()
    );
    let pieces = account.pieces_of_no_line();
    assert!(pieces.is_empty(), "left over {pieces:?}\n{account}");
}
