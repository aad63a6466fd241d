//! Paths and contents of any bytes.

use super::super::*;
use super::case::appended;

/// xorshift: the same bytes on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Bytes that are drawn from what the rule looks for, or any.
    fn bytes(&mut self, most: u64, alphabet: &[u8]) -> Vec<u8> {
        let any = self.next() & 3 == 0;
        let one = |random: &mut Random| {
            let drawn = random.next() >> 20;
            if any { drawn as u8 } else { alphabet[drawn as usize % alphabet.len()] }
        };
        (0..self.next() % most).map(|_| one(self)).collect()
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut logs = 0;
    for _ in 0..50_000 {
        let mut path = random.bytes(40, b"//..logs-_0169afgitHED*()[]\n");
        if random.next() & 7 != 0 {
            path.insert(0, b'/');
        }
        if random.next() & 7 == 0 {
            path.extend_from_slice(b" (deleted)");
        }
        let payload = random.bytes(30, b"*#TS:0123\r\n$REDISVALKEYFrom /*C");
        let head = random.bytes(30, b"*#TS:0123\r\n$REDISVALKEYFrom /*C");
        let include = random.bytes(12, b"*?[]!-\\,/log. ");
        let exclude = random.bytes(12, b"*?[]!-\\,/log. ");
        let bits = random.next();
        let facts = Facts {
            path: &path,
            flags: random.next() as i32 & random.next() as i32 & random.next() as i32 | O_APPEND,
            regular: true,
            standard: bits & 1 != 0,
            at_end: bits & 48 == 48,
            stderr: bits & 2 != 0,
            history: History::from_bits((bits >> 8) as u8 & (bits >> 16) as u8 & (bits >> 24) as u8),
            synced: bits & 64 != 0,
            positioned: bits & 12 == 12,
            payload: &payload,
            head: &head,
            include: &include,
            exclude: &exclude,
            copied: None,
        };
        let judged = judge(&facts, || false);
        // Whatever is a log is one by these.
        if judged.is_ok() {
            logs += 1;
            assert!(
                path.starts_with(b"/") && !facts.positioned && !payload.contains(&0) && facts.flags & O_DIRECT == 0
            );
            assert!(judge(&facts, || true).is_ok() || judge(&facts, || true) == Err(Refusal::DatabaseBeside));
            assert_eq!(judge(&Facts { exclude: b"*", ..facts }, || false), Err(Refusal::Excluded));
        }
        is_database_file(&path);
    }
    assert!(logs > 500, "{logs}");
}

#[test]
fn paths_of_any_length_and_encoding_are_judged() {
    let judged = |path: &[u8]| judge(&Facts { path, ..appended("/").facts }, || false);
    assert_eq!(judged(b"/srv/\xff\xfe/\xc3.log"), Ok(()));
    assert_eq!(judged(b"/srv/\xff\xfe/\xc3"), Err(Refusal::Unlike));
    assert_eq!(judged(b"/srv/app.log (deleted) (deleted)"), Err(Refusal::Unlike));
    let deep = "/a".repeat(2046) + ".log";
    assert_eq!((deep.len(), judged(deep.as_bytes())), (4096, Ok(())));
    let deep = "/a".repeat(2048);
    assert_eq!(judged(deep.as_bytes()), Err(Refusal::Unlike));
    assert_eq!(judged(&[b'/'; 4096]), Err(Refusal::NoPath));
    let name = format!("/{}", "9".repeat(4091)) + ".log";
    assert_eq!(judged(name.as_bytes()), Err(Refusal::Segment));
}
