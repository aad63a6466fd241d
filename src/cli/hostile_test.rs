//! Pages of other users hold what they like: whatever the bytes and the length, every reader stands it, and stays within bounds.
//!
//! TIDEOVER_FUZZ_SECONDS says for how long (2 s unless set), TIDEOVER_FUZZ_SEED where to begin. A failure names its seed.

use crate::commands::metrics;
use crate::commands::ps;
use crate::commands::stat;
use crate::pages::events;
use crate::pages::snapshot::Snapshot;
use crate::pages::{Page, forge, walk};
use crate::settings::effective;
use rustix::process::geteuid;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tideover_contract::page::{EVENT_FIELDS, FIELDS, SIZE, state};
use tideover_contract::random::Random;

/// What is drawn here.
trait Draw {
    fn nasty(&mut self) -> u64;
    fn page(&mut self, pid: u32) -> [u8; SIZE];
}

impl Draw for Random {
    /// Numbers at which arithmetic goes wrong, now and then a random one.
    fn nasty(&mut self) -> u64 {
        [
            0,
            1,
            15,
            16,
            17,
            1 << 31,
            u64::from(u32::MAX),
            1 << 63,
            i64::MAX as u64,
            u64::MAX - 1,
            u64::MAX,
            self.number(),
        ][self.below(12) as usize]
    }

    /// A page of this process that is damaged in one of several ways.
    fn page(&mut self, pid: u32) -> [u8; SIZE] {
        let field = |name: &str| FIELDS.iter().find(|(n, _)| *n == name).map_or(0, |(_, at)| *at);
        let mut bytes = forge(pid, state::LIVE, u64::MAX / 2);
        match self.below(4) {
            0 => bytes.iter_mut().skip(field("state") + 4).for_each(|byte| *byte = self.number() as u8),
            1 => {
                for at in (field("counters")..SIZE - 8).step_by(8) {
                    bytes[at..at + 8].copy_from_slice(&self.nasty().to_ne_bytes());
                }
            }
            2 => {
                for _ in 0..self.below(200) {
                    bytes[self.below(SIZE as u64) as usize] = self.number() as u8;
                }
            }
            _ => {
                // Events whose numbers fit, so that they are read.
                let last = self.nasty();
                bytes[field("last_event")..][..8].copy_from_slice(&last.to_ne_bytes());
                for slot in 0..16u64 {
                    let at = field("events") + slot as usize * 64;
                    let number = last.wrapping_sub(15).wrapping_add(slot);
                    let at = at.min(SIZE - 64);
                    bytes[at..at + 64].fill(self.number() as u8);
                    bytes[field("events") + (number.wrapping_sub(1) % 16) as usize * 64..][..8]
                        .copy_from_slice(&number.to_ne_bytes());
                    let (_, kind) = EVENT_FIELDS[3];
                    bytes[at + kind] = self.number() as u8 % 9;
                }
            }
        }
        bytes
    }
}

/// Through every reader of a page.
fn read(bytes: [u8; SIZE], pid: u32) {
    let page = Page::forged(bytes, pid);
    let Some(snapshot) = Snapshot::take(&page) else { return };
    let view = snapshot.page;
    let json = snapshot.json().to_string();
    assert!(json.len() < 64 << 10, "{}", json.len());
    let list = ps::table(&[snapshot], 80);
    assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    let Some(snapshot) = Snapshot::take(&page) else { return };
    for text in [stat::text(&snapshot), events::lines(view)] {
        // The name has a line of its own.
        assert!(text.lines().skip(1).all(|line| line.chars().count() <= 80), "{text}");
        assert!(!text.contains('\x1b') && text.len() < 64 << 10);
    }
    for row in effective::from_page(std::process::id(), view, None) {
        let _ = (row.json(), row.origin(), row.refusal());
    }
    metrics::check(&[snapshot]);
}

/// A folder as anyone may lay it out: pages of all lengths under all names.
fn lay_out(folder: &Path, random: &mut Random, pid: u32) {
    for _ in 0..8 {
        let name = match random.below(4) {
            0 => pid.to_string(),
            1 => (4_194_305 + random.number() % 1000).to_string(),
            2 => random.number().to_string(),
            _ => format!("{}.tmp", random.number()),
        };
        let path = folder.join(name);
        let bytes = random.page(pid);
        let length = [0, 1, SIZE as u64 - 1, SIZE as u64, SIZE as u64 + 1, 1 << 40][random.below(6) as usize];
        let Ok(file) = fs::File::create(&path) else { continue };
        let _ = file.write_all_at(&bytes[..(length as usize).min(SIZE)], 0);
        // A terabyte of nothing takes no space, and must not be read.
        let _ = file.set_len(length);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_reader_stands_whatever_is_in_a_page() {
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
    let first = number("TIDEOVER_FUZZ_SEED").unwrap_or(clock).max(1);
    let end = Instant::now() + Duration::from_secs(number("TIDEOVER_FUZZ_SECONDS").unwrap_or(2));
    let me = std::process::id();
    let base = tempfile::tempdir().unwrap();
    let folder = base.path().join(format!("tideover.{}", geteuid().as_raw()));
    let mut rounds = 0u64;
    while Instant::now() < end || rounds == 0 {
        let seed = first.wrapping_add(rounds.wrapping_mul(0x9e37_79b9_7f4a_7c15)).max(1);
        let result = std::panic::catch_unwind(|| {
            let mut random = Random::new(seed);
            for _ in 0..20 {
                read(random.page(me), me);
            }
            if rounds.is_multiple_of(10) {
                fs::create_dir_all(&folder).unwrap();
                lay_out(&folder, &mut random, me);
                for page in walk(base.path()).unwrap().pages {
                    assert_eq!(page.pid, me, "only this process is alive");
                }
                fs::remove_dir_all(&folder).unwrap();
            }
        });
        assert!(result.is_ok(), "TIDEOVER_FUZZ_SEED={seed} shows it");
        rounds += 1;
    }
    crate::show::output::complain(&format!("{} pages, seeds from {first}", rounds * 20));
}
