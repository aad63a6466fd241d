//! Paths and contents of any bytes.

use super::super::*;
use super::case::appended;
use crate::random::Random;

/// Bytes that are drawn from what the rule looks for, or any.
fn bytes(random: &mut Random, most: u64, alphabet: &[u8]) -> Vec<u8> {
    let any = random.number() & 3 == 0;
    let one = |random: &mut Random| {
        let drawn = random.number() >> 20;
        if any { drawn as u8 } else { alphabet[drawn as usize % alphabet.len()] }
    };
    (0..random.number() % most).map(|_| one(random)).collect()
}

#[test]
fn no_bytes_make_it_panic() {
    let mut random = Random::new(0x9E37_79B9_7F4A_7C15);
    let mut logs = 0;
    for _ in 0..50_000 {
        let mut path = bytes(&mut random, 40, b"//..logs-_0169afgitHED*()[]\n");
        if random.number() & 7 != 0 {
            path.insert(0, b'/');
        }
        if random.number() & 7 == 0 {
            path.extend_from_slice(b" (deleted)");
        }
        let payload = bytes(&mut random, 30, b"*#TS:0123\r\n$REDISVALKEYFrom /*C");
        let head = bytes(&mut random, 30, b"*#TS:0123\r\n$REDISVALKEYFrom /*C");
        let include = bytes(&mut random, 12, b"*?[]!-\\,/log. ");
        let exclude = bytes(&mut random, 12, b"*?[]!-\\,/log. ");
        let bits = random.number();
        let facts = Facts {
            path: &path,
            flags: random.number() as i32 & random.number() as i32 & random.number() as i32 | O_APPEND,
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
